//! Signals that are for the app and reach us instead. What tells *us* to stop is read in `shutdown`.

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

use crate::shutdown::is_ignored;

/// What is listened for, as long as the app is.
#[derive(Debug)]
pub(super) struct Signals {
    child: Listener,
    hangup: Option<Listener>,
    quit: Option<Listener>,
    user1: Listener,
    user2: Listener,
}

// === impl Signals ===

impl Signals {
    /// Listens. From a terminal the app gets SIGQUIT without us, and so do we: both end then, as ever. What was ignored
    /// when we were started (`nohup`) stays ignored, here and in the app.
    pub(super) fn listen(is_in_terminal: bool) -> std::io::Result<Self> {
        let unless = |is_left: bool, kind| if is_left { Ok(None) } else { signal(kind).map(Some) };
        Ok(Self {
            child: signal(SignalKind::child())?,
            hangup: unless(is_ignored(Signal::HUP), SignalKind::hangup())?,
            quit: unless(is_in_terminal || is_ignored(Signal::QUIT), SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one; several of the same kind may be one.
    pub(super) async fn next(&mut self) -> Signal {
        let Self { child, hangup, quit, user1, user2 } = self;
        tokio::select! {
            _ = child.recv() => Signal::CHILD,
            () = heard(hangup) => Signal::HUP,
            () = heard(quit) => Signal::QUIT,
            _ = user1.recv() => Signal::USR1,
            _ = user2.recv() => Signal::USR2,
        }
    }
}

/// What people call it.
pub(super) fn name(signal: i32) -> Option<&'static str> {
    const NAMES: [(Signal, &str); 15] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
    ];
    NAMES.into_iter().find(|(known, _)| known.as_raw() == signal).map(|(_, name)| name)
}

async fn heard(listener: &mut Option<Listener>) {
    match listener {
        Some(listener) => drop(listener.recv().await),
        None => std::future::pending().await,
    }
}
