//! The app's own invalid-state errors, counted in what it prints: `ERR_INVALID_STATE`, `Controller is already closed`, and
//! what Deno says instead.
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
//! So errors are counted as *reports*: a report has at most one headline, one code, and one message at each indentation.
//! A line that names the error belongs to the report above it if that is not over yet and lacks what the line has; else it
//! begins the next one. A report is over with the first line that is not indented. One line is one error, whatever is in
//! it, and source that is quoted with its line's number is none.
//!
//! The indentation is what tells two kinds of loggers apart. Those of objects say the message again deeper in the object,
//! or in two properties of it, which is the same error until the object is left. Those of lines say it at one indentation
//! time after time, and no other line need ever end the report.
//!
//! Right below a report may stand more about the same error:
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

mod lead;
mod line;
mod plain;

/// How many lines below its first one a report's code may stand, or a property of the same object: the longest traces
/// that people set (`--stack-trace-limit`), with the traces of a few causes.
const LINES_MAX: u32 = 256;

/// How often an error is told again: by itself below the app's words, and twice by Next.js. Who says `uncaughtException`
/// of every error would else be heard once.
const AGAIN_MAX: u8 = 3;

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
    /// How often it was told again.
    again: u8,
    messages: Messages,
    /// Lines since it began.
    age: u32,
    place: Place,
}

/// Where a report's messages stand.
#[derive(Debug, Default)]
struct Messages {
    /// A bit for each indentation; what is wider than the last one is as wide.
    indents: u64,
    /// The least indentation of a line that names the error.
    edge: u8,
    /// Some line since then was indented less: what was opened around it is closed.
    is_left: bool,
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
        let mut rest = bytes;
        while let Some((&first, after)) = rest.split_first() {
            if matches!(first, b'\n' | b'\r') {
                self.text = plain::Plain::default();
                errors += u64::from(self.end_line());
                rest = after;
            } else if self.text.is_visible(first) {
                // Up to the next byte that needs a look of its own.
                let end = after.iter().position(|byte| matches!(*byte, b'\n' | b'\r' | plain::ESC));
                let (run, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1).min(self.line.room()));
                if self.line.push(run) {
                    errors += u64::from(self.end_line());
                }
                rest = after;
            } else {
                rest = after;
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
            report.messages.pass(line.indent());
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
            again: 0,
            messages: Messages::at(line.indent()),
            age: 0,
            place: Place::after(line),
        };
        report.note(mention, line);
        report
    }

    /// Takes a line in, if it is about the same error.
    fn takes(&mut self, mention: Mention, line: &Line) -> bool {
        let is_again = matches!(mention, Mention::Headline { .. }) && self.is_told_again(line);
        if is_again {
            // With all that belongs to it.
            self.has_code = false;
            self.again += 1;
        }
        let is_taken = is_again || self.lacks(mention, line);
        if is_taken {
            self.note(mention, line);
        }
        is_taken
    }

    /// Whether a headline tells the same error once more.
    fn is_told_again(&self, line: &Line) -> bool {
        match self.place {
            _ if self.again >= AGAIN_MAX => false,
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
            // What is not indented is another error's.
            Mention::Message => {
                let is_detail = line.is_indented() && (self.messages.lack(line.indent()) || self.is_about(line));
                is_inside && (is_detail || !self.has_message && !self.has_headline)
            }
            Mention::Code { is_property } => is_inside || is_property && self.has_headline && self.age <= LINES_MAX,
        };
        is_near && !(mention.has_code() && self.has_code)
    }

    /// Whether a line is a property of the object that the report stands in, or of one in that.
    fn is_about(&self, line: &Line) -> bool {
        line.is_property() && !self.messages.is_left && self.age <= LINES_MAX
    }

    fn note(&mut self, mention: Mention, line: &Line) {
        self.has_code |= mention.has_code();
        self.messages.stand_at(line.indent());
        match mention {
            Mention::Headline { .. } => self.has_headline = true,
            Mention::Message => {
                self.has_message = true;
                self.messages.add(line.indent());
            }
            Mention::Code { .. } => {}
        }
    }
}

// === impl Messages ===

impl Messages {
    /// None yet, in a report whose first line stands here.
    fn at(indent: u8) -> Self {
        Self { edge: indent, ..Self::default() }
    }

    fn add(&mut self, indent: u8) {
        self.indents |= Self::bit(indent);
    }

    /// Whether there is none at this indentation.
    fn lack(&self, indent: u8) -> bool {
        self.indents & Self::bit(indent) == 0
    }

    /// Passes a line, whatever it says.
    fn pass(&mut self, indent: u8) {
        self.is_left |= indent < self.edge;
    }

    /// Takes note of a line of the report.
    fn stand_at(&mut self, indent: u8) {
        if indent < self.edge {
            (self.edge, self.is_left) = (indent, false);
        }
    }

    fn bit(indent: u8) -> u64 {
        1 << indent.min(63)
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
            Self::Inside if line.is_indented() || line.is_source() => Self::Inside,
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
