//! Decides what a request is: a stream of one of the routes, or something to forward.

use http::{HeaderMap, HeaderValue, Method, Uri, header, uri::PathAndQuery};

use crate::{
    metrics::RouteId,
    route::{Params, Route},
};

/// The query parameter in which clients that can't set headers send their last event id.
const LAST_EVENT_ID: &str = "lastEventId";

/// A request that is a stream's.
#[derive(Debug)]
pub struct StreamRequest {
    /// Its route.
    pub route: RouteId,
    /// The parameters in its path.
    pub params: Params,
}

/// The stream that a request asks for, if it does.
///
/// Only a GET (or a HEAD, which asks about one) on the path of a route does, and only if it wants an event stream: it says
/// so, or it has no preference and the path is not also the status endpoint, where a plain `fetch` wants the JSON. A browser's
/// handshake for a WebSocket has no preference either, and is the app's.
pub fn stream_request(routes: &[Route], method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<StreamRequest> {
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    let (index, params) = routes
        .iter()
        .enumerate()
        .find_map(|(index, route)| Some((index, route.path.matches(uri.path(), uri.query())?)))?;
    let wants = match preference(headers) {
        Preference::EventStream => true,
        Preference::None => routes[index].takes_any_accept() && !wants_websocket(headers),
        Preference::Other => false,
    };
    wants.then_some(StreamRequest { route: RouteId(index), params })
}

#[derive(Debug, PartialEq)]
enum Preference {
    EventStream,
    None,
    Other,
}

/// What `Accept` prefers, all its lines together. Where two of its ranges cover event streams the more exact one counts (RFC
/// 9110, section 12.5.1).
fn preference(headers: &HeaderMap) -> Preference {
    let [mut exact, mut text, mut any, mut other] = [None; 4];
    for (range, is_accepted) in headers.get_all(header::ACCEPT).iter().flat_map(ranges) {
        let said = match range {
            Range::EventStream => &mut exact,
            Range::Text => &mut text,
            Range::Any => &mut any,
            Range::Other => &mut other,
        };
        *said = Some(is_accepted || *said == Some(true));
    }
    match exact.or(text) {
        Some(true) => Preference::EventStream,
        None if any == Some(true) && other != Some(true) => Preference::None,
        // It says nothing at all.
        None if (any, other) == (None, None) => Preference::None,
        // It refuses them, or names others only.
        Some(false) | None => Preference::Other,
    }
}

/// Whether a client says that it reads event streams.
pub fn names_event_stream(headers: &HeaderMap) -> bool {
    preference(headers) == Preference::EventStream
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    let protocols =
        headers.get_all(header::UPGRADE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    protocols.into_iter().any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

enum Range {
    EventStream,
    Text,
    Any,
    Other,
}

/// The media ranges of one `Accept` line, and whether each is acceptable at all: `q=0` means not.
fn ranges(value: &HeaderValue) -> impl Iterator<Item = (Range, bool)> {
    let text = value.to_str().unwrap_or_default();
    text.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().filter(|media| !media.is_empty())?;
        let refused = parts.any(|parameter| {
            parameter
                .split_once('=')
                .is_some_and(|(name, q)| name.trim().eq_ignore_ascii_case("q") && q.trim().parse() == Ok(0.0_f32))
        });
        let range = match media.to_ascii_lowercase().as_str() {
            "text/event-stream" => Range::EventStream,
            "text/*" => Range::Text,
            "*/*" => Range::Any,
            _ => Range::Other,
        };
        Some((range, !refused))
    })
}

/// The last event id in a query, decoded.
pub fn last_event_id_in(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(LAST_EVENT_ID)?.strip_prefix('='))?;
    // In a query a plus is a space; ids made by programs hold neither.
    percent_encoding::percent_decode_str(value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// A client's own path and query as the app should see it: without the last event id, which differs from one
/// reconnection to the next and would make each a topic of its own.
pub fn without_last_event_id(uri: &Uri) -> Option<PathAndQuery> {
    let Some(query) = uri.query() else { return uri.path_and_query().cloned() };
    let kept: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.strip_prefix(LAST_EVENT_ID).is_some_and(|rest| rest.starts_with('=')))
        .collect();
    let path = uri.path();
    let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    PathAndQuery::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (header::ACCEPT, HeaderValue::from_static(line))).collect()
    }

    fn preference_of(accept: &'static str) -> Preference {
        preference(&accepting(&[accept]))
    }

    // RFC 9110, section 5.3: several lines are one list.
    #[test]
    fn several_accept_lines_count_together() {
        assert!(names_event_stream(&accepting(&["application/json", "text/event-stream"])));
        assert_eq!(preference(&accepting(&["application/json", "*/*"])), Preference::Other);
        assert_eq!(preference(&accepting(&["", "*/*"])), Preference::None);
        assert_eq!(preference(&accepting(&["text/*", "text/event-stream;q=0"])), Preference::Other);
    }

    #[test]
    fn what_is_refused_is_no_wish() {
        for refused in ["text/event-stream;q=0", "text/event-stream; Q=0.000, */*", "text/*;q=0", "*/*;q=0"] {
            assert_eq!(preference_of(refused), Preference::Other, "{refused}");
            assert!(!names_event_stream(&accepting(&[refused])), "{refused}");
        }
        assert_eq!(preference_of("text/html;q=0, */*"), Preference::None);
        assert_eq!(preference_of("text/*;q=0, text/event-stream"), Preference::EventStream);
        assert_eq!(preference_of("text/*"), Preference::EventStream);
    }

    #[test]
    fn a_websocket_is_a_stream_only_to_who_names_event_streams() {
        let routes = ["--route", "path=/live/{id},subscribe"];
        let routes = crate::config::Config::from_args(routes).unwrap().routes;
        let is_stream = |lines: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            stream_request(&routes, &Method::GET, &Uri::from_static("/live/1"), &headers).is_some()
        };
        assert!(is_stream(&[]) && is_stream(&[("accept", "*/*")]));
        assert!(!is_stream(&[("upgrade", "websocket")]));
        assert!(!is_stream(&[("upgrade", "h2c, WebSocket"), ("accept", "*/*")]));
        assert!(is_stream(&[("upgrade", "websocket"), ("accept", "text/event-stream")]));
        assert!(is_stream(&[("upgrade", "h2c")]), "nobody takes that on");
    }

    #[test]
    fn an_event_source_is_told_from_a_fetch_and_from_a_browser_that_navigates() {
        assert_eq!(preference_of("text/event-stream"), Preference::EventStream);
        assert_eq!(preference_of("application/json, Text/Event-Stream;q=0.5"), Preference::EventStream);
        assert_eq!(preference_of("*/*"), Preference::None);
        assert_eq!(preference(&HeaderMap::new()), Preference::None);
        assert_eq!(preference_of("application/json"), Preference::Other);
        assert_eq!(preference_of("text/html,application/xhtml+xml,*/*;q=0.8"), Preference::Other);
        assert_eq!(preference_of("text/event-stream;q=0, application/json"), Preference::Other);
        assert_eq!(preference_of(""), Preference::None);
    }

    #[test]
    fn the_last_event_id_is_read_from_the_query_and_taken_out_of_it() {
        assert_eq!(last_event_id_in("a=1&lastEventId=x%20y&b=2").as_deref(), Some("x y"));
        assert_eq!(last_event_id_in("lastEventIdentity=1"), None);

        let kept = |uri: &'static str| without_last_event_id(&Uri::from_static(uri)).unwrap().to_string();
        assert_eq!(kept("/s?a=1&lastEventId=7&b=%2F"), "/s?a=1&b=%2F");
        assert_eq!(kept("/s?lastEventId=7"), "/s");
        assert_eq!(kept("/s"), "/s");
    }
}
