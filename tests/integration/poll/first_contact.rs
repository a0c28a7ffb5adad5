//! The head and the first blocks; who gets a stream and who is passed on.

use serde_json::json;

use crate::harness::{
    PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    client::End,
    progress, running, running_text,
    sidestream::Sidestream,
    wire::Framing,
};

/// The head of DESIGN 3, and nothing that would make an intermediary hold the stream back.
#[tokio::test]
async fn the_head_says_event_stream_and_forbids_buffering() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let client = side.sse("/api/progress/v1").open().await;

    assert_eq!(client.status(), 200);
    assert_eq!(client.header("content-type"), Some("text/event-stream"));
    assert_eq!(client.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(client.header("x-accel-buffering"), Some("no"));
    assert_eq!(client.header("vary"), Some("Accept"));
    assert_eq!(client.header("content-length"), None);
    assert_eq!(client.header("content-encoding"), None);
    assert_eq!(client.framing(), Framing::Chunked);
}

/// fetch-event-source calls `onmessage` with empty data for a block that holds only `id:` or `retry:`.
#[tokio::test]
async fn the_first_block_holds_id_and_retry_together_with_the_snapshot() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let first = side.sse("/api/progress/v1").open().await.next_block().await;

    let retry = first.retry.expect("the first block has retry");
    let id = first.id();
    assert_eq!(first.raw, format!("retry: {retry}\nid: {id}\ndata: {}\n\n", running_text(1)));
    assert!((2000..=4000).contains(&retry), "3 s ±33 %: {retry}");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)), "{id}");
}

/// A fixed delay would bring all clients back in the same instant after an outage.
#[tokio::test]
async fn the_retry_hint_differs_between_connections_and_follows_the_flag() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).flag("--retry", "9s").start().await;

    let mut hints = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let block = side.sse("/api/progress/v1").open().await.next_block().await;
        hints.insert(block.retry.expect("the first block has retry"));
    }

    assert!(hints.iter().all(|hint| (6000..=12_000).contains(hint)), "{hints:?}");
    assert!(hints.len() > 1, "eight connections got the same hint: {hints:?}");
}

#[tokio::test]
async fn each_change_is_one_unnamed_message_and_no_change_is_none() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    let first = client.next_block().await;

    job.more_requests(5).await;
    job.answer(running(2));
    let second = client.next_block().await;

    assert_eq!(first.data, Some(running_text(1)));
    assert_eq!(second.raw, format!("id: {}\ndata: {}\n\n", second.id(), running_text(2)));
    assert_ne!(first.id, second.id);
    assert_eq!(side.metric("events_published_total", &[("route", PROGRESS_PATH)]).await, 2.0);
}

/// The id is made from the content alone, so that any replica knows it again.
#[tokio::test]
async fn the_id_is_the_same_after_a_restart_of_the_sidecar() {
    let app = App::start();
    app.job("v1").answer(running(1));

    let mut ids = Vec::new();
    for _ in 0..2 {
        let side = Sidestream::before(&app).route(PROGRESS).start().await;
        ids.push(side.sse("/api/progress/v1").open().await.next_block().await.id);
    }

    assert_eq!(ids[0], ids[1]);
}

/// JSON of many lines must not become many `data:` lines, and its numbers and the order of its keys are the app's own.
#[tokio::test]
async fn the_apps_json_goes_on_one_line_with_its_keys_numbers_and_strings_as_they_were() {
    let app = App::start();
    let text = "{\n  \"status\": \"processing\",\r\n\t\"b\": 1.0, \"a\": 12345678901234567890123,\n  \"t\": \"x\\r\\ny  z\u{2028}\u{e9}\"\n}\n";
    app.job("v1").answer(Answer::json_text(text));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let block = side.sse("/api/progress/v1").open().await.next_block().await;

    let data = block.data.expect("the block has data");
    assert_eq!(block.raw.matches("data:").count(), 1, "{:?}", block.raw);
    let compact =
        "{\"status\":\"processing\",\"b\":1.0,\"a\":12345678901234567890123,\"t\":\"x\\r\\ny  z\u{2028}\u{e9}\"}";
    assert_eq!(without_space_between_tokens(&data), compact);
}

