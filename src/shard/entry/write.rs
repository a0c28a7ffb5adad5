//! A stream's writes: what the kernel takes of it, and what is left to wait for the peer.

use std::io::{self, IoSlice, Write};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Entry, Served};
use crate::{event::Frame, metrics::CloseReason, tcp};

// === impl Entry ===

impl Entry {
    /// Several pieces in one call to the kernel. What it does not take is kept as unsent, so nothing may be unsent before.
    pub(super) fn send_all(&mut self, batch: &[Bytes], now: Instant) -> Served {
        let slices: Vec<_> = batch.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let sent = match self.socket.write_vectored(&slices) {
            Ok(sent) => sent,
            Err(error) if is_temporary(&error) => 0,
            Err(error) => return self.broke(&error),
        };
        self.pulse.sent(self.age(now));
        self.unsent = rest_of(batch, sent);
        Served::Idle
    }

    /// A frame that many get, while nothing is unsent. Its count of owners is written only if the kernel does not take all.
    pub(super) fn send_shared(&mut self, frame: &Frame, now: Instant) -> Served {
        let bytes = if self.chunked { frame.chunk_bytes() } else { frame.block_bytes() };
        let sent = match self.socket.write(bytes) {
            Ok(sent) => sent,
            Err(error) if is_temporary(&error) => 0,
            Err(error) => return self.broke(&error),
        };
        if sent > 0 {
            self.pulse.sent(self.age(now));
        }
        if sent == bytes.len() {
            return Served::Idle;
        }
        self.unsent = self.framed(frame).slice(sent..);
        self.flush(now)
    }

    /// Writes what is unsent.
    pub(super) fn flush(&mut self, now: Instant) -> Served {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(0) => return self.broke(&io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.pulse.sent(self.age(now));
                    // There is room in the kernel again because the peer has acknowledged.
                    self.pulse.unblocked();
                    let _ = self.unsent.split_to(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.pulse.is_blocked() {
                        self.pulse.blocked(self.age(now));
                    }
                    return Served::Blocked;
                }
                Err(error) => return self.broke(&error),
            }
        }
        // An empty slice of a long event would keep the whole of it.
        self.unsent = Bytes::new();
        self.pulse.unblocked();
        Served::Idle
    }

    /// A write to a client that had gone, or that the kernel had given up on.
    fn broke(&mut self, error: &io::Error) -> Served {
        if tcp::is_given_up(error) {
            self.permit.close(CloseReason::Stale);
        } else {
            self.permit.wrote_to_closed();
        }
        Served::Over
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What is left of frames of which the first `sent` bytes have gone: shared bytes if it is one frame, else a copy, at most
/// about [`BATCH_BYTES`](super::BATCH_BYTES) long but for a last frame that is longer.
fn rest_of(batch: &[Bytes], mut sent: usize) -> Bytes {
    let first = batch.iter().position(|frame| {
        if sent < frame.len() {
            return true;
        }
        sent -= frame.len();
        false
    });
    let Some(first) = first else { return Bytes::new() };
    if first + 1 == batch.len() {
        return batch[first].slice(sent..);
    }
    let mut rest = BytesMut::from(&batch[first][sent..]);
    for frame in &batch[first + 1..] {
        rest.extend_from_slice(frame);
    }
    rest.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_batch_is_the_same_wherever_the_kernel_stopped() {
        let batch = [Bytes::from_static(b"one"), Bytes::from_static(b"two"), Bytes::from_static(b"three")];
        let whole = b"onetwothree";
        for sent in 0..=whole.len() {
            assert_eq!(rest_of(&batch, sent), whole[sent..], "after {sent} bytes");
        }
    }
}
