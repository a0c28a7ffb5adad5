//! When to poll: one list of due polls for the whole process, and a bound on how many are in flight at once.
//!
//! Ten thousand polled topics are ten thousand entries of a heap, not tasks. A poll becomes a task only when it is due and
//! one of `--poll-concurrency` permits is free; polls that are due wait in the order in which they fell due.
//!
//! A storm of clients must not be one for the app either, nor hold up the polls of those who stayed: admissions share the
//! permits with the polls, but never take more than half of them, and so many subscriptions are opened at a time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::metrics::{Metrics, Purpose};

/// Something that can be polled when its time has come.
pub trait Due: Send + Sync {
    /// Polls once, in a task of its own, holding the permit until the answer is read. `turn` says which appointment this
    /// is: one that has been replaced meanwhile is let go.
    fn poll(self: Arc<Self>, turn: u64, permit: OwnedSemaphorePermit);
    /// Whether `turn` is still the one that counts.
    fn is_current(&self, turn: u64) -> bool;
}

/// The list of due polls.
#[derive(Debug)]
pub struct Schedule {
    /// Written by every poller that makes an appointment, read by the run loop.
    appointments: Mutex<Appointments>,
    /// Told when an appointment was made; heard by [`Schedule::run`].
    made: Notify,
    permits: Arc<Semaphore>,
    /// How many permits there are.
    concurrency: usize,
    /// Half of the permits: what admissions may have of them.
    newcomers: Arc<Semaphore>,
    /// As many as there are permits, but apart from them: an app that is slow to open streams must not stop the polls.
    openings: Arc<Semaphore>,
    /// How often the run loop has looked. Written by it, read by the watch.
    turns: AtomicU64,
    metrics: Arc<Metrics>,
}

/// Appointments, with those that were replaced and not found out yet. An app may put off its polls for an hour, and clients
/// come and go meanwhile: each replaces the appointment, and what is void far from the top would stay until then.
#[derive(Debug)]
struct Appointments {
    heap: BinaryHeap<Reverse<Appointment>>,
    /// At this length it is tidied: twice what was left the last time, so that each appointment pays for one other.
    tidy_at: usize,
}

/// Lists shorter than this are not worth a walk: some dozen KiB.
const TIDY_MIN: usize = 1024;

/// The turn of one admission; it is over with the drop.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
    _newcomer: OwnedSemaphorePermit,
}

struct Appointment {
    at: Instant,
    turn: u64,
    who: Weak<dyn Due>,
}

// === impl Schedule ===

impl Schedule {
    /// An empty list, with at most `concurrency` polls in flight; those who have to wait are counted in `metrics`.
    pub fn new(concurrency: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Arc::new(Self {
            appointments: Mutex::new(Appointments { heap: BinaryHeap::new(), tidy_at: TIDY_MIN }),
            made: Notify::new(),
            permits: semaphore(concurrency),
            concurrency,
            newcomers: semaphore(concurrency.div_ceil(2)),
            openings: semaphore(concurrency),
            turns: AtomicU64::new(0),
            metrics,
        })
    }

    /// Polls `who` at `at`, unless it makes another appointment or goes before.
    pub fn at(&self, at: Instant, turn: u64, who: Weak<dyn Due>) {
        let mut appointments = self.lock();
        let is_next = appointments.heap.peek().is_none_or(|Reverse(next)| at < next.at);
        appointments.push(Appointment { at, turn, who });
        drop(appointments);
        if is_next {
            self.made.notify_one();
        }
    }

    /// The turn of one admission, which is not on the list.
    pub async fn admission(&self) -> Turn {
        if self.newcomers.available_permits() == 0 || self.permits.available_permits() == 0 {
            self.metrics.upstream_waited(Purpose::Authorize);
        }
        // In this order, or waiting admissions would hold what polls could use.
        let newcomer = acquire(&self.newcomers).await;
        Turn { _permit: acquire(&self.permits).await, _newcomer: newcomer }
    }

    /// The turn of one subscription that is about to be opened.
    pub async fn opening(&self) -> OwnedSemaphorePermit {
        if self.openings.available_permits() == 0 {
            self.metrics.upstream_waited(Purpose::Subscribe);
        }
        acquire(&self.openings).await
    }

    /// How often the run loop has looked for what is due so far.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Has the run loop look, though nothing is due.
    pub fn wake(&self) {
        self.made.notify_one();
    }

    /// Polls and admissions that are under way.
    pub fn under_way(&self) -> usize {
        self.concurrency.saturating_sub(self.permits.available_permits())
    }

    /// How many may be under way at once.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Whether as many requests are under way as may be; then what is due waits.
    pub fn is_full(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// Lets polls happen when they are due, until dropped. Owned by the app's run loop.
    pub async fn run(&self) {
        loop {
            self.turns.fetch_add(1, Ordering::Relaxed);
            let made = self.made.notified();
            match self.next_at() {
                Some(at) if at <= Instant::now() => {
                    // The permit first: while none is free, nothing is taken off the list, and new entries find their
                    // place in the order.
                    if self.permits.available_permits() == 0 {
                        self.metrics.upstream_waited(Purpose::Poll);
                    }
                    let permit = acquire(&self.permits).await;
                    self.start_next(permit);
                }
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, made).await;
                }
                None => made.await,
            }
        }
    }

    /// When the first appointment is that still counts.
    fn next_at(&self) -> Option<Instant> {
        let heap = &mut self.lock().heap;
        while let Some(Reverse(next)) = heap.peek() {
            if next.still_counts() {
                return Some(next.at);
            }
            heap.pop();
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Appointments> {
        self.appointments.lock().expect("no code panics under this lock")
    }

    fn start_next(&self, permit: OwnedSemaphorePermit) {
        let next = self.lock().heap.pop();
        if let Some(Reverse(Appointment { turn, who, .. })) = next
            && let Some(who) = who.upgrade()
            && who.is_current(turn)
        {
            who.poll(turn, permit);
        }
    }
}

async fn acquire(permits: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed")
}

// === impl Appointments ===

impl Appointments {
    fn push(&mut self, appointment: Appointment) {
        self.heap.push(Reverse(appointment));
        if self.heap.len() >= self.tidy_at {
            self.heap.retain(|Reverse(appointment)| appointment.still_counts());
            self.heap.shrink_to(self.heap.len() * 2);
            self.tidy_at = (self.heap.len() * 2).max(TIDY_MIN);
        }
    }
}

// === impl Appointment ===

impl Appointment {
    fn still_counts(&self) -> bool {
        self.who.upgrade().is_some_and(|who| who.is_current(self.turn))
    }
}

impl PartialEq for Appointment {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Appointment {}

impl PartialOrd for Appointment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Appointment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl std::fmt::Debug for Appointment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appointment").field("at", &self.at).field("turn", &self.turn).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
