//! Whether a job is over, read from whatever the app answers.
//!
//! Without configuration the status is looked for in the places, and judged by the words, that job APIs commonly use. What
//! was found is reported with the verdict, so that it can be logged once and shown to the operator, who overrides both
//! with `status=` and `done=`.

mod vocabulary;

use serde_json::Value;

use self::vocabulary::{Meaning, meaning, normalise};
use crate::json;

/// Where a route's status is and what ends it: the keys `status` and `done` of a route. The default detects both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusRule {
    /// The JSON pointer (RFC 6901) to the status; then nothing else is looked at. A string, a boolean or a number.
    pub pointer: Option<String>,
    /// The values that end a job, as the operator wrote them; then no others do. Words are compared whatever their case
    /// and separators.
    pub done: Option<Vec<String>>,
}

/// What was found, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// The JSON pointer of the field that decided; `None` when that was the name of an event, or nothing was found.
    pub pointer: Option<String>,
    /// The value as the app wrote it, its first 64 characters. It comes from outside: quote it in logs.
    pub value: Option<String>,
    /// What it means.
    pub verdict: Verdict,
}

/// The state of a job, as far as we must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended otherwise.
    Failed,
    /// It ended by a value of `done=` that says neither.
    Ended,
    /// There is a status, and we don't know the word. The job counts as going on.
    Unknown,
    /// There is no status. The job counts as going on.
    Missing,
}

/// The places of a status, in the order in which the first string wins. A place that holds something else is passed over,
/// so that an object at `/status` leads on to `/status/state`.
#[rustfmt::skip]
const STATUS_POINTERS: &[&str] = &[
    "/status", "/state", "/job/status", "/job/state", "/data/status", "/data/state", "/data/task_status",
    "/result/status", "/task_status", "/jobStatus", "/phase", "/status/state", "/status/phase",
];

/// The places of a boolean that turns true at the end.
const FLAG_POINTERS: &[&str] = &["/done", "/finished"];

/// The longest value that is kept for logs, in characters.
const LONGEST_VALUE: usize = 64;

// === impl StatusRule ===

impl StatusRule {
    /// Reads the status of a job from the app's answer. Fields of an unexpected type count as absent.
    pub fn detect(&self, doc: &Value) -> Detection {
        if let Some(pointer) = &self.pointer {
            return doc.pointer(pointer).map_or(Detection::MISSING, |value| self.judge(doc, pointer, value));
        }

        let text = STATUS_POINTERS.iter().find_map(|pointer| {
            let value = doc.pointer(pointer)?;
            // A blank is how some apps write "none".
            value.as_str().is_some_and(|text| !text.trim().is_empty()).then(|| self.judge(doc, pointer, value))
        });
        if let Some(found) = &text
            && found.verdict.is_terminal()
        {
            return found.clone();
        }
        let mut flags = FLAG_POINTERS.iter().filter_map(|pointer| {
            let value = doc.pointer(pointer)?;
            value.is_boolean().then(|| self.judge(doc, pointer, value))
        });
        let first = flags.next();
        // An app that says "done" is done, even while its status still says "processing" or a word unknown to us.
        let done = first.iter().cloned().chain(flags).find(|flag| flag.verdict.is_terminal());
        done.or(text).or(first).unwrap_or(Detection::MISSING)
    }

    /// Reads the status from an event of the app's own stream.
    ///
    /// Legacy progress streams name their last message `completed`, in `/type` or as the event's name; so these two count
    /// where they end the job, unless the data says by a known word that it is running. Any other name or type is no
    /// status. An ordinary event has none and is `Missing`, which is no fault there.
    pub fn detect_event(&self, name: Option<&str>, data: &str) -> Detection {
        let doc = json::read_text(data);
        let found = doc.as_ref().map_or(Detection::MISSING, |doc| self.detect(doc));
        // Among values that the operator named, every other word counts as running, known or not: no reason to stop here.
        let is_running = found.verdict == Verdict::Running && self.done.is_none();
        if self.pointer.is_some() || found.verdict.is_terminal() || is_running {
            return found;
        }

        let word = |pointer: Option<&str>, text: &str| Detection::new(pointer, text, self.judge_word(text));
        let kind = doc.as_ref().and_then(|doc| doc.get("type")?.as_str()).map(|kind| word(Some("/type"), kind));
        let name = name.map(|name| word(None, name));
        kind.into_iter().chain(name).find(|found| found.verdict.is_terminal()).unwrap_or(found)
    }

