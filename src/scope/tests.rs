use super::*;

pub(super) fn scopes() -> Scopes {
    Scopes::new(vec![header::COOKIE, header::AUTHORIZATION])
}

pub(super) fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

#[test]
fn the_same_credentials_are_one_scope_and_others_are_not() {
    let scopes = scopes();
    let scope = |pairs: &[(&'static str, &'static str)]| scopes.with_credentials(&headers(pairs)).0;

    assert_eq!(scope(&[("cookie", "s=a"), ("accept", "x")]), scope(&[("cookie", "s=a"), ("accept", "y")]));
    assert_ne!(scope(&[("cookie", "s=a")]), scope(&[("cookie", "s=b")]));
    assert_ne!(scope(&[("cookie", "s=a")]), scope(&[]));
    assert_ne!(scope(&[("cookie", "s=a")]), scope(&[("authorization", "s=a")]));
}

// Two header lines and one line that holds both texts reach the app differently, so they are different people.
#[test]
fn duplicates_can_not_pretend_to_be_one_value() {
    let scopes = scopes();
    let scope = |pairs: &[(&'static str, &'static str)]| scopes.with_credentials(&headers(pairs)).0;

    assert_ne!(scope(&[("cookie", "a"), ("cookie", "b")]), scope(&[("cookie", "a; b")]));
    assert_ne!(scope(&[("cookie", "a"), ("cookie", "b")]), scope(&[("cookie", "b"), ("cookie", "a")]));
    assert_ne!(scope(&[("cookie", "ab"), ("cookie", "")]), scope(&[("cookie", "a"), ("cookie", "b")]));
}

#[test]
fn tenants_of_one_app_never_share_even_without_credentials() {
    let scopes = scopes();
    let public = |host: &'static str| scopes.without_credentials(&headers(&[("host", host), ("cookie", "s=a")])).0;

    assert_ne!(public("a.example"), public("b.example"));
    assert_eq!(public("a.example"), public("a.example"));
}

#[test]
fn public_identities_carry_no_credentials() {
    let (_, identity) = scopes().without_credentials(&headers(&[("host", "h"), ("cookie", "s=a")]));
    let mut out = HeaderMap::new();
    identity.apply(&mut out);

    assert_eq!(out.get("host").unwrap(), "h");
    assert!(out.get("cookie").is_none());
}

// An app refuses a request with two hosts.
#[test]
fn a_place_that_is_named_as_a_credential_goes_to_the_app_once() {
    let scopes = Scopes::new(vec![header::HOST, HeaderName::from_static("x-forwarded-host"), header::COOKIE]);
    let sent = headers(&[("host", "h"), ("x-forwarded-host", "f"), ("cookie", "s=a")]);
    let (_, identity) = scopes.with_credentials(&sent);
    let mut out = HeaderMap::new();
    identity.apply(&mut out);

    assert_eq!(out, sent);
}

// The name of a cookie is told to the operator; its value is not even kept.
#[test]
fn credentials_are_compared_by_name_and_mark() {
    let scopes = scopes();
    let badges = |cookie: &'static str| scopes.badges(&headers(&[("cookie", cookie), ("authorization", "b")]));
    let (one, other) = (badges("lang=en; stamp=1"), badges("lang=en;stamp=2; hunter2; =hunter2; a b=hunter2"));

    let names = |badges: &[Badge]| badges.iter().map(|badge| badge.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&one), ["lang", "stamp", "authorization"]);
    assert_eq!(names(&other), names(&one));
    let same: Vec<_> = one.iter().zip(&other).map(|(one, other)| one == other).collect();
    assert_eq!(same, [true, false, true]);
    assert!(!format!("{other:?}").contains("hunter2"));
}

#[test]
fn nothing_here_shows_a_secret() {
    let (scope, identity) = scopes().with_credentials(&headers(&[("cookie", "s=hunter2")]));
    let lender = Lender::new(scope, identity.clone());

    let mut sent = HeaderMap::new();
    identity.apply(&mut sent);
    let shown = format!("{identity:?} {lender:?} {:?} {:?}", scopes(), sent);
    assert!(!shown.contains("hunter2"), "{shown}");
}
