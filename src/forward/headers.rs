//! Which headers go on to the other side, and which are between two neighbours only.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Meant for the next neighbour whether `Connection` names them or not. `Trailer` stays: it announces what follows the
/// body, and hyper sends only trailers that were announced.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Stay whatever `Connection` says. The first two say where the message goes and where it ends: without them it would be
/// another one. The others are a proxy's word about the client, which a client could have us take away that way: in the
/// place of its own address the proxy's would then stand.
const END_TO_END: [HeaderName; 7] = [
    HOST,
    CONTENT_LENGTH,
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-real-ip"),
];

/// Makes the client's headers those of the request to the app.
///
/// A `X-Forwarded-*` that is there stays as it is: the proxy before us has set it, and apps count its hops from the
/// right (SvelteKit's `XFF_DEPTH`) or compare it with `Origin` (Next's server actions).
pub(super) fn to_app(headers: &mut HeaderMap, peer: SocketAddr, upgrade: Option<&HeaderValue>) {
    let takes_trailers = headers.get_all(TE).iter().any(|value| has_token(value, "trailers"));
    remove_hop_by_hop(headers);
    // hyper answers 100 to the client as soon as the connection to the app asks for the body. Any other expectation is
    // the app's to refuse.
    if headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        headers.remove(EXPECT);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        keep_upgrade(headers, protocol.clone());
    }
    if !headers.contains_key(X_FORWARDED_FOR) {
        let address = peer.ip().to_canonical().to_string();
        headers.insert(X_FORWARDED_FOR, HeaderValue::try_from(address).expect("an address is plain ASCII"));
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// Removes what the app said to us alone.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Says that this message begins another protocol.
pub(super) fn keep_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Whether a comma-separated list holds `token`, in any letter case and with or without parameters.
pub(super) fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|item| {
        let item = item.split(|byte| *byte == b';').next().unwrap_or_default();
        item.trim_ascii().eq_ignore_ascii_case(token.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn hop_by_hop_headers_and_those_named_in_connection_are_removed() {
        let mut map = headers(&[
            ("host", "a"),
            ("connection", "close, X-Mine"),
            ("connection", "host,content-length, bad name"),
            ("x-mine", "1"),
            ("x-mine", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("content-length", "3"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("trailer", "x-sum"),
        ]);
        remove_hop_by_hop(&mut map);
        let mut left: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("content-length", "3"),
                ("host", "a"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("trailer", "x-sum")
            ]
        );
    }

    #[test]
    fn forwarded_headers_are_added_where_absent_and_left_alone_where_present() {
        let mut map = headers(&[("host", "app.example")]);
        to_app(&mut map, "[::ffff:192.0.2.7]:1234".parse().unwrap(), None);
        assert_eq!(map["x-forwarded-for"], "192.0.2.7");
        assert_eq!(map["x-forwarded-proto"], "http");
        assert_eq!(map["x-forwarded-host"], "app.example");

        let before = headers(&[
            ("host", "internal"),
            ("x-forwarded-for", "1.2.3.4, 5.6.7.8"),
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public"),
        ]);
        let mut map = before.clone();
        to_app(&mut map, "[2001:db8::1]:1234".parse().unwrap(), None);
        assert_eq!(map, before);
    }

    // Some proxies pass on the client's own `Connection`.
    #[test]
    fn a_client_cannot_take_away_what_the_proxy_says_of_it() {
        let mut map = headers(&[("host", "a"), ("x-forwarded-for", "1.2.3.4"), ("x-real-ip", "1.2.3.4")]);
        map.insert(CONNECTION, HeaderValue::from_static("X-Forwarded-For, x-real-ip, forwarded"));
        to_app(&mut map, "127.0.0.1:1".parse().unwrap(), None);
        assert_eq!(
            (&map["x-forwarded-for"], &map["x-real-ip"]),
            (&HeaderValue::from_static("1.2.3.4"), &HeaderValue::from_static("1.2.3.4"))
        );
    }

    #[test]
    fn only_the_expectation_that_we_meet_is_kept_from_the_app() {
        for (value, expected) in [("100-Continue", None), ("miracles", Some("miracles"))] {
            let mut map = headers(&[("expect", value)]);
            to_app(&mut map, "127.0.0.1:1".parse().unwrap(), None);
            assert_eq!(map.get(EXPECT).map(|value| value.to_str().unwrap()), expected);
        }
    }

    #[test]
    fn trailers_and_the_upgrade_survive() {
        let mut map = headers(&[("te", "gzip, Trailers;q=1"), ("connection", "TE, upgrade"), ("upgrade", "websocket")]);
        to_app(&mut map, "127.0.0.1:1".parse().unwrap(), Some(&HeaderValue::from_static("websocket")));
        assert_eq!(map["te"], "trailers");
        assert_eq!(map["connection"], "upgrade");
        assert_eq!(map["upgrade"], "websocket");
    }
}
