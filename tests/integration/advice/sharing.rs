//! A proxy that nobody trusts, and a cookie that makes each request a user of its own.

use super::{calm, only, opened, rules, text};
use crate::harness::{app::App, running, sidestream::Sidestream};

/// Also in the log, once.
#[tokio::test]
async fn a_proxy_that_is_not_trusted_is_seen_and_told_in_the_log() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let mut untold = Sidestream::before(&app).route(&calm("share=public")).start().await;
    let told = Sidestream::before(&app).route(&calm("share=public")).flag("--trusted-proxy", "127.0.0.1").start().await;
    for n in 0..20 {
        for side in [&untold, &told] {
            opened(side.sse("/api/progress/v1").header("X-Forwarded-For", &format!("192.0.2.{n}"))).await;
        }
    }

    let found = only(&untold, "proxy-not-trusted").await;
    assert_eq!((text(&found, "change"), text(&found, "severity")), ("--trusted-proxy 127.0.0.1", "advice"));
    assert_eq!(rules(&told).await, [""; 0]);
    let line = untold.log_line("the recommendation", |line| line.contains("\"proxy-not-trusted\"")).await;
    assert!(line.contains("\"message\":\"recommendation\"") && line.contains("--trusted-proxy 127.0.0.1"), "{line}");
    assert_eq!(untold.log_text().matches("\"proxy-not-trusted\"").count(), 1);
    assert!(!untold.log_text().contains("192.0.2."), "nobody asked who the clients are");
}

/// One user's client that is cut again and again, and comes back with what it has.
async fn comes_and_goes(side: &Sidestream, cookie: impl Fn(usize) -> String) {
    let mut last: Option<String> = None;
    for turn in 0..9 {
        let mut request = side.sse("/api/progress/v1").cookie(&cookie(turn));
        if let Some(id) = &last {
            request = request.last_event_id(id);
        }
        let mut client = request.open().await;
        if last.is_none() {
            last = Some(client.next_event().await.id().to_owned());
        }
        drop(client);
        side.until_metric("connections_active", &[], 0.0).await;
    }
}

#[tokio::test]
async fn a_cookie_that_is_new_each_time_is_named_and_its_value_is_not() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(&calm("linger=10m")).start().await;
    comes_and_goes(&side, |turn| format!("session=s3cr3t; last_seen=s3cr3t{turn}; theme=dark")).await;

    let found = only(&side, "nothing-shared").await;

    assert!(text(&found, "evidence").ends_with("never twice the same was `last_seen`."), "{found}");
    assert!(!found.to_string().contains("s3cr3t") && !side.log_text().contains("s3cr3t"), "{found}");
}

#[tokio::test]
async fn a_user_who_comes_back_with_the_same_cookies_is_no_fault() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(&calm("linger=10m")).start().await;
    comes_and_goes(&side, |_| "session=a; theme=dark".to_owned()).await;

    assert_eq!(rules(&side).await, [""; 0]);
}
