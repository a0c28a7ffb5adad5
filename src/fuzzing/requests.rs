//! The bytes, addresses and queries of requests.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderValue, Uri};
use ipnet::IpNet;

use super::Cut;
use crate::{
    router, server,
    wire::framing::{Disagreement, Observer},
};

/// The verdicts on a connection's requests don't depend on how its bytes came, and a disagreement is the last of them.
pub fn framing(data: &[u8]) {
    let Some(cut) = Cut::new(data) else { return };
    let whole = observe([cut.stream]);
    assert_eq!(whole, observe(cut.chunks()), "cut into chunks");
    assert_eq!(whole, observe(cut.stream.chunks(1)), "byte by byte");
    let (verdicts, is_running, is_between) = whole;
    if let Some(at) = verdicts.iter().position(Result::is_err) {
        assert_eq!(at, verdicts.len() - 1, "a verdict came after a disagreement");
        assert!(!is_running);
    }
    assert!(is_running || !is_between, "between requests, though no more are followed");
}

fn observe<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Result<(), Disagreement>>, bool, bool) {
    let mut observer = Observer::new();
    let mut verdicts = Vec::new();
    for chunk in chunks {
        observer.push(chunk, |verdict| verdicts.push(verdict));
    }
    (verdicts, observer.is_running(), observer.is_between_requests())
}

/// A client can't choose the address that it counts under. The first byte chooses the peer; each line is a header.
pub fn client_ip(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network")).into();
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    let peer: IpAddr = match choice % 3 {
        0 => Ipv4Addr::new(10, 0, 0, 1).into(),
        1 => Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into(),
        _ => Ipv4Addr::new(9, 9, 9, 9).into(),
    };
    let lines: Vec<_> =
        text.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let ask = |lines: &[HeaderValue]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.clone());
        }
        server::client_ip(peer, &headers, &trusted)
    };
    let found = ask(&lines);
    if !is_trusted(&peer.to_canonical()) {
        assert_eq!(found, peer, "a peer that is no proxy was believed");
        return;
    }
    assert_eq!(found, found.to_canonical(), "one address counts as two");
    // What the client sends stands in front of what our proxies add.
    if !is_trusted(&found) {
        for invented in ["6.6.6.6", "10.6.6.6", "6.6.6.6, 7.7.7.7", "junk", ""] {
            let invented = [&[HeaderValue::from_static(invented)], &lines[..]].concat();
            assert_eq!(ask(&invented), found, "the client chose its address");
        }
    }
}

/// `lastEventId` is taken out of a query, all of it, and nothing else is.
pub fn query(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    let Some(without) = router::without_last_event_id(&uri) else { return };
    assert_eq!(without.path(), uri.path());
    assert_eq!(without.query().and_then(router::last_event_id_in), None, "{without}");
    let is_kept = |pair: &&str| !pair.starts_with("lastEventId=");
    let kept: Vec<_> = uri.query().into_iter().flat_map(|query| query.split('&')).filter(is_kept).collect();
    let left: Vec<_> = without.query().into_iter().flat_map(|query| query.split('&')).collect();
    assert_eq!(left, kept, "of {uri}");
}
