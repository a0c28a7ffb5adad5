//! Every alert on a real run that has its fault, and none of them on one beside it that has not.
//!
//! The rules are those of `deploy/prometheus`, looking back over seconds ([`rules::sharpened`]). Five programs stand
//! side by side: a healthy one; one whose clients, limits and app go wrong; one that goes wrong as a process; one whose app
//! dies again and again; one that has no route, so that its app takes all streams with it.

use std::{collections::BTreeSet, time::Duration};

use rustix::process::Signal;

use super::{OF_TIME, rules, server::Prometheus};
use crate::{
    harness::{
        app::{Answer, App},
        client::Client,
        progress, running,
        sidestream::Sidestream,
    },
    stale::go_dark,
};

/// A watcher of one program's alerts.
struct Watch<'a> {
    prometheus: &'a Prometheus,
    side: &'a Sidestream,
    fired: BTreeSet<&'static str>,
}

impl<'a> Watch<'a> {
    fn on(prometheus: &'a Prometheus, side: &'a Sidestream) -> Self {
        Self { prometheus, side, fired: BTreeSet::new() }
    }

    /// Waits until the alert has fired for this program.
    async fn fires(&mut self, alert: &'static str) {
        self.until(&format!(r#"ALERTS{{alertname="{alert}", alertstate="firing", instance="$self"}}"#)).await;
        self.fired.insert(alert);
    }

    async fn until(&self, expr: &str) {
        self.prometheus.until(&expr.replace("$self", &self.side.admin_addr().to_string())).await;
    }
}

async fn watch(side: &Sidestream, path: &str) -> Client {
    let mut client = side.sse(path).open().await;
    client.next_event().await;
    client
}

#[tokio::test]
#[ignore = "needs prometheus; tests/run runs it"]
async fn every_alert_fires_on_a_real_run_with_its_fault_and_none_on_the_one_beside_it() {
    let (app, healthy_app, lonely_app) = (App::start(), App::start(), App::start());
    healthy_app.job("v1").answer(running(1));
    for app in [&app, &healthy_app] {
        app.at("/api/videos/*").answer(running(1).after(Duration::from_millis(20)));
        app.at("/slow").answer(Answer::hang());
    }
    let route = progress("heartbeat=100ms");
    let healthy = Sidestream::before(&healthy_app).route(&route).start().await;
    let faulty = Sidestream::before(&app)
        .route(&route)
        .route("path=/quiet/{id},poll=/api/videos/{id},heartbeat=1h")
        .flag("--max-connections", "15")
        .flag("--max-topics", "9")
        .flag("--poll-concurrency", "1")
        .flag("--stale-after", "1s")
        .start()
        .await;
    let crowded = Sidestream::before(&healthy_app)
        .route(&progress("heartbeat=500ms"))
        .flag("--drain", "20s")
        .open_files(200)
        .start()
        .await;
    let broken = "echo 'TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed' >&2; exit 1";
    let restarting = Sidestream::before(&healthy_app)
        .route(&route)
        .flag("--app-restart", "on-failure")
        .app(&["sh", "-c", broken])
        .start()
        .await;
    let lonely = Sidestream::before(&lonely_app).start().await;
    let targets = [&healthy, &faulty, &crowded, &restarting, &lonely].map(Sidestream::admin_addr);
    let prometheus = Prometheus::start(&targets, &rules::sharpened()).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(watch(&healthy, "/api/progress/v1").await);
    }

    let (of_streams, of_process, of_an_app, ()) = tokio::join!(
        faults_of_streams(&app, &faulty, &prometheus),
        faults_of_a_process(crowded, &prometheus),
        faults_of_an_app(&restarting, &prometheus),
        fault_that_nobody_waits_for(&lonely_app, &lonely, &prometheus)
    );

    let fired = [of_streams, of_process, of_an_app].into_iter().flatten().map(str::to_owned);
    assert_eq!(fired.collect::<BTreeSet<_>>(), rules::alerts().into_keys().collect());
    let alerts = format!(
        r#"count by (alertname) (count_over_time(ALERTS{{instance="{}", alertname!~"{}"}}[5m]))"#,
        healthy.admin_addr(),
        OF_TIME.join("|")
    );
    assert_eq!(prometheus.query(&alerts).await, [], "on the healthy one");
    assert!(kept.iter().all(Client::is_open), "the healthy one's streams stayed");
}

/// Limits, dead peers, streams that are cut, an app that is away.
async fn faults_of_streams(app: &App, side: &Sidestream, prometheus: &Prometheus) -> BTreeSet<&'static str> {
    let mut alerts = Watch::on(prometheus, side);
    let mut clients = vec![watch(side, "/quiet/v9").await];
    for job in 1..=8 {
        clients.push(watch(side, &format!("/api/progress/v{job}")).await);
    }
    for _ in 0..4 {
        clients.push(watch(side, "/api/progress/v1").await);
    }
    let mut cut = Watch::on(prometheus, side);
    tokio::join!(
        async {
            // 13 of 15 streams, 9 of 9 topics, 8 jobs every 100 ms at most with 20 ms each.
            alerts.fires("SidestreamConnectionsNearLimit").await;
            alerts.fires("SidestreamTopicsNearLimit").await;
            alerts.fires("SidestreamPollsWait").await;
            alerts.fires("SidestreamStreamsSilent").await;
        },
        streams_cut(app, &mut cut)
    );
    alerts.fired.extend(cut.fired);

