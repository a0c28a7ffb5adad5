//! Who may share what. Never may one user's data reach another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    NOTIFICATIONS, PROGRESS, PROGRESS_PATH,
    app::{Answer, App, Seen},
    progress, running, running_text,
    sidestream::Sidestream,
};

/// The user of a request, as the app tells them apart.
fn user(seen: &Seen) -> String {
    let by_cookie = seen.header("cookie").and_then(|cookie| cookie.strip_prefix("user="));
    let by_token = seen.header("authorization").and_then(|token| token.strip_prefix("Bearer "));
    by_cookie.or(by_token).unwrap_or("nobody").to_owned()
}

/// An app that answers each user with a job of their own under the same URL.
fn app_of_users() -> App {
    let app = App::start();
    app.at("/api/videos/*").answer_with(|seen| {
        let n = seen.at.elapsed().subsec_nanos();
        Answer::json(&json!({"status": "processing", "owner": user(seen), "n": n}))
    });
    app
}

#[tokio::test]
async fn two_users_of_one_url_each_see_their_own_job() {
    let app = app_of_users();
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut ada = side.sse("/api/progress/v1").cookie("user=ada").open().await;
    let mut bob = side.sse("/api/progress/v1").cookie("user=bob").open().await;
    let mut eve = side.sse("/api/progress/v1").header("Authorization", "Bearer eve").open().await;
    let mut nobody = side.sse("/api/progress/v1").open().await;

    for (client, owner) in [(&mut ada, "ada"), (&mut bob, "bob"), (&mut eve, "eve"), (&mut nobody, "nobody")] {
        for _ in 0..3 {
            assert_eq!(client.next_event().await.json()["owner"], owner);
        }
    }
    let topics = side.metric("topics", &[("route", PROGRESS_PATH)]).await;
    assert_eq!(topics, 4.0);
}

#[tokio::test]
async fn two_tabs_of_one_session_share_one_poll() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(&progress("interval=20s,max-interval=20s")).start().await;

    for _ in 0..3 {
        let mut tab = side.sse("/api/progress/v1").cookie("user=ada").header("User-Agent", "x").open().await;
        assert_eq!(tab.next_event().await.data, Some(running_text(1)));
        std::mem::forget(tab);
    }

    assert_eq!(app.job("v1").count(), 1);
}

/// A refusal is the refusal of one user.
#[tokio::test]
async fn one_users_refusal_is_not_anothers() {
    let app = App::start();
    app.job("v1").answer_with(|seen| match user(seen).as_str() {
        "ada" => running(1),
        _ => Answer::text(403, "not yours"),
    });
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut ada = side.sse("/api/progress/v1").cookie("user=ada").open().await;
    let bob = side.sse("/api/progress/v1").cookie("user=bob").fetch().await;

    assert_eq!(ada.next_event().await.data, Some(running_text(1)));
    assert_eq!((bob.status(), bob.text().as_str()), (403, "not yours"));
}

/// Which headers tell users apart is the operator's to say.
#[tokio::test]
async fn credential_headers_are_those_of_the_flag() {
    let app = App::start();
    app.job("v1").answer_with(|seen| {
        Answer::json(&json!({"status": "processing", "key": seen.header("x-api-key"), "cookie": seen.header("cookie")}))
    });
    let side = Sidestream::before(&app).route(PROGRESS).flag("--credential-header", "x-api-key").start().await;

    let mut one = side.sse("/api/progress/v1").header("X-Api-Key", "one").open().await;
    let mut two = side.sse("/api/progress/v1").header("X-Api-Key", "two").open().await;

    assert_eq!(one.next_event().await.json()["key"], "one");
    assert_eq!(two.next_event().await.json()["key"], "two");
}

