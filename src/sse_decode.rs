//! Reads an event stream piece by piece: the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream".
//!
//! Bytes of a value go straight to where they belong, so that a line is never scanned twice, and what no client would
//! see (comments, unknown fields) is never stored. UTF-8 is decoded per value: every delimiter is ASCII, so no character
//! can reach over one, and the result is the same as decoding the stream first.

use std::{mem, time::Duration};

use thiserror::Error;

/// An incremental event stream parser. How the stream is cut into chunks never changes what comes out.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// How many bytes of a byte order mark the stream has begun with; `None` when that is settled.
    bom: Option<usize>,
    /// The last byte was a CR that ended a line; an LF now belongs to it.
    after_cr: bool,
    line: Line,
    /// The value of an `event` or `id` line so far; for bytes of `data` there is no stop in between.
    value: Vec<u8>,
    /// The data buffer: every finished `data` line with an LF behind it, and the unfinished one.
    data: Vec<u8>,
    name: Option<String>,
    /// The last valid `id` field of this block.
    id: Option<String>,
    last_event_id: String,
    overflowed: bool,
}

/// What a piece of the stream meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An event to deliver.
    Event(DecodedEvent),
    /// The new reconnection time. It holds from here, whether or not its block delivers an event.
    Retry(Duration),
}

/// An event as a client would have got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedEvent {
    /// The `id` field of this block, if it had a valid one; `Some("")` resets the client's.
    pub id: Option<String>,
    /// The id in force, this block's or an earlier one's; empty when there is none.
    pub last_event_id: String,
    /// The type as written; `None` is `message`.
    pub name: Option<String>,
    /// The `data` lines, joined by LF.
    pub data: String,
}

/// A value outgrew the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an event of the stream is larger than {limit} bytes")]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Where in a line we are. `Name` with no bytes is the start of a line: ended there, it is the blank line.
#[derive(Clone, Copy, Debug)]
enum Line {
    Name {
        bytes: [u8; LONGEST_NAME],
        len: usize,
    },
    Value {
        field: Field,
        at_start: bool,
    },
    /// A comment, an unknown field, or a value that turned out invalid.
    Ignored,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Data,
    Event,
    Id,
    /// The digits so far.
    Retry(Option<u64>),
}

/// `event` and `retry`.
const LONGEST_NAME: usize = 5;

const BOM: &[u8] = b"\xef\xbb\xbf";

// === impl Decoder ===

