//! What the log says at its usual level: an outage and its end, the first few of what many topics have in common, and
//! more where more is asked for.

use std::ops::RangeInclusive;

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{
    PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    client::Client,
    running, running_text,
    sidestream::{Sidestream, run},
};

/// More than are told one by one.
const MANY: usize = 12;

/// Streams of so many topics, whose path ends with their number.
async fn open_many(side: &Sidestream, path: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..MANY {
        clients.push(side.sse(&format!("{path}{number}")).open().await);
    }
    clients
}

/// Waits until each of them has heard of the outage.
async fn hear_of_trouble(clients: &mut [Client]) {
    for client in clients {
        assert_eq!(client.next_event().await.name.as_deref(), Some("upstream-error"));
    }
}

/// Ends the program and returns its whole log.
async fn log_to_the_end(side: &mut Sidestream) -> Vec<Value> {
    side.signal(Signal::TERM);
    side.log_line("the end of the drain", |line| line.contains("\"drained\"")).await;
    side.log_text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The lines with this in their message.
fn with<'a>(log: &'a [Value], words: &str) -> Vec<&'a Value> {
    log.iter().filter(|line| line["message"].as_str().is_some_and(|message| message.contains(words))).collect()
}

/// How many lines there are of which so many are written at once, and one a minute after that: tests run for less, but
/// a machine may be slow.
fn lines(at_once: usize, began: Instant) -> RangeInclusive<usize> {
    let minutes = usize::try_from(began.elapsed().as_secs() / 60).expect("a test has few minutes");
    at_once..=at_once + minutes
}

fn is_in_milliseconds(seconds: &Value) -> bool {
    seconds.is_number() && seconds.to_string().split_once('.').is_none_or(|(_, fraction)| fraction.len() <= 3)
}

/// A wrong `--upstream`, or an app that is down: streams wait in silence, so the log has to say it.
#[tokio::test]
async fn an_app_that_is_away_is_one_line_for_all_who_ask_and_one_when_it_is_back() {
    let app = App::start_stopped().await;
    app.at("/api/videos/*").answer(running(1));
    let mut side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut clients = open_many(&side, "/api/progress/v").await;
    hear_of_trouble(&mut clients).await;
    assert_eq!(side.get("/other").fetch().await.status(), 502);
    app.resume();
    for client in &mut clients {
        assert_eq!(client.next_event().await.data, Some(running_text(1)));
    }
    side.log_line("the app's return", |line| line.contains("reached again")).await;
    drop(clients);
    let log = log_to_the_end(&mut side).await;

    let (away, back) = (with(&log, "the app can't be reached"), with(&log, "the app is reached again"));
    assert_eq!((away.len(), back.len()), (1, 1), "{log:#?}");
    assert_eq!((away[0]["level"].as_str(), back[0]["level"].as_str()), (Some("WARN"), Some("INFO")));
    assert_eq!(away[0]["upstream"], app.addr().to_string());
    assert!(away[0]["error"].as_str().is_some_and(|error| error.contains("refused")), "{}", away[0]);
    assert!(is_in_milliseconds(&back[0]["seconds"]), "{}", back[0]);
    assert_eq!(with(&log, "no usable answers"), [&Value::Null; 0], "that is no matter of a route");
}

