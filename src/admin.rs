//! The admin side: `/metrics`, `/livez`, `/readyz`, `/api/stats`, the same live at `/api/stats/stream`, and a page for people at `/`.
//!
//! It has a listener of its own, so that it can stay closed to the world and answers when the public side drains. Nothing
//! here shows a credential, a query string or an id of a job.

mod page;

use std::{
    convert::Infallible,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    accept::Acceptor,
    health::{Health, Sick},
    readiness::{Readiness, State},
    stats::board::Board,
};

/// What the admin side answers from.
#[derive(Debug)]
pub struct Admin {
    /// Every series.
    pub registry: Registry,
    /// Where the program is in its life.
    pub readiness: Readiness,
    /// Whether it works there.
    pub health: Arc<Health>,
    /// The dashboard's data.
    pub board: Arc<Board>,
}

/// What the admin side calls itself: whoever asks the wrong port gets an answer too, but not by that name.
const SERVER: HeaderValue = HeaderValue::from_static("sidestream");

/// What the admin side answers with.
type AdminBody = UnsyncBoxBody<Bytes, Infallible>;

// === impl Admin ===

impl Admin {
    /// Serves until `stop`. Owned by the app's run loop; connections end with it.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        let mut acceptor = Acceptor::new(&listener, None);
        while let Some(Ok((socket, peer))) = stop.run_until_cancelled(acceptor.next()).await {
            let admin = Arc::clone(&self);
            let stop = stop.clone();
            tracker.spawn(async move {
                let service = service_fn(move |req| {
                    let admin = Arc::clone(&admin);
                    async move { Ok::<_, Infallible>(admin.answer(&req).await) }
                });
                let conn =
                    http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
                if let Some(Err(error)) = stop.run_until_cancelled(conn).await {
                    debug!(%error, %peer, "an admin connection broke");
                }
            });
        }
    }

    async fn answer(self: Arc<Self>, req: &Request<Incoming>) -> Response<AdminBody> {
        if !matches!(*req.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match req.uri().path() {
            "/metrics" => self.metrics(),
            "/livez" => health("ok\n", self.health.live()),
            "/readyz" => match self.readiness.get() {
                State::Ready => health("ready\n", self.health.ready()),
                State::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
                State::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            },
            "/api/stats" => typed("application/json", self.board.fresh().await),
            "/api/stats/stream" => self.stream(),
            path => match page::at(path) {
                Some(file) => typed(file.content_type, Bytes::from_static(file.body)),
                None => {
                    text(StatusCode::NOT_FOUND, "try /, /metrics, /livez, /readyz, /api/stats or /api/stats/stream\n")
                }
            },
        }
    }

    /// The same, told again and again. Not one of the program's own streams: it would count itself.
    fn stream(&self) -> Response<AdminBody> {
        let told = futures_util::stream::unfold(self.board.viewer(), |mut viewer| async move {
            let block = viewer.next().await?;
            Some((Ok(Frame::data(block)), viewer))
        });
        let mut response = typed("text/event-stream", Bytes::new());
        *response.body_mut() = StreamBody::new(told).boxed_unsync();
        response
    }

    fn metrics(&self) -> Response<AdminBody> {
        let encoder = TextEncoder::new();
        let mut buffer = Vec::new();
        match encoder.encode(&self.registry.gather(), &mut buffer) {
            Ok(()) => typed("text/plain; version=0.0.4; charset=utf-8", buffer.into()),
            Err(error) => {
                warn!(%error, "the metrics can't be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written\n")
            }
        }
    }
}

fn health(well: &'static str, found: Result<(), Sick>) -> Response<AdminBody> {
    let Err(sick) = found else { return text(StatusCode::OK, well) };
    let mut response = typed("text/plain; charset=utf-8", format!("{sick}\n").into());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn text(status: StatusCode, line: &'static str) -> Response<AdminBody> {
    let mut response = typed("text/plain; charset=utf-8", Bytes::from_static(line.as_bytes()));
    *response.status_mut() = status;
    response
}

fn typed(content_type: &'static str, body: Bytes) -> Response<AdminBody> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::SERVER, SERVER);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::CSP));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Asks the admin side of a running program whether it works; for images that have no curl.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn healthcheck(addr: SocketAddr) -> Result<(), String> {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };
    // Container runtimes kill a check after some seconds of their own; this one says why first.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);
    const ANSWER_MAX: u64 = 4096;
    let ask = |addr: SocketAddr| -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(stream, "GET /livez HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    // Listening everywhere includes the loopback address, and that is where a check inside the container asks.
    let addr = match addr.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port())),
        ip if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, addr.port())),
        _ => addr,
    };
    match ask(addr) {
        Ok(answer) => judge(&answer).map_err(|sentence| format!("{addr} {sentence}")),
        Err(error) => Err(format!("{addr} does not answer ({error}); is --admin-listen the same there?")),
    }
}

/// Whether an answer to `/livez` is ours, and says that all is well; what is behind another port may answer 200 to anything.
/// The error is the end of a sentence that names who has answered.
fn judge(answer: &str) -> Result<(), String> {
    let (head, reason) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    let is_ours = lines.filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.eq_ignore_ascii_case(header::SERVER.as_str()) && value.trim().as_bytes() == SERVER.as_bytes()
    });
    match status.split(' ').nth(1) {
        Some("200") if is_ours => Ok(()),
        _ if is_ours => Err(format!("answered \"{status}\", not 200: {}", reason.trim())),
        _ => Err(format!(
            "answered \"{status:.80}\", but is not the admin side of a sidestream; is --admin-listen the same there?"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_our_own_is_a_sign_of_health() {
        let told = |answer: &str| judge(answer).err().unwrap_or_default();
        assert_eq!(told("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: sidestream\r\n\r\nok\n"), "");
        assert_eq!(
            told("HTTP/1.1 503 Service Unavailable\r\nServer: sidestream\r\n\r\nshard 0 is stuck\n"),
            "answered \"HTTP/1.1 503 Service Unavailable\", not 200: shard 0 is stuck"
        );
        for (status, rest) in [
            ("HTTP/1.1 200 OK", "\r\n\r\nok\n"),
            ("HTTP/1.1 200 OK", "\r\nserver: nginx\r\n\r\nserver: sidestream\r\n"),
            ("HTTP/1.0 200 OK", "\r\ncontent-type: text/html\r\n\r\n<html>"),
            ("", ""),
        ] {
            assert_eq!(
                told(&format!("{status}{rest}")),
                format!(
                    "answered \"{status:.80}\", but is not the admin side of a sidestream; is --admin-listen the same there?"
                )
            );
        }
    }
}
