//! Who looks after the app: starts it, waits for its end, and starts it again.
//!
//! In each life one loop hears everything: signals that are for the app, the order to end, the order to hurry, and the
//! times at which it is told and killed.

use std::{sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, WaitOptions};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    End, Orders, STOP_WITHIN,
    launch::{self, Launcher},
    output::Output,
    restart::Restarts,
    signals::{self, Signals},
};
use crate::{app_view::AppView, log, metrics::Metrics};

/// [`STOP_WITHIN`], when a second signal says that it has to be now.
const STOP_AT_ONCE: Duration = Duration::from_secs(1);
/// An app in a terminal has mostly been told already, by the same key as we. To many apps a second signal means that they
/// are to drop everything, so it gets one only if it still goes on after this.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// What the app leaves behind in its group when it dies is told to end, and killed after this.
const REST_WITHIN: Duration = Duration::from_secs(2);
/// A terminal or a supervisor often tells us and the app to stop at the same time, and who hears of it first is chance: a
/// death that comes so shortly before the order was ordered.
const ORDER_WITHIN: Duration = Duration::from_millis(250);

/// Everything that a life of the app needs.
pub(super) struct Keeper {
    pub(super) launcher: Launcher,
    pub(super) has_own_group: bool,
    /// Nobody else reaps what is orphaned in a container whose first process we are.
    pub(super) is_init: bool,
    pub(super) signals: Signals,
    pub(super) metrics: Arc<Metrics>,
    pub(super) view: Arc<AppView>,
    pub(super) orders: Orders,
    pub(super) drain: CancellationToken,
}

// === impl Keeper ===

impl Keeper {
    /// One life after the other.
    pub(super) async fn keep(mut self, mut restarts: Restarts) -> End {
        loop {
            let began = Instant::now();
            let end = self.live().await;
            let lived = began.elapsed();
            // No pause is shorter than the time in which the order may still come, or it would find the next life begun.
            let pause = restarts.after(end, lived).map(|pause| pause.max(ORDER_WITHIN));
            let is_ordered = timeout(ORDER_WITHIN, self.ordered()).await;
            let seconds = log::seconds(lived);
            let Some(pause) = pause.filter(|_| is_ordered.is_err()) else {
                if is_ordered.is_ok() {
                    info!(%end, seconds, "the app has ended");
                } else {
                    warn!(%end, seconds, "the app has ended by itself");
                }
                return end;
            };
            warn!(%end, seconds, pause_seconds = log::seconds(pause), "the app has ended by itself; starting it again");
            if self.rest(pause.saturating_sub(ORDER_WITHIN)).await.is_err() {
                // There was nothing to stop, and so nothing has gone wrong with it.
                return End::Exited(0);
            }
            self.metrics.app_restarted();
        }
    }

