//! A shard without its thread: its steps are called by hand.

use std::sync::Mutex;

use super::*;
use crate::{
    connections::Connections,
    event::HeartbeatForm,
    hub::tests::Bench,
    metrics::{RouteId, Transport},
    route::{Route, RouteDefaults},
    topic::Store,
};

const HOUR: Duration = Duration::from_secs(3600);

fn pacing() -> Pacing {
    let defaults = RouteDefaults {
        heartbeat: Duration::from_secs(15),
        linger: None,
        retry: Duration::from_secs(3),
        max_age: Duration::ZERO,
        interval: Duration::from_secs(1),
        max_interval: Duration::from_secs(5),
        timeout: Duration::from_secs(10),
    };
    Pacing::new(&Route::parse("path=/jobs/{id},poll=/api/jobs/{id}", &defaults).unwrap(), HeartbeatForm::Comment)
}

// A shard without streams sleeps until it is told something, and nobody would count again.
#[tokio::test]
async fn the_last_stream_takes_its_staleness_with_it() {
    let bench = Bench::new(10);
    let limits = Limits { connections: 10, per_ip: 0, stale_after: Duration::from_secs(35), reap_after: HOUR };
    let connections = Connections::new(limits, Arc::clone(&bench.metrics));
    let stale = StaleCounts::new(1, 1);
    let poll = mio::Poll::new().unwrap();
    let waker = mio::Waker::new(poll.registry(), WAKER).unwrap();
    let inbox = Arc::new(Inbox { orders: Mutex::default(), waker });
    let mut shard = Shard::new(0, poll, inbox, limits, Arc::clone(&bench.metrics), Arc::clone(&stale));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut subscription = bench.watch(Store::State);
    subscription.place(None);
    let permit = connections.permit(RouteId(0), [127, 0, 0, 1].into(), Transport::Http1).unwrap();
    let now = Instant::now();
    shard.adopt(Adopted { socket, head: Vec::new(), chunked: true, subscription, permit, pacing: pacing() }, now);

    shard.entries[0].blocked_since = Some(now);
    shard.tick(now + Duration::from_secs(60));
    assert_eq!(stale.of(0), 1);
    shard.after(0, Served::Over);
    assert_eq!(stale.of(0), 0);
    assert!(connections.is_empty() && bench.hub.list()[0].subscribers == 0);
    assert_eq!(bench.topic().waiting(), 0);
}
