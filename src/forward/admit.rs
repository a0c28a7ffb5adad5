//! Which requests are served at all: those that leave no doubt about their length, their host and their target.

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, uri::Authority};

use super::body::ResponseBody;
use crate::wire::{Disagreement, WireState};

/// Looks at the request that hyper has just called the service with, before anything else does. To be called exactly
/// once for each request of a connection, because the wire's verdicts are taken in their order.
///
/// # Errors
/// When the request disagrees with itself (RFC 9112, sections 3.2 and 6.3): the next server might take it for another
/// one. The only right answer is [`refuse`]'s.
pub fn admit<B>(request: &Request<B>, wire: &WireState) -> Result<(), Disagreement> {
    wire.take_verdict()?;
    check_host(request.version(), request.headers(), request.uri())?;
    check_target(request.method(), request.uri())
}

/// The answer to a request that was not admitted: 400, or 431 if its head is too large, as hyper has it; and the end of the connection, because what follows on it
/// might be the rest of that request.
pub fn refuse(disagreement: Disagreement) -> Response<ResponseBody> {
    tracing::debug!(reason = %disagreement, "request refused");
    let status = match disagreement {
        Disagreement::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut response = ResponseBody::plain(status, format!("bad request: {disagreement}\n"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn check_host(version: Version, headers: &HeaderMap, target: &Uri) -> Result<(), Disagreement> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Disagreement::TwoHosts),
        (None, _) if version == Version::HTTP_10 => return Ok(()),
        (None, _) => return Err(Disagreement::NoHost),
        // Nearly every request: nothing to compare with, and nothing that could be read in two ways.
        (Some(host), None) if target.authority().is_none() && is_simple(host.as_bytes()) => return Ok(()),
        (Some(host), None) => authority(host.as_bytes()).ok_or(Disagreement::Host)?,
    };
    match target.authority() {
        Some(named) if !is_same(named, &host) => Err(Disagreement::Host),
        _ => Ok(()),
    }
}

/// A name or an IPv4 address with or without a port, in plain letters: what [`authority`] would take for certain.
fn is_simple(host: &[u8]) -> bool {
    let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
    let (name, port) = host.split_at(end);
    !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        // Four digits can't be too many.
        && port.len() <= ":9999".len()
        && port.iter().skip(1).all(u8::is_ascii_digit)
}

/// A host with or without a port. `Authority` alone would let user names and lists pass.
fn authority(host: &[u8]) -> Option<Authority> {
    let is_plain = !host.iter().any(|byte| matches!(byte, b'@' | b',' | b'/' | b'\\'));
    let authority = Authority::try_from(host).ok().filter(|_| is_plain)?;
    let port = authority.as_str().strip_prefix(authority.host())?;
    // `Authority` takes ports over 65,535, and says then that there is none.
    let is_port = match port.strip_prefix(':') {
        Some("") => true,
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    (is_port && !authority.host().is_empty()).then_some(authority)
}

/// Equal but for letter case and a spelled-out default port.
fn is_same(named: &Authority, host: &Authority) -> bool {
    fn port(authority: &Authority) -> u16 {
        authority.port_u16().unwrap_or(80)
    }
    let is_plain = authority(named.as_str().as_bytes()).is_some();
    is_plain && named.host().eq_ignore_ascii_case(host.host()) && port(named) == port(host)
}

fn check_target(method: &Method, target: &Uri) -> Result<(), Disagreement> {
    let is_web = target.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    let is_fit = match target.path() {
        // A host and port alone: what CONNECT asks for, and nothing else does.
        "" => *method == Method::CONNECT,
        "*" => *method == Method::OPTIONS,
        path => path.starts_with('/'),
    };
    if is_web && is_fit { Ok(()) } else { Err(Disagreement::Target) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(version: Version, hosts: &[&str], target: &str) -> Result<(), Disagreement> {
        let headers = hosts.iter().map(|host| (header::HOST, host.parse().unwrap())).collect::<Vec<_>>();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        check_host(version, &map, &target.parse().unwrap())
    }

    #[test]
    fn one_plain_host_is_needed() {
        for good in ["a.example", "A:8080", "127.0.0.1:80", "[::1]:3000", "[::1]", "localhost:"] {
            assert_eq!(host(Version::HTTP_11, &[good], "/"), Ok(()), "{good}");
        }
        for bad in
            ["", "a, b", "a,b", "u@a", "a b", "a/b", "a:b", "a:1:2", ":80", "a\\b", "[::1", "a?b", "a#b", "a:99999"]
        {
            assert_eq!(host(Version::HTTP_11, &[bad], "/"), Err(Disagreement::Host), "{bad:?}");
        }
        assert_eq!(host(Version::HTTP_11, &[], "/"), Err(Disagreement::NoHost));
        assert_eq!(host(Version::HTTP_10, &[], "/"), Ok(()));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(host(version, &["a", "a"], "/"), Err(Disagreement::TwoHosts));
        }
    }

    #[test]
    fn what_is_taken_at_a_glance_is_what_a_closer_look_takes() {
        let hosts = ["a.example", "A:8080", "127.0.0.1:80", "localhost:", "a-b.c:9999", "x:0080"];
        for host in hosts {
            assert!(is_simple(host.as_bytes()) && authority(host.as_bytes()).is_some(), "{host}");
        }
        for odd in ["", ":80", "a:b", "a:1:2", "[::1]", "a_b", "a b", "a,b", "u@a", "a:12345", "\u{e9}"] {
            assert!(!is_simple(odd.as_bytes()), "{odd:?}");
        }
    }

    #[test]
    fn an_absolute_target_must_name_the_same_host() {
        for (named, target) in
            [("a", "http://a/x"), ("A.b", "http://a.B/"), ("a:80", "http://a/"), ("a:8080", "http://a:8080")]
        {
            assert_eq!(host(Version::HTTP_11, &[named], target), Ok(()), "{named} {target}");
        }
        for (named, target) in [
            ("a", "http://b/x"),
            ("a", "http://a:8080/"),
            ("a:81", "http://a/"),
            ("a", "http://u:p@a/"),
            ("a", "http://a:99999/"),
        ] {
            assert_eq!(host(Version::HTTP_11, &[named], target), Err(Disagreement::Host), "{named} {target}");
        }
    }

    #[test]
    fn odd_targets_are_refused() {
        let fit = |method: Method, target: &str| check_target(&method, &target.parse().unwrap()).is_ok();
        assert!(fit(Method::GET, "//a/../b?c") && fit(Method::OPTIONS, "*") && fit(Method::CONNECT, "a:443"));
        assert!(fit(Method::GET, "http://a") && fit(Method::GET, "https://a/b"));
        assert!(!fit(Method::GET, "*") && !fit(Method::GET, "a:443") && !fit(Method::GET, "ftp://a/"));
    }
}
