//! The public side: accepts connections, and gives each request to the streams or to the forwarder.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error};

use crate::{
    accept::{Acceptor, Gate},
    advice::traces::Visitor,
    canary::Canary,
    connections::ConnState,
    files::Files,
    forward::{self, ForwardContext, Forwarder, ResponseBody},
    guard::Guard,
    metrics::{Metrics, Refused, RejectReason},
    router,
    shard::Shards,
    shutdown::Shutdown,
    stream::{Client, Opened, Streams, patience::Patience},
    takeover::{self, Handover, Left, Slot},
    wire::{Disagreement, Wire},
};

/// How long a connection may at least stay idle between requests; a head that has not begun by then may still do so within
/// `--head-timeout`. Longer than the 60 s after which nginx and the cloud's load
/// balancers drop theirs, so that it is they who close, and no request crosses a close of ours.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// hyper's buffers grow up to this for one connection: a request's head must fit, and a slow reader of a download holds
/// no more.
const BUFFER_MAX: usize = 64 * 1024;

/// Answers requests of the public side.
#[derive(Debug)]
pub struct Server {
    /// Stream requests.
    pub streams: Streams,
    /// All others.
    pub forwarder: Forwarder,
    /// Keeps alive what the forwarder brings and turns out to be a stream; `None` with `--no-guard`.
    pub guard: Option<Guard>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What looks like a stream's client from inside.
    pub canary: Arc<Canary>,
    /// `--head-timeout`.
    pub head_timeout: Duration,
    /// The open files.
    pub files: Arc<Files>,
    /// Where streams live once their head is decided.
    pub shards: Arc<Shards>,
    /// Where answers are counted.
    pub metrics: Arc<Metrics>,
}

/// One client connection, as its requests see it.
#[derive(Debug)]
struct Connection {
    state: Arc<ConnState>,
    slot: Arc<Slot>,
    /// What its requests are forwarded with; the client's address is there, too.
    forward: ForwardContext,
}

// === impl Server ===

