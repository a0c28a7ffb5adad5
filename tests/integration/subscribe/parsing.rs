//! The upstream side reads as the WHATWG says, wherever the bytes are split.

use crate::harness::{
    NOTIFICATIONS, NOTIFICATIONS_PATH,
    app::App,
    client::{Client, Event},
    sidestream::Sidestream,
};

/// Name, id and data of an event.
type Fields = (Option<String>, Option<String>, Option<String>);

fn fields(event: Event) -> Fields {
    (event.name, event.id, event.data)
}

fn expected(name: Option<&str>, id: &str, data: &str) -> Fields {
    (name.map(str::to_owned), Some(id.to_owned()), Some(data.to_owned()))
}

/// A stream with every oddity, with `\n` for whatever the line end is.
const STREAM: &str = ": hello\n\ndata: first\nid: 1\n\n:\nevent: note\nid: 2\ndata: a\ndata:b\ndata\n\nevent: nothing\n\n\
                      retry: 1000\nid: 3\ndata:  two spaces\n\ndata: z\u{fc}rich \u{1f3ac}\nid: 4\nunknown: x\n\n";

fn what_it_means() -> Vec<Fields> {
    vec![
        expected(None, "1", "first"),
        expected(Some("note"), "2", "a\nb\n"),
        expected(None, "3", " two spaces"),
        expected(None, "4", "z\u{fc}rich \u{1f3ac}"),
    ]
}

async fn next(client: &mut Client, count: usize) -> Vec<Fields> {
    let mut got = Vec::new();
    for _ in 0..count {
        got.push(fields(client.next_event().await));
    }
    got
}

#[tokio::test]
async fn every_line_end_means_the_same_split_at_every_byte() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;

    for (n, line_end) in ["\n", "\r", "\r\n"].into_iter().enumerate() {
        for bom in ["", "\u{feff}"] {
            let text = format!("{bom}{}", STREAM.replace('\n', line_end));
            let mut client = side.sse("/notifications").cookie(&format!("s={n}{}", bom.len())).open().await;
            let stream = events.accept().await;
            for byte in text.as_bytes() {
                stream.send([*byte]).await;
            }
            assert_eq!(next(&mut client, 4).await, what_it_means(), "{line_end:?} {bom:?}");
        }
    }
}

/// Two halves at every possible place, all in one stream: the second half of a round may come with the first of the next.
#[tokio::test]
async fn a_split_at_any_place_changes_nothing() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;

    let text = STREAM.replace('\n', "\r\n");
    for at in (1..text.len()).step_by(7) {
        stream.send(&text.as_bytes()[..at]).await;
        stream.send(&text.as_bytes()[at..]).await;
        assert_eq!(next(&mut client, 4).await, what_it_means(), "split at {at}");
    }
}

/// The upstream's comments are its own heartbeats; ours take their place.
#[tokio::test]
async fn comments_of_the_app_are_not_forwarded() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;

    stream.send(": keep-alive\n\n:\n\n: secret token\ndata: a\n\n: more\n\n").await;
    stream.send("data: b\n\n").await;
    client.next_event().await;
    client.next_event().await;

    assert!(!client.text().contains("keep-alive") && !client.text().contains("secret"), "{:?}", client.text());
}

/// An id that a client would drop, or that would end its line, must never become one.
#[tokio::test]
async fn an_id_with_nul_is_ignored_and_an_empty_id_resets() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;

    stream.send("id: 5\ndata: a\n\nid: bad\0id\ndata: b\n\n").await;
    let one = client.next_event().await;
    let two = client.next_event().await;
    stream.cut().await;
    let again = events.accept().await;

    assert_eq!((one.id(), two.data.as_deref()), ("5", Some("b")));
    assert!(!two.raw.contains('\0'), "{:?}", two.raw);
    assert_eq!(again.last_event_id(), Some("5"), "the id with NUL is no position");
}

/// A block of `id:` alone moves the position and says nothing; fetch-event-source would take it for an empty message.
#[tokio::test]
async fn an_id_without_data_moves_the_position_and_makes_no_block_of_its_own() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;

    stream.send("id: 7\ndata: a\n\n").await;
    client.next_event().await;
    stream.send("id: 8\n\nretry: 500\n\nevent: x\n\ndata: b\n\n").await;
    let next = client.next_block().await;
    stream.cut().await;

    assert_eq!(next.data.as_deref(), Some("b"), "{:?}", next.raw);
    assert_eq!(events.accept().await.last_event_id(), Some("8"));
}

/// Bytes that are no UTF-8 become U+FFFD, they end nothing.
#[tokio::test]
async fn invalid_utf_8_is_replaced() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;

    events.accept().await.send(b"data: a\xffb\n\n").await;

    assert_eq!(client.next_event().await.data.as_deref(), Some("a\u{fffd}b"));
}

/// An event without end must not fill the memory: the stream is given up and opened anew.
#[tokio::test]
async fn an_event_without_end_does_not_fill_the_memory() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    stream.send("data: before\n\n").await;
    client.next_event().await;

    let line = format!("data: {}\n", "x".repeat(1 << 20));
    for _ in 0..64 {
        if !stream.try_send(&line).await {
            break;
        }
    }
    stream.closed().await;
    events.accept().await.send("data: after\n\n").await;

    assert_eq!(client.next_event_but(&["upstream-error"]).await.data.as_deref(), Some("after"));
    assert!(side.memory("VmHWM") < 100 * 1024, "{} KiB", side.memory("VmHWM"));
    assert_eq!(side.metric("connections_active", &[("route", NOTIFICATIONS_PATH)]).await, 1.0);
}
