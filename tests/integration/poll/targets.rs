//! Which request of the app a path becomes, and which path can't become one.

use serde_json::json;

use crate::harness::{
    PROGRESS,
    app::{Answer, App},
    progress, running,
    sidestream::Sidestream,
};

/// A parameter is one segment and is encoded again; nothing in it may end the segment, the path or the request.
#[tokio::test]
async fn an_odd_id_stays_in_its_segment() {
    let app = App::start();
    app.at("/api/videos/*").answer(running(1));
    // Each of them is asked for once: the last request is that of the last id.
    let side = Sidestream::before(&app).route(&progress("interval=20s,max-interval=20s")).start().await;

    for (raw, polled) in [
        ("a%3Fadmin=1", "/api/videos/a%3Fadmin=1"),
        ("a%23b", "/api/videos/a%23b"),
        ("a%20b", "/api/videos/a%20b"),
        ("a%25b", "/api/videos/a%25b"),
        ("%C3%A9", "/api/videos/%C3%A9"),
        ("...", "/api/videos/..."),
    ] {
        side.sse(&format!("/api/progress/{raw}")).open().await.next_event().await;
        let seen = app.seen();
        let target = seen.last().expect("the app was asked").target.clone();
        // `=` and its like may be encoded or not: both are the same segment.
        assert_eq!(target.replace("%3D", "="), polled, "for {raw}");
    }
}

/// What would climb out of its segment is no job: it goes to the app as it came, which answers what it always did.
#[tokio::test]
async fn an_id_that_would_climb_out_is_passed_on_untouched() {
    let app = App::start();
    app.at("/*").answer(Answer::text(200, "the app's own answer"));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let paths = [
        "/api/progress/..%2f..%2fadmin",
        "/api/progress/..%2F",
        "/api/progress/..",
        "/api/progress/.",
        "/api/progress/%2e%2e",
        "/api/progress/..%5cadmin",
        "/api/progress/a%2fb",
        "/api/progress/a%00b",
        "/api/progress/a%0d%0aX-Evil:%201",
        "/api/progress/a/b",
        "/api/progress/",
        "/api/progress/%ff",
    ];

    for path in paths {
        let answer = side.sse(path).fetch().await;
        assert_eq!(answer.text(), "the app's own answer", "for {path}");
    }

    let targets: Vec<_> = app.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, paths);
}

#[tokio::test]
async fn parameters_may_come_from_the_query_and_go_into_it() {
    let app = App::start();
    app.at("/status").answer(running(1));
    let route = "path=/api/progress?id={id},poll=/status?job={id}&full=1,interval=50ms";
    let side = Sidestream::before(&app).route(route).start().await;
    app.at("/api/progress").answer(Answer::text(200, "no id"));

    side.sse("/api/progress?x=1&id=a%26b%20c").open().await.next_event().await;
    let without = side.sse("/api/progress?x=1").fetch().await;

    assert_eq!(app.at("/status").seen()[0].target, "/status?job=a%26b%20c&full=1");
    assert_eq!(without.text(), "no id");
}

#[tokio::test]
async fn the_rest_of_a_path_may_be_a_parameter_but_cannot_climb() {
    let app = App::start();
    app.at("/files/*").answer(running(1));
    app.at("/watch/*").answer(Answer::text(200, "passed on"));
    let side =
        Sidestream::before(&app).route("path=/watch/{*rest},poll=/files/{*rest}/status,interval=50ms").start().await;

    side.sse("/watch/a/b%20c/d").open().await.next_event().await;
    let climbing = side.sse("/watch/a/../../admin").fetch().await;

    assert_eq!(app.at("/files/*").seen()[0].target, "/files/a/b%20c/d/status");
    assert_eq!(climbing.text(), "passed on");
}

#[tokio::test]
async fn a_template_gives_the_stream_the_shape_that_the_front_end_knows() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(Answer::json(&json!({"id": "v1", "status": "processing", "progress": 41.50, "secret": "s"})));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("shape.json");
    let shape = r#"{ "type": "$/status", "videoId": "$/id", "n": ["$/progress", "$/tags/1"], "k": 1, "$/id": "$$5" }"#;
    std::fs::write(&file, shape).expect("the template can be written");
    let side = Sidestream::before(&app).route(&progress(&format!("template={}", file.display()))).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    let first = client.next_event().await;
    let end = json!({"id": "v1", "status": "completed", "videoUrl": "/v1.mp4", "tags": ["a", {"b": null}]});
    job.answer(Answer::json(&end));
    let last = client.next_event().await;
    let done = client.next_event().await;

    let first_shape = r#"{"type":"processing","videoId":"v1","n":[41.5,null],"k":1,"$/id":"$5"}"#;
    let last_shape = r#"{"type":"completed","videoId":"v1","n":[null,{"b":null}],"k":1,"$/id":"$5"}"#;
    assert_eq!(first.data.as_deref(), Some(first_shape));
    assert_eq!(last.data.as_deref(), Some(last_shape));
    assert_eq!((done.name.as_deref(), done.data), (Some("done"), last.data));
}

/// The poll is the app's own GET with the user's credentials, and nothing of the stream request that would change it.
#[tokio::test]
async fn the_poll_asks_for_json_with_the_clients_credentials() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let request = side.sse("/api/progress/v1?debug=1").cookie("session=a").header("Authorization", "Bearer t");
    request.last_event_id("x").header("X-Custom", "1").open().await.next_event().await;

    let poll = &app.job("v1").seen()[0];
    assert_eq!((poll.method.as_str(), poll.target.as_str()), ("GET", "/api/videos/v1"));
    assert_eq!((poll.header("cookie"), poll.header("authorization")), (Some("session=a"), Some("Bearer t")));
    assert!(!poll.header("accept").unwrap_or_default().contains("event-stream"), "{:?}", poll.header("accept"));
    assert_eq!((poll.header("last-event-id"), poll.header("x-custom")), (None, None));
}