impl Server {
    /// Accepts until the drain begins. Connections are tasks of `clients`; each ends by itself, at the drain after its
    /// current request, and at an abort at once.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, clients: TaskTracker, shutdown: Shutdown) {
        let mut acceptor = Acceptor::new(&listener, Some(Gate { files: &self.files, metrics: &self.metrics }));
        loop {
            match shutdown.drain.run_until_cancelled(acceptor.next()).await {
                None => return,
                Some(Ok((socket, peer))) => {
                    // Counted here and not by its task, which may run only after many more have been accepted.
                    let wire = Wire::new(socket).within(self.head_timeout, self.files.opened());
                    let connection = Arc::clone(&self).connection(wire, peer, clients.clone(), shutdown.clone());
                    clients.spawn(connection);
                }
                Some(Err(error)) => {
                    error!(%error, "the listener is broken; draining");
                    shutdown.drain.cancel();
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, wire: Wire, peer: SocketAddr, tasks: TaskTracker, shutdown: Shutdown) {
        let state = Arc::new(ConnState { wire: wire.state(), abort: CancellationToken::new() });
        let slot = Arc::new(Slot::default());
        // Made once: what the requests of a connection share is not counted up and down for each of them.
        let forward = ForwardContext::new(peer, wire.state(), tasks, shutdown.abort.clone());
        let connection = Arc::new(Connection { state: Arc::clone(&state), slot: Arc::clone(&slot), forward });
        let server = Arc::clone(&self);
        let service = service_fn(move |req| {
            // Boxed: hyper keeps room for a whole service future in every idle connection.
            let answer = Box::pin(Arc::clone(&server).answer(req, Arc::clone(&connection)));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let http = http(self.head_timeout);
        let mut conn = Some(http.serve_connection(TokioIo::new(wire), service).with_upgrades());
        let mut left = tokio::select! {
            left = takeover::drive(&mut conn, &slot, &state.wire) => Some(left),
            () = state.abort.cancelled() => None,
            () = shutdown.abort.cancelled() => None,
            () = shutdown.drain.cancelled() => None,
        };
        if left.is_none()
            && shutdown.drain.is_cancelled()
            && let Some(conn) = &mut conn
        {
            // The request in progress, and then no more.
            Pin::new(conn).graceful_shutdown();
        }
        if left.is_none() && conn.is_some() {
            left = tokio::select! {
                left = takeover::drive(&mut conn, &slot, &state.wire) => Some(left),
                () = state.abort.cancelled() => None,
                () = shutdown.abort.cancelled() => None,
            };
        }
        match left {
            Some(Left::TakenOver(adopted)) => self.shards.adopt(adopted),
            // A client's fault or its right: tabs are closed all the time.
            Some(Left::Ended(Err(error))) => {
                self.count_refusal(&error, state.wire.head_timed_out());
                debug!(%error, %peer, "a connection ended");
            }
            Some(Left::Ended(Ok(()))) | None => {}
        }
    }

    /// Counts what was refused below the service: by hyper's parser, which answers such a request itself, or by the wire.
    fn count_refusal(&self, error: &hyper::Error, head_timed_out: bool) {
        if head_timed_out {
            self.metrics.refused(Refused::HeadTimeout);
        } else if error.is_parse_too_large() {
            self.metrics.refused(Refused::HeadTooLarge);
            self.metrics.http_request(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        } else if error.is_parse() {
            self.metrics.refused(Refused::Malformed);
            self.metrics.http_request(StatusCode::BAD_REQUEST);
        }
    }

    async fn answer(self: Arc<Self>, req: Request<Incoming>, connection: Arc<Connection>) -> Response<ResponseBody> {
        let response = self.respond(req, connection).await;
        self.metrics.http_request(response.status());
        response
    }

    async fn respond(&self, mut req: Request<Incoming>, connection: Arc<Connection>) -> Response<ResponseBody> {
        // Exactly once for every request of the connection: the wire's verdicts are taken in their order.
        if let Err(disagreement) = forward::admit(&req, &connection.state.wire) {
            self.metrics.refused(match disagreement {
                Disagreement::TooLarge => Refused::HeadTooLarge,
                _ => Refused::Malformed,
            });
            return forward::refuse(disagreement);
        }
        if let Some(live) = self.canary.claim(req.uri().path()) {
            connection.slot.fill(Handover { live, version: req.version() });
            return std::future::pending().await;
        }
        match router::stream_request(&self.streams.routes, req.method(), req.uri(), req.headers()) {
            Some(wanted) => {
                self.note_visitor(&connection, &req);
                let (version, has_body) = (req.version(), !req.body().is_end_stream());
                let client = self.client(&connection, &req);
                match self.streams.open(wanted, req, client).await {
                    Opened::Answer(response) => response,
                    // What is left of its body would be taken for something else once the socket is ours.
                    Opened::Live(live) if has_body => self.streams.body(live, Arc::clone(&connection.state)),
                    Opened::Live(live) => {
                        connection.slot.fill(Handover { live, version });
                        self.metrics.http_request(StatusCode::OK);
                        std::future::pending().await
                    }
                }
            }
            // It would need a file of its own at the app; those that are left are for polls and subscriptions.
            None if self.files.are_short() => {
                self.metrics.rejected(RejectReason::FileLimit);
                Patience::of(req.method(), req.headers()).later_without_file()
            }
            None => {
                let guard = self.guard.as_ref().map(|guard| {
                    if router::names_event_stream(req.headers()) {
                        self.note_visitor(&connection, &req);
                    }
                    let client = self.client(&connection, &req);
                    (guard, guard.prepare(&mut req, client))
                });
                let response = self.forwarder.forward(req, &connection.forward).await;
                match guard {
                    Some((guard, asked)) => guard.wrap(response, asked),
                    None => response,
                }
            }
        }
    }

    /// Remembers who asked for a stream, and whether it seems to be a proxy that nobody told us of.
    fn note_visitor(&self, connection: &Connection, req: &Request<Incoming>) {
        let peer = connection.forward.peer.ip().to_canonical();
        let is_trusted = self.trusted_proxies.iter().any(|net| net.contains(&peer));
        let names_others = !is_trusted && req.headers().contains_key("x-forwarded-for");
        let address = client_ip(peer, req.headers(), &self.trusted_proxies);
        self.metrics.visitors.came(Visitor { address, names_others });
    }

    fn client(&self, connection: &Connection, req: &Request<Incoming>) -> Client {
        let ip = client_ip(connection.forward.peer.ip(), req.headers(), &self.trusted_proxies);
        Client { ip, conn: Arc::clone(&connection.state) }
    }
}

/// HTTP/1.1 as it is spoken with clients. How long a head may take is for the wire to say: hyper's one time begins with the
/// wait for a head and not with its first byte, so that both must fit, or a head that comes late would have less.
fn http(head_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT + head_timeout).max_buf_size(BUFFER_MAX);
    http
}

/// The client's address: the peer's, unless that is a proxy we trust; then the last address in `X-Forwarded-For` that is
/// not one of ours too, because whatever stands before it may be the client's own invention.
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    let peer = peer.to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev().filter_map(|value| value.to_str().ok());
    let hops = lines.flat_map(|line| line.rsplit(',')).map(hop_ip);
    let mut client = peer;
    for hop in hops {
        // A hop that is no address ends what can be believed.
        let Some(hop) = hop else { break };
        client = hop.to_canonical();
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

/// The address of one hop. Some balancers write the port behind it, some put one of IPv6 in brackets.
fn hop_ip(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let plain = hop.parse().ok();
    plain.or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip())).or_else(|| in_brackets().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The size of what a function returns, without calling it.
    fn size_of_future<F, Fut>(_: F) -> usize
    where
        F: FnOnce(Arc<Server>, Wire, SocketAddr, TaskTracker, Shutdown) -> Fut,
    {
        size_of::<Fut>()
    }

    // The task of a connection holds this, beside hyper's buffers, from the accept to the take-over; a take-over frees it.
    #[test]
    fn a_connection_stays_within_its_budget() {
        let size = size_of_future(Server::connection);
        assert!(size <= 1728, "a connection's future is {size} bytes");
    }

    // hyper's one time covers the wait for the head, too.
    #[tokio::test(start_paused = true)]
    async fn a_head_that_begins_late_has_its_whole_time() {
        let head_timeout = Duration::from_secs(90);
        let (mut client, server) = tokio::io::duplex(1024);
        let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(ResponseBody::Empty)));
        let served = tokio::spawn(http(head_timeout).serve_connection(TokioIo::new(server), service));
        let moment = Duration::from_secs(1);
        tokio::time::sleep(IDLE_TIMEOUT - moment).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
        tokio::time::sleep(head_timeout - moment).await;
        client.write_all(b"Connection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
        served.await.unwrap().unwrap();
    }

    fn client(peer: &str, forwarded: &[&'static str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", http::HeaderValue::from_static(line));
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        client_ip(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(client("9.9.9.9", &["1.1.1.1"], &["10.0.0.0/8"]), "9.9.9.9");
        assert_eq!(client("10.0.0.1", &["1.1.1.1"], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client("::ffff:10.0.0.1", &["1.1.1.1"], &["10.0.0.0/8"]), "1.1.1.1");
    }

    // A client may send the header itself; what it wrote stands to the left of what our proxies added.
    #[test]
    fn what_the_client_invented_is_not_believed() {
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "1.1.1.1"], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, junk"], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
    }

    // Azure's gateways and IIS write ports, HAProxy and others brackets.
    #[test]
    fn a_hop_may_have_a_port_or_brackets() {
        for (hop, address) in [
            ("1.1.1.1:500", "1.1.1.1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[::ffff:1.1.1.1]:80", "1.1.1.1"),
            ("6.6.6.6, 1.1.1.1:500, 10.0.0.2:443", "1.1.1.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[hop], &["10.0.0.0/8"]), address, "{hop}");
        }
        for junk in ["1.1.1.1:", "1.1.1.1:99999", "[1.1.1.1]", "[2001:db8::1", "[]", "unknown", "_hidden:80"] {
            assert_eq!(client("10.0.0.1", &[junk], &["10.0.0.0/8"]), "10.0.0.1", "{junk}");
        }
    }
}
