//! One line of the app's output: what it says of the error, and how it stands among others.

use super::lead::Lead;

/// A line longer than this ends here, and the next one begins: who never ends one is counted all the same.
const LENGTH_MAX: usize = 256 * 1024;

/// What is looked for in a line; what they begin with is in [`BEGIN`].
const PHRASES: [&[u8]; 10] = [
    // What the error is called: in brackets it is part of a headline, behind `new` it is source, and as a property it
    // stands below a stack.
    b"ERR_INVALID_STATE",
    b"[ERR_INVALID_STATE]",
    b"new ERR_INVALID_STATE",
    b"code: 'ERR_INVALID_STATE'",
    // Those who log the message alone leave the code out; Next.js and Bun do it in headlines, too.
    b"Controller is already closed",
    b"Error: Invalid state: Controller is already closed",
    // What Next.js says where it prints an error for the second time.
    b"uncaughtException",
    b"unhandledRejection",
    // What Deno says of the same fault; it has no code for it.
    b"controller cannot close or enqueue",
    b"Error: The stream controller cannot close or enqueue",
];

/// The phrases that begin with a byte: a bit for each.
const BEGIN: [u16; 256] = {
    let mut begin = [0; 256];
    let mut index = 0;
    while index < PHRASES.len() {
        begin[PHRASES[index][0] as usize] |= 1 << index;
        index += 1;
    }
    begin
};

const CODE: usize = 0;
const CODE_IN_HEADLINE: usize = 1;
const CODE_IN_SOURCE: usize = 2;
const CODE_PROPERTY: usize = 3;
const MESSAGE: usize = 4;
const MESSAGE_IN_HEADLINE: usize = 5;
const UNCAUGHT: usize = 6;
const UNHANDLED: usize = 7;
const MESSAGE_OF_DENO: usize = 8;
const MESSAGE_OF_DENO_IN_HEADLINE: usize = 9;

/// What an error's own first line begins with, if nothing was said before it.
const NAMES: [&[u8]; 2] = [b"TypeError", b"Error"];

/// What the places in source files begin with that Node prints.
const PLACES: [&[u8]; 3] = [b"/", b"node:", b"file://"];

/// The part of the error that a line has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mention {
    /// The first line of a stack, or a line that has it all.
    Headline {
        /// The code stands there once more.
        has_code: bool,
    },
    /// The message and no code.
    Message,
    /// The code and no message.
    Code {
        /// As Node prints it below a stack.
        is_property: bool,
    },
}

/// What is known of a line so far; the line itself is not kept.
#[derive(Debug, Default)]
pub(super) struct Line {
    length: usize,
    /// The beginning, to know a place in a source file and an error's name.
    head: [u8; 9],
    lead: Lead,
    has_blank: bool,
    tail: Tail,
    /// How much of each phrase the last bytes were.
    matched: [usize; PHRASES.len()],
    /// Those of which it is not nothing: a bit for each.
    matching: u16,
    found: [bool; PHRASES.len()],
    /// How often there was a code alone.
    codes: usize,
}

/// How a line ends so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tail {
    #[default]
    Other,
    Colon,
    /// A colon and digits.
    Number,
}

// === impl Mention ===

impl Mention {
    pub(super) fn has_code(self) -> bool {
        matches!(self, Self::Code { .. } | Self::Headline { has_code: true })
    }
}

// === impl Line ===

impl Line {
    /// How many bytes it takes before it is so long that it ends; at least one.
    pub(super) fn room(&self) -> usize {
        LENGTH_MAX - self.length
    }

