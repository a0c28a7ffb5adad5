//! Takes a client's socket out of hyper's hands once the head of its stream is decided, so that an idle stream costs a
//! socket and an entry in a shard instead of hyper's buffers, a task and a timer.
//!
//! The service puts the stream into the connection's [`Slot`] and stays pending; the connection's task sees the slot filled
//! after it has polled hyper, and takes the connection apart. That is sound when
//!
//! - hyper has nothing left to write: of an earlier answer on the same connection, say. The [`Wire`] knows; until then the
//!   task goes on polling hyper, which flushes.
//! - the request's body is at its end: bytes of it would be taken for the next request. The service sees to that.
//! - hyper has not ended the connection in the same poll: an error, or the client's end, wins.
//!
//! Bytes that the client has sent behind its request are dropped: the head says `Connection: close`.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::SystemTime,
};

use http::Version;
use hyper::{body::Incoming, server::conn::http1::UpgradeableConnection, service::HttpService};
use hyper_util::rt::TokioIo;

use crate::{
    forward::ResponseBody,
    grant::Grant,
    shard::Adopted,
    stream::{HEAD, Live},
    upstream::BoxError,
    wire::{Wire, WireState},
};

/// Where a connection's service leaves the stream that its task shall take over.
#[derive(Debug, Default)]
pub struct Slot(Mutex<Option<Handover>>);

/// A stream that is to be taken over.
#[derive(Debug)]
pub struct Handover {
    /// The stream.
    pub live: Live,
    /// The version of its request.
    pub version: Version,
}

/// How a connection left hyper.
#[derive(Debug)]
pub enum Left {
    /// It is over.
    Ended(hyper::Result<()>),
    /// It goes on as a stream.
    TakenOver(Box<Adopted>),
}

// === impl Slot ===

impl Slot {
    /// Leaves a stream. The caller stays pending from then on.
    pub fn fill(&self, handover: Handover) {
        *self.0.lock().expect("no code panics under this lock") = Some(handover);
    }

    fn is_filled(&self) -> bool {
        self.0.lock().expect("no code panics under this lock").is_some()
    }

    fn take(&self) -> Option<Handover> {
        self.0.lock().expect("no code panics under this lock").take()
    }
}

/// Drives a connection until it ends, or a stream can be taken over from it.
pub async fn drive<S>(
    conn: &mut Option<UpgradeableConnection<TokioIo<Wire>, S>>,
    slot: &Slot,
    wire: &Arc<WireState>,
) -> Left
where
    S: HttpService<Incoming, ResBody = ResponseBody> + Send,
    S::Error: Into<BoxError>,
    UpgradeableConnection<TokioIo<Wire>, S>: Future<Output = hyper::Result<()>> + Unpin,
{
    let ended = poll_fn(|cx| {
        let polled = Pin::new(conn.as_mut().expect("it is there until it leaves")).poll(cx);
        match polled {
            // Whatever stands in the slot goes with the connection.
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if slot.is_filled() && wire.is_flushed() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    if let Some(ended) = ended {
        return Left::Ended(ended);
    }
    let handover = slot.take().expect("nobody else empties the slot");
    match conn.take().and_then(UpgradeableConnection::into_parts) {
        Some(parts) => take_over(parts.io.into_inner(), handover),
        None => unreachable!("a connection with a stream request in progress has not been upgraded"),
    }
}

fn take_over(wire: Wire, handover: Handover) -> Left {
    let Handover { live: Live { subscription, mut permit, pacing }, version } = handover;
    let (socket, counted) = wire.into_inner();
    permit.carry(counted);
    match socket.into_std() {
        Ok(socket) => {
            let chunked = version == Version::HTTP_11;
            let head = head(chunked, subscription.topic().grant().as_deref());
            let adopted = Adopted { socket, head, chunked, subscription, permit, pacing };
            Left::TakenOver(Box::new(adopted))
        }
        // The reactor does not let go of it; nothing was answered, and the client comes back.
        Err(error) => {
            tracing::warn!(%error, "a socket can't be taken over");
            Left::Ended(Ok(()))
        }
    }
}

/// The head of a stream, as hyper would write it.
fn head(chunked: bool, grant: Option<&Grant>) -> Vec<u8> {
    let mut head = if chunked { "HTTP/1.1 200 OK\r\n" } else { "HTTP/1.0 200 OK\r\n" }.as_bytes().to_vec();
    let mut line = |name: &str, value: &[u8]| head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    for (name, value) in HEAD {
        line(name, value.as_bytes());
    }
    for (name, value) in grant.into_iter().flat_map(Grant::lines) {
        line(name.as_str(), value.as_bytes());
    }
    line("connection", b"close");
    if chunked {
        line("transfer-encoding", b"chunked");
    }
    line("date", httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    head.extend(b"\r\n");
    head
}

#[cfg(test)]
mod tests;
