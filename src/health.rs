//! Whether the program works, and whether it should get traffic: what `/livez` and `/readyz` answer.
//!
//! Three things are watched, each by what it does and not by what it says of itself: the shards turn when they are woken,
//! polls that are due are started, and the canary's streams get their events. Who is silent is counted in beats of the
//! watch itself, about a second each, and not by the clock: on a machine that gives the process no time, or after one
//! that slept, the watch has not beaten either, and nobody is called dead for it. Ten beats are five flights of the
//! canary, a thousand times what one takes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    canary::{Canary, Fault},
    files::Files,
    shard::Shards,
    source::schedule::Schedule,
};

/// The time between two beats.
const BEAT: Duration = Duration::from_secs(1);
/// Beats after which who was silent is stuck.
const SILENCE_MAX: u32 = 10;
/// The watch itself is stuck when it has not beaten for this long, though somebody can ask.
const BEATEN_WITHIN: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Debug)]
pub struct Health {
    shards: Arc<Shards>,
    schedule: Arc<Schedule>,
    canary: Arc<Canary>,
    files: Arc<Files>,
    /// Written by the watch, read by the admin side.
    vitals: Mutex<Vitals>,
}

#[derive(Debug)]
struct Vitals {
    shards: Vec<Pulse>,
    schedule: Pulse,
    canary: Pulse,
    /// The last flight's fault.
    fault: Option<Fault>,
    /// The canary can't fly, or need not: the network does not lead to us, or the public side has closed for the drain.
    is_caged: bool,
    beaten: Instant,
}

/// One thing that is watched.
#[derive(Clone, Copy, Debug, Default)]
struct Pulse {
    turns: u64,
    silent: u32,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Sick {
    /// A shard does not turn: its streams get nothing.
    #[error("shard {0} is stuck")]
    Shard(usize),
    /// Polls are due and none is started.
    #[error("the schedule of polls is stuck")]
    Schedule,
    /// A stream of our own is not served.
    #[error("{0}")]
    Canary(String),
    /// Nobody has looked for long.
    #[error("the watch is stuck")]
    Watch,
}

// === impl Health ===

impl Health {
    /// Everything is well so far.
    pub fn new(shards: Arc<Shards>, schedule: Arc<Schedule>, canary: Arc<Canary>, files: Arc<Files>) -> Arc<Self> {
        let vitals = Vitals {
            shards: vec![Pulse::default(); shards.turns().count()],
            schedule: Pulse::default(),
            canary: Pulse::default(),
            fault: None,
            is_caged: false,
            beaten: Instant::now(),
        };
        Arc::new(Self { shards, schedule, canary, files, vitals: Mutex::new(vitals) })
    }

    fn vitals(&self) -> MutexGuard<'_, Vitals> {
        self.vitals.lock().expect("no code panics under this lock")
    }

    /// Whether the program works. That no file is left for new clients is no reason to end it: those it has are served.
    ///
    /// # Errors
    /// What is stuck.
    pub fn live(&self) -> Result<(), Sick> {
        let vitals = self.vitals();
        if vitals.beaten.elapsed() > BEATEN_WITHIN {
            return Err(Sick::Watch);
        }
        if let Some(stuck) = vitals.shards.iter().position(Pulse::is_stuck) {
            return Err(Sick::Shard(stuck));
        }
        if vitals.schedule.is_stuck() {
            return Err(Sick::Schedule);
        }
        let is_for_files = self.files.are_out() || matches!(vitals.fault, Some(Fault::NoFile));
        if is_for_files { Ok(()) } else { vitals.canary_lives() }
    }

    /// Whether new clients are served: it works, and has files for them.
    ///
    /// # Errors
    /// Why they are not.
    pub fn ready(&self) -> Result<(), Sick> {
        self.live()?;
        self.vitals().canary_lives()
    }

    /// Watches until dropped. The canary flies to `addrs` until the drain, when the public side is closed.
    pub async fn run(&self, addrs: &[SocketAddr], drain: CancellationToken) {
        let beats = async {
            loop {
                tokio::time::sleep(BEAT).await;
                self.beat();
            }
        };
        let flights = async {
            drain.run_until_cancelled(self.canary.run(addrs, |flown| self.note(flown))).await;
            self.vitals().is_caged = true;
        };
        tokio::join!(beats, flights);
    }

    fn note(&self, flown: Result<(), Fault>) {
        // With one file left the canary has it for its own end, and is not accepted.
        let flown = match flown {
            Err(Fault::Silent) if self.files.are_refused() => Err(Fault::NoFile),
            flown => flown,
        };
        let mut vitals = self.vitals();
        let is_unreachable = matches!(flown, Err(Fault::Unreachable(_)));
        let is_news = is_unreachable && !vitals.is_caged;
        vitals.is_caged = is_unreachable;
        vitals.fault = flown.err();
        match &vitals.fault {
            Some(fault) if is_news => warn!(%fault, "the canary can't fly; /livez does without it"),
            Some(fault) => debug!(%fault, "a flight of the canary failed"),
            None => {}
        }
    }

    /// Looks at everybody, and wakes them so that there is something to see at the next beat.
    fn beat(&self) {
        let mut vitals = self.vitals();
        let Vitals { shards, schedule, canary, beaten, .. } = &mut *vitals;
        for (pulse, turns) in shards.iter_mut().zip(self.shards.turns()) {
            pulse.beat(turns, false);
        }
        // While all permits are out, the app is slow, or many polls are due; who waits for one is not stuck.
        schedule.beat(self.schedule.turns(), self.schedule.is_full());
        canary.beat(self.canary.flights(), false);
        *beaten = Instant::now();
        drop(vitals);
        self.shards.wake();
        self.schedule.wake();
    }
}

// === impl Vitals ===

impl Vitals {
    fn canary_lives(&self) -> Result<(), Sick> {
        if self.is_caged || !self.canary.is_stuck() {
            return Ok(());
        }
        let fault = self.fault.as_ref().unwrap_or(&Fault::Silent);
        Err(Sick::Canary(fault.to_string()))
    }
}

// === impl Pulse ===

impl Pulse {
    fn beat(&mut self, turns: u64, is_excused: bool) {
        let has_turned = std::mem::replace(&mut self.turns, turns) != turns;
        self.silent = if has_turned || is_excused { 0 } else { self.silent.saturating_add(1) };
    }

    fn is_stuck(&self) -> bool {
        self.silent >= SILENCE_MAX
    }
}

#[cfg(test)]
mod tests;