    /// Takes bytes, at most as many as there is room for, and says whether the line is so long that it ends here.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        for (place, byte) in self.head.iter_mut().skip(self.length).zip(bytes) {
            *place = *byte;
        }
        self.length += bytes.len();
        self.lead.push(bytes);
        self.has_blank = self.has_blank || bytes.iter().any(u8::is_ascii_whitespace);
        self.tail = self.tail.after(bytes);
        for &byte in bytes {
            // Nearly all bytes of an output are none of these.
            let candidates = self.matching | BEGIN[usize::from(byte)];
            if candidates != 0 {
                self.look(byte, candidates);
            }
        }
        self.length >= LENGTH_MAX
    }

    fn look(&mut self, byte: u8, mut candidates: u16) {
        self.matching = 0;
        while candidates != 0 {
            let index = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            if advance(PHRASES[index], &mut self.matched[index], byte) {
                self.found[index] = true;
                // Where it is more than a code alone, the code in it was counted, or is about to be.
                match index {
                    CODE => self.codes += 1,
                    CODE_IN_HEADLINE | CODE_IN_SOURCE => self.codes = self.codes.saturating_sub(1),
                    _ => {}
                }
            }
            self.matching |= u16::from(self.matched[index] > 0) << index;
        }
    }

    /// The line as it is, and a new one.
    pub(super) fn take(&mut self) -> Self {
        let line = std::mem::take(self);
        if line.length >= LENGTH_MAX {
            // It goes on, and perhaps in the middle of a phrase.
            (self.matched, self.matching) = (line.matched, line.matching);
        }
        line
    }

    /// What it has of the error, if anything; `is_quote`: it is a line of source.
    pub(super) fn mention(&self, is_quote: bool) -> Option<Mention> {
        let has_code = self.codes > 0;
        if self.found[CODE_IN_HEADLINE] {
            return Some(Mention::Headline { has_code });
        }
        if is_quote || self.is_source() || self.found[CODE_IN_SOURCE] {
            return None;
        }
        let has_message = self.found[MESSAGE] || self.found[MESSAGE_OF_DENO];
        let is_headline = self.found[MESSAGE_IN_HEADLINE] || self.found[MESSAGE_OF_DENO_IN_HEADLINE];
        match (has_message, has_code) {
            (true, true) => Some(Mention::Headline { has_code }),
            (true, false) if is_headline => Some(Mention::Headline { has_code }),
            (true, false) => Some(Mention::Message),
            (false, true) => Some(Mention::Code { is_property: self.found[CODE_PROPERTY] }),
            (false, false) => None,
        }
    }

    pub(super) fn is_blank(&self) -> bool {
        self.length == 0
    }

    /// How many blanks it begins with.
    pub(super) fn indent(&self) -> u8 {
        self.lead.indent()
    }

    pub(super) fn is_indented(&self) -> bool {
        self.indent() > 0
    }

    /// It is a property of an object: `"message": "…"`.
    pub(super) fn is_property(&self) -> bool {
        self.lead.is_property()
    }

    /// A code frame quotes it from a source file, perhaps for another error.
    pub(super) fn is_source(&self) -> bool {
        self.lead.is_source()
    }

    /// It closes what was opened above, and is the last line of it.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.head[0], b'}' | b']' | b')')
    }

    /// `node:internal/timers:519`, `/srv/app/build/index.js:41`.
    pub(super) fn is_place_in_source(&self) -> bool {
        self.tail == Tail::Number && !self.has_blank && PLACES.iter().any(|start| self.head.starts_with(start))
    }

    /// It begins as an error does that is printed by itself.
    pub(super) fn is_named(&self) -> bool {
        NAMES.iter().any(|name| self.head.starts_with(name))
    }

    /// It says that nobody caught the error.
    pub(super) fn is_uncaught(&self) -> bool {
        self.found[UNCAUGHT] || self.found[UNHANDLED]
    }
}

// === impl Tail ===

impl Tail {
    /// The tail when these bytes follow.
    fn after(self, bytes: &[u8]) -> Self {
        let digits = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        match (bytes.len().checked_sub(digits + 1).map(|at| bytes[at]), self) {
            (Some(b':'), _) | (None, Self::Colon | Self::Number) if digits > 0 => Self::Number,
            (Some(b':'), _) => Self::Colon,
            (None, tail) if digits == 0 => tail,
            _ => Self::Other,
        }
    }
}

/// Takes a byte into the longest beginning of `phrase` that the last bytes were, and says whether they are all of it.
fn advance(phrase: &[u8], matched: &mut usize, byte: u8) -> bool {
    // Whatever else could have begun stands in the phrase itself.
    while *matched > 0 && phrase[*matched] != byte {
        *matched = shorter(&phrase[..*matched]);
    }
    if phrase[*matched] == byte {
        *matched += 1;
    }
    let is_found = *matched == phrase.len();
    if is_found {
        *matched = shorter(phrase);
    }
    is_found
}

/// The next shorter beginning of a phrase that these bytes of it end with.
fn shorter(seen: &[u8]) -> usize {
    (0..seen.len()).rev().find(|length| seen.ends_with(&seen[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_is_looked_for() {
        for (index, phrase) in PHRASES.iter().enumerate() {
            for text in [phrase.to_vec(), [&phrase[..3], phrase].concat(), [b"EE[[cc", *phrase].concat()] {
                let mut line = Line::default();
                line.push(&text);
                assert!(line.found[index], "{}", phrase.escape_ascii());
            }
        }
    }

    #[test]
    fn a_code_alone_is_told_from_one_in_a_headline() {
        let codes = |text: &str| {
            let mut line = Line::default();
            line.push(text.as_bytes());
            line.codes
        };
        assert_eq!(codes("TypeError [ERR_INVALID_STATE]: x"), 0);
        assert_eq!(codes("throw new ERR_INVALID_STATE.TypeError('x')"), 0);
        assert_eq!(codes(r#"{"code":"ERR_INVALID_STATE","stack":"TypeError [ERR_INVALID_STATE]: x"}"#), 1);
        assert_eq!(codes("ERR_INVALID_STATERR_INVALID_STATE"), 2);
    }
}
