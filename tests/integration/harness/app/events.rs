//! Event streams of the fake app, fed by the test.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{mpsc, oneshot};

use super::{Answer, Endpoint, Fate, Seen, Shared, Wire, within};

/// A path that is an event stream.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    endpoint: Endpoint,
    feed: Arc<Feed>,
}

/// One open stream. Dropping the handle leaves the stream open and silent.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The request that opened it.
    pub(crate) request: Seen,
    orders: mpsc::Sender<Order>,
    is_open: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

/// Shared by the test and the connections of one path.
#[derive(Debug, Default)]
pub(super) struct Feed {
    state: Mutex<FeedState>,
}

#[derive(Debug, Default)]
struct FeedState {
    /// Streams that no `accept` has taken yet.
    waiting: VecDeque<Stream>,
    open: usize,
    opened: usize,
    /// Given to everybody instead of a stream.
    refusal: Option<Answer>,
    /// Lines that go into the heads.
    headers: String,
}

#[derive(Debug)]
enum Order {
    Send(Vec<u8>, oneshot::Sender<()>),
    Close,
    Cut,
    Reset,
}

/// Lets go of the open-stream count however its task ends.
struct OpenGuard<'a> {
    feed: &'a Feed,
    is_open: Arc<AtomicBool>,
    shared: &'a Shared,
}

// === impl Events ===

impl Events {
    pub(super) fn new(endpoint: Endpoint, feed: Arc<Feed>) -> Self {
        Self { endpoint, feed }
    }

    /// The next stream that a peer opens.
    pub(crate) async fn accept(&self) -> Stream {
        self.endpoint.shared.until("a stream to be opened", || !self.feed.lock().waiting.is_empty()).await;
        self.feed.lock().waiting.pop_front().expect("it was there")
    }

    /// Streams open now.
    pub(crate) fn open(&self) -> usize {
        self.feed.lock().open
    }

    /// Streams opened so far.
    pub(crate) fn opened(&self) -> usize {
        self.feed.lock().opened
    }

    /// The requests so far, also the refused ones.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Answers with this instead of a stream from now on.
    pub(crate) fn refuse(&self, answer: Answer) {
        self.feed.lock().refusal = Some(answer);
    }

    /// Adds a header to the heads of streams from now on.
    pub(crate) fn header(&self, name: &str, value: &str) {
        self.feed.lock().headers.push_str(&format!("{name}: {value}\r\n"));
    }
}

// === impl Stream ===

impl Stream {
    /// Sends bytes in a chunk of their own and waits until the kernel has them.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) {
        let (done, sent) = oneshot::channel();
        self.order(Order::Send(bytes.as_ref().to_vec(), done)).await;
        within("the peer to take bytes", sent).await.expect("the stream is open");
    }

    /// Sends bytes unless the peer is gone, which it may be.
    pub(crate) async fn try_send(&self, bytes: &str) -> bool {
        let (done, sent) = oneshot::channel();
        let ordered = self.orders.send(Order::Send(bytes.as_bytes().to_vec(), done)).await;
        ordered.is_ok() && within("the peer to take bytes or leave", sent).await.is_ok()
    }

    /// The orderly end of the body.
    pub(crate) async fn close(&self) {
        self.order(Order::Close).await;
        self.closed().await;
    }

    /// A FIN without the end of the body.
    pub(crate) async fn cut(&self) {
        self.order(Order::Cut).await;
        self.closed().await;
    }

    /// A RST.
    pub(crate) async fn reset(&self) {
        self.order(Order::Reset).await;
        self.closed().await;
    }

    /// Waits until the stream is over, whoever ended it.
    pub(crate) async fn closed(&self) {
        self.shared.until("the stream to close", || !self.is_open()).await;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::SeqCst)
    }

    /// The `Last-Event-ID` it was opened with.
    pub(crate) fn last_event_id(&self) -> Option<&str> {
        self.request.header("last-event-id")
    }

    async fn order(&self, order: Order) {
        self.orders.send(order).await.expect("the stream is open");
    }
}

// === impl Feed ===

impl Feed {
    fn lock(&self) -> std::sync::MutexGuard<'_, FeedState> {
        self.state.lock().expect("nobody panics under this lock")
    }

    /// Runs one stream until the test or the peer ends it.
    pub(super) async fn serve(&self, mut wire: Wire, seen: &Seen, shared: &Arc<Shared>) {
        let refusal = self.lock().refusal.clone();
        if let Some(answer) = refusal {
            // The connection closes after a refusal; a keep-alive here would only be in the way of the counts.
            answer.header("Connection", "close").write(&mut wire, seen, ()).await;
            return;
        }
        // Deep enough that a test may run ahead of the socket, bounded so that it can't run far.
        let (orders, mut inbox) = mpsc::channel(64);
        let is_open = Arc::new(AtomicBool::new(true));
        let headers = self.lock().headers.clone();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n{headers}\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        if wire.send(head.as_bytes()).await.is_err() {
            return;
        }
        let stream =
            Stream { request: seen.clone(), orders, is_open: Arc::clone(&is_open), shared: Arc::clone(shared) };
        {
            let mut state = self.lock();
            state.open += 1;
            state.opened += 1;
            state.waiting.push_back(stream);
        }
        shared.change(|_| ());
        let _open = OpenGuard { feed: self, is_open, shared };
        loop {
            let order = tokio::select! {
                order = inbox.recv() => order,
                read = wire.fill() => match read {
                    Ok(1..) => panic!("bytes came after the request for a stream"),
                    Ok(0) | Err(_) => {
                        shared.change(|state| mark_cancelled(state, seen));
                        return;
                    }
                },
            };
            match order {
                Some(Order::Send(bytes, done)) => {
                    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                    chunk.extend_from_slice(&bytes);
                    chunk.extend_from_slice(b"\r\n");
                    if wire.send(&chunk).await.is_err() {
                        return;
                    }
                    // The test may have stopped waiting.
                    let _ = done.send(());
                }
                Some(Order::Close) => {
                    let _ = wire.send(b"0\r\n\r\n").await;
                    return;
                }
                Some(Order::Cut) => return,
                Some(Order::Reset) => return wire.reset(),
                // The test dropped its handle: the stream stays open and silent until the peer leaves.
                None => {
                    while let Ok(1..) = wire.fill().await {}
                    return;
                }
            }
        }
    }
}

fn mark_cancelled(state: &mut super::State, seen: &Seen) {
    if let Some(entry) = state.seen.iter_mut().find(|entry| entry.at == seen.at && entry.connection == seen.connection)
    {
        entry.fate = Fate::Cancelled;
    }
}

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.feed.lock().open -= 1;
        self.is_open.store(false, Ordering::SeqCst);
        self.shared.change(|_| ());
    }
}
