//! What nginx says while nobody listens behind it.

use super::proxy::{Kind, Proxy};
use crate::harness::{
    app::{Answer, App},
    client::Request,
};

/// A restart of sidestream is a moment in which nobody listens behind nginx, whose 502 would end an `EventSource` for good.
#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn streams_are_told_to_come_back_while_nobody_listens() {
    let behind = App::start();
    behind.at("/stream").answer(Answer::text(200, "here"));
    let proxy = Proxy::start(Kind::NginxGap, behind.addr()).await;
    let page = Request::new(proxy.addr(), "GET", "/stream").header("Connection", "close");
    let stream = page.clone().header("Accept", "text/event-stream");

    let before = stream.fetch().await;
    behind.stop().await;
    let (told, refused) = (stream.fetch().await, page.fetch().await);
    behind.resume();
    let after = stream.fetch().await;

    assert_eq!((before.text(), after.text()), ("here".to_owned(), "here".to_owned()));
    assert_eq!(
        (told.status(), told.header("Content-Type"), &*told.text()),
        (200, Some("text/event-stream"), "retry: 3000\n")
    );
    assert_eq!(refused.status(), 502);
}
