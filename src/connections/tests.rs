use std::os::fd::AsFd;

use prometheus::Registry;
use socket2::{SockFilter, SockRef};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::wire::Wire;

const ID: RouteId = RouteId(0);
const HIDDEN: RouteId = RouteId(1);
const LIMITS: Limits = Limits {
    connections: 10,
    per_ip: 0,
    stale_after: Duration::from_millis(600),
    reap_after: Duration::from_secs(3600),
};

/// A seat on a connection, and the client's end of that.
struct Stand {
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
    wire: Wire,
    seat: Seat,
    client: TcpStream,
}

impl Stand {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let wire = Wire::new(listener.accept().await.unwrap().0);
        let metrics = Arc::new(Metrics::register(&Registry::new(), &["/x".to_owned()]).unwrap());
        let connections = Connections::new(LIMITS, Arc::clone(&metrics));
        let conn = Arc::new(ConnState { wire: wire.state(), abort: CancellationToken::new() });
        let seat = connections.permit(ID, [127, 0, 0, 1].into(), Transport::Guarded).unwrap().listed(conn);
        Self { connections, metrics, wire, seat, client }
    }

    /// Sweeps until so many are stale.
    async fn until_stale(&self, count: i64) {
        let begun = Instant::now();
        while self.metrics.route(ID).stale() != count {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", self.connections.survey(HIDDEN));
            tokio::task::yield_now().await;
            self.connections.sweep();
        }
    }
}

fn drop_all(socket: &impl AsFd) {
    SockRef::from(socket).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_seat_is_stale_while_its_peer_is_silent_and_takes_that_with_it() {
    let mut stand = Stand::new().await;
    drop_all(&stand.client);
    stand.wire.write_all(b"into the dark").await.unwrap();
    stand.until_stale(1).await;
    assert!(
        stand.connections.survey(HIDDEN).oldest[0]
            .unacknowledged_for
            .is_some_and(|time| time >= Duration::from_millis(500))
    );
    assert_eq!(stand.connections.survey(HIDDEN).oldest[0].blocked_for, None);

    SockRef::from(&stand.client).detach_filter().unwrap();
    stand.until_stale(0).await;

    drop_all(&stand.client);
    stand.wire.write_all(b"into the dark").await.unwrap();
    stand.until_stale(1).await;
    let Stand { metrics, seat, connections, wire, .. } = stand;
    drop(seat);
    assert_eq!(metrics.route(ID).stale(), 0);
    connections.sweep();
    assert_eq!((metrics.route(ID).stale(), connections.survey(HIDDEN).total), (0, 0));
    drop(wire);
}

#[test]
fn the_times_of_the_sweep_follow_the_flags() {
    let with = |stale, reap| Limits {
        stale_after: Duration::from_secs(stale),
        reap_after: Duration::from_secs(reap),
        ..LIMITS
    };
    assert_eq!(with(35, 60).sweep_interval(), Duration::from_secs(1));
    assert_eq!(with(2, 4).sweep_interval(), Duration::from_millis(500));
    assert_eq!(with(35, 60).user_timeout(), Duration::from_secs(300));
    assert_eq!(with(35, u64::MAX).user_timeout().as_millis(), 0x7fff_ffff);
}

// What comes on the connection after a stream is an ordinary answer, and its client may be as slow as it likes.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_backstop_is_there_as_long_as_the_seat() {
    let Stand { seat, wire, client: _client, .. } = Stand::new().await;
    let state = wire.state();
    let timeout = || state.socket().with(|socket| SockRef::from(&socket).tcp_user_timeout().unwrap()).unwrap();
    assert_eq!(timeout(), Some(LIMITS.reap_after * 5));
    drop(seat);
    assert_eq!(timeout().unwrap_or_default(), Duration::ZERO);
}

// The number of a closed socket may be another connection's at once, and that of a taken one is its new owner's.
#[tokio::test]
async fn a_socket_that_its_wire_has_given_away_or_closed_is_asked_no_more() {
    let Stand { connections, seat, wire, client: _client, .. } = Stand::new().await;
    let state = wire.state();
    assert_eq!(state.socket().with(|_| ()), Some(()));
    drop(wire);
    assert_eq!(state.socket().with(|_| ()), None);
    connections.sweep();
    drop(seat);

    let Stand { wire, client: _client, seat: _seat, .. } = Stand::new().await;
    let state = wire.state();
    let _socket = wire.into_inner();
    assert_eq!(state.socket().with(|_| ()), None);
}
