//! Finds the places in an event stream where something may be put in without changing what a client reads.
//!
//! The stream's own bytes pass through untouched, however they are cut, with two exceptions that an insertion brings
//! with it: an LF whose CR went out before the insertion, and a byte order mark that comes after one. Both would mean
//! something else behind the inserted bytes than they did before them, so they are taken out; the line end and the mark
//! have done all they could do by then.

use std::mem;

use bytes::{Bytes, BytesMut};

/// Follows an event stream byte by byte. It stores nothing of it, and looks at each byte once.
#[derive(Debug)]
pub struct Finder {
    /// How many bytes of a byte order mark the stream has begun with; `None` when that is settled.
    bom: Option<usize>,
    /// Something was put in front of the first byte. A mark behind it would be a part of the first field's name, and
    /// cost the client that line; so it is held back until it is whole, and dropped.
    hides_bom: bool,
    line: Line,
    /// The most that the finished lines of this block are.
    block: Part,
    /// The last byte was a CR, which ended a line; an LF now belongs to it.
    after_cr: bool,
    /// Something was put behind that CR, so that its LF must not follow any more.
    hides_lf: bool,
    /// The last CR that we know the next byte of was followed by an LF.
    has_crlf: bool,
}

/// What may be put in where the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Between two events: any whole lines or blocks.
    Events,
    /// Behind comment lines of the app that no blank line has followed yet: further comment lines. A blank line would
    /// end the app's block, and some clients deliver something for every block.
    Comments,
}

/// What to send of a chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The bytes, in most cases those of the chunk; they may be none.
    pub bytes: Bytes,
    /// How many events these bytes complete.
    pub events: u64,
    /// Where in these bytes the last block ended. The stream may be ended there for good.
    pub last_gap: Option<usize>,
}

/// What a line is to its block, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Nothing,
    Comment,
    /// A field that is no part of the event: `retry`, or one that nobody knows.
    Other,
    /// `event` or `id`.
    Event,
    /// `data`: at its blank line the block is an event.
    Data,
}

/// Where in a line we are. `Name` with no bytes is the start of a line: ended there, it is the blank line.
#[derive(Clone, Copy, Debug)]
enum Line {
    Name { bytes: [u8; LONGEST_NAME], len: usize },
    Rest(Part),
}

/// `event`; longer names are of no interest, and so is `retry`.
const LONGEST_NAME: usize = 5;

const BOM: &[u8] = b"\xef\xbb\xbf";

// === impl Finder ===

