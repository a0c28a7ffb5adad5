//! What all sources share, and the ground on which each is tested.

use http::HeaderMap;

use super::*;
use crate::{hub::tests::Bench, route::RouteDefaults};

/// What the sources share of one route with the given `--route` text, whose app is at `app`.
pub(super) fn shared(bench: &Bench, route: &str, app: &str) -> Arc<Shared> {
    shared_before(bench, route, Upstream::new(app.parse().unwrap()))
}

/// The same, whose app is behind `upstream`.
pub(super) fn shared_before(bench: &Bench, route: &str, upstream: Upstream) -> Arc<Shared> {
    let defaults = RouteDefaults::usual();
    let route = Route::parse(route, &defaults).unwrap();
    let grace = Duration::from_secs(3);
    Sources::new(
        vec![route].into(),
        upstream,
        Schedule::new(1, Arc::clone(&bench.metrics)),
        grace,
        Arc::clone(&bench.metrics),
    )
    .0
}

// 5xx and its kin never reach a client that could wait; the app's own decisions always do.
#[test]
fn every_status_is_an_answer_a_decision_or_trouble() {
    let decision = |status: u16| {
        let mut answer = http::Response::new(());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/results/v1"));
        Decision::of(&answer, &PathAndQuery::from_static("/jobs/v1"))
    };
    for (statuses, expected) in [
        (&[200, 201, 202, 204][..], Decision::Yes),
        (&[304], Decision::Unchanged),
        (&[401, 403], Decision::Denied),
        (&[404, 410], Decision::Missing),
        (&[302, 303], Decision::Elsewhere),
        (&[301, 307, 308, 400, 405, 406, 422], Decision::No),
        (&[408, 425, 429, 500, 502, 503, 504, 599, 101], Decision::Trouble),
    ] {
        for status in statuses {
            assert_eq!(decision(*status), expected, "{status}");
        }
    }
}

// A session that expires must not look like a job that has finished.
#[test]
fn a_redirect_to_a_login_page_is_a_denial_whatever_its_status() {
    for status in [301, 302, 303, 307, 308] {
        let answer = http::Response::builder().status(status).header(header::LOCATION, "/login?next=%2F").body(());
        let decision = Decision::of(&answer.unwrap(), &PathAndQuery::from_static("/jobs/v1"));
        assert_eq!(decision, Decision::Denied, "{status}");
    }
}

#[test]
fn retry_after_is_read_in_both_forms_and_never_believed_beyond_an_hour() {
    let after = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    };
    let hour = Duration::from_secs(3600);
    assert_eq!(after("7"), Some(Duration::from_secs(7)));
    assert_eq!(after(" 0 "), Some(Duration::ZERO));
    assert_eq!(after("86400"), Some(hour));
    assert_eq!(after("99999999999999999999"), None);
    assert_eq!(after("soon"), None);
    assert_eq!(after("-1"), None);
    let now = std::time::SystemTime::now();
    assert_eq!(after(&httpdate::fmt_http_date(now - hour)), None, "the past asks for nothing");
    let soon = after(&httpdate::fmt_http_date(now + Duration::from_secs(60))).unwrap();
    assert!((58..=60).contains(&soon.as_secs()), "{soon:?}");
    assert_eq!(after(&httpdate::fmt_http_date(now + hour * 2)), Some(hour));
    assert_eq!(retry_after(&HeaderMap::new()), None);
}
