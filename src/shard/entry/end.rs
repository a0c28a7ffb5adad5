//! How a stream ends: its client goes, it is told goodbye in good order, or it is cut.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    time::Duration,
};

use bytes::BytesMut;
use mio::net::TcpStream;

use super::{Entry, Served};
use crate::{event::Frame, metrics::CloseReason, tcp};

/// The last chunk of a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

// === impl Entry ===

impl Entry {
    /// The peer has said something. Streams hear nothing, but for the end.
    pub(in crate::shard) fn heard(&mut self) -> Served {
        drain(&mut self.socket)
    }

    /// The client has gone. Bytes that were still on their way to it were written to a closed stream. Or the kernel gave
    /// up on it, before the sweep did.
    pub(in crate::shard) fn left(&mut self) {
        if let Ok(Some(error)) = self.socket.take_error()
            && tcp::is_given_up(&error)
        {
            return self.permit.close(CloseReason::Stale);
        }
        if !self.unsent.is_empty() {
            self.permit.wrote_to_closed();
        }
    }

    /// The end in good order: the last chunk, if the peer still takes bytes, and a close that loses nothing.
    pub(in crate::shard) fn finish(self, hint: Option<&Frame>) {
        let mut farewell = BytesMut::new();
        farewell.extend_from_slice(&hint.map(|hint| self.framed(hint)).unwrap_or_default());
        if self.chunked {
            farewell.extend_from_slice(LAST_CHUNK);
        }
        let Self { mut socket, subscription, permit, unsent, .. } = self;
        // The books are closed first: whoever sees the end of the stream sees them closed.
        drop(subscription);
        drop(permit);
        if unsent.is_empty() {
            // Nobody can be told of a failure any more.
            let _ = socket.write(&farewell);
        }
        let _ = socket.shutdown(Shutdown::Write);
        // Bytes that nobody read would turn the close into a reset, which may overtake the last event.
        let _ = drain(&mut socket);
    }

    /// The end without order: what is unsent is of no use to a peer that takes nothing, and the kernel need not keep it.
    pub(in crate::shard) fn cut(self) {
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

/// Reads and forgets.
fn drain(socket: &mut TcpStream) -> Served {
    let mut ignored = [0; 16 * 1024];
    // A client that never stops talking gets its turn again with the next event of its socket. There is one only for what
    // comes from now on: so at least as much is read as the kernel may hold already (8 MiB; tcp_rmem says 6), or what is
    // left would close the window for ever, and the client's leaving with it.
    for _ in 0..512 {
        match socket.read(&mut ignored) {
            Ok(0) => return Served::Over,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Served::Idle,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Served::Over,
        }
    }
    Served::Idle
}
