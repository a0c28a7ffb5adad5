//! What a crash of the sidecar costs: nothing is on disk, so a new process knows what its clients and the app tell it.

use rustix::process::Signal;

use crate::harness::{
    PROGRESS,
    app::App,
    client::{Client, End},
    running, running_text,
    sidestream::Sidestream,
};

/// Kills it without a warning, and starts another one before the same app.
async fn crash(mut side: Sidestream, app: &App, route: &str) -> Sidestream {
    side.signal(Signal::KILL);
    side.wait_exit().await;
    Sidestream::before(app).route(route).start().await
}

async fn data(client: &mut Client) -> String {
    client.next_event().await.data.expect("an event has data")
}

/// Poll routes are state, and the id is made from the data: who has the latest gets it not again, who has not gets it.
#[tokio::test]
async fn a_crash_costs_the_watcher_of_a_job_nothing() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    let id = client.next_event().await.id().to_owned();

    let side = crash(side, &app, PROGRESS).await;
    assert_eq!(client.read_to_end().await, End::Cut);
    let mut back = side.sse("/api/progress/v1").last_event_id(&id).open().await;
    app.job("v1").more_requests(1).await;
    app.job("v1").answer(running(2));

    assert_eq!(data(&mut back).await, running_text(2));
}

/// The window is gone with the process, but the client's id leads to what the app still has. Only the first tab's does:
/// the app's stream begins in one place. A tab that had seen less is a newcomer, and counted.
#[tokio::test]
async fn after_a_crash_the_first_tab_of_a_user_says_where_the_apps_stream_goes_on() {
    let app = App::start();
    let events = app.events("/notifications");
    let route = "path=/notifications,subscribe";
    let side = Sidestream::before(&app).route(route).start().await;
    let mut client = side.sse("/notifications").open().await;
    events.accept().await.send("id: 1\ndata: one\n\nid: 2\ndata: two\n\n").await;
    assert_eq!((data(&mut client).await, data(&mut client).await), ("one".to_owned(), "two".to_owned()));

    let side = crash(side, &app, route).await;
    let mut first = side.sse("/notifications").last_event_id("2").open().await;
    let stream = events.accept().await;
    let mut second = side.sse("/notifications").last_event_id("1").open().await;
    side.until_metric("connections_active", &[], 2.0).await;
    stream.send("id: 3\ndata: three\n\n").await;

    assert_eq!(stream.last_event_id(), Some("2"));
    assert_eq!((data(&mut first).await, data(&mut second).await), ("three".to_owned(), "three".to_owned()));
    assert_eq!(events.opened(), 2, "one before the crash and one after it");
    assert_eq!(side.metric("replay_misses_total", &[]).await, 1.0);
}

/// Where others depend on the same stream of the app, one client's word must not decide what they get.
#[tokio::test]
async fn after_a_crash_a_shared_stream_begins_where_the_app_begins_it() {
    let app = App::start();
    let events = app.events("/notifications");
    let route = "path=/notifications,subscribe,share=public";
    let side = Sidestream::before(&app).route(route).start().await;
    let mut client = side.sse("/notifications").open().await;
    events.accept().await.send("id: 1\ndata: one\n\n").await;
    data(&mut client).await;

    let side = crash(side, &app, route).await;
    let _back = side.sse("/notifications").last_event_id("1").open().await;

    assert_eq!(events.accept().await.last_event_id(), None);
    side.until_metric("replay_misses_total", &[], 1.0).await;
}