/// The app may look at addresses, too; to it what is asked for a client comes from that client, as what is forwarded does.
#[tokio::test]
async fn polls_subscriptions_and_admissions_carry_the_clients_address() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let events = app.events("/notifications");
    let side = Sidestream::before(&app)
        .route(&progress("share=authorized,interval=20s,max-interval=20s"))
        .route("path=/notifications,subscribe")
        .start()
        .await;

    let by_proxy = side.sse("/api/progress/v1").header("X-Forwarded-For", "6.6.6.6, 203.0.113.9");
    let by_proxy = by_proxy.header("X-Forwarded-For", "192.0.2.7").header("X-Real-IP", "203.0.113.9");
    by_proxy
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "app.example")
        .open()
        .await
        .next_event()
        .await;
    let _direct = side.sse("/notifications").open().await;
    let direct = events.accept().await.request;

    let seen = job.seen();
    assert_eq!(seen.len(), 2, "an admission and a poll");
    for seen in seen {
        assert_eq!(seen.head.all("x-forwarded-for"), ["6.6.6.6, 203.0.113.9", "192.0.2.7"]);
        let rest = ["x-real-ip", "x-forwarded-proto", "x-forwarded-host"].map(|name| seen.head.all(name));
        assert_eq!(rest, [["203.0.113.9"], ["https"], ["app.example"]]);
    }
    let host = side.addr().to_string();
    let said = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"].map(|name| direct.head.all(name));
    assert_eq!(said, [["127.0.0.1"], ["http"], [&*host]]);
}

/// A phone changes its address on the way, and one user's tabs may have several.
#[tokio::test]
async fn equal_credentials_share_whatever_their_address_is() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(&progress("interval=20s,max-interval=20s")).start().await;

    let tab = |address: &str| side.sse("/api/progress/v1").cookie("user=ada").header("X-Forwarded-For", address);
    let mut first = tab("192.0.2.1").open().await;
    assert_eq!(first.next_event().await.data, Some(running_text(1)));
    let mut second = tab("192.0.2.2").open().await;
    assert_eq!(second.next_event().await.data, Some(running_text(1)));

    assert_eq!(job.seen().iter().map(|seen| seen.header("x-forwarded-for")).collect::<Vec<_>>(), [Some("192.0.2.1")]);
}

/// For an app that decides by the address there is a flag.
#[tokio::test]
async fn an_address_that_is_a_credential_header_tells_users_apart() {
    let app = App::start();
    app.job("v1").answer_with(|seen| match seen.head.all("x-forwarded-for")[..] {
        ["10.0.0.7"] => running(1),
        _ => Answer::text(403, "from the office only"),
    });
    let mut side = Sidestream::before(&app).route(PROGRESS);
    for name in ["cookie", "x-forwarded-for"] {
        side = side.flag("--credential-header", name);
    }
    let side = side.start().await;

    let request = || side.sse("/api/progress/v1").cookie("user=ada");
    let mut inside = request().header("X-Forwarded-For", "10.0.0.7").open().await;
    assert_eq!(inside.next_event().await.data, Some(running_text(1)));
    let outside = request().header("X-Forwarded-For", "203.0.113.9").fetch().await;
    let direct = request().fetch().await;

    assert_eq!((outside.status(), direct.status()), (403, 403));
}

/// With several headers, and with several lines of one, no two different sets of credentials may look alike.
#[tokio::test]
async fn credentials_that_only_look_alike_are_apart() {
    let app = App::start();
    app.job("v1").answer_with(|seen| {
        let all = (seen.head.all("cookie").join("|"), seen.head.all("authorization").join("|"));
        Answer::json(&json!({"status": "processing", "who": [all.0, all.1]}))
    });
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let request = || side.sse("/api/progress/v1");

    let sets = [
        (request().cookie("a").header("Authorization", "b"), json!(["a", "b"])),
        (request().cookie("b").header("Authorization", "a"), json!(["b", "a"])),
        (request().cookie("ab"), json!(["ab", ""])),
        (request().header("Authorization", "ab"), json!(["", "ab"])),
        (request().cookie("a; b"), json!(["a; b", ""])),
        (request().cookie(""), json!(["", ""])),
    ];
    for (request, who) in sets {
        let event = request.open().await.next_event().await;
        assert_eq!(event.json()["who"], who);
    }
}

