use std::net::Ipv4Addr;

use super::*;

/// Where clients are whose address is of no matter.
pub(super) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

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
    let scope = |pairs: &[(&'static str, &'static str)]| scopes.with_credentials(&headers(pairs), LOCAL).0;

    assert_eq!(scope(&[("cookie", "s=a"), ("accept", "x")]), scope(&[("cookie", "s=a"), ("accept", "y")]));
    assert_ne!(scope(&[("cookie", "s=a")]), scope(&[("cookie", "s=b")]));
    assert_ne!(scope(&[("cookie", "s=a")]), scope(&[]));
    assert_ne!(scope(&[("cookie", "s=a")]), scope(&[("authorization", "s=a")]));
}

// Two header lines and one line that holds both texts reach the app differently, so they are different people.
#[test]
fn duplicates_can_not_pretend_to_be_one_value() {
    let scopes = scopes();
    let scope = |pairs: &[(&'static str, &'static str)]| scopes.with_credentials(&headers(pairs), LOCAL).0;

    assert_ne!(scope(&[("cookie", "a"), ("cookie", "b")]), scope(&[("cookie", "a; b")]));
    assert_ne!(scope(&[("cookie", "a"), ("cookie", "b")]), scope(&[("cookie", "b"), ("cookie", "a")]));
    assert_ne!(scope(&[("cookie", "ab"), ("cookie", "")]), scope(&[("cookie", "a"), ("cookie", "b")]));
}

#[test]
fn tenants_of_one_app_never_share_even_without_credentials() {
    let scopes = scopes();
    let public =
        |host: &'static str| scopes.without_credentials(&headers(&[("host", host), ("cookie", "s=a")]), LOCAL).0;

    assert_ne!(public("a.example"), public("b.example"));
    assert_eq!(public("a.example"), public("a.example"));
}

#[test]
fn public_identities_carry_no_credentials() {
    let (_, identity) = scopes().without_credentials(&headers(&[("host", "h"), ("cookie", "s=a")]), LOCAL);
    let mut out = HeaderMap::new();
    identity.apply(&mut out);

    assert_eq!(out.get("host").unwrap(), "h");
    assert!(out.get("cookie").is_none());
}

// An app refuses a request with two hosts.
#[test]
fn a_place_or_address_that_is_named_as_a_credential_goes_to_the_app_once() {
    let named = ["host", "x-forwarded-host", "x-forwarded-for", "x-real-ip", "cookie"];
    let scopes = Scopes::new(named.map(HeaderName::from_static).into());
    let sent = headers(&[
        ("host", "h"),
        ("x-forwarded-host", "f"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
        ("x-forwarded-for", "192.0.2.3"),
        ("x-real-ip", "192.0.2.1"),
        ("cookie", "s=a"),
    ]);

    assert_eq!(applied(&scopes.with_credentials(&sent, LOCAL).1), sent);
    let mut public = sent.clone();
    public.remove("cookie");
    assert_eq!(applied(&scopes.without_credentials(&sent, LOCAL).1), public);
}

fn applied(identity: &Identity) -> HeaderMap {
    let mut headers = HeaderMap::new();
    identity.apply(&mut headers);
    headers
}

// The app answers as if the client had asked by itself: by its address, say. But one user's tabs may have several.
#[test]
fn the_address_goes_to_the_app_and_tells_nobody_apart() {
    let scopes = scopes();
    let direct = headers(&[("host", "h"), ("cookie", "s=a")]);
    let (scope, identity) = scopes.with_credentials(&direct, [192, 0, 2, 7].into());
    let told = headers(&[
        ("host", "h"),
        ("cookie", "s=a"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "h"),
    ]);
    assert_eq!(applied(&identity), told);

    let by_proxy = [("host", "h"), ("cookie", "s=a"), ("x-forwarded-for", "203.0.113.9"), ("x-real-ip", "203.0.113.9")];
    let (other, identity) = scopes.with_credentials(&headers(&by_proxy), [192, 0, 2, 8].into());
    assert_eq!(other, scope);
    let sent = applied(&identity);
    assert_eq!(
        (&sent["x-forwarded-for"], &sent["x-real-ip"]),
        (&"203.0.113.9".parse().unwrap(), &sent["x-forwarded-for"])
    );
}

// For an app that decides by nothing else. Who asks us without a proxy has an address, too.
#[test]
fn an_address_that_is_named_as_a_credential_tells_users_apart() {
    let scopes = Scopes::new(vec![X_FORWARDED_FOR]);
    let scope = |headers: &HeaderMap, last: u8| scopes.with_credentials(headers, [192, 0, 2, last].into()).0;
    let (direct, by_proxy) = (headers(&[]), headers(&[("x-forwarded-for", "203.0.113.9")]));

    assert_eq!(scope(&direct, 1), scope(&direct, 1));
    assert_ne!(scope(&direct, 1), scope(&direct, 2));
    assert_ne!(scope(&by_proxy, 1), scope(&headers(&[("x-forwarded-for", "203.0.113.8")]), 1));
    assert_eq!(scope(&by_proxy, 1), scope(&by_proxy, 2), "what the proxy says of them is the same");
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
    let (scope, identity) = scopes().with_credentials(&headers(&[("cookie", "s=hunter2")]), LOCAL);
    let lender = Lender::new(scope, identity.clone());

    let mut sent = HeaderMap::new();
    identity.apply(&mut sent);
    let shown = format!("{identity:?} {lender:?} {:?} {:?}", scopes(), sent);
    assert!(!shown.contains("hunter2"), "{shown}");
}
