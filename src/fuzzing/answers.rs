//! The app's JSON: what it says about a job, and the shape that a front end wants.

use crate::{
    event, json,
    status::{StatusRule, is_json_pointer},
    template::{Template, replaced},
};

/// Filling in a template is replacing in its tree; two documents with a NUL between them.
pub fn template(data: &[u8]) {
    let mut texts = data.splitn(2, |byte| *byte == 0);
    let (Some(template), Some(answer)) = (texts.next(), texts.next()) else { return };
    let Ok(text) = std::str::from_utf8(template) else { return };
    let parsed = json::read(answer);
    let on_one_line = event::on_one_line(answer);
    assert!(!on_one_line.contains(['\r', '\n']));
    let Some(answer) = parsed else {
        let _ = Template::parse(text);
        return;
    };
    assert_eq!(json::read_text(&on_one_line).as_ref(), Some(&answer), "{on_one_line}");
    let Ok(compiled) = Template::parse(text) else { return };
    let filled = compiled.fill(&answer);
    assert!(!filled.contains(['\r', '\n']));
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let tree = serde_json::from_str(text).expect("a template is JSON");
    assert_eq!(filled, replaced(&tree, &answer).to_string());
}

/// Whatever the app answers, a status is found or not; what is found is there, and no longer than logs bear. The lines of
/// an input: the pointer, the values of `done`, the event's name, the answer.
pub fn status(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(4, '\n');
    let (Some(pointer), Some(done), Some(name), Some(answer)) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return;
    };
    let rule = StatusRule {
        pointer: (!pointer.is_empty() && is_json_pointer(pointer)).then(|| pointer.to_owned()),
        done: (!done.is_empty()).then(|| done.split('|').map(str::to_owned).collect()),
    };
    let name = (!name.is_empty()).then_some(name);
    let of_event = rule.detect_event(name, answer);
    let Some(doc) = json::read_text(answer) else {
        assert!(of_event.pointer.is_none(), "{of_event:?} points into what is no JSON");
        return;
    };
    let found = rule.detect(&doc);
    for found in [&found, &of_event] {
        assert!(found.value.as_ref().is_none_or(|value| value.chars().count() <= 64));
        if let Some(at) = &found.pointer {
            assert!(doc.pointer(at).is_some(), "{found:?} is not there");
            assert!(
                rule.pointer.as_ref().is_none_or(|wanted| wanted == at),
                "{found:?} is not where it was looked for"
            );
        }
    }
    // What ends a job as an answer ends it as an event, too; only names and types come on top.
    assert!(!found.verdict.is_terminal() || found == of_event, "{found:?}, but as an event {of_event:?}");
    assert!(name.is_some() || rule.pointer.is_some() || doc.get("type").is_some() || found == of_event);
    let again = json::read_text(&doc.to_string()).expect("it was printed as JSON");
    assert_eq!(rule.detect(&again), found, "blanks between the tokens matter");
}