    while side.metric("connections_rejected_total", &[("reason", "max_connections")]).await == 0.0 {
        clients.push(side.sse("/api/progress/v2").open().await);
    }
    alerts.fires("SidestreamTurnsClientsAway").await;

    clients.iter_mut().skip(1).take(6).for_each(go_dark);
    alerts.fires("SidestreamStreamsStale").await;

    app.stop().await;
    alerts.fires("SidestreamTopicsDegraded").await;
    alerts.fires("SidestreamAppUnreachable").await;
    alerts.fires("SidestreamDataTooOld").await;
    alerts.fired
}

/// The app ends its streams in the middle of an event.
async fn streams_cut(app: &App, alerts: &mut Watch<'_>) {
    let feed = app.events("/feed");
    // One more than the alert asks for: the first may have been there when it was first scraped.
    for cuts in 1..=6 {
        let mut client = alerts.side.sse("/feed").open().await;
        let stream = feed.accept().await;
        stream.send("data: half of an ev").await;
        stream.cut().await;
        client.read_to_end().await;
        // Each in a scrape of its own.
        let labels = r#"side="upstream", route="(forwarded)", instance="$self""#;
        alerts.until(&format!("sidestream_invalid_state_errors_total{{{labels}}} >= {cuts}")).await;
    }
    alerts.fires("SidestreamInvalidStateErrors").await;
}

/// Clients that come again and again, no files, no CPU, a drain, the end.
async fn faults_of_a_process(mut side: Sidestream, prometheus: &Prometheus) -> BTreeSet<&'static str> {
    let mut alerts = Watch::on(prometheus, &side);
    let storm = async {
        loop {
            watch(&side, "/api/progress/v1").await;
        }
    };
    tokio::select! {
        () = storm => {}
        () = alerts.fires("SidestreamReconnectStorm") => {}
    }

    let line = 0.8 * side.metric("sockets_max", &[]).await;
    let mut idle = Vec::new();
    while idle.len() as f64 <= line {
        idle.push(side.get("/").connect().await);
    }
    alerts.fires("SidestreamFilesNearLimit").await;
    drop(idle);

    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(watch(&side, "/api/progress/v1").await);
    }
    // The kernel gives it no time until a scrape that began a second later has waited for it in vain.
    let stopped = prometheus.query("vector(time())").await[0].1;
    side.signal(Signal::STOP);
    alerts
        .until(&format!(r#"up{{instance="$self"}} == 0 and timestamp(up{{instance="$self"}}) > {stopped} + 1"#))
        .await;
    side.signal(Signal::CONT);
    alerts.fires("SidestreamHeartbeatsLate").await;

    // A request that takes its time holds the drain up.
    let slow = side.get("/slow").send().await;
    side.signal(Signal::TERM);
    alerts.fires("SidestreamDrainStuck").await;
    drop((slow, clients));
    let fired = alerts.fired;
    let addr = side.admin_addr();
    assert_eq!(side.wait_exit().await, Some(0));
    prometheus.until(&format!(r#"ALERTS{{alertname="SidestreamDown", alertstate="firing", instance="{addr}"}}"#)).await;
    fired.into_iter().chain(["SidestreamDown"]).collect()
}

/// An app that says what it dies of, and is started again.
async fn faults_of_an_app(side: &Sidestream, prometheus: &Prometheus) -> BTreeSet<&'static str> {
    let mut alerts = Watch::on(prometheus, side);
    alerts.fires("SidestreamAppInvalidStateErrors").await;
    alerts.fires("SidestreamAppExits").await;
    alerts.fired
}

/// An app that dies and takes all streams with it, as no route has any: only who asks for something else notices.
async fn fault_that_nobody_waits_for(app: &App, side: &Sidestream, prometheus: &Prometheus) {
    let mut alerts = Watch::on(prometheus, side);
    let feed = app.events("/feed");
    let mut client = side.sse("/feed").open().await;
    let stream = feed.accept().await;
    stream.send("data: news\n\n").await;
    client.next_event().await;

    app.stop().await;
    client.read_to_end().await;
    side.until_metric("connections_active", &[], 0.0).await;
    let visits = async {
        loop {
            assert_eq!(side.get("/page").fetch().await.status(), 502);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = visits => {}
        () = alerts.fires("SidestreamAppUnreachable") => {}
    }
}
