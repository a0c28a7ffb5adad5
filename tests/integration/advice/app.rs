//! What the app answers, and how quickly.

use std::time::Duration;

use super::{only, opened, text, told};
use crate::harness::{
    PROGRESS,
    app::{Answer, App},
    progress, running,
    sidestream::Sidestream,
};

#[tokio::test]
async fn a_status_that_is_no_known_word_is_seen() {
    let app = App::start();
    let answer = |step: u32| Answer::json_text(&format!(r#"{{"state":"wibbling","step":{step}}}"#));
    app.job("v1").answers((0..4).map(answer));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let _client = opened(side.sse("/api/progress/v1")).await;

    let found = told(&side, "unknown-status").await;
    assert!(text(&found, "evidence").contains("\"wibbling\" at /state"), "{found}");
}

#[tokio::test]
async fn answers_without_a_status_are_seen() {
    let app = App::start();
    app.job("v1").answers((0..4).map(|step| Answer::json_text(&format!(r#"{{"step":{step}}}"#))));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let _client = opened(side.sse("/api/progress/v1")).await;

    told(&side, "missing-status").await;
}

#[tokio::test]
async fn an_app_that_answers_more_slowly_than_it_is_polled_is_seen() {
    let app = App::start();
    app.job("v1").answer(running(1).after(Duration::from_millis(300)));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let _client = opened(side.sse("/api/progress/v1")).await;

    let found = only(&side, "app-slower-than-polls").await;
    assert!(text(&found, "evidence").contains("they are made every 50ms"), "{found}");
}

#[tokio::test]
async fn polls_that_wait_for_their_turn_are_seen() {
    let app = App::start();
    app.job("*").answer(running(1).after(Duration::from_millis(20)));
    let side = Sidestream::before(&app)
        .route(&progress("interval=500ms,max-interval=500ms"))
        .flag("--poll-concurrency", "1")
        .start()
        .await;
    let mut clients = Vec::new();
    for id in 0..30 {
        clients.push(side.sse(&format!("/api/progress/v{id}")).send().await);
    }

    // On a busy machine each poll may take as long as they are apart; then that is said as well.
    let found = told(&side, "polls-wait").await;
    assert!(text(&found, "change").starts_with("--poll-concurrency 2"), "{found}");
}
