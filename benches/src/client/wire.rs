//! Reads a stream as its client: head, chunks, lines, events. Copies nothing unless a piece is cut in two.

use memchr::{memchr, memmem};

use crate::payload::{self, Stamp};

/// No chunk of a run is that long; a size beyond it is a wrong reading.
const CHUNK_MAX: usize = 1024 * 1024;

/// How far a stream has been read.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    state: State,
    /// The beginning of a head, a size line or a chunk whose rest has not come.
    carry: Vec<u8>,
    /// The beginning of a line whose rest is in the next chunk.
    line: Vec<u8>,
    /// Of the data line of the event being read.
    stamp: Option<Stamp>,
    has_data: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Head,
    Size,
    Data(usize),
    /// Without chunks, until the connection is closed.
    Raw,
    Ended,
}

/// What a stream brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An event of ours.
    Event(Stamp),
    /// A comment: a heartbeat.
    Beat,
    /// An event without a stamp, which nobody has sent.
    Odd,
}

/// The bytes are not those of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Wire {
    /// Takes bytes off the socket, and tells what was in them.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut hear: impl FnMut(Heard)) -> Result<(), Broken> {
        if self.carry.is_empty() {
            let used = self.parse(bytes, &mut hear)?;
            self.carry.extend_from_slice(&bytes[used..]);
        } else {
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(bytes);
            let used = self.parse(&carry, &mut hear)?;
            if used < carry.len() {
                self.carry = carry.split_off(used);
            }
        }
        Ok(())
    }

    /// Whether the body has come to its end.
    pub(crate) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    fn parse(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard)) -> Result<usize, Broken> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.state {
                State::Head => {
                    let Some(end) = memmem::find(rest, b"\r\n\r\n") else { return Ok(at) };
                    let is_chunked = is_chunked(&rest[..end])?;
                    at += end + 4;
                    self.state = if is_chunked { State::Size } else { State::Raw };
                }
                State::Size => {
                    let Some(end) = memmem::find(rest, b"\r\n") else { return Ok(at) };
                    let size = chunk_size(&rest[..end])?;
                    at += end + 2;
                    self.state = if size == 0 { State::Ended } else { State::Data(size) };
                }
                State::Data(size) => {
                    if rest.len() < size + 2 {
                        return Ok(at);
                    }
                    if &rest[size..size + 2] != b"\r\n" {
                        return Err(Broken);
                    }
                    self.text(&rest[..size], hear);
                    at += size + 2;
                    self.state = State::Size;
                }
                State::Raw => {
                    self.text(rest, hear);
                    return Ok(bytes.len());
                }
                State::Ended => return Ok(bytes.len()),
            }
        }
    }

    fn text(&mut self, mut text: &[u8], hear: &mut impl FnMut(Heard)) {
        while let Some(end) = memchr(b'\n', text) {
            if self.line.is_empty() {
                self.line(&text[..end], hear);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&text[..end]);
                self.line(&line, hear);
            }
            text = &text[end + 1..];
        }
        self.line.extend_from_slice(text);
    }

    fn line(&mut self, line: &[u8], hear: &mut impl FnMut(Heard)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                hear(self.stamp.take().map_or(Heard::Odd, Heard::Event));
            }
        } else if line[0] == b':' {
            hear(Heard::Beat);
        } else if line.starts_with(b"data:") {
            self.has_data = true;
            self.stamp = payload::stamp(line);
        }
    }
}

/// Whether the body comes in chunks, if the head is that of a stream.
fn is_chunked(head: &[u8]) -> Result<bool, Broken> {
    let head = head.to_ascii_lowercase();
    let is_stream = head.starts_with(b"http/1.1 200") && memmem::find(&head, b"text/event-stream").is_some();
    is_stream.then(|| memmem::find(&head, b"transfer-encoding: chunked").is_some()).ok_or(Broken)
}

fn chunk_size(line: &[u8]) -> Result<usize, Broken> {
    let digits = std::str::from_utf8(line).map_err(|_| Broken)?;
    usize::from_str_radix(digits, 16).ok().filter(|size| *size <= CHUNK_MAX).ok_or(Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn stamped(seq: u64) -> (Stamp, Vec<u8>) {
        let stamp = Stamp { seq, at: 1_000 + seq };
        let mut json = Vec::new();
        payload::write_json(&mut json, 1, stamp, 150);
        (stamp, payload::event(stamp, &json))
    }

    // Counting losses is what the tool is for: a parser that misses an event at a boundary would invent some.
    #[test]
    fn every_event_is_found_wherever_the_bytes_are_cut() {
        let (first, one) = stamped(1);
        let (second, two) = stamped(2);
        let mut bytes = HEAD.to_vec();
        bytes.extend(payload::chunk(&one));
        bytes.extend(payload::chunk(b":\n"));
        // One event in two chunks.
        bytes.extend(payload::chunk(&two[..40]));
        bytes.extend(payload::chunk(&two[40..]));
        bytes.extend_from_slice(b"0\r\n\r\n");
        for cut in 0..bytes.len() {
            let mut wire = Wire::default();
            let mut heard = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                wire.feed(part, |what| heard.push(what)).unwrap();
            }
            assert_eq!(heard, [Heard::Event(first), Heard::Beat, Heard::Event(second)], "cut at {cut}");
            assert!(wire.is_ended());
        }
    }

    // nchan's streams end with their connection.
    #[test]
    fn a_stream_without_chunks_is_read_as_well() {
        let (first, one) = stamped(1);
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n\n".to_vec();
        bytes.extend(one);
        for cut in 0..bytes.len() {
            let mut wire = Wire::default();
            let mut heard = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                wire.feed(part, |what| heard.push(what)).unwrap();
            }
            assert_eq!(heard, [Heard::Beat, Heard::Event(first)], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        let mut wire = Wire::default();
        assert_eq!(wire.feed(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", |_| {}), Err(Broken));
        let mut wire = Wire::default();
        wire.feed(HEAD, |_| {}).unwrap();
        assert_eq!(wire.feed(b"xyz\r\n", |_| {}), Err(Broken));
    }

    #[test]
    fn an_event_that_nobody_has_sent_is_odd() {
        let mut wire = Wire::default();
        let mut heard = Vec::new();
        wire.feed(HEAD, |what| heard.push(what)).unwrap();
        wire.feed(&payload::chunk(b"event: upstream-error\ndata: {}\n\n"), |what| heard.push(what)).unwrap();
        assert_eq!(heard, [Heard::Odd]);
    }
}