/// A JSON body with a byte-order mark, or with `application/problem+json` for a type, is JSON all the same.
/// What a page has read for years with `fetch(…).json()` is no outage: a byte order mark, bytes that are not UTF-8, half an
/// emoji, deep nesting. It goes on as the app wrote it, as far as UTF-8 can say it, and its end is found.
#[tokio::test]
async fn json_that_only_browsers_read_is_sent_and_understood() {
    let app = App::start();
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let deep = format!(r#"{{"deep":{}{},"status":"completed"}}"#, "[".repeat(200), "]".repeat(200));
    let cut = r#"{"title":"cat \ud83d","status":"completed"}"#;
    let bodies: [(&[u8], &str); 4] = [
        (b"\xef\xbb\xbf{\"status\":\"completed\"}", r#"{"status":"completed"}"#),
        (b"{\"title\":\"caf\xe9\",\"status\":\"completed\"}", "{\"title\":\"caf\u{fffd}\",\"status\":\"completed\"}"),
        (cut.as_bytes(), cut),
        (deep.as_bytes(), &deep),
    ];
    for (n, (body, data)) in bodies.into_iter().enumerate() {
        app.job(&format!("j{n}")).answer(Answer::json_bytes(body));

        let (events, _) = side.sse(&format!("/api/progress/j{n}")).open().await.rest().await;
        let names: Vec<_> = events.iter().map(|event| event.name.as_deref()).collect();
        assert_eq!(names, [None, Some("done")], "{data}");
        assert_eq!(events[0].data.as_deref(), Some(data));
    }
    assert_eq!(side.metric("job_state_violations_total", &[]).await, 0.0);
}

/// In a template they are values like any other.
#[tokio::test]
async fn json_that_only_browsers_read_fills_a_template() {
    let app = App::start();
    app.job("v1").answer(Answer::json_text("\u{feff}{\"status\":\"completed\",\"title\":\"cat \\ud83d\"}"));
    let template = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&template, "\u{feff}{\"t\":\"$/title\"}").expect("it is ours");
    let route = progress(&format!("template={}", template.path().display()));
    let side = Sidestream::before(&app).route(&route).start().await;

    let event = side.sse("/api/progress/v1").open().await.next_event().await;

    assert_eq!(event.data.as_deref(), Some("{\"t\":\"cat \u{fffd}\"}"));
}

#[tokio::test]
async fn json_with_a_suffix_type_is_json() {
    let app = App::start();
    app.job("v1").answer(running(3).header("Content-Type", "application/vnd.job+json; charset=utf-8"));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let block = side.sse("/api/progress/v1").open().await.next_block().await;

    assert_eq!(block.data, Some(running_text(3)));
}

#[tokio::test]
async fn an_http_1_0_client_gets_a_stream_that_ends_with_the_connection() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut client = side.sse("/api/progress/v1").http_1_0().open().await;
    let first = client.next_block().await;
    job.answer(crate::harness::completed());
    let (events, end) = client.rest().await;

    assert_eq!(client.header("transfer-encoding"), None);
    assert_eq!(client.framing(), Framing::UntilClose);
    assert!(first.raw.starts_with("retry: "), "{:?}", first.raw);
    assert_eq!(events.iter().filter(|event| event.name.as_deref() == Some("done")).count(), 1);
    assert_eq!(end, End::Clean);
}

#[tokio::test]
async fn head_gets_the_streams_head_and_starts_nothing() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let head = side.request("HEAD", "/api/progress/v1").header("Accept", "text/event-stream").open().await;

    assert_eq!(head.status(), 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(app.seen().len(), 0);
    side.until_quiet().await;
}

/// `curl -N` sends `*/*` and expects to see the stream; a bare client sends nothing at all.
#[tokio::test]
async fn a_client_without_a_preference_gets_the_stream() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let any = side.get("/api/progress/v1").header("Accept", "*/*").open().await;
    let none = side.get("/api/progress/v1").open().await;
    let listed =
        side.get("/api/progress/v1").header("Accept", "application/json;q=0.5, text/event-stream").open().await;

    for client in [any, none, listed] {
        assert_eq!(client.header("content-type"), Some("text/event-stream"));
    }
}

