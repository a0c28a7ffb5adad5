//! Pages of another origin: a browser shows them a stream only if its head carries what the app grants (CORS).

use crate::harness::{
    NOTIFICATIONS, PROGRESS,
    app::{Answer, App, Seen},
    client::Client,
    completed, progress, running, running_text,
    sidestream::Sidestream,
};

const FRONT: &str = "https://front.example";
const OTHER: &str = "https://other.example";

/// What apps do: they grant it to whoever asks, by name.
fn granting(answer: Answer, seen: &Seen) -> Answer {
    match seen.header("origin") {
        Some(origin) => answer
            .header("Access-Control-Allow-Origin", origin)
            .header("Access-Control-Allow-Credentials", "true")
            .header("Access-Control-Expose-Headers", "X-Mine")
            .header("Vary", "Origin"),
        None => answer,
    }
}

/// The headers of a grant, as they stand in a head.
fn grant_of(client: &Client) -> Vec<String> {
    let is_of_grant = |name: &str| name.to_ascii_lowercase().starts_with("access-control-");
    let lines = client.head.headers.iter().filter(|(name, _)| is_of_grant(name));
    lines.map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase())).collect()
}

fn grant(origin: &str, exposed: Option<&str>) -> Vec<String> {
    let exposed = exposed.map(|exposed| format!("access-control-expose-headers: {exposed}"));
    let said = [format!("access-control-allow-origin: {origin}"), "access-control-allow-credentials: true".to_owned()];
    said.into_iter().chain(exposed).collect()
}

/// The only line of an answer that asks to come back.
fn hint(client: &Client) -> u64 {
    let text = client.text();
    let hint = text.strip_prefix("retry: ").unwrap_or_else(|| panic!("not a hint: {text:?}"));
    hint.trim_end().parse().unwrap_or_else(|_| panic!("more than a hint: {text:?}"))
}

#[tokio::test]
async fn a_polled_stream_carries_what_the_app_grants_to_this_origin_and_to_no_other() {
    let app = App::start();
    app.job("v1").answer_with(|seen| granting(running(1), seen));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let of = |origin| side.sse("/api/progress/v1").header("Origin", origin);

    let first = of(FRONT).open().await;
    let second = of(FRONT).open().await;
    let other = of(OTHER).open().await;
    let own_page = side.sse("/api/progress/v1").open().await;

    for (mut client, granted) in [
        (first, grant(FRONT, Some("X-Mine"))),
        (second, grant(FRONT, Some("X-Mine"))),
        (other, grant(OTHER, Some("X-Mine"))),
        (own_page, Vec::new()),
    ] {
        assert_eq!((client.status(), grant_of(&client)), (200, granted.clone()));
        let vary: &[_] = if granted.is_empty() { &["Accept"] } else { &["Accept", "Origin"] };
        assert_eq!(client.head.all("vary"), vary);
        assert_eq!(client.next_event().await.data, Some(running_text(1)));
    }
}

/// Also on the other path that a head can take: a stream whose request has a body stays with hyper.
#[tokio::test]
async fn a_subscribed_stream_carries_the_grant_of_the_apps_stream() {
    let app = App::start();
    let events = app.events("/notifications");
    events.header("Access-Control-Allow-Origin", FRONT);
    events.header("Access-Control-Allow-Credentials", "true");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;

    let taken_over = side.sse("/notifications").header("Origin", FRONT).open().await;
    let with_body = side.sse("/notifications").header("Origin", FRONT).body(b"x").open().await;
    let own_page = side.sse("/notifications").open().await;

    assert_eq!(grant_of(&taken_over), grant(FRONT, None));
    assert_eq!(grant_of(&with_body), grant(FRONT, None));
    assert_eq!(with_body.head.all("vary"), ["Accept", "Origin"]);
    assert_eq!(grant_of(&own_page), [""; 0]);
}

#[tokio::test]
async fn on_an_authorized_route_each_origin_has_its_own_grant() {
    let app = App::start();
    app.job("v1").answer_with(|seen| granting(running(1), seen));
    let side = Sidestream::before(&app).route(&progress("share=authorized")).start().await;

    for (origin, cookie) in [(FRONT, "sid=ada"), (OTHER, "sid=ada"), (FRONT, "sid=bob")] {
        let client = side.sse("/api/progress/v1").header("Origin", origin).cookie(cookie).open().await;
        assert_eq!(grant_of(&client), grant(origin, Some("X-Mine")));
    }
}

