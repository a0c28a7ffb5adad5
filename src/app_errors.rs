//! The app's own invalid-state errors, counted in what it prints: `ERR_INVALID_STATE`, `Controller is already closed`.
//!
//! One error is several lines, and more than one of them names it. This is how Node prints one that nobody caught:
//!
//! ```text
//!  node:internal/webstreams/readablestream:1070                                  a place in the source …
//!        throw new ERR_INVALID_STATE.TypeError('Controller is already closed');  … and what stands there: no error
//!        ^
//!
//!  TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed    the headline
//!      at ReadableStreamDefaultController.enqueue (node:internal/…:1070:13)
//!      at Timeout._onTimeout (/srv/app/build/index.js:41:16) {
//!    code: 'ERR_INVALID_STATE'                                                   its code, once more
//!  }
//! ```
//!
//! `console.error(error)` prints the same without the first four lines; loggers print the message, the headline and the
//! code in any order, on one line or one below the other; some print the message alone.
//!
//! So errors are counted as *reports*: a report has at most one headline, one message and one code. A line that names
//! the error belongs to the report above it if that is not over yet and lacks what the line has; else it begins the next
//! one. A report is over with the first line that is not indented. One line is one error, whatever is in it. Right below
//! a report may stand more about the same error:
//!
//! - its code, also some lines further down: every line may have a time stamp before it, or another process may have
//!   spoken in between;
//! - the error itself below what the app had to say about it: `console.error('failed: ' + error); console.error(error)`;
//! - Node's last words, where an error is logged and thrown again, or logged by a monitor;
//! - the error once more, or twice, behind `⨯ uncaughtException:`. That is how Next.js prints all that nobody caught.
//!
//! The rule is a state machine over bytes: how the output is cut into chunks makes no difference, colours are passed
//! over, and a line without end takes no memory.

use self::line::{Line, Mention};

mod line;
mod plain;

/// How many lines below a report its code may stand: the longest traces that people set (`--stack-trace-limit`), with the
/// traces of a few causes.
const CODE_WITHIN: u32 = 256;

/// Counts the errors in one output of the app; each output has its own.
#[derive(Debug, Default)]
pub struct ErrorCounter {
    text: plain::Plain,
    line: Line,
    /// The last one that was counted.
    report: Option<Report>,
    /// The line before was a place in a source file, and this one quotes it.
    is_quote: bool,
}

/// What is known of an error's report so far.
#[derive(Debug)]
struct Report {
    has_headline: bool,
    has_message: bool,
    has_code: bool,
    /// It began with the name of the error, and with no word of the app's.
    is_named: bool,
    /// It began by saying that nobody caught it.
    is_uncaught: bool,
    /// Lines since it began.
    age: u32,
    place: Place,
}

/// Where the next line stands, seen from a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In it, perhaps.
    Inside,
    /// Right below its closing bracket.
    Below,
    /// Below the place in a source file with which Node begins its last words.
    AtSource,
    /// Below the line of source that is quoted there.
    AtQuote,
    /// Somewhere else.
    Past,
}

// === impl ErrorCounter ===

impl ErrorCounter {
    /// Takes the next bytes of the output, and gives the number of errors whose first line ended in them.
    pub fn push(&mut self, bytes: &[u8]) -> u64 {
        let mut errors = 0;
        for &byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                self.text = plain::Plain::default();
                errors += u64::from(self.end_line());
            } else if self.text.is_visible(byte) && self.line.push(byte) {
                errors += u64::from(self.end_line());
            }
        }
        errors
    }

    /// Takes the end of the output, whose last line may have none.
    pub fn finish(&mut self) -> u64 {
        let errors = u64::from(self.end_line());
        *self = Self::default();
        errors
    }

    /// Whether the line that ends here begins a report.
    fn end_line(&mut self) -> bool {
        let line = self.line.take();
        if line.is_blank() {
            return false;
        }
        let mention = line.mention(self.is_quote);
        self.is_quote = line.is_place_in_source();
        if let Some(report) = &mut self.report {
            report.age = report.age.saturating_add(1);
            if mention.is_some_and(|mention| report.takes(mention, &line)) {
                report.place = Place::after(&line);
                return false;
            }
            if mention.is_none() {
                report.place = report.place.next(&line);
            }
        }
        let Some(mention) = mention else { return false };
        self.report = Some(Report::new(mention, &line));
        true
    }
}

// === impl Report ===

impl Report {
    fn new(mention: Mention, line: &Line) -> Self {
        let mut report = Self {
            has_headline: false,
            has_message: false,
            has_code: false,
            is_named: line.is_named(),
            is_uncaught: line.is_uncaught(),
            age: 0,
            place: Place::after(line),
        };
        report.note(mention);
        report
    }

    /// Takes a line in, if it is about the same error.
    fn takes(&mut self, mention: Mention, line: &Line) -> bool {
        let is_again = matches!(mention, Mention::Headline { .. }) && self.is_told_again(line);
        if is_again {
            // With all that belongs to it.
            self.has_code = false;
        }
        let is_taken = is_again || self.lacks(mention, line);
        if is_taken {
            self.note(mention);
        }
        is_taken
    }

    /// Whether a headline tells the same error once more.
    fn is_told_again(&self, line: &Line) -> bool {
        match self.place {
            Place::AtQuote => true,
            Place::Inside if self.age == 1 && !self.is_named && line.is_named() => true,
            Place::Inside | Place::Below => !self.is_uncaught && line.is_uncaught(),
            Place::AtSource | Place::Past => false,
        }
    }

    /// Whether a line has what is still missing.
    fn lacks(&self, mention: Mention, line: &Line) -> bool {
        let is_inside = self.place == Place::Inside;
        let is_near = match mention {
            Mention::Headline { .. } => is_inside && !self.has_headline,
            // Loggers say it above the details and once more in them; what is not indented is another error's.
            Mention::Message => is_inside && (line.is_indented() || !self.has_message && !self.has_headline),
            Mention::Code { is_property } => is_inside || is_property && self.has_headline && self.age <= CODE_WITHIN,
        };
        is_near && !(mention.has_code() && self.has_code)
    }

    fn note(&mut self, mention: Mention) {
        self.has_code |= mention.has_code();
        match mention {
            Mention::Headline { .. } => self.has_headline = true,
            Mention::Message => self.has_message = true,
            Mention::Code { .. } => {}
        }
    }
}

// === impl Place ===

impl Place {
    /// Below a line of the report.
    fn after(line: &Line) -> Self {
        if line.is_closing() { Self::Below } else { Self::Inside }
    }

    /// Below a line that does not name the error.
    fn next(self, line: &Line) -> Self {
        match self {
            Self::Inside if line.is_indented() => Self::Inside,
            Self::Inside if line.is_closing() => Self::Below,
            Self::Inside | Self::Below if line.is_place_in_source() => Self::AtSource,
            Self::AtSource => Self::AtQuote,
            // The mark below what is quoted.
            Self::AtQuote if line.is_indented() => Self::AtQuote,
            Self::Inside | Self::Below | Self::AtQuote | Self::Past => Self::Past,
        }
    }
}

#[cfg(test)]
mod tests;
