//! systemd, where it runs us: the sockets that it has opened for us, and what it wants to hear.
//!
//! Anybody may take its place who speaks its protocol, which is a handful of variables in the environment and datagrams of
//! text; without the variables nothing happens here. The app as our child does not get them: it is we whom systemd asks.

use std::{env, net::TcpListener, sync::Arc, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;
use tracing::{debug, error};

use crate::{
    connections::Connections,
    health::Health,
    readiness::{Readiness, State},
};

/// What the admin side's socket is called (`FileDescriptorName=`). All others are the public side's.
const ADMIN: &str = "admin";

/// What is said to us, and not to the app.
pub(crate) const VARIABLES: [&str; 6] =
    ["LISTEN_FDS", "LISTEN_PID", LISTEN_FDNAMES, NOTIFY_SOCKET, "WATCHDOG_USEC", "WATCHDOG_PID"];

const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// How often `systemctl status` says something new where there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// How long systemd waits, after all that we announce, before it kills us.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// Sockets that were opened for us before we were started.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The public side's.
    pub public: Vec<TcpListener>,
    /// The admin side's.
    pub admin: Option<TcpListener>,
}

/// Why the sockets are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A Unix socket, a datagram socket, a connection, a file.
    #[error(
        "systemd calls something '{0}' that is no TCP listener; ListenStream= wants a port or an address with a port, and \
         Accept= stays off"
    )]
    NoListener(String),
    /// There is one admin side.
    #[error("systemd has opened two sockets called '{ADMIN}'; the admin side has one address")]
    SecondAdmin,
}

// === impl Sockets ===

impl Sockets {
    /// Takes what there is. To be called once, and before there is a second thread, since it writes to the environment.
    ///
    /// # Errors
    /// When one of them is of no use; whoever comes there would wait for ever.
    pub fn from_env() -> Result<Self, SocketError> {
        let names = env::var(LISTEN_FDNAMES).unwrap_or_default();
        let mut names = names.split(':');
        let mut given = ListenFd::from_env();
        let mut sockets = Self::default();
        for place in 0..given.len() {
            let name = names.next().unwrap_or_default();
            let socket = given.take_tcp_listener(place).ok().flatten();
            let socket = socket.filter(|socket| SockRef::from(socket).is_listener().unwrap_or(false));
            let socket = socket.ok_or_else(|| SocketError::NoListener(name.to_owned()))?;
            if name != ADMIN {
                sockets.public.push(socket);
            } else if sockets.admin.replace(socket).is_some() {
                return Err(SocketError::SecondAdmin);
            }
        }
        Ok(sockets)
    }
}

// === what it wants to hear ===

/// We serve.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// We leave, and that takes up to so long; systemd is to wait, whatever `TimeoutStopSec=` says.
pub fn stopping(streams: usize, time: Duration) {
    let time = time.saturating_add(STOP_SLACK);
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    let status = format!("draining, streams: {streams}");
    tell(&[NotifyState::Stopping, NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(micros)]);
}

/// Tells it how many streams there are and, if it wants to hear that (`WatchdogSec=`), that we work, for as long as we do:
/// whoever is no longer told kills us and starts us anew. Ends at once where nobody listens.
pub async fn keep_posted(health: Arc<Health>, connections: Arc<Connections>, readiness: Readiness) {
    if env::var_os(NOTIFY_SOCKET).is_none() {
        return;
    }
    let patience = sd_notify::watchdog_enabled();
    let mut beats = tokio::time::interval(patience.map_or(STATUS_EVERY, |patience| patience / 2));
    loop {
        beats.tick().await;
        let word = if readiness.get() == State::Draining { "draining" } else { "serving" };
        let status = format!("{word}, streams: {}", connections.len());
        let mut states = vec![NotifyState::Status(&status)];
        match health.live() {
            Ok(()) if patience.is_some() => states.push(NotifyState::Watchdog),
            Ok(()) => {}
            Err(sick) => error!(%sick, "not well, and so systemd's watchdog is not told that we are"),
        }
        tell(&states);
    }
}

/// An error says that nobody listens, who then does not wait for us either. It blocks only where systemd does not read,
/// and then nothing on that machine goes on for long.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd can't be told");
    }
}
