//! What must not be told: whoever reads the log at its finest level, the metrics, the dashboard or an error learns no
//! credential, no query, no id of a job, and nothing of what the app said to somebody.

use serde_json::json;

use crate::harness::{
    app::{Answer, App},
    client::Request,
    completed, eventually, running,
    sidestream::{Builder, Sidestream},
};

/// Stands in every secret of the scenario, and nowhere else.
const MARK: &str = "s3cr3t";

const ROUTES: [&str; 5] = [
    "path=/api/progress/{id},poll=/api/videos/{id},interval=50ms,max-interval=100ms,linger=200ms",
    "path=/live?job={id},poll=/api/videos/{id},interval=50ms,linger=200ms",
    "path=/team/{id},poll=/api/videos/{id},share=authorized,interval=50ms,linger=200ms",
    "path=/notifications/{id},subscribe,linger=200ms",
    "path=/shared/{id},subscribe,share=authorized,linger=200ms",
];

fn secretive(request: Request) -> Request {
    request
        .cookie("sid=c00kie-s3cr3t")
        .header("Authorization", "Bearer t0ken-s3cr3t")
        .header("X-Api-Key", "k3y-s3cr3t")
        .header("Referer", "http://a.example/?r3f-s3cr3t")
}

/// An app that says secrets wherever it can.
fn secretive_app() -> App {
    let app = App::start();
    let job = |id: &str| app.job(&format!("{id}-s3cr3t"));
    let said = |answer: Answer| answer.header("Set-Cookie", "sid=s3t-s3cr3t").header("X-Secret", "h3ader-s3cr3t");
    job("good").answers([said(running(1)), said(running(2))]);
    job("done").answer(said(completed()));
    job("refused").answer(said(Answer::text(401, "b0dy-s3cr3t")).header("WWW-Authenticate", "Basic realm=s3cr3t"));
    job("login").answer(said(Answer::text(302, "b0dy-s3cr3t")).header("Location", "/login?back=l0cation-s3cr3t"));
    job("down").answer(said(Answer::text(500, "b0dy-s3cr3t")));
    job("html").answer(Answer::html("<p>b0dy-s3cr3t"));
    job("broken").answer(Answer::json_text("{\"b0dy-s3cr3t\""));
    job("strange").answer(Answer::json(&json!({"status": "odd", "data": "b0dy-s3cr3t"})));
    job("statusless").answer(Answer::json(&json!({"data": "b0dy-s3cr3t"})));
    job("reset").answer(Answer::reset());
    job("expiring").answers([running(1), running(2), said(Answer::text(403, "b0dy-s3cr3t"))]);
    job("odd").answer(Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: s3cr3t\r\n\r\nb0dy-s3cr3t").close());
    job("nonsense").answer(Answer::raw("s3cr3t nonsense\r\n\r\n"));
    app.at("/page-s3cr3t").answer(said(Answer::text(200, "b0dy-s3cr3t")));
    app.at("/cut-s3cr3t").answer(said(Answer::text(200, "b0dy-s3cr3t").cut()));
    app.at("/notifications/refused-s3cr3t").answer(said(Answer::text(403, "b0dy-s3cr3t")));
    app.at("/notifications/json-s3cr3t").answer(said(Answer::json_text("\"b0dy-s3cr3t\"")));
    app
}

/// Everything that can be asked, well and badly, until the counters have moved; gives the bodies of our own errors.
async fn play(app: &App, side: &Sidestream) -> Vec<String> {
    let (notifications, shared) = (app.events("/notifications/x-s3cr3t"), app.events("/shared/x-s3cr3t"));
    let mut open = Vec::new();
    let mut errors = Vec::new();
    let jobs = [
        "good",
        "done",
        "refused",
        "login",
        "down",
        "html",
        "broken",
        "strange",
        "statusless",
        "reset",
        "expiring",
        "odd",
        "nonsense",
    ];
    for job in jobs {
        for target in [
            format!("/api/progress/{job}-s3cr3t?token=qu3ry-s3cr3t"),
            format!("/live?job={job}-s3cr3t&token=qu3ry-s3cr3t"),
            format!("/team/{job}-s3cr3t?lastEventId=id-s3cr3t"),
        ] {
            open.push(secretive(side.sse(&target)).last_event_id("id-s3cr3t").open().await);
        }
        let answer = secretive(side.get(&format!("/api/videos/{job}-s3cr3t?token=qu3ry-s3cr3t"))).fetch().await;
        if answer.status() == 502 {
            errors.push(answer.text());
        }
    }
    for target in ["/notifications/refused-s3cr3t", "/notifications/json-s3cr3t"] {
        open.push(secretive(side.sse(target)).open().await);
    }
    let mut listener = secretive(side.sse("/notifications/x-s3cr3t?token=qu3ry-s3cr3t")).open().await;
    let stream = notifications.accept().await;
    stream.send("id: id-s3cr3t\nevent: nam3-s3cr3t\ndata: data-s3cr3t\n\ndata: half of s3cr3t").await;
    listener.next_event().await;
    stream.reset().await;
    open.push(secretive(side.sse("/shared/x-s3cr3t")).open().await);
    drop(shared);

    for target in ["/page-s3cr3t?token=qu3ry-s3cr3t", "/cut-s3cr3t", "/none-s3cr3t", "/api/progress/%2e%2e-s3cr3t%2f"] {
        secretive(side.get(target)).fetch().await;
    }
    for bytes in [
        "GET /x?s3cr3t HTTP/1.1\r\nHost: s3cr3t, b\r\nCookie: s3cr3t\r\n\r\n",
        "GET /x?s3cr3t HTTP/1.1\r\nHost: a\r\nCookie: s3cr3t\r\nCookie s3cr3t\r\n\r\n",
        "GET /x?s3cr3t HTTP/1.1\r\nHost: a\r\ns3cr3t\0: s3cr3t\r\n\r\n",
        "GET /x s3cr3t HTTP/1.1\r\nHost: a\r\n\r\n",
        "s3cr3t\r\n\r\n",
        "CONNECT s3cr3t:443 HTTP/1.1\r\nHost: s3cr3t:443\r\n\r\n",
        "POST /x?s3cr3t HTTP/1.1\r\nHost: a\r\nContent-Length: s3cr3t\r\n\r\n",
        "POST /x?s3cr3t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\ns3cr3t\r\n",
    ] {
        let mut wire = side.get("/").connect().await;
        wire.send(bytes.as_bytes()).await.expect("the bytes are taken");
        let mut answer = String::new();
        while let Ok(bytes) = wire.take().await {
            if bytes.is_empty() {
                break;
            }
            answer.push_str(&String::from_utf8_lossy(&bytes));
        }
        errors.push(answer);
    }
    // All that is polled is polled again, some of it in vain.
    for job in ["good", "strange", "broken", "reset"] {
        app.job(&format!("{job}-s3cr3t")).more_requests(2).await;
    }
    app.stop().await;
    errors.push(secretive(side.get("/page-s3cr3t?token=qu3ry-s3cr3t")).fetch().await.text());
    side.until("the outage to be felt", |samples| {
        samples.get("upstream_requests_total", &[("outcome", "refused")]) > 3.0
    })
    .await;
    drop(open);
    errors
}

async fn nothing_is_told(flags: impl FnOnce(Builder) -> Builder) {
    let app = secretive_app();
    let mut builder = Sidestream::before(&app).log("trace,hyper=trace,hyper_util=trace,mio=trace");
    for route in ROUTES {
        builder = builder.route(route);
    }
    let mut side =
        flags(builder.flag("--credential-header", "cookie").flag("--credential-header", "x-api-key")).start().await;

    let errors = play(&app, &side).await;
    let mut pages = Vec::new();
    for page in ["/", "/metrics", "/livez", "/readyz", "/api/stats", "/none-s3cr3t?s3cr3t"] {
        pages.push((page, side.admin(page).header("Connection", "close").fetch().await.text()));
    }
    let mut live = side.admin("/api/stats/stream").open().await;
    let event = live.next_event().await;
    pages.push(("/api/stats/stream", event.raw));
    drop(live);
    side.signal(rustix::process::Signal::TERM);
    side.wait_exit().await;
    let log = eventually("the last line of the log", async || {
        let text = side.log_text();
        (text.contains("drained") || text.contains("cut")).then_some(text)
    })
    .await;

    assert!(app.seen().iter().any(|seen| seen.target.contains("qu3ry-s3cr3t")), "the query goes to the app");
    assert!(app.seen().iter().any(|seen| seen.header("x-api-key") == Some("k3y-s3cr3t")), "the credentials do, too");
    assert!(
        log.contains("forwarded") && log.contains("poll failed") && log.contains("request refused"),
        "a log at its finest:\n{log}"
    );
    pages.extend(errors.into_iter().map(|text| ("an error of ours", text)));
    pages.push(("the log", log));
    for (place, text) in pages {
        let line = text.lines().find(|line| line.contains(MARK));
        assert_eq!(line, None, "{place} tells a secret");
    }
}

#[tokio::test]
async fn no_secret_comes_out_at_the_finest_level_for_machines() {
    nothing_is_told(|flags| flags).await;
}

#[tokio::test]
async fn no_secret_comes_out_at_the_finest_level_for_people() {
    nothing_is_told(Builder::text_log).await;
}
