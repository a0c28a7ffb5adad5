use std::{future::poll_fn, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

async fn pair() -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (Wire::new(server), client)
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("no hang")
}

/// Writes until the socket takes no more.
async fn fill(wire: &mut Wire) -> usize {
    let block = vec![b'x'; 64 * 1024];
    let mut written = 0;
    poll_fn(|cx| {
        loop {
            match Pin::new(&mut *wire).poll_write(cx, &block) {
                Poll::Ready(done) => written += done.unwrap(),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
    written
}

/// Ten thousand connections cost this ten thousand times.
#[test]
fn a_wire_with_its_state_stays_small() {
    let bytes = size_of::<Wire>() + size_of::<WireState>();
    assert!(bytes <= 288, "{} + {} = {bytes}", size_of::<Wire>(), size_of::<WireState>());
}

#[tokio::test]
async fn a_client_that_does_not_read_blocks_the_wire_until_it_reads_on() {
    let (mut wire, mut client) = pair().await;
    let state = wire.state();
    assert!(state.is_flushed() && !state.is_blocked());
    let written = fill(&mut wire).await;
    assert!(state.is_blocked() && !state.is_flushed());
    assert!(state.blocked_since().is_some_and(|since| since.elapsed() < DEADLINE));
    assert_eq!(state.bytes_written(), written as u64);

    let mark = state.flush_mark();
    let waiting = tokio::spawn({
        let state = wire.state();
        async move {
            poll_fn(|cx| state.poll_unblocked(cx)).await;
            poll_fn(|cx| state.poll_flushed_since(mark, cx)).await;
        }
    });
    let mut sink = vec![0; written];
    within(client.read_exact(&mut sink)).await.unwrap();
    within(wire.write_all(b"end")).await.unwrap();
    assert!(!state.is_blocked() && state.blocked_since().is_none());
    assert!(!state.is_flushed(), "a write alone is no flush");
    within(wire.flush()).await.unwrap();
    assert!(state.is_flushed());
    within(waiting).await.unwrap();
    assert!(!state.write_failed());
}

#[tokio::test]
async fn a_write_to_a_client_that_has_gone_is_noted() {
    let (mut wire, client) = pair().await;
    let state = wire.state();
    within(wire.write_all(b"something")).await.unwrap();
    // The unread bytes make this close a reset.
    drop(client);
    let failure = within(async {
        loop {
            if let Err(error) = wire.write_all(b"more").await {
                break error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(failure.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{failure}");
    assert!(state.write_failed());
}

#[tokio::test]
async fn verdicts_come_in_the_order_of_the_requests() {
    let (mut wire, mut client) = pair().await;
    let state = wire.state();
    assert_eq!(state.take_verdict(), Err(Disagreement::Unobserved));
    let text = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\n\
                 Transfer-Encoding: chunked\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    client.write_all(text).await.unwrap();
    let mut buffer = vec![0; text.len()];
    within(wire.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(buffer, text);
    assert_eq!(state.take_verdict(), Ok(()));
    assert_eq!(state.take_verdict(), Ok(()));
    assert_eq!(state.take_verdict(), Err(Disagreement::LengthAndEncoding));
    assert_eq!(state.take_verdict(), Err(Disagreement::LengthAndEncoding));
}

#[tokio::test]
async fn an_early_head_goes_out_with_a_flush_and_never_inside_other_bytes() {
    let (mut wire, mut client) = pair().await;
    let state = wire.state();
    let turn = state.early_turn();
    state.offer_early(turn.turn(), b"early;");
    within(wire.write_all(b"rest of an earlier answer;")).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(turn.poll_sent(cx))).await.is_pending());
    within(wire.flush()).await.unwrap();
    within(poll_fn(|cx| turn.poll_sent(cx))).await;
    let stale = turn.turn();
    drop(turn);
    state.offer_early(stale, b"too late;");
    within(wire.flush()).await.unwrap();
    let next = state.early_turn();
    state.offer_early(stale, b"of another request;");
    within(wire.flush()).await.unwrap();
    drop(next);
    within(wire.write_all(b"answer")).await.unwrap();
    within(wire.flush()).await.unwrap();
    drop(wire);
    let mut text = String::new();
    within(client.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "rest of an earlier answer;early;answer");
}

/// A half-sent one must be finished before hyper's own bytes, and hints without end must not fill the memory.
#[tokio::test]
async fn early_heads_for_a_blocked_client_are_bounded_and_stay_whole() {
    let (mut wire, mut client) = pair().await;
    let state = wire.state();
    let written = fill(&mut wire).await;
    let turn = state.early_turn();
    let head = vec![b'e'; 10_000];
    state.offer_early(turn.turn(), &head);
    state.offer_early(turn.turn(), &head);
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut wire).poll_flush(cx))).await.is_pending());
    drop(turn);
    let reader = tokio::spawn(async move {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        bytes
    });
    within(wire.write_all(b"answer")).await.unwrap();
    within(wire.flush()).await.unwrap();
    drop(wire);
    let bytes = within(reader).await.unwrap();
    let tail = &bytes[written..];
    assert_eq!(tail.len(), head.len() + b"answer".len());
    assert!(tail.starts_with(&head) && tail.ends_with(b"answer"));
}

#[tokio::test]
async fn a_cut_body_can_end_in_a_reset() {
    let (wire, mut client) = pair().await;
    wire.state().reset_on_close();
    drop(wire);
    let error = within(client.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// A reset while it sends would make the client lose the answer.
#[tokio::test]
async fn a_close_in_the_middle_of_an_upload_lets_the_client_finish() {
    let (mut wire, mut client) = pair().await;
    client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\nabc").await.unwrap();
    within(wire.read(&mut [0; 1024])).await.unwrap();
    let closing = tokio::spawn(async move {
        wire.write_all(b"no").await.unwrap();
        wire.shutdown().await.unwrap();
    });
    within(client.write_all(&vec![b'x'; 8 << 20])).await.unwrap();
    let mut text = String::new();
    within(client.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "no");
    assert!(!closing.is_finished(), "the client has not closed yet");
    drop(client);
    within(closing).await.unwrap();
}

#[tokio::test]
async fn a_close_between_requests_does_not_wait_for_the_client() {
    let (mut wire, mut client) = pair().await;
    client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
    within(wire.read_exact(&mut [0; 41])).await.unwrap();
    poll_fn(|cx| Pin::new(&mut wire).poll_shutdown(cx)).await.unwrap();
    assert!(wire.timer.is_none());
}

#[tokio::test]
async fn the_socket_can_be_taken_out_and_lives_on() {
    let (mut wire, mut client) = pair().await;
    within(wire.write_all(b"a")).await.unwrap();
    within(wire.flush()).await.unwrap();
    let (mut stream, _) = wire.into_inner();
    within(stream.write_all(b"b")).await.unwrap();
    drop(stream);
    let mut text = String::new();
    within(client.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "ab");
}
