//! The words that apps use for the state of a job, and how differently written words are made equal.

use std::mem;

/// What a word says about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Success,
    Failure,
    Running,
}

/// A job that ended well.
pub(super) const SUCCESS: &[&str] =
    &["completed", "complete", "succeeded", "succeed", "success", "successful", "done", "finished", "ready"];

/// A job that ended otherwise.
#[rustfmt::skip]
pub(super) const FAILURE: &[&str] = &[
    "failed", "fail", "failure", "error", "errored", "cancelled", "canceled", "aborted", "expired", "timed_out",
    "timeout", "terminated", "rejected", "revoked", "crashed",
];

/// A job that goes on. The first rows look like an end, or a halt, and are none.
///
/// A word that is in no list is counted as unknown, so that the operator learns of an end that we don't know; hence this
/// list holds what is common, and nothing doubtful.
#[rustfmt::skip]
pub(super) const RUNNING: &[&str] = &[
    "cancelling", "canceling", "completing", "finalizing", "finalising", "finishing", "terminating", "stopping", "paused",
    "retry", "retrying", "requires_action", "input_required", "auth_required", "throttled", "stalled", "stuck",
    // waiting
    "accepted", "created", "deferred", "delayed", "enqueued", "in_queue", "init", "initialised",
    "initialising", "initialized", "initializing", "new", "not_started", "pending", "pending_upload",
    "pendingupload", "pending_version", "prioritized", "queued", "queueing", "queuing", "received", "requested",
    "runnable", "scheduled", "submitted", "submitting", "waiting", "waiting_children",
    // at work
    "active", "dequeued", "executing", "in_progress", "in_process", "inprogress", "live_inprogress", "ongoing",
    "processing", "progress", "progressing", "resuming", "running", "started", "starting", "updating",
    "working",
    // at some kind of work
    "analysing", "analyzing", "archiving", "building", "compiling", "composing", "compressing", "converting", "copying",
    "crawling", "deploying", "downloading", "dreaming", "encoding", "exporting", "extracting", "fetching", "generating",
    "importing", "indexing", "installing", "loading", "merging", "migrating", "muxing", "packaging", "parsing",
    "postprocessing", "post_processing", "preparing", "preprocessing", "pre_processing", "provisioning", "publishing",
    "rendering", "restoring", "saving", "scanning", "sending", "streaming", "summarizing", "syncing", "thinking",
    "training", "transcoding", "transcribing", "transferring", "translating", "uploading", "validating",
    "validating_files", "verifying", "warming_up", "writing",
];

/// What APIs with enums put in front of every word: Vertex AI, Temporal and their like.
const PREFIXES: &[&str] = &["job_state_", "workflow_execution_status_", "task_status_", "state_"];

/// The meaning of a normalised word; `None` when it is unknown.
pub(super) fn meaning(word: &str) -> Option<Meaning> {
    if SUCCESS.contains(&word) {
        Some(Meaning::Success)
    } else if FAILURE.contains(&word) {
        Some(Meaning::Failure)
    } else if RUNNING.contains(&word) {
        Some(Meaning::Running)
    } else {
        None
    }
}

/// One spelling for `IN_PROGRESS`, `in-progress`, `In Progress`, `inProgress` and `JOB_STATE_IN_PROGRESS`: lower case,
/// words divided by one `_`, none at the ends, without the prefixes of enums. Applied twice it changes nothing more.
pub(super) fn normalise(text: &str) -> String {
    let text = text.trim();
    let mut word = String::with_capacity(text.len() + 4);
    // A number keeps its sign, so that `-1` and `1` stay two values.
    let negative = text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if negative {
        word.push('-');
    }

    let mut boundary = false;
    let mut chars = text.chars().skip(usize::from(negative)).peekable();
    let mut previous = ' ';
    while let Some(c) = chars.next() {
        if c.is_whitespace() || matches!(c, '-' | '_') {
            boundary = true;
        } else {
            let after_small = previous.is_ascii_lowercase() || previous.is_ascii_digit();
            let ends_acronym = previous.is_ascii_uppercase() && chars.peek().is_some_and(char::is_ascii_lowercase);
            boundary |= c.is_ascii_uppercase() && (after_small || ends_acronym);
            if mem::take(&mut boundary) && !word.is_empty() {
                word.push('_');
            }
            word.extend(c.to_lowercase());
        }
        previous = c;
    }

    while let Some(rest) = PREFIXES.iter().find_map(|prefix| word.strip_prefix(prefix)) {
        word = rest.to_owned();
    }
    word
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn differently_written_words_are_one() {
        for text in [
            "in_progress",
            "IN_PROGRESS",
            "in-progress",
            "In Progress",
            " inProgress\n",
            "InProgress",
            "in - progress_",
        ] {
            assert_eq!(normalise(text), "in_progress", "{text:?}");
        }
        for (text, word) in [
            ("NotStarted", "not_started"),
            ("timedOut", "timed_out"),
            ("DONE", "done"),
            ("HTTPError", "http_error"),
            ("step2Done", "step2_done"),
            ("JOB_STATE_SUCCEEDED", "succeeded"),
            ("WORKFLOW_EXECUTION_STATUS_TIMED_OUT", "timed_out"),
            ("TaskStatusCompleted", "completed"),
            ("job_state", "job_state"),
            ("-1", "-1"),
            ("- 1", "1"),
            ("Terminé", "terminé"),
            ("---", ""),
        ] {
            assert_eq!(normalise(text), word, "{text:?}");
        }
    }

    // A word that is written in a way that no text can normalise to would never be found.
    #[test]
    fn every_word_is_in_one_list_and_already_normal() {
        let all = [SUCCESS, FAILURE, RUNNING].concat();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        for word in all {
            assert_eq!(normalise(word), word);
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(
            text in prop_oneof![any::<String>(), "[a-zA-Z0-9 _\\-İKΣς𝐀ǅ\u{a0}]{0,16}", "(job_state_|state-|Task_Status |-1)*[A-Za-z_-]{0,4}"],
        ) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once.clone());
        }
    }
}