    /// Pends until we are told to stop, or to stop the app.
    async fn ordered(&self) {
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = self.orders.stop.cancelled() => {}
        }
    }

    /// Waits between two lives; an error is the order to stop. Signals for the app find nobody meanwhile.
    async fn rest(&mut self, pause: Duration) -> Result<(), ()> {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                // An order, also one that comes when the pause is over.
                biased;
                () = self.drain.cancelled() => return Err(()),
                () = self.orders.stop.cancelled() => return Err(()),
                () = tokio::time::sleep_until(until) => return Ok(()),
                signal = self.signals.next() => self.hand_on(signal, None),
            }
        }
    }

    /// From its start to its end.
    async fn live(&mut self) -> End {
        let mut process = match self.launcher.spawn(self.has_own_group) {
            Ok(process) => process,
            Err(error) => {
                error!(%error, program = %self.launcher.program().display(), "the app can't be started");
                return launch::end_of(&error);
            }
        };
        let pid = Pid::from_child(&process);
        let output = Output::copy(&mut process, &self.metrics);
        info!(pid = process.id(), program = %self.launcher.program().display(), "the app has been started");
        self.view.set_running(true);
        let (end, kill_at) = self.wait(pid).await;
        self.view.set_running(false);
        self.end_the_rest(pid, kill_at.unwrap_or_else(|| Instant::now() + REST_WITHIN)).await;
        // Its last words explain its death, and are to be counted before it.
        match output {
            Ok(output) => output.end().await,
            Err(error) => error!(%error, "the app's output can't be read"),
        }
        self.metrics.app_exited(end.reason());
        end
    }

    /// Waits for its end; with it comes the time until which all of it is to have ended, if it was told to.
    async fn wait(&mut self, pid: Pid) -> (End, Option<Instant>) {
        let (stop, hurry) = (self.orders.stop.clone(), self.orders.hurry.clone());
        let (mut is_stopped, mut is_hurried) = (false, false);
        let (mut tell_at, mut kill_at, mut is_killed) = (None, None, false);
        loop {
            // After a SIGCHLD was listened for, or the one of a quick end would be missed.
            if let Some(end) = self.reap(pid) {
                return (end, kill_at);
            }
            tokio::select! {
                // The order to end stands before the order to hurry, also when both have come.
                biased;
                signal = self.signals.next() => self.hand_on(signal, Some(pid)),
                () = stop.cancelled(), if !is_stopped => {
                    is_stopped = true;
                    let now = Instant::now();
                    tell_at = Some(if self.has_own_group { now } else { now + TOLD_WITHIN });
                    // Unless it is in a hurry already.
                    kill_at = kill_at.or(Some(now + STOP_WITHIN));
                }
                () = hurry.cancelled(), if !is_hurried => {
                    is_hurried = true;
                    let now = Instant::now();
                    tell_at = tell_at.map(|_| now);
                    kill_at = Some(now + STOP_AT_ONCE);
                }
                () = at(tell_at) => {
                    tell_at = None;
                    debug!("telling the app to end");
                    send(pid, Signal::TERM);
                }
                () = at(kill_at), if !is_killed => {
                    is_killed = true;
                    warn!("the app does not end when told; killing it");
                    send(pid, Signal::KILL);
                }
            }
        }
    }

    /// Hands a signal on that is for the app.
    fn hand_on(&self, signal: Signal, pid: Option<Pid>) {
        match (signal, pid) {
            // Somebody has ended; who, is looked at next.
            (Signal::CHILD, None) if self.is_init => {
                while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            }
            (Signal::CHILD, _) => {}
            // From a terminal that has gone it has had that itself.
            (Signal::HUP, _) if !self.has_own_group => {
                info!(signal = "SIGHUP", "told to leave");
                self.drain.cancel();
            }
            (signal, Some(pid)) => {
                debug!(signal = signals::name(signal.as_raw()), "handing a signal on to the app");
                send(pid, signal);
            }
            (_, None) => {}
        }
    }

    /// The end of `pid`, if it has come.
    fn reap(&self, pid: Pid) -> Option<End> {
        loop {
            let reaped = if self.is_init {
                rustix::process::wait(WaitOptions::NOHANG)
            } else {
                rustix::process::waitpid(Some(pid), WaitOptions::NOHANG)
            };
            match reaped {
                Ok(Some((reaped, status))) if reaped == pid => {
                    let exited =
                        status.exit_status().map(|status| End::Exited(u8::try_from(status).unwrap_or(u8::MAX)));
                    return exited.or(status.terminating_signal().map(End::Signalled));
                }
                // An orphan of the app, or of somebody who entered the container.
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => {
                    error!(%error, "the app can't be waited for");
                    return Some(End::Exited(1));
                }
            }
        }
    }

    /// Ends what the app leaves behind in its group: it would hold the port that the next life wants.
    async fn end_the_rest(&self, group: Pid, kill_at: Instant) {
        let is_there = || rustix::process::test_kill_process_group(group).is_ok();
        // Nobody else gets the number while there are members; with none, it was free for microseconds.
        if !self.has_own_group || !is_there() {
            return;
        }
        debug!("ending what the app has left behind");
        // Errors say that nobody is left, here and below.
        let _ = rustix::process::kill_process_group(group, Signal::TERM);
        while is_there() && Instant::now() < kill_at {
            sleep(Duration::from_millis(20)).await;
            if self.is_init {
                while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            }
        }
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// Sends a signal to the app; an error says that it has just ended.
fn send(pid: Pid, signal: Signal) {
    if let Err(error) = rustix::process::kill_process(pid, signal) {
        debug!(%error, signal = signals::name(signal.as_raw()), "the app can't be sent a signal");
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
