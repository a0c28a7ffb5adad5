//! What is known of the app beside its answers: whether it runs, and what it prints.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::{
    config::Config,
    metrics::{AppExit, Metrics},
};

/// How the app is watched, and how it is.
#[derive(Debug)]
pub struct AppView {
    watched: Watched,
    /// Written by the one who starts it, read by the dashboard.
    is_running: AtomicBool,
}

/// Where the app's own words come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    /// It runs elsewhere, and nobody hears it.
    Nothing,
    /// It is our child.
    Child,
    /// `--app-log`.
    Log,
}

// === impl AppView ===

impl AppView {
    /// The app is not started yet.
    pub fn new(config: &Config) -> Self {
        let watched = match (&config.command, &config.app_log) {
            (Some(_), _) => Watched::Child,
            (None, Some(_)) => Watched::Log,
            (None, None) => Watched::Nothing,
        };
        Self { watched, is_running: AtomicBool::new(false) }
    }

    /// Says whether our child runs.
    pub fn set_running(&self, is_running: bool) {
        self.is_running.store(is_running, Ordering::Relaxed);
    }

    /// The dashboard's part of it, with the counts. Whether an app that runs elsewhere does so is not known.
    pub fn json(&self, metrics: &Metrics) -> Value {
        json!({
            "watched": match self.watched {
                Watched::Nothing => None,
                Watched::Child => Some("child"),
                Watched::Log => Some("log"),
            },
            "running": (self.watched == Watched::Child).then(|| self.is_running.load(Ordering::Relaxed)),
            "invalid_state_errors": metrics.app_error_count(),
            "exits": AppExit::ALL.iter().map(|reason| metrics.app_exit_count(*reason)).sum::<u64>(),
            "restarts": metrics.app_restart_count(),
        })
    }
}
