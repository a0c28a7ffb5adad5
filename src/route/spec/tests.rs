use proptest::prelude::*;

use super::*;

fn route(text: &str) -> Route {
    Route::parse(text, &RouteDefaults::usual()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn poll(route: &Route) -> &PollSpec {
    match &route.source {
        SourceSpec::Poll(poll) => poll,
        SourceSpec::Subscribe(_) => panic!("not polled"),
    }
}

fn subscribe(route: &Route) -> &SubscribeSpec {
    match &route.source {
        SourceSpec::Subscribe(subscribe) => subscribe,
        SourceSpec::Poll(_) => panic!("not subscribed"),
    }
}

#[test]
fn a_polled_route_needs_path_and_target_only() {
    let route = route("path=/api/progress/{id},poll=/api/videos/{id}");
    assert_eq!(route.path.as_str(), "/api/progress/{id}");
    assert_eq!((route.share, route.errors), (Share::Credentials, ErrorStyle::Event));
    assert_eq!((route.heartbeat, route.retry), (Duration::from_secs(15), Duration::from_secs(3)));
    assert_eq!((route.linger, route.max_age), (Duration::from_secs(10), Some(Duration::from_secs(600))));
    let poll = poll(&route);
    assert_eq!(poll.target.as_str(), "/api/videos/{id}");
    assert_eq!((poll.interval, poll.max_interval), (Duration::from_secs(1), Duration::from_secs(5)));
    assert_eq!(poll.timeout, Duration::from_secs(10));
    assert_eq!(poll.status, StatusRule { pointer: None, done: None });
    assert!(poll.template.is_none() && route.takes_any_accept());
}

#[test]
fn a_subscribed_route_may_keep_the_clients_path() {
    let route = route("path=/api/events,subscribe");
    assert_eq!(route.linger, Duration::from_secs(300));
    let subscribe = subscribe(&route);
    assert!(subscribe.target.is_none());
    assert_eq!((subscribe.replay, subscribe.greeting), (Replay::Missed, 0));
    assert_eq!((subscribe.begins_within, subscribe.timeout), (None, Duration::from_secs(10)));
}

#[test]
fn every_key_overrides_its_flag() {
    let polled = route(
        "path=/a, poll=/b, status=/data/status, done=ok | bad, share=public, errors=data, interval=2s, max-interval=4s, \
         timeout=3s, heartbeat=5s, linger=0, retry=1s, max-age=0",
    );
    assert_eq!((polled.share, polled.errors), (Share::Public, ErrorStyle::Data));
    assert_eq!((polled.heartbeat, polled.retry), (Duration::from_secs(5), Duration::from_secs(1)));
    assert_eq!((polled.linger, polled.max_age), (Duration::ZERO, None));
    let poll = poll(&polled);
    assert_eq!((poll.interval, poll.max_interval), (Duration::from_secs(2), Duration::from_secs(4)));
    assert_eq!(poll.timeout, Duration::from_secs(3));
    assert_eq!(poll.status.pointer.as_deref(), Some("/data/status"));
    assert_eq!(poll.status.done, Some(vec!["ok".to_owned(), "bad".to_owned()]));

    let subscribed = route("path=/a/{id},subscribe=/b?x={id},share=authorized,errors=off,replay=latest,greeting=2");
    assert_eq!((subscribed.share, subscribed.errors), (Share::Authorized, ErrorStyle::Off));
    let subscribe = subscribe(&subscribed);
    assert_eq!(subscribe.target.as_ref().map(Target::as_str), Some("/b?x={id}"));
    assert_eq!((subscribe.replay, subscribe.greeting), (Replay::Latest, 2));
}

#[test]
fn a_linger_of_the_flag_is_for_both_kinds() {
    let defaults = RouteDefaults { linger: Some(Duration::from_secs(7)), ..RouteDefaults::usual() };
    for (text, seconds) in [("path=/a,subscribe", 7), ("path=/a,poll=/b", 7), ("path=/a,poll=/b,linger=1s", 1)] {
        assert_eq!(Route::parse(text, &defaults).unwrap().linger, Duration::from_secs(seconds), "{text}");
    }
}

#[test]
fn a_backslash_keeps_a_comma_in_its_value() {
    let route = route(r"path=/a\,b,poll=/c?ids=1\,2,done=a\,b|c\\d");
    assert_eq!(route.path.as_str(), "/a,b");
    assert_eq!(poll(&route).target.as_str(), "/c?ids=1,2");
    assert_eq!(poll(&route).status.done, Some(vec!["a,b".to_owned(), r"c\d".to_owned()]));
    assert_eq!(unescape(r"C:\x\\y\;z\"), r"C:\x\y;z\");
}

#[test]
fn a_value_may_hold_an_equals_sign() {
    assert_eq!(poll(&route("path=/a?id={id},poll=/b?id={id}&x=1")).target.as_str(), "/b?id={id}&x=1");
}

#[test]
fn the_template_is_read_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"type": "$/status"}"#).unwrap();
    let route = route(&format!("path=/a,poll=/b,template={}", file.path().display()));
    assert!(poll(&route).template.is_some());
}

// There a request without a preference may be meant for the app's JSON.
#[test]
fn a_route_on_its_own_poll_target_takes_event_stream_requests_only() {
    assert!(!route("path=/jobs/{id},poll=/jobs/{id}").takes_any_accept());
    assert!(route("path=/jobs/{id}/live,poll=/jobs/{id}").takes_any_accept());
    assert!(route("path=/jobs/{id},subscribe").takes_any_accept());
}

proptest! {
    #[test]
    fn an_escaped_value_comes_back_whole(values in proptest::collection::vec("[a,;\\\\]{0,6}", 1..4)) {
        let escape = |value: &String| value.replace('\\', r"\\").replace(',', r"\,").replace(';', r"\;");
        let text = values.iter().map(escape).collect::<Vec<_>>().join(",");
        let back: Vec<_> = split_escaped(&text, |c| c == ',').into_iter().map(unescape).collect();
        prop_assert_eq!(back, values);
    }

    #[test]
    fn no_route_panics(text in "(path=/|poll=/|subscribe|done=|[a{}*,=|\\\\/?&]){0,12}") {
        let _ = Route::parse(&text, &RouteDefaults::usual());
    }
}
