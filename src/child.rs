//! The app as our child: `sidestream [flags] -- node build`.
//!
//! To the app nothing changes: its environment, its directory, its input and its limits are ours, as we found them, but for
//! what systemd says to us in the environment; what
//! it prints goes on byte by byte; a signal for it that reaches us is handed on; and when it ends, we end with its status,
//! unless `--app-restart` says otherwise. Two things are done for it. Being told to stop, it hears of it when our drain is
//! over, so that until then it can answer what we still forward; and whatever is left of it after that is killed.
//!
//! **Process groups.** Started from a terminal, it stays in our group: a press of ctrl-c reaches it without us, and it can
//! read what is typed. Everywhere else it gets a group of its own, so that a signal to our group does not end it before
//! our drain, and what it started itself (`npm start` starts a shell that starts Node) can be ended with it.
//!
//! **If we die first**, by SIGKILL or a crash, the kernel sends it a SIGTERM: see [`launch`].
//!
//! Each child has a thread that starts it, waits for it and starts it again, and two that copy its output. The first one
//! ends with the last child, those with the last process that holds the other end of their pipe.

use std::{
    ffi::OsString,
    fmt,
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use rustix::process::Pid;
use tokio::{runtime::Handle, sync::watch};
use tokio_util::sync::CancellationToken;

pub use self::end::End;
use self::{
    keeper::Keeper,
    launch::Launcher,
    restart::{RestartPolicy, Restarts},
    signals::Signals,
};
use crate::{app_view::AppView, metrics::Metrics, shutdown::Shutdown};

mod end;
mod keeper;
pub mod launch;
mod output;
pub mod restart;
mod signals;

/// How long the app has to end once it is told to. With the 20 s of the default drain and the second after it that is 29 s,
/// and Kubernetes kills after 30.
pub const STOP_WITHIN: Duration = Duration::from_secs(8);

/// What starts the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppCommand {
    /// A path, or a name to be found in `PATH`; never empty.
    pub program: OsString,
    /// What follows it.
    pub args: Vec<OsString>,
}

/// The app, from its first start to its last end.
#[derive(Debug)]
pub struct Child {
    /// Sent once, by the thread that looks after it.
    end: watch::Receiver<Option<End>>,
    orders: Orders,
}

/// What that thread is told.
#[derive(Clone, Debug, Default)]
struct Orders {
    stop: CancellationToken,
    hurry: CancellationToken,
}

// === impl AppCommand ===

impl fmt::Display for AppCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", arg.display()))
    }
}

// === impl Child ===

impl Child {
    /// Starts the app, and again when `policy` says so, until the drain. To be called in a runtime.
    ///
    /// # Errors
    /// When there is no thread or no signal handler for it. A command that can't be run ends with 126 or 127.
    pub fn start(
        launcher: Launcher,
        policy: RestartPolicy,
        metrics: Arc<Metrics>,
        view: Arc<AppView>,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let is_in_terminal = io::stdin().is_terminal();
        let orders = Orders::default();
        let keeper = Keeper {
            launcher,
            has_own_group: !is_in_terminal,
            is_init: rustix::process::getpid() == Pid::INIT,
            signals: Signals::listen(is_in_terminal)?,
            metrics,
            view,
            orders: orders.clone(),
            drain: shutdown.drain.clone(),
        };
        let (sender, end) = watch::channel(None);
        let runtime = Handle::current();
        // Not a task: the kernel's SIGTERM for an orphan comes when the *thread* ends that started it.
        std::thread::Builder::new().name("app".to_owned()).spawn(move || {
            let end = runtime.block_on(keeper.keep(Restarts::new(policy)));
            sender.send_replace(Some(end));
        })?;
        Ok(Self { end, orders })
    }

    /// Waits for the last end of the app: by itself and not to be started again, or as it was told.
    pub async fn ended(&self) -> End {
        match self.end.clone().wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(End::Exited(1)),
            // The thread has panicked, and so said why.
            Err(_) => End::Exited(1),
        }
    }

    /// Tells the app to end, kills what has not done so after 8 s (a second after `hurry`), and waits for that.
    pub async fn stop(&self, hurry: &CancellationToken) -> End {
        self.orders.stop.cancel();
        tokio::select! {
            end = self.ended() => end,
            () = hurry.cancelled() => {
                self.orders.hurry.cancel();
                self.ended().await
            }
        }
    }
}

#[cfg(test)]
mod tests;
