//! The forwarder between raw sockets: what is compared are bytes on the wire.

mod bodies;
mod endings;
mod heads;
mod tunnels;

use std::convert::Infallible;

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
pub(super) use crate::upstream::tests::{deaf_app, listen, read_head, within};
use crate::{upstream::tests::upstream, wire::Wire};

/// A forwarder on loopback, and the listener of the app behind it.
struct Rig {
    app: TcpListener,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Rig {
    async fn new() -> Self {
        let (app, address) = listen().await;
        Self::before(app, upstream(address)).await
    }

    async fn before(app: TcpListener, upstream: Upstream) -> Self {
        let (listener, address) = listen().await;
        let metrics = Arc::new(Metrics::register(&Registry::new(), &[]).unwrap());
        let forwarder = Forwarder::new(upstream, Arc::clone(&metrics));
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        tokio::spawn(serve(listener, forwarder, tasks.clone(), shutdown.clone()));
        Self { app, address, metrics, tasks, shutdown }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A client that has sent `text`.
    async fn client(&self, text: &str) -> TcpStream {
        let mut client = self.connect().await;
        client.write_all(text.as_bytes()).await.unwrap();
        client
    }

    /// The app's end of the next connection to it, and the head that came on it.
    async fn accept(&self) -> (TcpStream, String) {
        let (mut stream, _) = within(self.app.accept()).await.unwrap();
        let head = within(read_head(&mut stream)).await;
        (stream, head)
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.metrics.upstream_request_count(Purpose::Forward, outcome)
    }

    /// Waits until a forwarded request has ended with `outcome`.
    async fn counted(&self, outcome: Outcome) {
        within(async {
            while self.count(outcome) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

async fn serve(listener: TcpListener, forwarder: Forwarder, tasks: TaskTracker, shutdown: CancellationToken) {
    while let Ok((stream, peer)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let wire = Wire::new(stream);
        let context = ForwardContext::new(peer, wire.state(), tasks.clone(), shutdown.clone());
        tokio::spawn(serve_connection(wire, forwarder.clone(), context));
    }
}

async fn serve_connection(wire: Wire, forwarder: Forwarder, context: ForwardContext) {
    let service = service_fn(move |request| {
        let (forwarder, context) = (forwarder.clone(), context.clone());
        async move {
            Ok::<_, Infallible>(match admit(&request, &context.wire) {
                Ok(()) => forwarder.forward(request, &context).await,
                Err(disagreement) => refuse(disagreement),
            })
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).max_buf_size(64 * 1024);
    // How it ended is the client's to see.
    let _ = builder.serve_connection(TokioIo::new(wire), service).with_upgrades().await;
}

/// Reads the end of a stream; `Err` when it ends in a reset.
async fn read_rest(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn read_text(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Waits until the other side has closed or reset the connection.
async fn closed(stream: &mut TcpStream) {
    let mut sink = vec![0; 64 * 1024];
    within(async { while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {} }).await;
}

/// The header lines with this name, in their order.
fn lines<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

fn status(head: &str) -> &str {
    head.lines().next().unwrap_or_default()
}

/// hyper keeps room for the service's future from the first byte to the last of every connection. This one is to be
/// boxed by whoever calls it, and what is boxed is paid per request in flight.
#[tokio::test]
async fn a_request_in_flight_stays_small() {
    let forwarder = Forwarder::new(
        upstream("127.0.0.1:1".parse().unwrap()),
        Arc::new(Metrics::register(&Registry::new(), &[]).unwrap()),
    );
    fn size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let bytes = size(|request: Request<Incoming>, context: &'static ForwardContext| {
        let forwarder: &'static Forwarder = Box::leak(Box::new(forwarder.clone()));
        forwarder.forward(request, context)
    });
    assert!(bytes <= 3 * 1024, "{bytes}");
}