/// The heart of section 5 under everything that can happen at once: clients that come and go, reset, come back with each
/// other's ids, and an app that restarts.
async fn no_event_crosses(route: &str, is_subscribe: bool) {
    const USERS: usize = 6;
    let app = app_of_users();
    let events = app.events("/notifications");
    let side = Arc::new(Sidestream::before(&app).route(route).start().await);
    let stop = Arc::new(AtomicBool::new(false));
    let seen_events = Arc::new(AtomicUsize::new(0));

    let mut tasks = JoinSet::new();
    if is_subscribe {
        let (events, stop) = (events.clone(), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while !stop.load(Ordering::SeqCst) {
                // A timeout because the last stream may be taken when `stop` is set.
                let Ok(stream) = tokio::time::timeout(Duration::from_millis(50), events.accept()).await else {
                    continue;
                };
                let stop = Arc::clone(&stop);
                streams.spawn(async move {
                    let owner = user(&stream.request);
                    let mut n = 0;
                    while !stop.load(Ordering::SeqCst) {
                        n += 1;
                        if !stream.try_send(&format!("id: {n}\ndata: {{\"owner\":\"{owner}\"}}\n\n")).await {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                });
            }
            streams.join_all().await;
        });
    }
    let path = if is_subscribe { "/notifications" } else { "/api/progress/v1" };
    for n in 0..USERS * 2 {
        let owner = format!("user{}", n % USERS);
        let (side, stop, seen_events) = (Arc::clone(&side), Arc::clone(&stop), Arc::clone(&seen_events));
        tasks.spawn(async move {
            let mut last_id = String::new();
            let mut round = n;
            while !stop.load(Ordering::SeqCst) {
                round += 1;
                let request = side.sse(path).cookie(&format!("user={owner}")).last_event_id(&last_id);
                if round % 5 == 0 {
                    request.send().await.reset();
                    continue;
                }
                let mut client = request.open().await;
                assert_eq!(client.status(), 200);
                for _ in 0..round % 4 + 1 {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(event) = tokio::time::timeout(Duration::from_millis(300), client.next_event()).await else {
                        break;
                    };
                    if event.name.is_none() {
                        assert_eq!(event.json()["owner"], owner, "an event of another user: {:?}", event.raw);
                        seen_events.fetch_add(1, Ordering::SeqCst);
                        // Ids of one user are tried by all: on subscribe routes they are the same small numbers.
                        last_id = event.id().to_owned();
                    }
                }
                if round % 3 == 0 {
                    client.reset();
                }
            }
        });
    }
    for target in [150, 300, 450] {
        crate::harness::eventually("events to flow between the restarts", async || {
            (seen_events.load(Ordering::SeqCst) >= target).then_some(())
        })
        .await;
        app.stop().await;
        app.resume();
    }
    stop.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    side.until_quiet().await;
}

#[tokio::test]
async fn no_event_crosses_users_under_churn_and_restarts_on_a_poll_route() {
    no_event_crosses(PROGRESS, false).await;
}

#[tokio::test]
async fn no_event_crosses_users_under_churn_and_restarts_on_a_subscribe_route() {
    no_event_crosses(NOTIFICATIONS, true).await;
}

/// Nobody is admitted on old data: not by another's snapshot, not by another's stream, not while the app is silent.
#[tokio::test]
async fn a_new_scope_gets_nothing_until_the_app_has_spoken_to_it() {
    for share in ["credentials", "authorized"] {
        let app = app_of_users();
        let route = progress(&format!("share={share},heartbeat=50ms,linger=1m"));
        let side = Sidestream::before(&app).route(&route).start().await;
        let mut ada = side.sse("/api/progress/v1").cookie("user=ada").open().await;
        ada.next_event().await;

        app.stop().await;
        let mut bob = side.sse("/api/progress/v1").cookie("user=bob").open().await;
        assert_eq!(bob.status(), 200, "{share}");
        bob.until("heartbeats", |body| body.matches(":\n").count() >= 5).await;
        assert!(!bob.text().contains("ada"), "{share}: {:?}", bob.text());
        app.at("/api/videos/*").answer_with(|seen| match user(seen).as_str() {
            "bob" => Answer::text(403, "not yours"),
            owner => Answer::json(&json!({"status": "processing", "owner": owner})),
        });
        app.resume();
        bob.read_to_end().await;
        let again = side.sse("/api/progress/v1").cookie("user=bob").fetch().await;

        assert!(!bob.text().contains("ada"), "{share}: {:?}", bob.text());
        assert_eq!((again.status(), again.text().as_str()), (403, "not yours"), "{share}");
    }
}

/// The app refuses by user; its jobs belong to all who are let in.
fn answer_members_only(seen: &Seen) -> Answer {
    match user(seen).as_str() {
        "nobody" | "eve" => Answer::text(401, "log in"),
        _ => running(1),
    }
}

#[tokio::test]
async fn share_authorized_admits_each_by_their_own_answer_and_polls_once_for_all() {
    let app = App::start();
    let job = app.job("v1");
    job.answer_with(answer_members_only);
    let route = progress("share=authorized,interval=20s,max-interval=20s");
    let side = Sidestream::before(&app).route(&route).start().await;

    let mut members = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        let mut client = side.sse("/api/progress/v1").cookie(&format!("user={name}")).open().await;
        assert_eq!(client.next_event().await.data, Some(running_text(1)));
        members.push(client);
    }
    let eve = side.sse("/api/progress/v1").cookie("user=eve").fetch().await;
    let nobody = side.sse("/api/progress/v1").fetch().await;

    assert_eq!((eve.status(), eve.text().as_str()), (401, "log in"));
    assert_eq!((nobody.status(), nobody.text().as_str()), (401, "log in"));
    for name in ["ada", "bob", "cyd", "eve", "nobody"] {
        assert!(job.seen().iter().any(|seen| user(seen) == name), "{name} was never asked for");
    }
    let samples = side.metrics().await;
    assert_eq!(samples.get("topics", &[("route", PROGRESS_PATH)]), 1.0);
    assert!(samples.get("upstream_requests_total", &[("purpose", "authorize"), ("outcome", "ok")]) >= 2.0);
    assert!(samples.get("upstream_requests_total", &[("purpose", "authorize"), ("outcome", "client_error")]) >= 2.0);
}

