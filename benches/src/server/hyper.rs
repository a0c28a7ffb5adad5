//! The usual Rust way: a hyper connection per client with a streaming body, fed by a broadcast channel.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Either, Empty, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::broadcast, time::timeout};
use tokio_stream::wrappers::BroadcastStream;

use super::{HEARTBEAT, ServerArgs, event, say_where, wait_for_stdin};
use crate::{Fault, client::worker::raise_file_limit};

/// Events a slow client may be behind.
const BACKLOG: usize = 64;

struct Hub {
    events: broadcast::Sender<Bytes>,
    latest: Mutex<Bytes>,
}

/// Serves until stdin ends.
pub(crate) fn run(args: ServerArgs) -> Result<(), Fault> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    say_where(listener.local_addr()?);
    let hub = Arc::new(Hub { events: broadcast::channel(BACKLOG).0, latest: Mutex::default() });
    // Both run until the runtime is dropped.
    runtime.spawn(beat(Arc::clone(&hub), args.heartbeat));
    runtime.spawn(accept(listener, hub));
    wait_for_stdin();
    runtime.shutdown_background();
    Ok(())
}

async fn beat(hub: Arc<Hub>, silence: Duration) {
    let mut events = hub.events.subscribe();
    loop {
        if timeout(silence, events.recv()).await.is_err() {
            // Nobody may be there.
            let _ = hub.events.send(Bytes::from_static(HEARTBEAT));
        }
    }
}

async fn accept(listener: TcpListener, hub: Arc<Hub>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let hub = Arc::clone(&hub);
        tokio::spawn(async move {
            let service = service_fn(|req| answer(req, Arc::clone(&hub)));
            // A client that leaves is no fault.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn answer(
    req: Request<Incoming>,
    hub: Arc<Hub>,
) -> Result<Response<impl Body<Data = Bytes, Error = Fault>>, Infallible> {
    if req.method() == Method::POST {
        let body = req.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        if let Some(event) = event(&body) {
            let event = Bytes::from(event);
            *hub.latest.lock().expect("no code panics under this lock") = event.clone();
            let _ = hub.events.send(event);
        }
        let mut response = Response::new(Either::Left(Empty::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let latest = hub.latest.lock().expect("no code panics under this lock").clone();
    // Who has fallen behind is cut off, and so counted as a loss.
    let later = BroadcastStream::new(hub.events.subscribe()).take_while(|event| std::future::ready(event.is_ok()));
    let events = stream::iter([latest]).chain(later.filter_map(|event| std::future::ready(event.ok())));
    let body = StreamBody::new(events.map(|event| Ok::<_, Infallible>(Frame::data(event))));
    let mut response = Response::new(Either::Right(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    Ok(response)
}
