//! The grammar of routes, and what a request's path makes of them.

use percent_encoding::percent_decode_str;

use crate::route::{FillError, Params, PathPattern, Route, RouteDefaults, SourceSpec, Target, split_specs};

/// Any text is a route or a sentence about why it is none; a route that is one stays one.
pub fn route(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let pieces: Vec<_> = split_specs(text).collect();
    assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.trim() == *piece), "{pieces:?}");
    // It would be read, and there are files that never end.
    if text.contains("template") {
        return;
    }
    let defaults = RouteDefaults::usual();
    match Route::parse(text, &defaults) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(route) => {
            assert!(!route.heartbeat.is_zero() && !route.retry.is_zero());
            assert_eq!(PathPattern::parse(route.path.as_str()).as_ref(), Ok(&route.path));
            assert!(route.path.overlaps(&route.path), "some request matches {}", route.path.as_str());
            let target = match &route.source {
                SourceSpec::Poll(poll) => {
                    assert!(!poll.interval.is_zero() && poll.interval <= poll.max_interval);
                    Some(&poll.target)
                }
                SourceSpec::Subscribe(subscribe) => subscribe.target.as_ref(),
            };
            if let Some(target) = target {
                let sample: Params = route.path.names().map(|name| (name, "x")).collect();
                assert!(target.fill(&sample).is_ok(), "{} names what the path captures", target.as_str());
            }
        }
    }
}

/// What a request puts into its path stays in its place in the target: a pattern, a target and the request's path and
/// query, a line each.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (Some(pattern), Some(target), Some(asked)) = (lines.next(), lines.next(), lines.next()) else { return };
    let Ok(pattern) = PathPattern::parse(pattern) else { return };
    let (asked_path, asked_query) = match asked.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (asked, None),
    };
    let Some(params) = pattern.matches(asked_path, asked_query) else { return };

    assert!(params.iter().map(|(name, _)| name).eq(pattern.names()));
    let is_safe = |value: &str| {
        !matches!(value, "" | "." | "..") && !value.contains(['/', '\\']) && !value.contains(char::is_control)
    };
    for (name, value) in params.iter() {
        let is_rest = pattern.rest_name() == Some(name);
        let safe = if is_rest { value.split('/').all(is_safe) } else { is_safe(value) };
        assert!(safe, "{name} is {value:?}");
    }

    // The pattern as a target leads back to the same request, as far as it is ours.
    if let Ok(own) = Target::parse(pattern.as_str()) {
        match own.fill(&params) {
            Ok(filled) => {
                check_places(&own, &params, &filled);
                assert_eq!(pattern.matches(filled.path(), filled.query()).as_ref(), Some(&params), "{filled}");
            }
            Err(error) => assert_eq!(error, FillError::TooLong),
        }
    }
    if let Ok(target) = Target::parse(target) {
        match target.fill(&params) {
            Ok(filled) => check_places(&target, &params, &filled),
            // A rest that is asked for as one segment is refused when the route is read.
            Err(error) => assert!(matches!(error, FillError::Missing(_) | FillError::TooLong | FillError::Unsafe(_))),
        }
    }
}

/// The filled target has the separators that it has with harmless values in the same places, and no dot segments.
fn check_places(target: &Target, params: &Params, filled: &http::uri::PathAndQuery) {
    let harmless = |value: &str| value.split('/').map(|_| "x").collect::<Vec<_>>().join("/");
    let harmless: Params = params.iter().map(|(name, value)| (name, harmless(value))).collect();
    let sample = target.fill(&harmless).expect("it could be filled with more");
    let separators = |text: &str| text.replace(|c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c), "");
    assert_eq!(separators(filled.as_str()), separators(sample.as_str()), "{filled}");
    assert_eq!(filled.query().is_some(), sample.query().is_some());
    for segment in filled.path().split('/') {
        let decoded = percent_decode_str(segment).collect::<Vec<_>>();
        assert!(!matches!(&*decoded, b"." | b".."), "{filled} climbs");
    }
}