/// The one whose credentials the poll uses logs out: the others' stream goes on with another's, and another's address.
#[tokio::test]
async fn share_authorized_polls_with_anothers_credentials_when_the_first_expire() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(&progress("share=authorized")).start().await;
    let (at_ada, at_bob) = ("192.0.2.1", "192.0.2.2");
    let request = || side.sse("/api/progress/v1");
    let mut ada = request().cookie("user=ada").header("X-Forwarded-For", at_ada).open().await;
    ada.next_event().await;
    let mut bob = request().cookie("user=bob").header("X-Forwarded-For", at_bob).open().await;
    bob.next_event().await;

    job.answer_with(|seen| if user(seen) == "ada" { Answer::text(401, "log in") } else { running(2) });
    let next = bob.next_event_but(&["upstream-error"]).await;

    assert_eq!(next.data, Some(running_text(2)));
    for seen in job.seen() {
        let expected = if user(&seen) == "ada" { at_ada } else { at_bob };
        assert_eq!(seen.head.all("x-forwarded-for"), [expected]);
    }
}

/// An app that lets members in, and shows everybody else a page to log in, with status 200.
fn answer_members_or_page(seen: &Seen) -> Answer {
    match user(seen).as_str() {
        "ada" | "bob" => running(1),
        _ => Answer::html("<form action=/login>Please log in</form>"),
    }
}

/// A status alone lets nobody in. Whoever is shown that page waits, and is asked about again.
#[tokio::test]
async fn a_login_page_with_a_good_status_lets_nobody_into_a_polled_topic() {
    let app = App::start();
    let job = app.job("v1");
    job.answer_with(answer_members_or_page);
    let side = Sidestream::before(&app).route(&progress("share=authorized")).start().await;
    let mut ada = side.sse("/api/progress/v1").cookie("user=ada").open().await;
    ada.next_event().await;

    let mut eve = side.sse("/api/progress/v1").cookie("user=eve").open().await;
    let mut nobody = side.sse("/api/progress/v1").open().await;
    for stranger in [&mut eve, &mut nobody] {
        assert_eq!(stranger.next_event().await.json()["reason"], "not_json");
    }
    job.until("eve to be asked about again", |seen| seen.iter().filter(|seen| user(seen) == "eve").count() >= 2).await;
    assert!(!eve.text().contains("processing") && !nobody.text().contains("processing"), "{:?}", eve.text());

    job.answer(running(2));
    assert_eq!(eve.next_event().await.data, Some(running_text(2)), "the app has let her in");
}