    /// Whether an event without a status is called by a known word of a job that runs, in `/type` or its name: `progress`.
    /// No status is made of that, but behind an end it says that something goes on.
    pub fn is_called_running(&self, name: Option<&str>, data: &str) -> bool {
        let is_running = |text: &str| meaning(&normalise(text)) == Some(Meaning::Running);
        let doc = serde_json::from_str::<Value>(data).ok();
        let kind = doc.as_ref().and_then(|doc| doc.get("type")?.as_str());
        self.pointer.is_none() && (name.is_some_and(is_running) || kind.is_some_and(is_running))
    }

    fn judge(&self, doc: &Value, pointer: &str, value: &Value) -> Detection {
        let (text, verdict) = match value {
            Value::String(text) => (text.clone(), self.judge_word(text)),
            Value::Bool(flag) => (flag.to_string(), self.judge_flag(*flag, doc, pointer)),
            Value::Number(number) => (number.to_string(), self.judge_number(&number.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => return Detection::MISSING,
        };
        Detection::new(Some(pointer), &text, verdict)
    }

    fn judge_word(&self, text: &str) -> Verdict {
        let word = normalise(text);
        let meaning = meaning(&word);
        let ends = match &self.done {
            Some(done) => done.iter().any(|value| normalise(value) == word),
            None => matches!(meaning, Some(Meaning::Success | Meaning::Failure)),
        };
        match (ends, meaning) {
            (true, Some(Meaning::Success)) => Verdict::Succeeded,
            (true, Some(Meaning::Failure)) => Verdict::Failed,
            (true, Some(Meaning::Running) | None) => Verdict::Ended,
            (false, None) if self.done.is_none() => Verdict::Unknown,
            (false, _) => Verdict::Running,
        }
    }

    fn judge_flag(&self, flag: bool, doc: &Value, pointer: &str) -> Verdict {
        if self.done.is_some() {
            return self.judge_word(if flag { "true" } else { "false" });
        }
        match flag {
            false => Verdict::Running,
            true if has_error_beside(doc, pointer) => Verdict::Failed,
            true => Verdict::Succeeded,
        }
    }

    /// Which number would be an end, only the operator knows.
    fn judge_number(&self, number: &str) -> Verdict {
        match &self.done {
            Some(done) if done.iter().any(|value| is_number(value.trim(), number)) => Verdict::Ended,
            Some(_) => Verdict::Running,
            None => Verdict::Unknown,
        }
    }
}

// === impl Detection ===

impl Detection {
    const MISSING: Self = Self { pointer: None, value: None, verdict: Verdict::Missing };

    fn new(pointer: Option<&str>, value: &str, verdict: Verdict) -> Self {
        let value = value.chars().take(LONGEST_VALUE).collect();
        Self { pointer: pointer.map(str::to_owned), value: Some(value), verdict }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Whether the job is over.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Ended => true,
            Self::Running | Self::Unknown | Self::Missing => false,
        }
    }
}

/// Whether a text is a JSON pointer (RFC 6901): empty, or parts that each begin with `/`, with `~` only in `~0` and `~1`.
pub fn is_json_pointer(text: &str) -> bool {
    (text.is_empty() || text.starts_with('/')) && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

/// Whether two texts are the same number: what one framework writes `100` is `100.0` to the next. Compared as a browser
/// reads them, but for numbers beyond its range, which all would be the same to it.
fn is_number(text: &str, number: &str) -> bool {
    let read = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    text == number || read(text).is_some_and(|wanted| read(number) == Some(wanted))
}

/// Whether the object that holds the field at `pointer` has an `error` too. Besides null, `false` and the empty string
/// are how apps write that there is none.
fn has_error_beside(doc: &Value, pointer: &str) -> bool {
    let parent = pointer.rsplit_once('/').and_then(|(parent, _)| doc.pointer(parent));
    match parent.and_then(|parent| parent.get("error")) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

#[cfg(test)]
pub(crate) mod tests;
