//! What real frameworks print of one error, and how often: the apps of `tests/apps` count for themselves.

use serde_json::Value;

use crate::harness::{eventually, node::repository_file, reserve_port, sidestream::Sidestream};

/// Installs and builds one of the apps, unless that is done.
fn build(app: &str) {
    let output =
        std::process::Command::new(repository_file("tests/apps/build")).arg(format!("tests/apps/{app}")).output();
    let output = output.expect("the script can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the app counts, unless it does not run.
async fn own_count(side: &Sidestream) -> Option<f64> {
    let answer = side.get("/debug/counters").fetch().await;
    let counters: Value = serde_json::from_str(&answer.text()).ok()?;
    counters["invalidStateErrors"].as_f64()
}

/// Opens the stream of a new video, and leaves it after its first event.
async fn leave_a_stream(side: &Sidestream) {
    let answer = side.request("POST", "/api/videos").body(b"{}").fetch().await;
    let video: Value = serde_json::from_str(&answer.text()).expect("JSON");
    let path = format!("/api/progress/{}", video["id"].as_str().expect("an id"));
    let mut tab = side.sse(&path).open().await;
    tab.until("an event", |text| text.contains("data:")).await;
    tab.reset();
}

// Next.js prints whatever nobody caught twice, goes on, and hits its closed controllers again and again.
#[tokio::test]
#[ignore = "needs node and npm; tests/run runs it"]
async fn of_next_as_many_errors_are_counted_as_there_are() {
    build("next-legacy");
    let (_reservation, addr) = reserve_port();
    let app = repository_file("tests/apps/next-legacy");
    let next = app.join("node_modules/next/dist/bin/next");
    let (next, folder) = (next.to_str().expect("UTF-8"), app.to_str().expect("UTF-8"));
    let port = addr.port().to_string();
    let side = Sidestream::before_addr(addr)
        .env("NEXT_TELEMETRY_DISABLED", "1")
        .env("NODE_ENV", "production")
        .app(&["node", next, "start", folder, "-H", "127.0.0.1", "-p", &port])
        .start()
        .await;
    eventually("the app to listen", async || own_count(&side).await).await;

    for _ in 0..3 {
        leave_a_stream(&side).await;
    }

    eventually("the app to hit its closed controllers", async || own_count(&side).await.filter(|count| *count >= 5.0))
        .await;
    // It counts before it prints, and goes on while we look.
    eventually("as many errors as the app has counted", async || {
        let before = own_count(&side).await?;
        let counted = side.metric("app_invalid_state_errors_total", &[]).await;
        let after = own_count(&side).await?;
        (before == after && counted == after).then_some(())
    })
    .await;
}

// A SvelteKit app dies of each, and its monitor has a word on it before Node has.
#[tokio::test]
#[ignore = "needs node and npm; tests/run runs it"]
async fn of_sveltekit_as_many_errors_are_counted_as_deaths() {
    build("sveltekit-legacy");
    let (_reservation, addr) = reserve_port();
    let app = repository_file("tests/apps/sveltekit-legacy/build");
    let side = Sidestream::before_addr(addr)
        .env("HOST", "127.0.0.1")
        .env("PORT", &addr.port().to_string())
        .env("NODE_ENV", "production")
        .flag("--app-restart", "on-failure")
        .app(&["node", app.to_str().expect("UTF-8")])
        .start()
        .await;

    for deaths in [1.0, 2.0] {
        eventually("the app to listen", async || own_count(&side).await).await;
        leave_a_stream(&side).await;
        side.until_metric("app_exits_total", &[("reason", "error")], deaths).await;
        assert_eq!(side.metric("app_invalid_state_errors_total", &[]).await, deaths);
    }
}