#[tokio::test]
async fn a_client_that_prefers_json_or_a_page_is_passed_on_to_the_app() {
    let app = App::start();
    app.at("/api/progress/v1").answer(Answer::json(&json!({"from": "app"})));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let json = side.get("/api/progress/v1").header("Accept", "application/json").fetch().await;
    let page = side.get("/api/progress/v1").header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8").fetch().await;

    assert_eq!(json.text(), r#"{"from":"app"}"#);
    assert_eq!(page.text(), r#"{"from":"app"}"#);
    assert_eq!(app.job("v1").count(), 0);
}

#[tokio::test]
async fn a_route_on_its_own_poll_target_streams_only_to_those_who_ask_for_a_stream() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let route = "path=/api/videos/{id},poll=/api/videos/{id},interval=50ms";
    let side = Sidestream::before(&app).route(route).start().await;

    let any = side.get("/api/videos/v1").header("Accept", "*/*").fetch().await;
    let none = side.get("/api/videos/v1").fetch().await;
    let mut stream = side.sse("/api/videos/v1").open().await;

    assert_eq!((any.header("content-type"), any.text()), (Some("application/json"), running_text(1)));
    assert_eq!((none.header("content-type"), none.text()), (Some("application/json"), running_text(1)));
    assert_eq!(stream.next_event().await.data, Some(running_text(1)));
}

#[tokio::test]
async fn a_post_on_the_path_is_passed_on_with_its_body() {
    let app = App::start();
    let endpoint = app.at("/api/progress/v1");
    endpoint.answer(Answer::text(201, "made"));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let request = side.request("POST", "/api/progress/v1").header("Accept", "text/event-stream").body(b"hello");
    let answer = request.fetch().await;

    assert_eq!((answer.status(), answer.text()), (201, "made".to_owned()));
    assert_eq!(endpoint.seen()[0].body, b"hello");
}

/// Decisions of the app reach the client as they are: a login page must be able to redirect, an `EventSource` must stop.
#[tokio::test]
async fn what_the_app_refuses_on_the_first_request_is_relayed_whole() {
    let app = App::start();
    let side = Sidestream::before(&app).route(PROGRESS).flag("--not-found-grace", "100ms").start().await;
    let refusals = [
        ("unauthorized", Answer::json(&json!({"error": "log in"})).status(401).header("WWW-Authenticate", "Bearer")),
        ("forbidden", Answer::html("<h1>no</h1>").status(403)),
        ("missing", Answer::text(404, "no such job\n").header("X-Reason", "typo")),
        ("moved", Answer::text(302, "").header("Location", "/login?next=%2Fapi").header("Set-Cookie", "a=1; Path=/")),
    ];
    for (id, answer) in &refusals {
        app.job(id).answer(answer.clone());
    }

    let unauthorized = side.sse("/api/progress/unauthorized").fetch().await;
    let forbidden = side.sse("/api/progress/forbidden").fetch().await;
    let missing = side.sse("/api/progress/missing").fetch().await;
    let moved = side.sse("/api/progress/moved").fetch().await;

    assert_eq!((unauthorized.status(), unauthorized.text().as_str()), (401, r#"{"error":"log in"}"#));
    assert_eq!(unauthorized.header("www-authenticate"), Some("Bearer"));
    assert_eq!(unauthorized.header("content-type"), Some("application/json"));
    assert_eq!((forbidden.status(), forbidden.text().as_str()), (403, "<h1>no</h1>"));
    assert_eq!(forbidden.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!((missing.status(), missing.text().as_str()), (404, "no such job\n"));
    assert_eq!(missing.header("x-reason"), Some("typo"));
    assert_eq!((moved.status(), moved.header("location")), (302, Some("/login?next=%2Fapi")));
    assert_eq!(moved.header("set-cookie"), Some("a=1; Path=/"));
    side.until_quiet().await;
}

/// A page opens its stream in the same moment in which it starts the job.
#[tokio::test]
async fn a_404_in_the_first_moment_of_a_job_is_asked_again() {
    let app = App::start();
    app.job("v1").answers([Answer::text(404, "not yet"), Answer::text(404, "not yet"), running(1)]);
    // So long that the count is not changed by the poll after those.
    let side = Sidestream::before(&app).route(&progress("interval=20s,max-interval=20s")).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;

    assert_eq!(client.status(), 200);
    assert_eq!(client.next_event().await.data, Some(running_text(1)));
    assert_eq!(app.job("v1").count(), 3);
}

/// Any status but 200 kills an `EventSource` for good, so it waits for the app instead.
#[tokio::test]
async fn a_first_connect_while_the_app_is_down_gets_200_and_waits_for_the_snapshot() {
    let app = App::start_stopped().await;
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(&progress("heartbeat=100ms")).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    assert_eq!(client.status(), 200);
    client.until("a heartbeat while the app is down", |body| body.contains(":\n")).await;
    app.resume();
    let snapshot = client.next_event_but(&["upstream-error"]).await;

    assert_eq!(snapshot.data, Some(running_text(1)));
    assert!(snapshot.id.is_some());
}

/// Removes white space outside of strings, so that "on one line" leaves the program its choice of how.
fn without_space_between_tokens(json: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for letter in json.chars() {
        if in_string || !letter.is_ascii_whitespace() {
            out.push(letter);
        }
        match letter {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && letter == '\\' && !escaped;
    }
    out
}
