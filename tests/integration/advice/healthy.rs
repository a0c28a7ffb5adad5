//! A program with nothing to complain about, in which a bit of everything happens.

use tokio::task::JoinSet;

use super::{advice, opened};
use crate::harness::{
    app::{Answer, App},
    completed, progress, running,
    sidestream::Sidestream,
};

#[tokio::test]
async fn where_all_is_well_nothing_is_said() {
    let app = App::start();
    app.job("*").answers([Answer::json_text(r#"{"status":"queued"}"#), running(1), running(2), completed()]);
    let events = app.events("/notifications");
    let chat = app.events("/chat");
    // At the pace of the flags no answer of an app on this machine is slower, however busy that is.
    let side = Sidestream::before(&app)
        .route(&progress("interval=1s,max-interval=5s,linger=1m"))
        .route("path=/notifications,subscribe,linger=1m")
        .start()
        .await;

    // Jobs that are watched to their end, by front ends that know it.
    let mut jobs = JoinSet::new();
    for id in 0..8 {
        let request = side.sse(&format!("/api/progress/v{id}")).cookie(&format!("session={id}"));
        jobs.spawn(async move {
            let mut client = request.open().await;
            loop {
                let event = client.next_event().await;
                if event.name.as_deref() == Some("done") {
                    return event.id().to_owned();
                }
            }
        });
    }
    // Users with some tabs each, who come and go, through streams of ours and of the app's.
    let mut tabs = Vec::new();
    for user in 0..12 {
        let request = side.sse("/notifications").cookie(&format!("session={user}"));
        let tab = request.open().await;
        let stream = events.accept().await;
        stream.send(format!("id: {user}\ndata: hello\n\n")).await;
        tabs.push((request, tab, stream));
    }
    for (user, (request, tab, stream)) in tabs.iter_mut().enumerate() {
        tab.next_event().await;
        *tab = request.clone().last_event_id(&user.to_string()).open().await;
        stream.send(format!("id: {user}b\ndata: again\n\n")).await;
        tab.next_event().await;
    }
    for turn in 0..12 {
        let reader = opened_chat(&side, &chat, turn).await;
        drop(reader);
    }
    drop(tabs);
    let last = jobs.join_all().await.remove(0);
    // Somebody reloads the page of a job that is over, somebody's network failed with the last event, and somebody sends
    // a header that proxies send.
    let reload = || side.sse("/api/progress/v1").cookie("session=1");
    opened(reload()).await;
    assert_eq!(reload().last_event_id(&last).fetch().await.status(), 204);
    opened(reload().header("X-Forwarded-For", "192.0.2.1")).await;

    assert_eq!(advice(&side).await, [serde_json::Value::Null; 0]);
    assert!(!side.log_text().contains("recommendation"), "{}", side.log_text());
}

/// A stream that is passed through, with so many events of it.
async fn opened_chat(
    side: &Sidestream,
    chat: &crate::harness::app::Events,
    events: usize,
) -> crate::harness::client::Client {
    let mut reader = side.sse("/chat").open().await;
    let stream = chat.accept().await;
    for n in 0..=events {
        stream.send(format!("data: {n}\n\n")).await;
        reader.next_event().await;
    }
    reader
}
