//! Accepts connections, and backs off instead of spinning when the process may open no more files.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::metrics::{Metrics, RejectReason};

/// The pause after an error that is the process's, not the peer's: the first, doubled up to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The next connection. An error is returned only when the listener is of no use any more.
///
/// # Errors
/// When the listener is broken.
pub async fn accept(listener: &TcpListener, metrics: Option<&Metrics>) -> io::Result<(TcpStream, SocketAddr)> {
    let mut pause = PAUSE.0;
    loop {
        let error = match listener.accept().await {
            Ok((socket, peer)) => {
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
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => continue,
            io::ErrorKind::InvalidInput => return Err(error),
            _ => {}
        }
        if pause == PAUSE.0 {
            warn!(%error, "can't accept; is the limit of open files reached (ulimit -n)?");
        }
        if let Some(metrics) = metrics {
            metrics.rejected(RejectReason::FileLimit);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
