//! The moment of the take-over, with hyper and real sockets.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::{server::conn::http1, service::service_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    connections::{Connections, Limits, Permit},
    event::{Frame, HeartbeatForm},
    hub::tests::{Bench, LOG},
    metrics::{RouteId, Transport},
    stream::body::Pacing,
};

const DEADLINE: Duration = Duration::from_secs(20);
/// More than the buffers of a connection that nobody reads from hold.
const LARGE: usize = 16 << 20;

async fn within<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("no hang")
}

fn live(bench: &Bench) -> Live {
    let limits =
        Limits { connections: 10, per_ip: 0, stale_after: Duration::from_secs(1), reap_after: Duration::from_secs(1) };
    let connections = Connections::new(limits, Arc::clone(&bench.metrics));
    let permit: Permit = connections.permit(RouteId(0), [127, 0, 0, 1].into(), Transport::Http1).unwrap();
    let pacing = Pacing {
        heartbeat: DEADLINE,
        heartbeat_frame: Frame::new(&[&HeartbeatForm::Comment.frame()]),
        retry: DEADLINE,
        max_age: None,
        is_checked: false,
    };
    Live { subscription: bench.watch(LOG), permit, pacing: Arc::new(pacing) }
}

/// A connection whose service answers a POST with [`LARGE`] bytes before it has its body, and takes a GET over.
async fn connect(bench: &Bench) -> (TcpStream, Arc<Slot>, Arc<WireState>, JoinHandle<Left>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let wire = Wire::new(socket);
    let (state, slot) = (wire.state(), Arc::new(Slot::default()));
    let (filled, lives) = (Arc::clone(&slot), Arc::new(Mutex::new(Some(live(bench)))));
    let service = service_fn(move |req: Request<Incoming>| {
        let (slot, lives) = (Arc::clone(&filled), Arc::clone(&lives));
        async move {
            if req.method() == Method::POST {
                tokio::spawn(req.into_body().collect());
                let large = Bytes::from(vec![b'x'; LARGE]);
                return Ok::<_, Infallible>(Response::new(ResponseBody::Text(Some(large))));
            }
            let live = lives.lock().unwrap().take().unwrap();
            slot.fill(Handover { live, version: req.version() });
            std::future::pending().await
        }
    });
    let (task_slot, task_state) = (Arc::clone(&slot), Arc::clone(&state));
    let driven = tokio::spawn(async move {
        let mut builder = http1::Builder::new();
        // One flat buffer with room for a whole answer: with a queue of buffers this version of hyper does not ask the
        // service about the next request before the queue is empty, and the guard would have nothing to do.
        builder.writev(false).max_buf_size(2 * LARGE);
        let mut conn = Some(builder.serve_connection(TokioIo::new(wire), service).with_upgrades());
        drive(&mut conn, &task_slot, &task_state).await
    });
    (client, slot, state, driven)
}

// hyper reads the next head when the last byte of the answer before is in its buffer, if the request's body ends after
// its answer began. Whoever takes the connection apart then throws the rest of the answer away.
#[tokio::test]
async fn an_answer_that_has_not_left_yet_holds_the_take_over_back() {
    let bench = Bench::new(10);
    let (mut client, slot, wire, driven) = connect(&bench).await;
    within(client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")).await.unwrap();
    within(client.readable()).await.unwrap();
    within(client.write_all(b"cdGET / HTTP/1.1\r\nHost: a\r\n\r\n")).await.unwrap();
    let mut answer = Vec::new();
    within(async {
        while !slot.is_filled() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!wire.is_flushed() && !driven.is_finished(), "the stream waits for the answer");

    while answer.len() < LARGE || !answer[answer.len() - LARGE..].starts_with(b"x") {
        assert_ne!(within(client.read_buf(&mut answer)).await.unwrap(), 0, "cut after {} bytes", answer.len());
    }

    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(answer.len() - head_end, LARGE);
    assert!(answer[head_end..].iter().all(|byte| *byte == b'x'));
    let Left::TakenOver(adopted) = within(driven).await.unwrap() else { panic!("not taken over") };
    assert!(adopted.chunked && adopted.head.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(adopted.head.ends_with(b" GMT\r\n\r\n"));
}

// The client has gone while its request was at work: there is nobody to take over, and its place is free.
#[tokio::test]
async fn a_client_that_has_gone_is_not_taken_over() {
    for is_reset in [false, true] {
        let bench = Bench::new(10);
        let (mut client, slot, wire, driven) = connect(&bench).await;
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcdGET / HTTP/1.1\r\n")
            .await
            .unwrap();
        within(client.readable()).await.unwrap();
        if is_reset {
            client.set_zero_linger().unwrap();
            drop(client);
        } else {
            client.write_all(b"Host: a\r\n\r\n").await.unwrap();
            drop(client);
        }

        assert!(matches!(within(driven).await.unwrap(), Left::Ended(_)));
        assert!(!wire.is_flushed());
        drop(slot);
        assert_eq!(bench.hub.list()[0].subscribers, 0, "what stood in the slot goes with the connection");
    }
}