/// Nor are its credentials lent to anybody.
#[tokio::test]
async fn a_stranger_that_comes_first_takes_nothing_from_members() {
    let app = App::start();
    app.job("v1").answer_with(answer_members_or_page);
    let mut side = Sidestream::before(&app).route(&progress("share=authorized")).start().await;
    let mut eve = side.sse("/api/progress/v1").cookie("user=eve").open().await;
    eve.next_event().await;

    let mut ada = side.sse("/api/progress/v1").cookie("user=ada").open().await;
    assert_eq!(ada.next_event().await.data, Some(running_text(1)));

    let samples = side.metrics().await;
    assert_eq!(samples.get("topics", &[("route", PROGRESS_PATH), ("phase", "live")]), 1.0);
    assert!(samples.get("job_state_violations_total", &[("route", PROGRESS_PATH), ("kind", "not_json")]) >= 1.0);
    side.log_line("a word on eve", |line| line.contains("a client is not let in")).await;
}

/// On a subscribe route it need not even be read; and who comes first makes no difference.
#[tokio::test]
async fn a_login_page_with_a_good_status_lets_nobody_into_a_subscribed_topic() {
    let app = App::start();
    let news = app.at("/notifications");
    let stream =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 100\ndata: news\n\n";
    news.answer_with(|seen| match user(seen).as_str() {
        "ada" => Answer::raw(stream).close(),
        _ => Answer::html("<form action=/login>Please log in</form>"),
    });
    let side = Sidestream::before(&app).route("path=/notifications,subscribe,share=authorized").start().await;
    let mut eve = side.sse("/notifications").cookie("user=eve").open().await;
    assert_eq!(eve.next_event().await.json()["reason"], "wrong_content_type");

    let mut ada = side.sse("/notifications").cookie("user=ada").open().await;
    assert_eq!(ada.next_event().await.data.as_deref(), Some("news"));
    let mut nobody = side.sse("/notifications").open().await;
    assert_eq!(nobody.next_event().await.json()["reason"], "wrong_content_type");
    news.until("eve to be asked about again", |seen| seen.iter().filter(|seen| user(seen) == "eve").count() >= 2).await;
    assert_eq!(ada.next_event().await.data.as_deref(), Some("news"));
    assert!(!eve.text().contains("news") && !nobody.text().contains("news"), "{:?}", eve.text());

    news.answer_with(|_| Answer::raw(stream).close());
    assert_eq!(eve.next_event().await.data.as_deref(), Some("news"), "the app has let her in");
}

/// And one whose session ends that way gives the turn to another: nobody hears of an outage.
#[tokio::test]
async fn share_authorized_polls_with_anothers_credentials_when_the_first_get_a_login_page() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(&progress("share=authorized")).start().await;
    let mut ada = side.sse("/api/progress/v1").cookie("user=ada").open().await;
    ada.next_event().await;
    let mut bob = side.sse("/api/progress/v1").cookie("user=bob").open().await;
    bob.next_event().await;

    job.answer_with(|seen| if user(seen) == "ada" { Answer::html("log in") } else { running(2) });

    assert_eq!(bob.next_event().await.data, Some(running_text(2)));
}

/// And when nobody's are left, everybody's streams end.
#[tokio::test]
async fn share_authorized_ends_when_no_credentials_are_left() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(&progress("share=authorized")).start().await;
    let mut ada = side.sse("/api/progress/v1").cookie("user=ada").open().await;
    ada.next_event().await;
    let mut bob = side.sse("/api/progress/v1").cookie("user=bob").open().await;
    bob.next_event().await;

    job.answer(Answer::text(403, "over"));
    let (of_ada, _) = ada.rest().await;
    let (of_bob, _) = bob.rest().await;

    assert!(of_ada.iter().chain(&of_bob).all(|event| event.name.is_some()), "{of_ada:?} {of_bob:?}");
}

/// An admission is not for ever: it is asked again at least every max-age.
#[tokio::test]
async fn share_authorized_asks_again_within_the_max_age() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(&progress("share=authorized,max-age=600ms")).start().await;
    let mut ada = side.sse("/api/progress/v1").cookie("user=ada").open().await;
    ada.next_event().await;
    let mut bob = side.sse("/api/progress/v1").cookie("user=bob").open().await;
    bob.next_event().await;

    job.answer_with(|seen| if user(seen) == "bob" { Answer::text(403, "out") } else { running(2) });
    bob.read_to_end().await;
    let again = side.sse("/api/progress/v1").cookie("user=bob").fetch().await;

    assert_eq!((again.status(), again.text().as_str()), (403, "out"));
}

