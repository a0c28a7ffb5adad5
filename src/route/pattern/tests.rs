use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> PathPattern {
    PathPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Matches a request target against a pattern; the captures as `name=value`, joined with spaces.
fn captured(pattern_text: &str, target: &str) -> Option<String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let params = pattern(pattern_text).matches(path, query)?;
    Some(params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
}

#[test]
fn literals_match_themselves_alone() {
    assert_eq!(captured("/api/events", "/api/events").as_deref(), Some(""));
    assert_eq!(captured("/api/events", "/api/events?x=1").as_deref(), Some(""));
    assert_eq!(captured("/", "/").as_deref(), Some(""));
    for other in ["/api/events/", "/api", "/api/event", "/api/Events", "//api/events", "/api/%65vents", "", "*"] {
        assert_eq!(captured("/api/events", other), None, "{other:?}");
    }
}

// Browsers send it encoded, so a pattern written as people write must be compared in that form.
#[test]
fn a_literal_beyond_ascii_matches_what_browsers_send() {
    assert_eq!(captured("/fortschritt/größe", "/fortschritt/gr%C3%B6%C3%9Fe").as_deref(), Some(""));
}

#[test]
fn a_parameter_is_one_segment_decoded_once() {
    assert_eq!(captured("/jobs/{id}", "/jobs/42").as_deref(), Some("id=42"));
    assert_eq!(captured("/jobs/{id}", "/jobs/a%20b").as_deref(), Some("id=a b"));
    assert_eq!(captured("/jobs/{id}", "/jobs/a+b").as_deref(), Some("id=a+b"));
    assert_eq!(captured("/jobs/{id}", "/jobs/%252e%252e").as_deref(), Some("id=%2e%2e"));
    assert_eq!(captured("/jobs/{id}", "/jobs/...").as_deref(), Some("id=..."));
    assert_eq!(captured("/{kind}/{id}/live", "/video/7/live").as_deref(), Some("kind=video id=7"));
    assert_eq!(captured("/jobs/{id}.json", "/jobs/7.json").as_deref(), Some("id=7"));
    assert_eq!(captured("/jobs/{id}", "/jobs/7/"), None);
    assert_eq!(captured("/jobs/{id}", "/jobs/7/8"), None);
    assert_eq!(captured("/jobs/{id}.json", "/jobs/.json"), None);
}

// Trap: a job id that climbs out of its path segment. Such a request is the app's, as it always was.
#[test]
fn a_value_that_could_leave_its_place_does_not_match() {
    for id in [
        "", ".", "..", "%2e", "%2E%2e", ".%2e", "a%2fb", "a%2Fb", "%2f", "a%5cb", "a\\b", "%00", "a%0ab", "%0d", "%7f",
        "%c2%85", "%ff", "%c3",
    ] {
        assert_eq!(captured("/jobs/{id}", &format!("/jobs/{id}")), None, "{id:?}");
        assert_eq!(captured("/jobs/{*rest}", &format!("/jobs/x/{id}")), None, "{id:?}");
        assert_eq!(captured("/jobs?id={id}", &format!("/jobs?id={id}")), None, "{id:?}");
    }
    assert_eq!(captured("/jobs?id={id}", "/jobs?id=a/b"), None);
}

#[test]
fn the_rest_is_one_or_more_segments() {
    assert_eq!(captured("/files/{*rest}", "/files/a").as_deref(), Some("rest=a"));
    assert_eq!(captured("/files/{*rest}", "/files/a/b%20c/d").as_deref(), Some("rest=a/b c/d"));
    assert_eq!(captured("/{*rest}", "/a/b").as_deref(), Some("rest=a/b"));
    for other in ["/files", "/files/", "/files/a/", "/files/a//b", "/files/a/../b", "/files/a/%2e%2e/b"] {
        assert_eq!(captured("/files/{*rest}", other), None, "{other:?}");
    }
}

#[test]
fn a_query_requirement_must_be_met_exactly_once() {
    let progress = "/api/progress?id={id}";
    assert_eq!(captured(progress, "/api/progress?id=7").as_deref(), Some("id=7"));
    assert_eq!(captured(progress, "/api/progress?lastEventId=x&id=7&t").as_deref(), Some("id=7"));
    assert_eq!(captured(progress, "/api/progress?%69d=a+b%26").as_deref(), Some("id=a b&"));
    for other in ["", "?", "?ids=7", "?id=", "?id", "?id=1&id=2", "?id=1&%69d=2", "?ID=1"] {
        assert_eq!(captured(progress, &format!("/api/progress{other}")), None, "{other:?}");
    }

    let typed = "/p?type=video&id={id}";
    assert_eq!(captured(typed, "/p?id=7&type=video").as_deref(), Some("id=7"));
    assert_eq!(captured(typed, "/p?id=7&type=audio"), None);
    assert_eq!(captured(typed, "/p?id=7"), None);
    assert_eq!(captured("/p?stream", "/p?a&stream").as_deref(), Some(""));
}

#[test]
fn names_come_in_the_order_of_the_text() {
    let pattern = pattern("/{kind}/{id}?page={page}&sort=up");
    assert_eq!(pattern.names().collect::<Vec<_>>(), ["kind", "id", "page"]);
    assert_eq!(pattern.as_str(), "/{kind}/{id}?page={page}&sort=up");
}

#[test]
fn patterns_overlap_when_some_request_matches_both() {
    for (one, other, overlap) in [
        ("/a", "/a", true),
        ("/a", "/b", false),
        ("/a", "/a/b", false),
        ("/a", "/a/", false),
        ("/jobs/{id}", "/jobs/{job}", true),
        ("/jobs/{id}", "/jobs/latest", true),
        ("/jobs/{id}", "/jobs/", false),
        ("/jobs/{id}", "/jobs/a%2Fb", false),
        ("/{a}/x", "/y/{b}", true),
        ("/{a}/x", "/{b}/y", false),
        ("/files/{*rest}", "/files/a/b", true),
        ("/files/{*rest}", "/files", false),
        ("/files/{*rest}", "/files/", false),
        ("/files/{*rest}", "/{*all}", true),
        ("/files/{*rest}", "/{x}/{y}", true),
        ("/files/{*rest}", "/other/{*rest}", false),
        ("/files/{*rest}", "/files/a//b", false),
        ("/jobs/{id}.json", "/jobs/{id}.xml", false),
        ("/jobs/{id}.json", "/jobs/{id}", true),
        ("/jobs/a{id}", "/jobs/{id}b", true),
        ("/jobs/a{id}", "/jobs/b{id}", false),
        ("/jobs/{id}.json", "/jobs/.json", false),
        ("/p?id={id}", "/p", true),
        ("/p?id={id}", "/p?job={id}", true),
        ("/p?type=video", "/p?type=audio", false),
        ("/p?type=video", "/p?type={t}", true),
        ("/p?type=", "/p?type={t}", false),
        ("/p?t=a+b", "/p?t=a%20b", true),
        ("/p?type=a&id={id}", "/p?id={id}&type=b", false),
        ("/p?type=a", "/q?type=a", false),
    ] {
        assert_eq!(pattern(one).overlaps(&pattern(other)), overlap, "{one} and {other}");
        assert_eq!(pattern(other).overlaps(&pattern(one)), overlap, "{other} and {one}");
    }
}

fn some_pattern() -> impl Strategy<Value = PathPattern> {
    let segment = prop_oneof!["[ab]{0,2}", Just("{P}".to_owned()), "[ab]?\\{P\\}[ab]?"];
    let query = prop_oneof![Just(String::new()), "\\?[xy]=[ab]?", Just("?x={q}".to_owned())];
    (proptest::collection::vec(segment, 1..4), proptest::option::of(Just("{*rest}".to_owned())), query).prop_map(
        |(segments, rest, query)| {
            let path: String = segments
                .into_iter()
                .chain(rest)
                .enumerate()
                .map(|(index, segment)| format!("/{}", segment.replace('P', &format!("p{index}"))))
                .collect();
            pattern(&(path + &query))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    // Two routes that the start let through never compete for a request.
    #[test]
    fn what_matches_both_patterns_is_an_overlap(
        one in some_pattern(),
        other in some_pattern(),
        path in "(/[ab]{0,3}){1,4}",
        query in proptest::option::of("[xy]=[ab]?(&[xy]=[ab]?)?"),
    ) {
        let query = query.as_deref();
        if one.matches(&path, query).is_some() && other.matches(&path, query).is_some() {
            prop_assert!(one.overlaps(&other), "{} and {} both match {path}?{query:?}", one.as_str(), other.as_str());
        }
        prop_assert_eq!(one.overlaps(&other), other.overlaps(&one));
        prop_assert!(one.overlaps(&one.clone()));
    }

    #[test]
    fn no_request_panics_and_every_capture_is_safe(path in "/.*", query in proptest::option::of(".*")) {
        for text in ["/{a}", "/{a}/{b}", "/{*rest}", "/x{a}", "/?q={q}"] {
            for (name, value) in pattern(text).matches(&path, query.as_deref()).iter().flat_map(Params::iter) {
                let mut parts = value.split('/');
                prop_assert!(parts.all(is_safe), "{name}={value:?} from {path:?}");
            }
        }
    }

    #[test]
    fn no_pattern_panics(text in "/?[{}*/?&=%a-c.]{0,20}") {
        let _ = PathPattern::parse(&text);
    }
}
