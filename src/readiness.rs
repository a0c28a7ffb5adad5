//! Whether the program should get traffic: from the moment it listens until it drains.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Where the program is in its life. Set by the run loop, read by the admin side.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// The three states, in the order in which they follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not listening yet.
    Starting,
    /// Serving.
    Ready,
    /// Leaving: no new traffic, please.
    Draining,
}

// === impl Readiness ===

impl Readiness {
    /// Moves on.
    pub fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Release);
    }

    /// Where it is.
    pub fn get(&self) -> State {
        match self.0.load(Ordering::Acquire) {
            0 => State::Starting,
            1 => State::Ready,
            _ => State::Draining,
        }
    }
}
