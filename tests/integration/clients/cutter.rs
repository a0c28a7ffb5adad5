//! A TCP proxy between a client and the program that can do to a connection what networks do.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The proxy; it ends with its handle, and its connections with it.
#[derive(Debug)]
pub(super) struct Cutter {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// As a process ends that is killed: FIN in the middle of the answer.
    Fin,
    /// As a router or a firewall ends it.
    Rst,
}

/// Shared by the handle, which orders, and the connections, which obey and record.
#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    /// Moves with every change of `state`.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// The heads of all requests so far.
    heads: Vec<String>,
    /// New connections are accepted and then wait.
    is_shut: bool,
    /// What the open connections have to do, and those that come later don't.
    orders: CancellationToken,
    how: Option<Cut>,
    /// Carries nothing more behind these bytes of an answer, once.
    hold_after: Option<Vec<u8>>,
}

// === impl Cutter ===

impl Cutter {
    pub(super) async fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { upstream, state: Mutex::default(), changes: watch::Sender::new(0) });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&shared), stop.clone()));
        Self { addr, shared, _stop: stop.drop_guard() }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Ends every connection.
    pub(super) fn cut(&self, how: Cut) {
        let orders = self.shared.change(|state| {
            state.how = Some(how);
            std::mem::take(&mut state.orders)
        });
        orders.cancel();
    }

    /// Ends every connection, and lets clients that come back wait until [`Cutter::open`].
    pub(super) fn cut_and_shut(&self, how: Cut) {
        self.shared.change(|state| state.is_shut = true);
        self.cut(how);
    }

    pub(super) fn open(&self) {
        self.shared.change(|state| state.is_shut = false);
    }

    /// Holds back what follows `bytes` in an answer, until the connection is cut; once. A cut at once would be another case:
    /// browsers drop what a stream brought together with its failure.
    pub(super) fn hold_after(&self, bytes: &str) {
        self.shared.change(|state| state.hold_after = Some(bytes.as_bytes().to_vec()));
    }

    /// The requests so far for a path that begins so.
    pub(super) fn requests(&self, path: &str) -> Vec<String> {
        let line = format!("GET {path}");
        self.shared.lock().heads.iter().filter(|head| head.starts_with(&line)).cloned().collect()
    }

    /// Waits until a path was asked for `count` times in all.
    pub(super) async fn until_requests(&self, path: &str, count: usize) {
        self.until_requests_within(super::PATIENCE, path, count).await;
    }

    /// As [`Cutter::until_requests`], for what takes longer by design.
    pub(super) async fn until_requests_within(&self, deadline: Duration, path: &str, count: usize) {
        let mut changes = self.shared.changes.subscribe();
        let come = async {
            while self.requests(path).len() < count {
                changes.changed().await.expect("the sender is in self");
            }
        };
        if tokio::time::timeout(deadline, come).await.is_err() {
            panic!("waited {deadline:?} in vain for {count} requests for {path}: {:?}", self.requests(path));
        }
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics under this lock")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let out = change(&mut self.lock());
        self.changes.send_modify(|count| *count += 1);
        out
    }

    async fn until_open(&self) {
        let mut changes = self.changes.subscribe();
        while self.lock().is_shut {
            changes.changed().await.expect("the sender is in self");
        }
    }
}

/// Accepts until `stop`, which ends the connections too.
async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let client = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted.expect("the cutter can accept").0,
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = carry(client, shared) => {}
            }
        });
    }
}

/// One connection, until either side or an order ends it.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    shared.until_open().await;
    let orders = shared.lock().orders.clone();
    // The program may be gone by design, and then the client's connection is closed without a word.
    let Ok(server) = TcpStream::connect(shared.upstream).await else { return };
    client.set_nodelay(true).expect("a socket takes TCP_NODELAY");
    server.set_nodelay(true).expect("a socket takes TCP_NODELAY");
    let (from_client, mut to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_cut = tokio::select! {
        () = orders.cancelled() => true,
        () = requests(from_client, to_server, &shared) => false,
        () = answers(from_server, &mut to_client, &shared) => false,
    };
    if is_cut && shared.lock().how == Some(Cut::Rst) {
        let socket = socket2::SockRef::from(to_client.as_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("a socket takes SO_LINGER");
        // Its drop would say FIN before the close says RST.
        to_client.forget();
    }
}

/// Carries what the client says, and keeps the heads. The clients here send no bodies.
async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut unread = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        unread.extend_from_slice(&buffer[..read]);
        while let Some(end) = find(&unread, b"\r\n\r\n") {
            let head: Vec<u8> = unread.drain(..end + 4).collect();
            shared.change(|state| state.heads.push(String::from_utf8_lossy(&head).into_owned()));
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Carries what the program says, as far as it may.
async fn answers(mut from: OwnedReadHalf, to: &mut OwnedWriteHalf, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..read];
        let wanted = shared.lock().hold_after.clone();
        // What is looked for is small and written at once, so it comes in one read.
        let Some((at, wanted)) = wanted.and_then(|wanted| Some((find(bytes, &wanted)?, wanted))) else {
            if to.write_all(bytes).await.is_err() {
                return;
            }
            continue;
        };
        shared.change(|state| state.hold_after = None);
        // Fails only if the client has left, and then the cut finds nothing to do.
        let _ = to.write_all(&as_whole_chunk(&bytes[..at + wanted.len()])).await;
        std::future::pending().await
    }
}

/// Makes the begun chunk at the end of `bytes` a whole one, as a proxy does that has no more of it: some clients hand on
/// whole chunks only. There is no CRLF in our events, so the last one stands behind the size of the chunk.
fn as_whole_chunk(bytes: &[u8]) -> Vec<u8> {
    let crlf_before = |end: usize| bytes[..end].windows(2).rposition(|window| window == b"\r\n");
    let size_end = crlf_before(bytes.len()).expect("the size of the chunk is in the same read");
    let size_start = crlf_before(size_end).map_or(0, |at| at + 2);
    let data = &bytes[size_end + 2..];
    [&bytes[..size_start], format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
