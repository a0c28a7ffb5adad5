//! Where the dashboard's document is read: made once for all who look, and not once for each.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, MissedTickBehavior},
};

use super::Stats;
use crate::event::{self, Event};

/// How often those are told who watch.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The latest document, and those who wait for the next.
#[derive(Debug)]
pub struct Board {
    stats: Stats,
    /// Held while a document is made: there is one maker at a time, and the others get what it made.
    turn: Semaphore,
    /// Written by whoever has the turn.
    latest: Mutex<Document>,
    /// Written by [`Board::run`], read by the viewers; who is slow gets the latest.
    told: watch::Sender<Told>,
    /// Told when a viewer comes; heard by [`Board::run`] while there was none.
    came: Notify,
}

/// The document as of some moment.
#[derive(Clone, Debug, Default)]
struct Document {
    /// Everything in it was looked at after this.
    begun: Option<Instant>,
    text: Bytes,
}

/// The same as an event, encoded once for all.
#[derive(Clone, Debug, Default)]
struct Told {
    begun: Option<Instant>,
    block: Bytes,
}

/// Somebody who is told again and again.
#[derive(Debug)]
pub struct Viewer(watch::Receiver<Told>);

// === impl Board ===

impl Board {
    /// Nobody has looked yet.
    pub fn new(stats: Stats) -> Arc<Self> {
        Arc::new(Self {
            stats,
            turn: Semaphore::new(1),
            latest: Mutex::default(),
            told: watch::Sender::default(),
            came: Notify::new(),
        })
    }

    /// The document, with nothing in it from before this was asked. Who asks while one is being made shares the next with
    /// all others who do.
    pub async fn fresh(&self) -> Bytes {
        self.since(Instant::now()).await.text
    }

    async fn since(&self, moment: Instant) -> Document {
        let _turn = self.turn.acquire().await.expect("the semaphore is never closed");
        let latest = self.latest.lock().expect("no code panics under this lock").clone();
        if latest.begun.is_some_and(|begun| begun >= moment) {
            return latest;
        }
        let begun = Some(Instant::now());
        let made = Document { begun, text: self.stats.json().await.to_string().into() };
        self.latest.lock().expect("no code panics under this lock").clone_from(&made);
        made
    }

    /// Somebody who is told now, and then once a second.
    pub fn viewer(&self) -> Viewer {
        let mut told = self.told.subscribe();
        // The last one may be from when somebody else looked, long ago.
        if told.borrow().begun.is_some_and(|begun| begun.elapsed() < TELL_EVERY) {
            told.mark_changed();
        }
        self.came.notify_one();
        Viewer(told)
    }

    /// Makes a document each second while somebody watches, until dropped. Owned by the app's run loop.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(TELL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while self.told.receiver_count() == 0 {
                self.came.notified().await;
                ticks.reset_immediately();
            }
            let at = ticks.tick().await;
            let Document { begun, text } = self.since(at).await;
            let data = String::from_utf8_lossy(&text).into_owned();
            let block = event::encoded(&Event { id: None, name: None, data }).block();
            self.told.send_replace(Told { begun, block });
        }
    }
}

// === impl Viewer ===

impl Viewer {
    /// The next document, as an event; `None` when the program ends.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().block.clone())
    }
}
