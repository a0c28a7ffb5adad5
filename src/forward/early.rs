//! Informational answers (103 Early Hints, 102 Processing) on their way to the client.

use std::sync::Arc;

use http::{HeaderMap, Request, StatusCode, header};

use super::headers;
use crate::wire::WireState;

/// Has the informational heads of the answer to `request` sent to the client, as long as it is `turn`'s.
pub(super) fn relay<B>(request: &mut Request<B>, wire: &Arc<WireState>, turn: u32) {
    let wire = Arc::clone(wire);
    hyper::ext::on_informational(request, move |head| {
        // To 100 the client's own hyper connection has the answer, and 101 never comes here.
        if head.status() != StatusCode::CONTINUE && head.status() != StatusCode::SWITCHING_PROTOCOLS {
            wire.offer_early(turn, &encode(head.status(), head.headers().clone()));
        }
    });
}

/// hyper's parser has let no line end into a name or value, so they can be written as they are.
fn encode(status: StatusCode, mut map: HeaderMap) -> Vec<u8> {
    headers::remove_hop_by_hop(&mut map);
    // An informational answer has no body (RFC 9110, section 8.6).
    map.remove(header::CONTENT_LENGTH);
    let mut head =
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()).into_bytes();
    for (name, value) in &map {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_head_is_written_without_what_was_for_us_alone() {
        let mut map = HeaderMap::new();
        for (name, value) in [("link", "</a>"), ("link", "</b>"), ("keep-alive", "x"), ("content-length", "3")] {
            map.append(name, HeaderValue::from_static(value));
        }
        let text = String::from_utf8(encode(StatusCode::EARLY_HINTS, map)).unwrap();
        assert_eq!(text, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n");
    }
}
