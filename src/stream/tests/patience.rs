//! For how long a client waits for a status, on a clock that only moves when everybody waits.

use http_body_util::BodyExt;
use prometheus::Registry;
use tokio::{io::AsyncWriteExt, time::Instant};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    config::Config,
    connections::Limits,
    event::HeartbeatForm,
    source::{Asker, Sources, schedule::Schedule},
    tcp::Lent,
    upstream::memory,
    wire::WireState,
};

const ADMITTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Streams of one route whose app is behind `door`.
fn streams(route: &str, door: &memory::App) -> Streams {
    let routes: Arc<[Route]> = Config::from_args(["--route", route]).unwrap().routes.into();
    let names: Vec<_> = routes.iter().map(|route| route.path.as_str().to_owned()).collect();
    let metrics = Arc::new(Metrics::register(&Registry::new(), &names).unwrap());
    let schedule = Schedule::new(8, Arc::clone(&metrics));
    let run = Arc::clone(&schedule);
    tokio::spawn(async move { run.run().await });
    let (upstream, grace) = (memory::upstream(door), Duration::ZERO);
    let parts = (Arc::clone(&routes), Arc::clone(&schedule), Arc::clone(&metrics));
    let sources = Sources::new(parts.0, upstream.clone(), parts.1, grace, parts.2);
    let hour = Duration::from_secs(3600);
    let limits = Limits { connections: 10, per_ip: 0, stale_after: hour, reap_after: hour };
    Streams {
        pacings: Pacing::of_all(&routes, HeartbeatForm::Comment),
        hub: Hub::new(10, Box::new(sources), Arc::clone(&metrics)),
        connections: Connections::new(limits, Arc::clone(&metrics)),
        scopes: Scopes::new(vec![header::COOKIE]),
        admissions: Admissions::new(Arc::clone(&routes), Asker::new(upstream, Arc::clone(&metrics)), schedule, grace),
        routes,
        metrics,
    }
}

/// What a client gets of the first of these routes.
async fn open(streams: &Streams, path: &str) -> Opened {
    let request = Request::builder().uri(path).header("accept", "text/event-stream").body(()).unwrap();
    let wanted = router::stream_request(&streams.routes, request.method(), request.uri(), request.headers()).unwrap();
    let wire = Arc::new(WireState::new(Lent::nothing()));
    let conn = Arc::new(ConnState { wire, abort: CancellationToken::new() });
    streams.open(wanted, request, super::Client { ip: [127, 0, 0, 1].into(), conn }).await
}

// An app may send the head of its stream with the first event, and platforms allow 30 s for ours.
#[tokio::test(start_paused = true)]
async fn a_client_of_a_stream_that_has_not_begun_gets_its_200_in_time() {
    let door = memory::App::default();
    let _connections = door.listen();
    let streams = streams("path=/feed,subscribe", &door);

    let began = Instant::now();
    let opened = open(&streams, "/feed").await;

    assert!(matches!(opened, Opened::Live(_)), "{opened:?}");
    assert_eq!(began.elapsed().as_secs(), SETTLE_MAX.as_secs());
}

// Its two waits, for the admission and for the topic, are one to the platform in front, which allows 30 s in all.
#[tokio::test(start_paused = true)]
async fn a_slow_admission_and_a_slow_first_poll_do_not_add_up() {
    let door = memory::App::default();
    let mut connections = door.listen();
    let _app = tokio::spawn(async move {
        let mut admission = connections.recv().await.unwrap();
        sleep(Duration::from_secs(20)).await;
        admission.write_all(ADMITTED).await.unwrap();
        // Not a word to the poll that follows, on whichever connection.
        let _poll = connections.recv().await;
        std::future::pending::<()>().await;
    });
    let streams = streams("path=/members/{id},poll=/jobs/{id},share=authorized,timeout=90s", &door);
    let began = Instant::now();
    let opened = open(&streams, "/members/v1").await;

    assert!(matches!(opened, Opened::Live(_)), "{opened:?}");
    assert_eq!(began.elapsed().as_secs(), SETTLE_MAX.as_secs());
}

// What the app grants to another origin is not known, and a head without it would end the EventSource for good.
#[tokio::test(start_paused = true)]
async fn a_page_of_another_origin_is_asked_to_come_back_when_the_app_says_nothing_in_time() {
    // Nobody listens: the app is down.
    let door = memory::App::default();
    for route in [
        "path=/jobs/{id},poll=/jobs/{id}",
        "path=/jobs/{id},subscribe",
        "path=/jobs/{id},poll=/jobs/{id},share=authorized",
    ] {
        let streams = streams(&format!("{route},retry=9s"), &door);
        for (accept, comes_back) in [("text/event-stream", true), ("*/*", false)] {
            let request =
                Request::builder().uri("/jobs/v1?").header("accept", accept).header("origin", "https://front.example");
            let request = request.body(()).unwrap();
            let wanted =
                StreamRequest { route: RouteId(0), params: streams.routes[0].path.matches("/jobs/v1", None).unwrap() };
            let wire = Arc::new(WireState::new(Lent::nothing()));
            let conn = Arc::new(ConnState { wire, abort: CancellationToken::new() });

            let began = Instant::now();
            let opened = streams.open(wanted, request, super::Client { ip: [127, 0, 0, 1].into(), conn }).await;

            assert_eq!(began.elapsed().as_secs() == SETTLE_MAX.as_secs(), comes_back, "{route}, {:?}", began.elapsed());
            let Opened::Answer(answer) = opened else {
                assert!(!comes_back, "{route}: a stream");
                continue;
            };
            let granted =
                answer.headers().get("access-control-allow-origin").is_some_and(|to| to == "https://front.example");
            assert_eq!((answer.status(), granted), (StatusCode::OK, comes_back), "{route}");
            if comes_back {
                let text = answer.into_body().collect().await.unwrap().to_bytes();
                let text = std::str::from_utf8(&text).unwrap();
                let hint: u64 = text.strip_prefix("retry: ").unwrap().trim_end().parse().unwrap();
                assert!((6000..=12_000).contains(&hint), "{hint}");
            }
        }
    }
}
