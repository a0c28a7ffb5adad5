//! What is the canary's, and who gets it.

use super::*;
use crate::{connections::Limits, hub::tests::Bench};

fn canary() -> (Arc<Canary>, Arc<Connections>, Bench) {
    let bench = Bench::new(1);
    let limits = Limits { connections: 1, per_ip: 1, stale_after: NEVER, reap_after: NEVER };
    let connections = Connections::new(limits, Arc::clone(&bench.metrics));
    (Canary::new(&connections, &bench.metrics), connections, bench)
}

#[tokio::test]
async fn a_path_is_good_once_and_only_while_it_is_flown() {
    let (canary, _, _bench) = canary();
    let (word, path) = ("0123", format!("{PREFIX}0123"));
    assert!(canary.claim(&path).is_none(), "nothing is under way");

    *canary.expected() = Some(word.into());
    for other in ["/", "/0123", PREFIX, &format!("{PREFIX}0124"), &format!("{path}/"), &path.to_uppercase()] {
        assert!(canary.claim(other).is_none(), "{other}");
    }
    assert!(canary.claim(&path).is_some());
    assert!(canary.claim(&path).is_none(), "a second time");
}

// A limit of one stream has room for that one, whatever the canary does; and nobody's drain waits for it.
#[tokio::test]
async fn its_streams_take_nobodys_place() {
    let (canary, connections, bench) = canary();
    *canary.expected() = Some("0123".into());
    let mut live = canary.claim(&format!("{PREFIX}0123")).unwrap();
    live.permit.open();
    assert_eq!((connections.len(), live.permit.drain_at()), (0, None));
    assert!(connections.permit(RouteId(0), Ipv4Addr::LOCALHOST.into(), Transport::Http1).is_ok());
    drop(live);

    assert!(connections.is_empty());
    assert!(bench.metrics.shown().all(|route| bench.metrics.route(route).opened_count() == 0));
    assert_eq!(bench.metrics.route(bench.metrics.canary()).opened_count(), 1);
}

// What answers there is not us: the port was taken over, or a proxy stands on it.
#[tokio::test]
async fn anothers_answer_is_a_fault() {
    let (canary, _, _bench) = canary();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let other = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        socket
    });
    let flown = canary.fly(addr).await;
    assert!(matches!(flown, Err(Fault::Failed(_))), "{flown:?}");
    drop(other.await.unwrap());
    let flown = canary.fly(addr).await;
    assert!(matches!(flown, Err(Fault::Failed(_))), "nobody listens: {flown:?}");
}

#[test]
fn a_listener_is_reached_where_it_listens() {
    for (addr, expected) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.1:1", "192.0.2.1:1")] {
        assert_eq!(knock_at(addr.parse().unwrap()).to_string(), expected);
    }
}
