//! Who waits for a topic's next thing.

use std::task::Waker;

use slab::Slab;

/// The wakers of a topic's readers. Most topics have one, which needs no list; a shard has one for all its streams.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    first: Option<Waker>,
    others: Option<Box<Slab<Waker>>>,
}

// === impl Waiting ===

impl Waiting {
    /// Keeps a waker; the key is its place until it is removed or all are woken.
    pub(super) fn insert(&mut self, waker: Waker) -> usize {
        if self.first.is_none() {
            self.first = Some(waker);
            return 0;
        }
        self.others.get_or_insert_default().insert(waker) + 1
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Waker> {
        match key.checked_sub(1) {
            None => self.first.as_mut(),
            Some(key) => self.others.as_mut()?.get_mut(key),
        }
    }

    pub(super) fn remove(&mut self, key: usize) {
        match key.checked_sub(1) {
            None => self.first = None,
            Some(key) => {
                self.others.as_mut().and_then(|others| others.try_remove(key));
            }
        }
    }

    /// Wakes all, and keeps none.
    pub(super) fn wake(&mut self) {
        let others = self.others.as_mut().map(|others| others.drain());
        for waker in self.first.take().into_iter().chain(others.into_iter().flatten()) {
            waker.wake();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.as_ref().map_or(0, |others| others.len())
    }
}
