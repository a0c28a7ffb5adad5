use percent_encoding::percent_decode_str;
use proptest::prelude::*;

use super::*;

fn fill(target: &str, params: &[(&str, &str)]) -> Result<String, FillError> {
    let params = params.iter().copied().collect();
    Target::parse(target)
        .unwrap_or_else(|error| panic!("{target}: {error}"))
        .fill(&params)
        .map(|filled| filled.to_string())
}

#[test]
fn values_are_encoded_where_they_stand() {
    assert_eq!(fill("/api/videos/{id}", &[("id", "42")]).as_deref(), Ok("/api/videos/42"));
    assert_eq!(fill("/v/{id}.json", &[("id", "a b?c#d&e=f%2f")]).as_deref(), Ok("/v/a%20b%3Fc%23d%26e%3Df%252f.json"));
    assert_eq!(fill("/s?job={id}&x=1", &[("id", "ä&y=2")]).as_deref(), Ok("/s?job=%C3%A4%26y%3D2&x=1"));
    assert_eq!(fill("/{a}/{b}/{a}", &[("a", "1"), ("b", "2")]).as_deref(), Ok("/1/2/1"));
    assert_eq!(fill("/größe", &[]).as_deref(), Ok("/gr%C3%B6%C3%9Fe"));
}

#[test]
fn the_rest_keeps_its_slashes_in_the_path_only() {
    assert_eq!(fill("/f/{*rest}/status", &[("rest", "a/b c")]).as_deref(), Ok("/f/a/b%20c/status"));
    assert_eq!(fill("/f?key={*rest}", &[("rest", "a/b")]).as_deref(), Ok("/f?key=a%2Fb"));
}

#[test]
fn parameters_that_no_pattern_captured_are_refused() {
    assert_eq!(fill("/v/{id}", &[]), Err(FillError::Missing("id".to_owned())));
    for value in ["", ".", "..", "a/b", "a\\b", "a\nb", "\0"] {
        assert_eq!(fill("/v/{id}", &[("id", value)]), Err(FillError::Unsafe("id".to_owned())), "{value:?}");
    }
    for value in ["", "a//b", "a/../b", "/a", "a/"] {
        assert_eq!(fill("/v/{*id}", &[("id", value)]), Err(FillError::Unsafe("id".to_owned())), "{value:?}");
    }
    assert_eq!(fill("/v/{id}", &[("id", &"ä".repeat(20_000))]), Err(FillError::TooLong));
}

#[test]
fn the_target_may_be_the_path_itself() {
    for (path, target, same) in [
        ("/jobs/{id}", "/jobs/{id}", true),
        ("/jobs/{id}", "/jobs/{id}?fields=status", true),
        ("/jobs/{id}/live", "/jobs/{id}", false),
        ("/p?id={id}", "/p?x=1&id={id}", true),
        ("/p?id={id}", "/p/{id}", false),
        ("/p?stream=1&id={id}", "/p?id={id}", false),
    ] {
        let (path, target) = (PathPattern::parse(path).unwrap(), Target::parse(target).unwrap());
        assert_eq!(target.is_same_path(&path), same, "{} at {}", target.as_str(), path.as_str());
    }
}

proptest! {
    // Whatever a client puts into its path, the app is asked for the path that the operator named.
    #[test]
    fn a_captured_value_stays_in_its_segment(
        raw in prop_oneof!["[a-z0-9]{1,8}", "(%[0-9a-fA-F]{2}|[.a-z+~;:@!&=]){1,12}", "[^/?#]{1,20}"],
    ) {
        let pattern = PathPattern::parse("/in/{id}").unwrap();
        let Some(params) = pattern.matches(&format!("/in/{raw}"), None) else { return Ok(()) };
        let id = params.get("id").unwrap();

        let filled = Target::parse("/api/{id}/x").unwrap().fill(&params).unwrap();
        prop_assert_eq!(filled.query(), None);
        let segments: Vec<_> = filled.path().split('/').collect();
        prop_assert_eq!((segments.len(), segments[1], segments[3]), (4, "api", "x"));
        prop_assert!(segments[2].bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        prop_assert!(!matches!(&*percent_decode_str(segments[2]).collect::<Vec<_>>(), b"." | b".."));
        prop_assert_eq!(&*percent_decode_str(segments[2]).decode_utf8().unwrap(), id);

        let filled = Target::parse("/api/x?id={id}&y=1").unwrap().fill(&params).unwrap();
        prop_assert_eq!(filled.path(), "/api/x");
        let value = filled.query().unwrap().strip_prefix("id=").unwrap().strip_suffix("&y=1").unwrap();
        prop_assert!(!value.contains(['&', '=', '#', '?', '+', '/']));
        prop_assert_eq!(&*percent_decode_str(value).decode_utf8().unwrap(), id);
    }

    #[test]
    fn a_captured_rest_stays_below_its_place(raw in "(/?(%2[eEfF]|%5c|%00|[.a-c ]){0,4}){1,5}") {
        let pattern = PathPattern::parse("/in/{*rest}").unwrap();
        let Some(params) = pattern.matches(&format!("/in/{raw}"), None) else { return Ok(()) };
        let filled = Target::parse("/api/{*rest}/x").unwrap().fill(&params).unwrap();
        prop_assert_eq!(filled.path().split('/').count(), 3 + raw.split('/').count());
        prop_assert!(filled.path().split('/').skip(1).all(|segment| !is_dot_segment(segment) && !segment.is_empty()));
        let below = filled.path().strip_prefix("/api/").unwrap().strip_suffix("/x").unwrap();
        prop_assert_eq!(&*percent_decode_str(below).decode_utf8().unwrap(), params.get("rest").unwrap());
    }

    #[test]
    fn no_target_panics(text in "/?[{}*/?&=%a-c.:]{0,20}") {
        let _ = Target::parse(&text);
    }
}
