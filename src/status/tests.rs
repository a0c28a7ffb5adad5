use proptest::prelude::*;
use serde_json::json;

use super::vocabulary::{FAILURE, RUNNING, SUCCESS};
use super::*;

/// JSON of any shape, rich in what this program looks for.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let text = || {
        prop_oneof![
            prop::sample::select(
                &["completed", "Failed", "IN_PROGRESS", "", "error", "$", "$/status", "$/a/0", "$$x"][..]
            )
            .prop_map(str::to_owned),
            any::<String>(),
        ]
    };
    let key = prop_oneof![
        3 => prop::sample::select(&["status", "state", "job", "data", "done", "error", "type", "phase", "a"][..])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "-?[1-9][0-9]{0,40}(\\.[0-9]{1,9})?".prop_map(|number| serde_json::from_str(&number).unwrap()),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn rule(pointer: &str, done: &[&str]) -> StatusRule {
    StatusRule {
        pointer: Some(pointer).filter(|pointer| !pointer.is_empty()).map(str::to_owned),
        done: Some(done.iter().map(|&value| value.to_owned()).collect::<Vec<_>>()).filter(|done| !done.is_empty()),
    }
}

fn found(pointer: &str, value: &str, verdict: Verdict) -> Detection {
    Detection { pointer: Some(pointer.to_owned()), value: Some(value.to_owned()), verdict }
}

fn detect(doc: &Value) -> Detection {
    StatusRule::default().detect(doc)
}

fn verdict(doc: &Value) -> Verdict {
    detect(doc).verdict
}

/// A document that is `value` at `pointer` and nothing else.
fn document(pointer: &str, value: &str) -> Value {
    pointer.rsplit('/').filter(|key| !key.is_empty()).fold(json!(value), |inner, key| json!({ key: inner }))
}

/// Every way to write a word that the documentation promises to understand.
fn spellings(word: &str) -> Vec<String> {
    let parts: Vec<&str> = word.split('_').collect();
    let capital = |part: &&str| part[..1].to_uppercase() + &part[1..];
    let pascal = parts.iter().map(capital).collect::<String>();
    let camel = parts[0].to_owned() + &pascal[parts[0].len()..];
    let titled = parts.iter().map(capital).collect::<Vec<_>>();
    let mut all = vec![pascal, camel, titled.join(" "), titled.join("-"), titled.join("_"), format!(" {word}\n")];
    for separator in ["_", "-", " "] {
        all.push(parts.join(separator));
        all.push(parts.join(separator).to_uppercase());
    }
    for prefix in ["JOB_STATE_", "WORKFLOW_EXECUTION_STATUS_", "TASK_STATUS_", "STATE_"] {
        all.push(format!("{prefix}{}", word.to_uppercase()));
    }
    all
}

#[test]
fn every_word_is_understood_in_every_spelling_and_place() {
    for (words, expected) in [(SUCCESS, Verdict::Succeeded), (FAILURE, Verdict::Failed), (RUNNING, Verdict::Running)] {
        for word in words {
            for text in spellings(word) {
                assert_eq!(detect(&json!({ "status": text })), found("/status", &text, expected));
            }
            for pointer in STATUS_POINTERS {
                assert_eq!(detect(&document(pointer, word)), found(pointer, word, expected));
            }
        }
    }
}

// The lists of the design, word by word: the constants could lose one unnoticed.
#[test]
fn the_vocabulary_is_the_documented_one() {
    let success = "completed complete succeeded succeed success successful done finished ready";
    let failure = "failed fail failure error errored cancelled canceled aborted expired timed_out timeout terminated \
                   rejected revoked crashed";
    let running = "cancelling finalizing paused waiting retrying queued pending processing in_progress running started \
                   starting submitted preparing validating rendering uploading encoding transcoding";
    for (words, expected) in [(success, Verdict::Succeeded), (failure, Verdict::Failed), (running, Verdict::Running)] {
        for word in words.split_whitespace() {
            assert_eq!(verdict(&json!({ "status": word })), expected, "{word}");
        }
    }
    assert_eq!(SUCCESS.len(), success.split_whitespace().count());
    assert_eq!(FAILURE.len(), failure.split_whitespace().count());
}

#[test]
fn answers_of_well_known_apis_are_understood() {
    for (doc, expected) in [
        (json!({ "status": "NotStarted" }), found("/status", "NotStarted", Verdict::Running)),
        (json!({ "state": "JOB_STATE_CANCELLED" }), found("/state", "JOB_STATE_CANCELLED", Verdict::Failed)),
        (
            json!({ "code": 0, "data": { "task_status": "succeed" } }),
            found("/data/task_status", "succeed", Verdict::Succeeded),
        ),
        (json!({ "status": { "state": "DONE" } }), found("/status/state", "DONE", Verdict::Succeeded)),
        (json!({ "status": { "phase": "Pending" } }), found("/status/phase", "Pending", Verdict::Running)),
        (json!({ "status": "IN_QUEUE", "queue_position": 3 }), found("/status", "IN_QUEUE", Verdict::Running)),
        (json!({ "status": "TIMED_OUT" }), found("/status", "TIMED_OUT", Verdict::Failed)),
        (json!({ "name": "op/1", "done": true, "response": {} }), found("/done", "true", Verdict::Succeeded)),
        (json!({ "name": "op/1", "done": true, "error": { "code": 3 } }), found("/done", "true", Verdict::Failed)),
    ] {
        assert_eq!(detect(&doc), expected, "{doc}");
    }
}

#[test]
fn the_first_string_in_the_documented_order_wins() {
    assert_eq!(detect(&json!({ "phase": "failed", "state": "done" })).pointer.unwrap(), "/state");
    assert_eq!(detect(&json!({ "state": "done", "status": "running" })).pointer.unwrap(), "/status");
    // It wins even when it is unknown: the operator shall hear of it.
    assert_eq!(detect(&json!({ "state": "done", "status": "zzz" })), found("/status", "zzz", Verdict::Unknown));
}

#[test]
fn what_is_no_string_is_passed_over() {
    for status in [json!(null), json!(3), json!(true), json!([]), json!({}), json!(["done"]), json!(""), json!(" \t")] {
        assert_eq!(detect(&json!({ "status": status, "phase": "done" })), found("/phase", "done", Verdict::Succeeded));
        assert_eq!(detect(&json!({ "status": status })), Detection::MISSING);
    }
    assert_eq!(detect(&json!({ "status": { "state": { "state": "done" } } })), Detection::MISSING);
}

#[test]
fn booleans_end_a_job_when_no_string_does() {
    for (doc, pointer, expected) in [
        (json!({ "done": false }), "/done", Verdict::Running),
        (json!({ "finished": false }), "/finished", Verdict::Running),
        (json!({ "finished": true }), "/finished", Verdict::Succeeded),
        (json!({ "done": false, "finished": true }), "/finished", Verdict::Succeeded),
        (json!({ "done": true, "error": null }), "/done", Verdict::Succeeded),
        (json!({ "done": true, "error": "" }), "/done", Verdict::Succeeded),
        (json!({ "done": true, "error": false }), "/done", Verdict::Succeeded),
        (json!({ "done": true, "error": "boom" }), "/done", Verdict::Failed),
        (json!({ "done": true, "error": {} }), "/done", Verdict::Failed),
        (json!({ "done": false, "error": "boom" }), "/done", Verdict::Running),
        (json!({ "status": "failed", "done": true }), "/status", Verdict::Failed),
        (json!({ "status": "done", "done": false }), "/status", Verdict::Succeeded),
        (json!({ "status": "processing", "done": true }), "/done", Verdict::Succeeded),
        (json!({ "status": "zzz", "done": true }), "/done", Verdict::Succeeded),
        (json!({ "status": "processing", "done": false }), "/status", Verdict::Running),
        (json!({ "status": "zzz", "done": false }), "/status", Verdict::Unknown),
    ] {
        let detection = detect(&doc);
        assert_eq!((detection.pointer.as_deref(), detection.verdict), (Some(pointer), expected), "{doc}");
    }
    assert_eq!(verdict(&json!({ "done": "true", "finished": 1 })), Verdict::Missing);
}

#[test]
fn an_explicit_pointer_is_all_that_is_looked_at() {
    let rule = rule("/meta/step", &[]);
    assert_eq!(
        rule.detect(&json!({ "meta": { "step": "Done" }, "status": "running" })),
        found("/meta/step", "Done", Verdict::Succeeded)
    );
    assert_eq!(
        rule.detect(&json!({ "meta": { "step": "zzz" }, "status": "done" })),
        found("/meta/step", "zzz", Verdict::Unknown)
    );
    assert_eq!(
        rule.detect(&json!({ "meta": { "step": true, "error": 1 } })),
        found("/meta/step", "true", Verdict::Failed)
    );
    assert_eq!(
        rule.detect(&json!({ "meta": { "step": true }, "error": 1 })),
        found("/meta/step", "true", Verdict::Succeeded)
    );
    assert_eq!(rule.detect(&json!({ "meta": { "step": false } })), found("/meta/step", "false", Verdict::Running));
    assert_eq!(rule.detect(&json!({ "meta": { "step": 1.50 } })), found("/meta/step", "1.5", Verdict::Unknown));
    for doc in
        [json!({ "status": "done", "done": true }), json!({ "meta": { "step": { "state": "done" } } }), json!([])]
    {
        assert_eq!(rule.detect(&doc), Detection::MISSING, "{doc}");
    }
}

#[test]
fn explicit_values_are_the_only_ends() {
    let rule = rule("", &["Completed", "needs-review", "timedOut", "paused"]);
    for (status, expected) in [
        ("COMPLETED", Verdict::Succeeded),
        ("NEEDS_REVIEW", Verdict::Ended),
        ("timed out", Verdict::Failed),
        ("paused", Verdict::Ended),
        ("failed", Verdict::Running),
        ("done", Verdict::Running),
        ("zzz", Verdict::Running),
    ] {
        assert_eq!(rule.detect(&json!({ "status": status })).verdict, expected, "{status}");
    }
    assert_eq!(rule.detect(&json!({ "status": "failed", "done": true })).verdict, Verdict::Running);
    assert_eq!(rule.detect(&json!({ "done": true })), found("/done", "true", Verdict::Running));
    assert_eq!(rule.detect(&json!({ "x": 1 })).verdict, Verdict::Missing);
}

#[test]
fn explicit_values_are_compared_with_booleans_by_text_and_with_numbers_as_numbers() {
    let rule = rule("/code", &["true", "100", "-1", "2.50", "1e400", "inf"]);
    for (text, expected) in [
        ("true", Verdict::Ended),
        ("false", Verdict::Running),
        ("100", Verdict::Ended),
        ("\"100\"", Verdict::Ended),
        ("-1", Verdict::Ended),
        ("1", Verdict::Running),
        ("\"1\"", Verdict::Running),
        ("1.0", Verdict::Running),
        // Python and Ruby write so what JavaScript writes without.
        ("100.0", Verdict::Ended),
        ("1e2", Verdict::Ended),
        ("100.00000000000001", Verdict::Running),
        ("2.5", Verdict::Ended),
        // Beyond a browser's range all numbers would be the same.
        ("1e401", Verdict::Running),
        ("null", Verdict::Missing),
        ("[true]", Verdict::Missing),
    ] {
        let doc = serde_json::from_str(&format!(r#"{{"code":{text}}}"#)).unwrap();
        assert_eq!(rule.detect(&doc).verdict, expected, "{text}");
    }
}

#[test]
fn the_last_message_of_a_progress_stream_ends_it() {
    let rule = StatusRule::default();
    for (name, data, expected) in [
        (None, r#"{"type":"completed","url":"/v/1"}"#, found("/type", "completed", Verdict::Succeeded)),
        (None, r#"{"type":"error","message":"boom"}"#, found("/type", "error", Verdict::Failed)),
        (None, r#"{"status":"done"}"#, found("/status", "done", Verdict::Succeeded)),
        (None, r#"{"status":"failed","type":"done"}"#, found("/status", "failed", Verdict::Failed)),
        (None, r#"{"status":"zzz","type":"done"}"#, found("/type", "done", Verdict::Succeeded)),
        (Some("error"), r#"{"type":"done"}"#, found("/type", "done", Verdict::Succeeded)),
        (Some("Completed"), "", Detection { pointer: None, ..found("", "Completed", Verdict::Succeeded) }),
        // Broken as front ends may have it, and as browsers read it.
        (None, r#"{"status":"done","title":"\ud83d"}"#, found("/status", "done", Verdict::Succeeded)),
        (Some("failed"), "not JSON", Detection { pointer: None, ..found("", "failed", Verdict::Failed) }),
        // What the data says of its job is more exact than how the message is called.
        (Some("ready"), r#"{"status":"queued"}"#, found("/status", "queued", Verdict::Running)),
    ] {
        assert_eq!(rule.detect_event(name, data), expected, "{name:?} {data}");
    }
}

#[test]
fn an_ordinary_event_has_no_status() {
    let rule = StatusRule::default();
    for (name, data) in [
        (None, "hello"),
        (None, ""),
        (Some("progress"), r#"{"percent":7}"#),
        (Some("zzz"), r#"{"type":"zzz"}"#),
        (None, r#"{"type":{"type":"done"}}"#),
        (None, r#""completed""#),
        (None, r#"[{"status":"done"}]"#),
    ] {
        assert_eq!(rule.detect_event(name, data), Detection::MISSING, "{name:?} {data}");
    }
}

// A feed tells of one job after the other: the next one takes back that all is over.
#[test]
fn an_event_can_be_called_running_without_a_status() {
    let rule = StatusRule::default();
    assert!(rule.is_called_running(Some("progress"), "7"));
    assert!(rule.is_called_running(None, r#"{"type":"IN_PROGRESS"}"#));
    for (name, data) in [(None, "[DONE]"), (Some("close"), "{}"), (Some("ping"), ""), (None, r#"{"type":"end"}"#)] {
        assert!(!rule.is_called_running(name, data), "{name:?} {data}");
    }
    assert!(!self::rule("/x", &[]).is_called_running(Some("progress"), ""), "elsewhere is not looked");
}

#[test]
fn explicit_rules_hold_for_events_too() {
    assert_eq!(rule("", &["end"]).detect_event(Some("END"), "{}").verdict, Verdict::Ended);
    assert_eq!(rule("", &["end"]).detect_event(Some("done"), "{}").verdict, Verdict::Missing);
    assert_eq!(rule("", &["end"]).detect_event(Some("end"), r#"{"status":"running"}"#).verdict, Verdict::Ended);
    assert_eq!(rule("", &["end"]).detect_event(Some("done"), r#"{"status":"failed"}"#).verdict, Verdict::Running);
    assert_eq!(rule("/x", &[]).detect_event(Some("done"), r#"{"type":"done"}"#).verdict, Verdict::Missing);
    assert_eq!(rule("/x", &["end"]).detect_event(None, r#"{"x":"end"}"#), found("/x", "end", Verdict::Ended));
}

#[test]
fn a_long_value_is_cut_for_logs_but_judged_whole() {
    let detection = detect(&json!({ "status": "ä".repeat(1000) }));
    assert_eq!(detection, found("/status", &"ä".repeat(64), Verdict::Unknown));
    let detection = detect(&json!({ "status": format!("{}done", " ".repeat(100)) }));
    assert_eq!(detection.verdict, Verdict::Succeeded);
}

#[test]
fn pointers_are_told_from_other_text() {
    for text in ["", "/", "/a/b", "/a~0~1", "//", "/ä b"] {
        assert!(is_json_pointer(text), "{text:?}");
    }
    for text in ["a", "a/b", "/~", "/a~2", "/~~0", "~0", "#/a"] {
        assert!(!is_json_pointer(text), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic_and_the_parts_fit_together(
        doc in any_json(),
        name in prop::option::of(any::<String>()),
        pointer in prop::option::of(prop_oneof![Just("/status".to_owned()), Just(String::new()), any::<String>()]),
        done in prop::option::of(prop::collection::vec(any::<String>(), 0..3)),
    ) {
        let rule = StatusRule { pointer, done };
        for detection in [rule.detect(&doc), rule.detect_event(name.as_deref(), &doc.to_string())] {
            let Detection { pointer, value, verdict } = detection;
            prop_assert_eq!(value.is_none(), verdict == Verdict::Missing);
            prop_assert!(value.as_deref().unwrap_or_default().chars().count() <= 64);
            if let Some(pointer) = pointer {
                prop_assert!(doc.pointer(&pointer).is_some());
                prop_assert!(rule.pointer.as_ref().is_none_or(|asked| *asked == pointer));
            }
            prop_assert!(verdict != Verdict::Ended || rule.done.is_some());
            prop_assert!(verdict != Verdict::Unknown || rule.done.is_none());
        }
    }

    #[test]
    fn no_text_makes_the_reading_of_an_event_panic(name in any::<String>(), data in any::<String>()) {
        let detection = StatusRule::default().detect_event(Some(&name), &data);
        prop_assert_ne!(detection.verdict, Verdict::Ended);
    }

    #[test]
    fn random_case_and_separators_never_hide_a_word(
        word in prop::sample::select([SUCCESS, FAILURE].concat()),
        upper in any::<bool>(),
        separator in "[ _-]{1,3}",
        around in "[ \t\r\n_-]{0,3}",
    ) {
        let spelled = word.replace('_', &separator);
        let spelled = format!("{around}{}{around}", if upper { spelled.to_uppercase() } else { spelled });
        prop_assert!(verdict(&json!({ "status": &spelled })).is_terminal(), "{:?}", spelled);
    }
}