impl Decoder {
    /// A decoder at the start of a stream.
    ///
    /// `limit` bounds the bytes, as received, of one event's data, and of its name and its id. Comments and unknown
    /// fields may be of any length.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            bom: Some(0),
            after_cr: false,
            line: Line::START,
            value: Vec::new(),
            data: Vec::new(),
            name: None,
            id: None,
            last_event_id: String::new(),
            overflowed: false,
        }
    }

    /// Reads the next bytes and adds what they complete to `out`.
    ///
    /// # Errors
    /// When a value outgrows the limit. `out` has got everything before that event; the rest of the stream can't be
    /// trusted, so every later call fails as well.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<Decoded>) -> Result<(), TooLarge> {
        if self.overflowed {
            return Err(TooLarge { limit: self.limit });
        }
        let mut rest = self.strip_bom(chunk);
        while let Some(&first) = rest.first() {
            if mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                return self.extend_line(rest);
            };
            self.extend_line(&rest[..end])?;
            self.end_line(out)?;
            // A CR ends its line at once, without waiting for the LF that may follow: else the last event before a
            // pause would be late by the whole pause.
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
        }
        Ok(())
    }

    /// Whether the end of the stream at this point would lose something: a field of an event without its blank line, or
    /// the beginning of a line that is no comment.
    pub fn is_mid_event(&self) -> bool {
        let in_field = match self.line {
            Line::Name { len, .. } => len > 0,
            Line::Value { .. } => true,
            Line::Ignored => false,
        };
        in_field || !self.data.is_empty() || self.name.is_some() || self.id.is_some()
    }

    /// What a client would send as `Last-Event-ID` now; empty when there is none.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Takes one byte order mark off the start of the stream, however it is split.
    fn strip_bom<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let Some(seen) = self.bom else {
            return chunk;
        };
        let more = chunk.iter().zip(&BOM[seen..]).take_while(|(byte, expected)| byte == expected).count();
        if seen + more < BOM.len() && more == chunk.len() {
            self.bom = Some(seen + more);
            return &[];
        }
        self.bom = None;
        if seen + more == BOM.len() {
            return &chunk[more..];
        }
        if seen > 0 {
            // Bytes held back from earlier chunks were no mark: they begin a line, as if they had come with this chunk.
            let mut bytes = [0; LONGEST_NAME];
            bytes[..seen].copy_from_slice(&BOM[..seen]);
            self.line = Line::Name { bytes, len: seen };
        }
        chunk
    }

    /// Takes a part of a line that holds no line end.
    fn extend_line(&mut self, mut part: &[u8]) -> Result<(), TooLarge> {
        while let (Line::Name { bytes, len }, [byte, rest @ ..]) = (&mut self.line, part) {
            part = rest;
            if *byte == b':' {
                self.line = Line::after_colon(&bytes[..*len]);
                self.value.clear();
            } else if *len < LONGEST_NAME {
                bytes[*len] = *byte;
                *len += 1;
            } else {
                self.line = Line::Ignored;
            }
        }
        let Line::Value { field, at_start } = &mut self.line else {
            return Ok(());
        };
        if !part.is_empty() && mem::take(at_start) {
            part = part.strip_prefix(b" ").unwrap_or(part);
        }
        match field {
            Field::Data => append(&mut self.data, part, self.limit).or_else(|_| self.overflow()),
            Field::Event | Field::Id => {
                let nul = part.iter().position(|byte| *byte == 0).filter(|_| matches!(field, Field::Id));
                // What stands before the NUL has to fit all the same, or the verdict would depend on the cuts.
                if append(&mut self.value, &part[..nul.unwrap_or(part.len())], self.limit).is_err() {
                    return self.overflow();
                }
                if nul.is_some() {
                    self.line = Line::Ignored;
                }
                Ok(())
            }
            Field::Retry(digits) => {
                match add_digits(*digits, part) {
                    Some(sum) => *digits = sum,
                    None => self.line = Line::Ignored,
                }
                Ok(())
            }
        }
    }

    fn end_line(&mut self, out: &mut Vec<Decoded>) -> Result<(), TooLarge> {
        let field = match mem::replace(&mut self.line, Line::START) {
            Line::Name { len: 0, .. } => {
                self.dispatch(out);
                return Ok(());
            }
            // A line without a colon is a field with an empty value.
            Line::Name { bytes, len } => {
                self.value.clear();
                Field::named(&bytes[..len])
            }
            Line::Value { field, .. } => Some(field),
            Line::Ignored => None,
        };
        match field {
            Some(Field::Data) => {
                // The LF of the last line isn't part of the data, hence no check against it alone.
                if self.data.len() > self.limit {
                    return self.overflow();
                }
                self.data.push(b'\n');
            }
            Some(Field::Event) => self.name = Some(take_text(&mut self.value)).filter(|name| !name.is_empty()),
            Some(Field::Id) => self.id = Some(take_text(&mut self.value)),
            Some(Field::Retry(Some(ms))) => out.push(Decoded::Retry(Duration::from_millis(ms))),
            Some(Field::Retry(None)) | None => {}
        }
        Ok(())
    }

    /// The blank line. The id counts even when there is no data and hence no event.
    fn dispatch(&mut self, out: &mut Vec<Decoded>) {
        let id = self.id.take();
        if let Some(id) = &id {
            self.last_event_id.clone_from(id);
        }
        let name = self.name.take();
        if self.data.pop().is_none() {
            return;
        }
        let data = take_text(&mut self.data);
        out.push(Decoded::Event(DecodedEvent { id, last_event_id: self.last_event_id.clone(), name, data }));
    }

    /// Lets go of the buffers: the stream is over for us, the decoder may live on for a while.
    fn overflow(&mut self) -> Result<(), TooLarge> {
        self.overflowed = true;
        self.value = Vec::new();
        self.data = Vec::new();
        Err(TooLarge { limit: self.limit })
    }
}

// === impl Line ===

impl Line {
    const START: Self = Self::Name { bytes: [0; LONGEST_NAME], len: 0 };

    fn after_colon(name: &[u8]) -> Self {
        Field::named(name).map_or(Self::Ignored, |field| Self::Value { field, at_start: true })
    }
}

// === impl Field ===

impl Field {
    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"data" => Some(Self::Data),
            b"event" => Some(Self::Event),
            b"id" => Some(Self::Id),
            b"retry" => Some(Self::Retry(None)),
            _ => None,
        }
    }
}

fn append(buffer: &mut Vec<u8>, part: &[u8], limit: usize) -> Result<(), ()> {
    if part.len() > limit.saturating_sub(buffer.len()) {
        return Err(());
    }
    buffer.extend_from_slice(part);
    Ok(())
}

/// More digits of a number; `None` when it isn't one or doesn't fit, which the standard leaves open and we ignore.
fn add_digits(start: Option<u64>, part: &[u8]) -> Option<Option<u64>> {
    part.iter().try_fold(start, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(Some(sum.unwrap_or(0).checked_mul(10)?.checked_add(digit)?))
    })
}

/// The buffer as text, without a copy when it is valid UTF-8; what is not becomes U+FFFD.
fn take_text(buffer: &mut Vec<u8>) -> String {
    String::from_utf8(mem::take(buffer))
        .unwrap_or_else(|invalid| String::from_utf8_lossy(invalid.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests;
