//! Who is woken for a connection to the app: whoever drives it at the moment, and not by its own doing.
//!
//! hyper's connection keeps the waker it was polled with, in several places, and is woken by them when the body of its answer
//! is asked for or taken from. In a proxy that is done by the very task that drives the connection next, so that each
//! wake-up would be one poll too many. So the connection is polled with a waker of its own, which hands on what it is told
//! and can be told to keep quiet.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// A connection's waker.
#[derive(Debug)]
pub(super) struct Relay {
    state: Arc<State>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct State {
    /// The task that drives the connection. Set by whoever polls it, taken by whoever wakes it.
    task: AtomicWaker,
    /// [`LOUD`], [`QUIET`] or [`OWED`].
    mode: AtomicU8,
}

/// Wake-ups are handed on.
const LOUD: u8 = 0;
/// They are not. Begun and ended by the task that drives the connection.
const QUIET: u8 = 1;
/// They are not, and one came. Set by whoever wakes.
const OWED: u8 = 2;

// === impl Relay ===

impl Relay {
    pub(super) fn new() -> Self {
        let state = Arc::new(State::default());
        Self { waker: Waker::from(Arc::clone(&state)), state }
    }

    /// Polls the connection on behalf of the task of `cx`, which is woken for it from now on.
    pub(super) fn poll<T>(&self, cx: &Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.state.task.register(cx.waker());
        poll(&mut Context::from_waker(&self.waker))
    }

    /// The same on behalf of nobody: whatever happens to the connection wakes no task.
    pub(super) fn poll_for_nobody<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.state.task.take();
        poll(&mut Context::from_waker(&self.waker))
    }

    /// Does something that may wake the connection's task, which is the one that does it and polls on while it has something.
    /// If it has nothing, a wake-up that came meanwhile, also one from outside, is made up for.
    pub(super) fn quietly<T>(&self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.state.mode.store(QUIET, Release);
        let polled = poll();
        if self.state.mode.swap(LOUD, AcqRel) == OWED && polled.is_pending() {
            self.state.task.wake();
        }
        polled
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // One step, or a wake-up could fall between the look and the note, when nobody reads it any more.
        let noted = self.mode.compare_exchange(QUIET, OWED, AcqRel, Acquire);
        if matches!(noted, Err(LOUD)) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// A relay, the waker that a connection keeps, and who is to be woken.
    fn polled() -> (Relay, Waker, Arc<Bell>) {
        let (relay, bell) = (Relay::new(), Arc::new(Bell::default()));
        let waker = relay.poll(&Context::from_waker(&Waker::from(Arc::clone(&bell))), |cx| cx.waker().clone());
        (relay, waker, bell)
    }

    #[test]
    fn whoever_polled_last_is_woken() {
        let (relay, waker, first) = polled();
        let second = Arc::new(Bell::default());
        relay.poll(&Context::from_waker(&Waker::from(Arc::clone(&second))), |_| ());
        waker.wake_by_ref();
        assert_eq!((first.0.load(SeqCst), second.0.load(SeqCst)), (0, 1));
        relay.poll_for_nobody(|_| ());
        waker.wake();
        assert_eq!(second.0.load(SeqCst), 1);
    }

    #[test]
    fn a_task_that_has_something_is_not_woken_by_itself() {
        let (relay, waker, bell) = polled();
        let polled = relay.quietly(|| {
            waker.wake_by_ref();
            Poll::Ready(1)
        });
        assert_eq!((polled, bell.0.load(SeqCst)), (Poll::Ready(1), 0));
        let polled = relay.quietly(|| Poll::<()>::Pending);
        assert_eq!((polled, bell.0.load(SeqCst)), (Poll::Pending, 0), "nothing is owed from before");
        waker.wake();
        assert_eq!(bell.0.load(SeqCst), 1);
    }

    // Else a connection whose next byte arrives just then would hang for ever.
    #[test]
    fn a_wake_up_from_another_thread_is_never_lost() {
        for _ in 0..2_000 {
            let (relay, waker, bell) = polled();
            let other = std::thread::spawn(move || waker.wake());
            while relay.quietly(|| Poll::<()>::Pending).is_pending() && !other.is_finished() {}
            other.join().unwrap();
            assert_eq!(bell.0.load(SeqCst), 1);
        }
    }
}