impl Finder {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self {
            bom: Some(0),
            hides_bom: false,
            line: Line::START,
            block: Part::Nothing,
            after_cr: false,
            hides_lf: false,
            has_crlf: false,
        }
    }

    /// What may be put in now, behind the bytes of the pieces so far; `None` inside of an event.
    pub fn gap(&self) -> Option<Gap> {
        // A part of a mark that has gone out must be followed by the rest of it; one that is held back need not.
        let is_in_bom = self.bom.is_some_and(|seen| seen > 0) && !self.hides_bom;
        match (self.line, self.block) {
            _ if is_in_bom => None,
            (Line::Name { len: 0, .. }, Part::Nothing) => Some(Gap::Events),
            (Line::Name { len: 0, .. }, Part::Comment) => Some(Gap::Comments),
            _ => None,
        }
    }

    /// Whether the end of the stream here would lose something: an event without its blank line, or a line that may
    /// belong to one.
    pub fn is_mid_event(&self) -> bool {
        let in_line = match self.line {
            Line::Name { len, .. } => len > 0,
            Line::Rest(part) => part >= Part::Event,
        };
        in_line || self.block >= Part::Event
    }

    /// Reads the next bytes of the stream, and returns what to send of them.
    pub fn push(&mut self, chunk: Bytes) -> Piece {
        if chunk.is_empty() {
            return Piece::default();
        }
        let (bytes, read) = self.take_bom(chunk);
        let bytes = if mem::take(&mut self.hides_lf) && bytes.first() == Some(&b'\n') {
            self.after_cr = false;
            self.has_crlf = true;
            bytes.slice(1..)
        } else {
            bytes
        };
        let mut piece = Piece { events: 0, last_gap: None, bytes };
        self.scan(read, &mut piece);
        piece
    }

    /// Notes that `text` goes out here, and returns it as it has to be sent. To be called where [`Finder::gap`] allows
    /// it, with nothing but whole lines.
    pub fn insert(&mut self, text: Bytes) -> Bytes {
        debug_assert!(self.gap().is_some(), "nothing may be put in here");
        if self.bom == Some(0) {
            self.hides_bom = true;
        }
        if !self.after_cr || mem::replace(&mut self.hides_lf, true) || !self.has_crlf {
            return text;
        }
        // The LF that this app is about to send goes out now, because parsers written by hand look for the whole CRLF.
        // If it does not come, one too many has been sent, but behind a CR it is no line of its own.
        let mut whole = BytesMut::with_capacity(1 + text.len());
        whole.extend_from_slice(b"\n");
        whole.extend_from_slice(&text);
        whole.freeze()
    }

    /// What is left to be sent at the end of the stream.
    pub fn finish(&mut self) -> Bytes {
        match self.bom.take() {
            Some(seen) if self.hides_bom => Bytes::from_static(&BOM[..seen]),
            _ => Bytes::new(),
        }
    }

    /// Settles whether the stream begins with a byte order mark. Returns what goes out, and how much of that is read
    /// with it.
    fn take_bom(&mut self, chunk: Bytes) -> (Bytes, usize) {
        let Some(seen) = self.bom else { return (chunk, 0) };
        let more = chunk.iter().zip(&BOM[seen..]).take_while(|(byte, expected)| byte == expected).count();
        let hides = self.hides_bom;
        if seen + more == BOM.len() {
            self.bom = None;
            return if hides { (chunk.slice(more..), 0) } else { (chunk, more) };
        }
        if more == chunk.len() {
            self.bom = Some(seen + more);
            return if hides { (Bytes::new(), 0) } else { (chunk, more) };
        }
        // It was no mark, but the name of a field that nobody knows.
        self.bom = None;
        self.line.extend(&BOM[..seen]);
        if hides && seen > 0 {
            let mut whole = BytesMut::with_capacity(seen + chunk.len());
            whole.extend_from_slice(&BOM[..seen]);
            whole.extend_from_slice(&chunk);
            return (whole.freeze(), seen);
        }
        (chunk, 0)
    }

    /// Reads the bytes of `piece` from `read` on.
    fn scan(&mut self, read: usize, piece: &mut Piece) {
        let Piece { bytes, events, last_gap } = piece;
        let mut rest = &bytes[read..];
        while let Some(&first) = rest.first() {
            if mem::take(&mut self.after_cr) {
                self.has_crlf = first == b'\n';
                if self.has_crlf {
                    rest = &rest[1..];
                    self.note_gap(bytes.len() - rest.len(), last_gap);
                    continue;
                }
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                self.line.extend(rest);
                return;
            };
            self.line.extend(&rest[..end]);
            *events += u64::from(self.end_line());
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.note_gap(bytes.len() - rest.len(), last_gap);
        }
    }

    fn note_gap(&self, at: usize, last_gap: &mut Option<usize>) {
        if self.gap() == Some(Gap::Events) {
            *last_gap = Some(at);
        }
    }

    /// Ends a line; says whether that completed an event.
    fn end_line(&mut self) -> bool {
        match mem::replace(&mut self.line, Line::START).part() {
            Part::Nothing => mem::replace(&mut self.block, Part::Nothing) == Part::Data,
            part => {
                self.block = self.block.max(part);
                false
            }
        }
    }
}

impl Default for Finder {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Line ===

impl Line {
    const START: Self = Self::Name { bytes: [0; LONGEST_NAME], len: 0 };

    /// Takes a part of a line that holds no line end.
    fn extend(&mut self, part: &[u8]) {
        for byte in part {
            let Self::Name { bytes, len } = self else { return };
            if *byte == b':' {
                *self = Self::Rest(Part::named(&bytes[..*len], Part::Comment));
            } else if *len < LONGEST_NAME {
                bytes[*len] = *byte;
                *len += 1;
            } else {
                *self = Self::Rest(Part::Other);
            }
        }
    }

    /// What the line is, if it ends here. One without a colon is a field with an empty value.
    fn part(self) -> Part {
        match self {
            Self::Name { bytes, len } => Part::named(&bytes[..len], Part::Nothing),
            Self::Rest(part) => part,
        }
    }
}

// === impl Part ===

impl Part {
    fn named(name: &[u8], nameless: Self) -> Self {
        match name {
            b"" => nameless,
            b"data" => Self::Data,
            b"event" | b"id" => Self::Event,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests;
