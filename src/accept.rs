//! Accepts connections, and backs off instead of spinning when the process may open no more files.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tracing::{debug, warn};

use crate::{
    files::Files,
    metrics::{Metrics, RejectReason},
};

/// The pause after an error that is the process's, not the peer's: the first, doubled up to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// While files are short one is accepted now and then, so that each pause would be a first one in the log.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What holds back the public side's accepts.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// No accept while these are out.
    pub files: &'a Files,
    /// Where a moment without an accept is counted.
    pub metrics: &'a Metrics,
}

/// A listener whose connections are wanted.
#[derive(Debug)]
pub struct Acceptor<'a> {
    listener: &'a TcpListener,
    /// Without one only the system's own limit holds it back.
    gate: Option<Gate<'a>>,
    told: Option<Instant>,
}

// === impl Acceptor ===

impl<'a> Acceptor<'a> {
    /// Nothing is accepted yet.
    pub fn new(listener: &'a TcpListener, gate: Option<Gate<'a>>) -> Self {
        Self { listener, gate, told: None }
    }

    /// The next connection. An error is returned only when the listener is of no use any more.
    ///
    /// # Errors
    /// When the listener is broken.
    pub async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut pause = PAUSE.0;
        loop {
            let accepted = match self.gate {
                Some(gate) if gate.files.are_out() => Err(io::Error::other("no more sockets are allowed")),
                _ => self.listener.accept().await,
            };
            let error = match accepted {
                Ok((socket, peer)) => {
                    self.note(false);
                    // An event is one small write; it must not wait for the acknowledgement of the one before.
                    if let Err(error) = socket.set_nodelay(true) {
                        debug!(%error, "TCP_NODELAY refused");
                    }
                    return Ok((socket, peer));
                }
                Err(error) => error,
            };
            match error.kind() {
                // The peer changed its mind; the next one may not.
                io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {
                    continue;
                }
                io::ErrorKind::InvalidInput => return Err(error),
                _ => {}
            }
            self.note(true);
            self.tell(&error);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn note(&self, is_refused: bool) {
        if let Some(Gate { files, .. }) = self.gate {
            files.accepted(is_refused);
        }
    }

    fn tell(&mut self, error: &io::Error) {
        if let Some(Gate { metrics, .. }) = self.gate {
            metrics.rejected(RejectReason::FileLimit);
        }
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            warn!(%error, "can't accept; is the limit of open files reached (ulimit -n, LimitNOFILE=)?");
        }
    }
}