/// What the app does not grant, or not any more, is not for us to grant. A 304 repeats the answer it stands for.
#[tokio::test]
async fn the_newest_good_answer_counts() {
    let app = App::start();
    let job = app.job("v1");
    job.answer_with(|seen| granting(running(1), seen).etag("\"1\""));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let of = |origin| side.sse("/api/progress/v1").header("Origin", origin);
    let mut stays = of(FRONT).open().await;
    stays.next_event().await;
    job.until("a 304", |seen| seen.iter().filter(|seen| seen.header("if-none-match").is_some()).count() > 1).await;
    let unchanged = of(FRONT).open().await;
    assert_eq!(grant_of(&unchanged), grant(FRONT, Some("X-Mine")));

    job.answer(Answer::text(503, "in trouble"));
    stays.next_event().await;
    let in_trouble = of(FRONT).open().await;
    assert_eq!(grant_of(&in_trouble), grant(FRONT, Some("X-Mine")));

    job.answer(running(2));
    stays.next_event().await;
    let not_any_more = of(FRONT).open().await;
    assert_eq!((not_any_more.status(), grant_of(&not_any_more)), (200, Vec::new()));
}

#[tokio::test]
async fn the_204_of_a_finished_job_carries_the_grant() {
    let app = App::start();
    app.job("v1").answer_with(|seen| granting(completed(), seen));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let of_front = side.sse("/api/progress/v1").header("Origin", FRONT);
    let id = of_front.open().await.next_event().await.id;

    let again = of_front.last_event_id(&id.expect("a snapshot has an id")).fetch().await;

    assert_eq!((again.status(), grant_of(&again)), (204, grant(FRONT, Some("X-Mine"))));
}

/// Without a grant the answer that is to keep an `EventSource` alive would end it. There is nothing in it to be read.
#[tokio::test]
async fn who_is_turned_away_may_see_it_whatever_its_origin() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).flag("--max-connections", "1").start().await;
    let mut stays = side.sse("/api/progress/v1").open().await;
    stays.next_event().await;

    let over_limit = side.sse("/api/progress/v1").header("Origin", FRONT).fetch().await;
    let own_page = side.sse("/api/progress/v1").fetch().await;
    let no_stream = side.get("/api/progress/v1").header("Origin", FRONT).fetch().await;

    assert_eq!((over_limit.status(), grant_of(&over_limit)), (200, grant(FRONT, None)));
    assert!((15_000..45_000).contains(&hint(&over_limit)));
    assert_eq!((own_page.status(), grant_of(&own_page)), (200, Vec::new()));
    assert_eq!((no_stream.status(), grant_of(&no_stream)), (503, Vec::new()));
}

/// Its grant is not known before the app has spoken, and a head can't be mended; so it waits for the head itself.
#[tokio::test]
async fn a_page_of_another_origin_that_comes_while_the_app_is_down_gets_a_head_when_it_is_up() {
    for keys in ["errors=event", "share=authorized"] {
        let app = App::start();
        let job = app.job("v1");
        job.answer(Answer::text(503, "in trouble"));
        let side = Sidestream::before(&app).route(&progress(keys)).start().await;
        let of_front = side.sse("/api/progress/v1").header("Origin", FRONT).send().await;
        job.requests(2).await;

        job.answer_with(|seen| granting(running(1), seen));
        let mut of_front = Client::read(of_front, "GET").await;

        assert_eq!((of_front.status(), grant_of(&of_front)), (200, grant(FRONT, Some("X-Mine"))), "{keys}");
        assert_eq!(of_front.next_event().await.data, Some(running_text(1)));
    }
}

/// An app's stream that has begun is a word, also before its first event.
#[tokio::test]
async fn a_quiet_stream_of_the_app_is_enough_for_a_head() {
    let app = App::start();
    let events = app.events("/notifications");
    events.refuse(Answer::text(503, "in trouble"));
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let of_front = side.sse("/notifications").header("Origin", FRONT).send().await;
    events.endpoint().requests(1).await;

    let quiet = app.events("/notifications");
    quiet.header("Access-Control-Allow-Origin", "*");
    quiet.accept().await;

    let of_front = Client::read(of_front, "GET").await;
    assert_eq!((of_front.status(), of_front.header("access-control-allow-origin")), (200, Some("*")));
}