#[tokio::test]
async fn share_public_is_one_topic_and_carries_no_credentials() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let events = app.events("/notifications");
    let side = Sidestream::before(&app)
        .route(&progress("share=public,interval=20s,max-interval=20s"))
        .route("path=/notifications,subscribe,share=public")
        .start()
        .await;

    let mut polled = Vec::new();
    let mut subscribed = Vec::new();
    for name in ["ada", "bob"] {
        let with = |path: &str| side.sse(path).cookie(&format!("user={name}")).header("Authorization", "Bearer t");
        let mut client = with("/api/progress/v1").open().await;
        assert_eq!(client.next_event().await.data, Some(running_text(1)));
        polled.push(client);
        subscribed.push(with("/notifications").open().await);
    }
    let stream = events.accept().await;
    side.until_metric("connections_active", &[], 4.0).await;
    stream.send("data: all\n\n").await;
    for client in &mut subscribed {
        assert_eq!(client.next_event().await.data.as_deref(), Some("all"));
    }

    let seen = app.seen();
    assert_eq!(seen.len(), 2, "one poll and one subscription for all");
    for request in seen {
        assert_eq!((request.header("cookie"), request.header("authorization")), (None, None));
    }
}

/// On subscribe routes an admission is a connection of one's own, so nobody rides on another's.
#[tokio::test]
async fn a_stream_refused_to_one_user_is_not_given_by_another() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut ada = side.sse("/notifications").cookie("user=ada").open().await;
    let of_ada = events.accept().await;

    events.refuse(Answer::text(403, "not yours"));
    let bob = side.sse("/notifications").cookie("user=bob").fetch().await;
    of_ada.send("data: for ada\n\n").await;

    assert_eq!((bob.status(), bob.text().as_str()), (403, "not yours"));
    assert_eq!(ada.next_event().await.data.as_deref(), Some("for ada"));
}

/// Whatever is logged at the finest level, and whatever the admin side shows, holds no query and no credential.
#[tokio::test]
async fn no_query_and_no_credential_is_in_a_log_or_on_the_admin_side() {
    let app = App::start();
    app.job("v1").answer(running(1));
    app.job("gone").answer(Answer::text(500, "x"));
    app.at("/page").answer(Answer::text(200, "x"));
    let events = app.events("/notifications");
    let side = Sidestream::before(&app)
        .route(PROGRESS)
        .route("path=/notifications,subscribe")
        .route("path=/live?job={id},poll=/api/videos/{id}")
        .log("trace")
        .start()
        .await;
    let secret = |request: crate::harness::client::Request| {
        request.cookie("sid=c00kie-s3cret").header("Authorization", "Bearer t0ken-s3cret")
    };

    let mut poll = secret(side.sse("/api/progress/v1?token=qu3ry-s3cret")).open().await;
    poll.next_event().await;
    let _notifications = secret(side.sse("/notifications?token=qu3ry-s3cret")).open().await;
    events.accept().await.send("data: x\n\n").await;
    let _live = secret(side.sse("/live?job=v1&token=qu3ry-s3cret")).open().await;
    let _failing = secret(side.sse("/api/progress/gone?token=qu3ry-s3cret")).open().await;
    let page = secret(side.get("/page?token=qu3ry-s3cret")).fetch().await;
    app.stop().await;
    let down = secret(side.get("/page?token=qu3ry-s3cret")).fetch().await;
    let stats = side.stats().await.to_string();
    let metrics = side.admin("/metrics").header("Connection", "close").fetch().await.text();

    assert_eq!((page.status(), down.status()), (200, 502));
    assert!(app.seen().iter().any(|seen| seen.target == "/page?token=qu3ry-s3cret"), "the query goes to the app");
    for text in [side.log_text(), stats, metrics, down.text()] {
        let line = text.lines().find(|line| line.contains("s3cret"));
        assert_eq!(line, None, "a secret came out");
    }
}
