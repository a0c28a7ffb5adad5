//! Whether the end of the app's stream is the end of the job: what it had said last decides.
//!
//! A stream ends for many reasons, a deploy or a platform's longest time among them, and only some are the end of what it
//! was about. To take one for the other is bad both ways: a feed that is taken for a finished job falls silent for good,
//! and a finished job that is not is asked for again and again.

use std::time::Duration;

use tokio::time::Instant;

/// How long a last word holds. Apps end the stream at once behind it, or leave their clients some seconds; a feed whose
/// newest notification was called `success` is ended by something else, and later.
const HOLDS: Duration = Duration::from_secs(10);

/// What an event says of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is over.
    Over,
    /// It goes on.
    GoesOn,
    /// Nothing: `[DONE]`, `event: close`, a ping.
    Nothing,
}

/// The last word on a job, as long as it holds.
#[derive(Debug, Default)]
pub(super) struct LastWord {
    said: Option<Instant>,
    /// How many events the open stream has brought.
    events: usize,
}

// === impl LastWord ===

impl LastWord {
    /// A stream begins. What was said in the one before holds on while this one says nothing at all: the app knows what we
    /// have, and has nothing to add.
    pub(super) fn stream_began(&mut self, now: Instant) {
        self.events = 0;
        self.said = self.said.map(|_| now);
    }

    /// There is a last word, to be taken back or not.
    pub(super) fn is_said(&self) -> bool {
        self.said.is_some()
    }

    /// An event says `word`. The first ones of a stream, `greeting` of them, are how the app says hello to everybody: `ready`
    /// is no end there. True when this is a last word.
    pub(super) fn heard(&mut self, word: Word, greeting: usize, now: Instant) -> bool {
        self.events += 1;
        let is_over = word == Word::Over && self.events > greeting;
        if is_over {
            self.said = Some(now);
        } else if word == Word::GoesOn || self.events == 1 {
            self.said = None;
        }
        is_over
    }

    /// The stream is over. True when that is the end of the job too, if it ended as it should.
    pub(super) fn stream_ended(&mut self, now: Instant) -> bool {
        self.said = self.said.filter(|said| now.duration_since(*said) <= HOLDS);
        self.said.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{Word::*, *};

    /// Whether a stream with these words ends the job, when it ends so long after the last of them.
    fn ends(last: &mut LastWord, greeting: usize, words: &[Word], after: Duration) -> bool {
        let now = Instant::now();
        last.stream_began(now);
        for word in words {
            last.heard(*word, greeting, now);
        }
        last.stream_ended(now + after)
    }

    fn ends_at_once(greeting: usize, words: &[Word]) -> bool {
        ends(&mut LastWord::default(), greeting, words, Duration::ZERO)
    }

    #[test]
    fn only_an_event_that_says_so_takes_a_last_word_back() {
        assert!(ends_at_once(0, &[GoesOn, Over]));
        assert!(ends_at_once(0, &[Over, Nothing, Nothing]), "`[DONE]`, `event: close`");
        assert!(!ends_at_once(0, &[Over, GoesOn]));
        assert!(!ends_at_once(0, &[Over, GoesOn, Nothing]));
        assert!(!ends_at_once(0, &[Nothing]));
        assert!(!ends_at_once(0, &[]));
    }

    // A feed's last notification may have been called `success`, an hour before the deploy.
    #[test]
    fn a_last_word_holds_for_some_seconds() {
        assert!(ends(&mut LastWord::default(), 0, &[Over], HOLDS));
        assert!(!ends(&mut LastWord::default(), 0, &[Over], HOLDS + Duration::from_millis(1)));
    }

    #[test]
    fn a_hello_is_no_last_word() {
        assert!(!ends_at_once(1, &[Over]), "`ready`");
        assert!(!ends_at_once(2, &[Nothing, Over]));
        assert!(ends_at_once(1, &[Nothing, Over]));
        assert!(!ends_at_once(1, &[Over, Nothing]));
        assert!(ends_at_once(1, &[Over, Over]));
    }

    // The end itself may have been hidden by a break; who then asks for what follows the last event gets nothing.
    #[test]
    fn a_stream_that_says_nothing_leaves_the_last_word_of_the_one_before() {
        let long = HOLDS * 2;
        let mut last = LastWord::default();
        assert!(ends(&mut last, 0, &[Over], Duration::ZERO), "if it had been clean");
        assert!(ends(&mut last, 0, &[], Duration::ZERO));
        assert!(!ends(&mut last, 1, &[Nothing], Duration::ZERO), "a stream that speaks is a new one");
        assert!(!ends(&mut last, 0, &[Over], long));
        assert!(!ends(&mut last, 0, &[], Duration::ZERO), "what did not hold does not come back");
    }
}
