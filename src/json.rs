//! The app's JSON, read as a browser reads it.
//!
//! `fetch(…).json()` passes over a byte order mark, puts U+FFFD in the place of bytes that are not UTF-8, takes lone
//! surrogate escapes (a title that was cut in the middle of an emoji), and any depth. The parser here does none of that, and
//! a page that the app has served well for years would look like an outage. So what it refuses is made readable and read
//! once more; all else pays nothing for it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Deserializer, Value};

/// How deep arrays and objects may lie in each other. The parser calls itself for each, and so does whoever prints the
/// value: the deepest takes an eighth of a thread's 2 MiB, and a third of it unoptimised.
pub const DEPTH_MAX: usize = 256;

/// What a lone surrogate is read as.
const REPLACEMENT: &str = "\u{fffd}";
/// The length of `\uXXXX`.
const UNIT: usize = 6;

/// Reads the body of an answer, if it is JSON.
pub fn read(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().or_else(|| read_leniently(&String::from_utf8_lossy(body)))
}

/// Reads the data of an event, if it is JSON.
pub fn read_text(data: &str) -> Option<Value> {
    serde_json::from_str(data).ok().or_else(|| read_leniently(data))
}

fn read_leniently(text: &str) -> Option<Value> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if depth(text) > DEPTH_MAX {
        return None;
    }
    let text = without_lone_surrogates(text);
    let mut parser = Deserializer::from_str(&text);
    parser.disable_recursion_limit();
    let value = Value::deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    Some(value)
}

/// How deep arrays and objects lie in each other. Of what is no JSON it says at least how deep a parser gets before it
/// notices.
fn depth(text: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The same text, with the replacement character for each `\uXXXX` that is half of a pair and stands without the other. A
/// backslash begins an escape wherever it is: outside of strings there is none in JSON.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut mended = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(escape) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        let begins = at + escape;
        at = begins
            + match (code_unit(bytes, begins), code_unit(bytes, begins + UNIT)) {
                (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 2 * UNIT,
                (Some(0xD800..=0xDFFF), _) => {
                    mended.push_str(&text[copied..begins]);
                    mended.push_str(REPLACEMENT);
                    copied = begins + UNIT;
                    UNIT
                }
                // The backslash and what it escapes, which may be another one.
                _ => 2,
            };
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    mended.push_str(&text[copied..]);
    Cow::Owned(mended)
}

/// The UTF-16 code unit of the escape `\uXXXX` at `at`.
fn code_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + UNIT)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::status::tests::any_json;

    fn nested(depth: usize) -> String {
        format!("{}1{}", r#"{"a":["#.repeat(depth / 2), "]}".repeat(depth / 2))
    }

    #[test]
    fn what_browsers_read_is_read() {
        for (body, expected) in [
            (&b"\xef\xbb\xbf{\"status\":\"done\"}"[..], json!({ "status": "done" })),
            (b"{\"title\":\"caf\xe9\"}", json!({ "title": "caf\u{fffd}" })),
            (br#"{"title":"cat \ud83d"}"#, json!({ "title": "cat \u{fffd}" })),
            (br#"["\ude00\ud83d\ud83d\ude00\uDE00x\ud83d\n"]"#, json!(["\u{fffd}\u{fffd}😀\u{fffd}x\u{fffd}\n"])),
            (br#"{"\ud83d":1,"b":"\ud83d\u0041"}"#, json!({ "\u{fffd}": 1, "b": "\u{fffd}A" })),
            // The backslash is escaped, and what follows is text.
            (br#"["\\ud83d","\ud83d"]"#, json!(["\\ud83d", "\u{fffd}"])),
            ("\u{feff}[\"ä\\\\\\\"[\",\"\\ud83d\"]".as_bytes(), json!(["ä\\\"[", "\u{fffd}"])),
        ] {
            assert_eq!(read(body), Some(expected), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn what_browsers_refuse_is_refused() {
        for body in [
            "",
            "\u{feff}",
            "\u{feff}\u{feff}1",
            "{\"status\":",
            "{} {}",
            "[\"\\ud83\"]",
            "[\"\\u+83d\"]",
            "[\"\\",
            "\\ud83d",
            "[\"\\ud83d\"",
            "[\"a\nb\\ud83d\"]",
            "<html>\\",
        ] {
            assert_eq!(read(body.as_bytes()), None, "{body:?}");
            assert_eq!(read_text(body), None, "{body:?}");
        }
    }

    // In a thread with the stack that those of the runtime have.
    #[test]
    fn depth_is_bounded_before_the_stack_is() {
        let deepest = read_text(&nested(DEPTH_MAX)).unwrap();
        assert_eq!(deepest.to_string(), nested(DEPTH_MAX));
        assert_eq!(read_text(&nested(DEPTH_MAX + 2)), None);
        assert_eq!(read("[".repeat(1 << 20).as_bytes()), None);
        let brackets = "[".repeat(2 * DEPTH_MAX);
        let quoted = format!(r#"["{brackets}\"\ud83d"]"#);
        assert_eq!(read_text(&quoted), Some(json!([format!("{brackets}\"\u{fffd}")])), "these nest nothing");
    }

    proptest! {
        // The slow way is another way to the same value.
        #[test]
        fn what_is_read_strictly_is_read_leniently_too(doc in any_json()) {
            let text = doc.to_string();
            prop_assert_eq!(read_leniently(&text), Some(serde_json::from_str(&text).unwrap()));
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"(\\|u|d8|3d|DC|0|"|\[|\{|\}|\]|ä|a|,|:|\\ud83d|\\udc00){0,40}"#) {
            let found = read_text(&text);
            prop_assert!(found.is_some() || serde_json::from_str::<Value>(&text).is_err());
            prop_assert_eq!(read(text.as_bytes()), found);
        }
    }
}