/// A login page in place of all answers: an outage of the route, and a fault of each of its topics.
#[tokio::test]
async fn what_is_wrong_with_many_topics_is_told_by_a_few_lines() {
    let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: x\n\n";
    for (route, path, asked, good, kinds, reason) in [
        (PROGRESS, "/api/progress/v", "/api/videos/*", running(1), &["not_json", "wrong_content_type"][..], "not_json"),
        (
            "path=/feeds/{id},subscribe",
            "/feeds/v",
            "/feeds/*",
            Answer::raw(stream),
            &["wrong_content_type"],
            "wrong_content_type",
        ),
    ] {
        let began = Instant::now();
        let app = App::start();
        app.at(asked).answer(Answer::html("<html>Please log in"));
        let mut side = Sidestream::before(&app).route(route).start().await;

        let mut clients = open_many(&side, path).await;
        hear_of_trouble(&mut clients).await;
        for kind in kinds {
            let counted = side.metric("job_state_violations_total", &[("kind", kind)]).await;
            assert!(counted >= MANY as f64, "{counted} of {kind}");
        }
        app.at(asked).answer(good);
        side.log_line("a good answer", |line| line.contains("usable answers again")).await;
        drop(clients);
        let log = log_to_the_end(&mut side).await;

        let told: Vec<_> = log.iter().filter(|line| line["kind"].is_string()).collect();
        assert!(lines(5, began).contains(&told.len()), "{told:#?}");
        assert!(told.iter().all(|line| line["kind"] == reason && line["topic"].is_string()), "{told:#?}");
        let (begun, over) = (with(&log, "no usable answers"), with(&log, "usable answers again"));
        assert!(lines(1, began).contains(&begun.len()) && lines(1, began).contains(&over.len()), "{log:#?}");
        assert_eq!((begun[0]["level"].as_str(), begun[0]["reason"].as_str()), (Some("WARN"), Some(reason)));
        assert!(is_in_milliseconds(&over[0]["seconds"]) && over[0]["route"] == begun[0]["route"], "{}", over[0]);
        assert_eq!(with(&log, "can't be reached"), [&Value::Null; 0], "it was there all the time");
    }
}

/// Sessions end, and all tabs of the night are refused in the morning.
#[tokio::test]
async fn refusals_of_many_topics_are_told_by_a_few_lines() {
    let began = Instant::now();
    let app = App::start();
    app.at("/*").answer(Answer::text(401, "who are you?"));
    for (route, path) in [(PROGRESS, "/api/progress/v"), ("path=/feeds/{id},subscribe", "/feeds/v")] {
        let mut side = Sidestream::before(&app).route(route).start().await;

        for number in 0..MANY {
            assert_eq!(side.sse(&format!("{path}{number}")).fetch().await.status(), 401);
        }
        let log = log_to_the_end(&mut side).await;

        let told = with(&log, "refused a topic");
        assert!(lines(5, began).contains(&told.len()), "{told:#?}");
        assert!(told.iter().all(|line| line["status"] == 401), "{told:#?}");
    }
}

/// What a job's status was taken from, and how long the drain took, are read by people and by machines.
#[tokio::test]
async fn values_and_times_stand_in_the_log_as_they_are() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let mut side = Sidestream::before(&app).route(PROGRESS).start().await;
    side.sse("/api/progress/v1").open().await.next_event().await;
    let log = log_to_the_end(&mut side).await;

    let found = with(&log, "the status was found");
    assert_eq!((&found[0]["route"], &found[0]["value"]), (&PROGRESS_PATH.into(), &"processing".into()));
    assert_eq!(with(&log, "draining").len(), 1, "{log:#?}");
    assert!(is_in_milliseconds(&with(&log, "drained")[0]["seconds"]), "{log:#?}");
}

/// Whoever is in an outage copies it from there.
#[tokio::test]
async fn the_directive_that_the_help_names_says_more_about_an_app_that_is_away() {
    let help = run(["--help"]).await.stdout;
    let directive = help.split_whitespace().find(|word| word.starts_with("info,")).expect("the help names one");
    let directive = directive.trim_end_matches(';');
    let (_, module) = directive.trim_end_matches("=debug").split_once(',').expect("it begins with a level");
    let refused = run(["--log", "inof"]).await.stderr;
    for text in [&refused, include_str!("../../README.md"), include_str!("../../docs/runbook.md")] {
        assert!(text.contains(directive), "{directive}: {text}");
    }

    let app = App::start_stopped().await;
    for (filter, is_more) in [(directive, true), ("info", false)] {
        let mut side = Sidestream::before(&app).route(PROGRESS).log(filter).start().await;
        let mut client = side.sse("/api/progress/v1").open().await;
        client.next_event().await;
        drop(client);
        let log = log_to_the_end(&mut side).await;

        let more: Vec<_> = log.iter().filter(|line| line["level"] == "DEBUG").collect();
        assert_eq!(!more.is_empty(), is_more, "{filter}: {log:#?}");
        let is_of_it = |line: &&Value| line["target"].as_str().is_some_and(|target| target.starts_with(module));
        assert!(more.iter().all(is_of_it), "{filter}: {more:#?}");
    }
}
