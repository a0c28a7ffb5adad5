//! Which headers go on to the other side, and which are between two neighbours only.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Meant for the next neighbour whether `Connection` names them or not. `Trailer` stays: it announces what follows the
/// body, and hyper sends only trailers that were announced.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Stay whatever `Connection` says, and so does all that begins with [`END_TO_END_PREFIX`]. The first two say where the
/// message goes and where it ends: without them it would be another one. The others are a proxy's word about the client,
/// which a client could have us take away that way: in the place of its own address the proxy's would then stand.
static END_TO_END: [HeaderName; 4] = [HOST, CONTENT_LENGTH, FORWARDED, HeaderName::from_static("x-real-ip")];
/// Proxies say more of a client than who it is, where it came and how: `-Port`, `-Prefix`, `-User`, `-Client-Cert`.
const END_TO_END_PREFIX: &str = "x-forwarded-";

/// Which of the headers that matter here a message has. Found in one walk: to ask for each by name costs a hash of the name, and
/// most messages have next to none of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present(u16);

/// Makes the client's headers those of the request to the app. `peer` is the client's address.
///
/// A `X-Forwarded-*` that is there stays as it is: the proxy before us has set it, and apps count its hops from the
/// right (SvelteKit's `XFF_DEPTH`) or compare it with `Origin` (Next's server actions).
pub(super) fn to_app(headers: &mut HeaderMap, peer: &HeaderValue, upgrade: Option<&HeaderValue>) {
    let present = Present::of(headers);
    let takes_trailers =
        present.has(Present::TE) && headers.get_all(TE).iter().any(|value| has_token(value, "trailers"));
    let present = remove_present(headers, present);
    // hyper answers 100 to the client as soon as the connection to the app asks for the body. Any other expectation is
    // the app's to refuse.
    if present.has(Present::EXPECT)
        && headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        headers.remove(EXPECT);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        keep_upgrade(headers, protocol.clone());
    }
    if !present.has(Present::X_FORWARDED_FOR) {
        headers.insert(&X_FORWARDED_FOR, peer.clone());
    }
    if !present.has(Present::X_FORWARDED_PROTO) {
        headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !present.has(Present::X_FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(&X_FORWARDED_HOST, host);
    }
}

/// An address as the value of a header.
pub(super) fn address(peer: SocketAddr) -> HeaderValue {
    HeaderValue::try_from(peer.ip().to_canonical().to_string()).expect("an address is plain ASCII")
}

/// Removes what the app said to us alone.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_present(headers, Present::of(headers));
}

/// Removes what is for neighbours only, and tells what of the rest is left.
fn remove_present(headers: &mut HeaderMap, present: Present) -> Present {
    let mut left = present;
    if present.has(Present::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
            .filter(|name| !END_TO_END.contains(name) && !name.as_str().starts_with(END_TO_END_PREFIX))
            .collect();
        for name in &named {
            headers.remove(name);
        }
        left = Present::of(headers);
    }
    if left.has(Present::ANY_HOP_BY_HOP) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
    left
}

// === impl Present ===

impl Present {
    /// One of those between neighbours that are not asked for by themselves.
    const HOP_BY_HOP: Self = Self(1);
    const CONNECTION: Self = Self(1 << 1);
    const TE: Self = Self(1 << 2);
    pub(super) const TRANSFER_ENCODING: Self = Self(1 << 3);
    pub(super) const UPGRADE: Self = Self(1 << 4);
    const EXPECT: Self = Self(1 << 5);
    const X_FORWARDED_FOR: Self = Self(1 << 6);
    const X_FORWARDED_HOST: Self = Self(1 << 7);
    const X_FORWARDED_PROTO: Self = Self(1 << 8);
    const ANY_HOP_BY_HOP: Self =
        Self(Self::HOP_BY_HOP.0 | Self::CONNECTION.0 | Self::TE.0 | Self::TRANSFER_ENCODING.0 | Self::UPGRADE.0);

    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().map(|name| Self::is(name).0).fold(0, |all, one| all | one))
    }

    /// Whether there is one of `these`.
    pub(super) fn has(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }

    fn is(name: &HeaderName) -> Self {
        match name.as_str() {
            "connection" => Self::CONNECTION,
            "te" => Self::TE,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "upgrade" => Self::UPGRADE,
            "keep-alive" | "proxy-connection" | "proxy-authenticate" | "proxy-authorization" => Self::HOP_BY_HOP,
            "expect" => Self::EXPECT,
            "x-forwarded-for" => Self::X_FORWARDED_FOR,
            "x-forwarded-host" => Self::X_FORWARDED_HOST,
            "x-forwarded-proto" => Self::X_FORWARDED_PROTO,
            _ => Self(0),
        }
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
        to_app(&mut map, &address("[::ffff:192.0.2.7]:1234".parse().unwrap()), None);
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
        to_app(&mut map, &address("[2001:db8::1]:1234".parse().unwrap()), None);
        assert_eq!(map, before);
    }

    // Some proxies pass on the client's own `Connection`.
    #[test]
    fn a_client_cannot_take_away_what_the_proxy_says_of_it() {
        let said = [
            ("forwarded", "for=1.2.3.4"),
            ("host", "a"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-host", "a"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-user", "ann"),
            ("x-real-ip", "1.2.3.4"),
        ];
        let before = headers(&said);
        let mut map = before.clone();
        for (name, _) in said {
            map.append(CONNECTION, HeaderValue::from_static(name));
        }
        to_app(&mut map, &HeaderValue::from_static("127.0.0.1"), None);
        assert_eq!(map, before);
    }

    #[test]
    fn every_header_between_neighbours_is_looked_for() {
        for name in &HOP_BY_HOP {
            assert!(Present::is(name).has(Present::ANY_HOP_BY_HOP), "{name}");
        }
        assert!(!Present::is(&HOST).has(Present::ANY_HOP_BY_HOP));
    }

    /// What the client names in `Connection` is gone before it is asked whether it is there.
    #[test]
    fn an_expectation_that_is_named_in_connection_goes() {
        let mut map = headers(&[("connection", "expect, x-mine"), ("x-mine", "1"), ("expect", "100-continue")]);
        to_app(&mut map, &HeaderValue::from_static("192.0.2.7"), None);
        assert!(!map.contains_key(EXPECT) && !map.contains_key("x-mine") && !map.contains_key(CONNECTION));
    }

    #[test]
    fn only_the_expectation_that_we_meet_is_kept_from_the_app() {
        for (value, expected) in [("100-Continue", None), ("miracles", Some("miracles"))] {
            let mut map = headers(&[("expect", value)]);
            to_app(&mut map, &HeaderValue::from_static("127.0.0.1"), None);
            assert_eq!(map.get(EXPECT).map(|value| value.to_str().unwrap()), expected);
        }
    }

    #[test]
    fn trailers_and_the_upgrade_survive() {
        let mut map = headers(&[("te", "gzip, Trailers;q=1"), ("connection", "TE, upgrade"), ("upgrade", "websocket")]);
        to_app(&mut map, &HeaderValue::from_static("127.0.0.1"), Some(&HeaderValue::from_static("websocket")));
        assert_eq!(map["te"], "trailers");
        assert_eq!(map["connection"], "upgrade");
        assert_eq!(map["upgrade"], "websocket");
    }
}
