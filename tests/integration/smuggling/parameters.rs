//! Parameters that want to get out of their segment: what Node sees of them is one segment, or the client's own path.

use percent_encoding::percent_decode_str;

use super::recorder::Stage;

const TRICKS: &[&str] = &[
    "%2e%2e",
    "..",
    ".",
    "%2e",
    "%2E%2e",
    ".%2e",
    "..%2f..%2fetc",
    "%2f",
    "%2F%2e%2e%2F",
    "a%2fb",
    "%5c",
    "..%5c..",
    "a\\b",
    "%252e%252e",
    "%252f",
    "%25%32%65",
    "%c0%ae%c0%ae",
    "%c0%af",
    "%e0%80%af",
    "%f0%80%80%af",
    "%00",
    "a%00b",
    "a%0d%0aX:y",
    "%0a",
    "%7f",
    "%c2%85",
    ";",
    "a;b=c",
    "..;",
    "..;/x",
    ";jsessionid=1",
    "a//b",
    "/",
    "//",
    "a%3fb=c",
    "%3f",
    "a%23b",
    "%23",
    "a%26b=c",
    "a%3d",
    "a+b",
    "a%20b",
    "%20",
    "...",
    "....",
    ".%00.",
    "%ef%bc%8e%ef%bc%8e",
    "%ef%bc%8f",
    "a@b",
    "a:b",
    "http:%2f%2fb",
    "%",
    "%2",
    "%zz",
    "*",
    "~",
    "%u002e%u002e",
    "{id}",
    "%7bid%7d",
    "a%",
    "\u{e9}",
    "%e2%80%ae",
    "a,b",
    "a'b",
    "(a)",
    "[a]",
    "a|b",
    "a^b",
    "`",
    "%c3%28",
    "%ff",
    "..%00",
    "%2e%2e%3b",
];

/// Whether a path, as anybody might read it, leaves the segment behind `prefix`.
fn stays(target: &str, prefix: &str) -> bool {
    let Some(value) = target.strip_prefix(prefix) else { return false };
    let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte));
    let decoded: Vec<u8> = percent_decode_str(value).collect();
    let is_inside = !matches!(&*decoded, b"" | b"." | b"..")
        && !decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0..=31 | 127));
    is_plain && is_inside
}

#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn a_parameter_never_leaves_its_segment() {
    let stage = Stage::start(|flags| {
        // Asked once each, so that what Node sees belongs to the request that was made last.
        let slow = "interval=60s,max-interval=60s,linger=1ms";
        flags
            .route(&format!("path=/live/{{id}},poll=/job/one/{{id}},{slow}"))
            .route(&format!("path=/query?id={{id}},poll=/job/query?a=b&id={{id}},{slow}"))
            .route(&format!("path=/deep/{{*rest}},poll=/job/deep/{{*rest}},{slow}"))
            .route(&format!("path=/part/a-{{id}}.json,poll=/job/part/{{id}},{slow}"))
    })
    .await;
    let long = ["x".repeat(4_000), "%41".repeat(1_300), "../".repeat(500)];
    let tricks = TRICKS.iter().copied().chain(long.iter().map(String::as_str));
    let (mut captured, mut forwarded) = (0, 0);

    for trick in tricks {
        for (target, prefix) in [
            (format!("/live/{trick}"), "/job/one/"),
            (format!("/query?id={trick}"), "/job/query?a=b&id="),
            (format!("/deep/x/{trick}/y"), "/job/deep/"),
            (format!("/part/a-{trick}.json"), "/job/part/"),
        ] {
            let answer = stage.side.sse(&target).open().await;
            let taken = stage.node.take().await;
            let seen: Vec<_> = taken.requests.iter().map(|seen| seen.url.as_str()).collect();
            match seen[..] {
                // Not a request that can be made of it, or none that Node takes.
                [] => assert!((400..500).contains(&answer.status()), "{target}: {}", answer.status()),
                [url] if url == target => forwarded += 1,
                [url] if prefix == "/job/deep/" => {
                    let inside =
                        url.strip_prefix(prefix).is_some_and(|rest| rest.split('/').all(|part| stays(part, "")));
                    assert!(inside, "{target} became {url}");
                    captured += 1;
                }
                [url] => {
                    assert!(stays(url, prefix), "{target} became {url}");
                    captured += 1;
                }
                _ => panic!("{target} became {seen:?}"),
            }
        }
    }

    assert!(captured > 50 && forwarded > 50, "{captured} captured, {forwarded} forwarded: this proves nothing");
}
