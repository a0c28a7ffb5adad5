//! The one encoder: whatever text comes from outside enters a stream through here.
//!
//! An event is encoded once and its bytes are shared by all subscribers. The format is that of the WHATWG HTML standard,
//! section 9.2.6 "Interpreting an event stream"; `sse_decode` reads back what this file writes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// An event to be sent: id + type + data.
///
/// The fields hold what the client shall see, not what is on the wire. `data` may hold any text; a CR, LF or CRLF in it
/// arrives as one LF, because the format has no other newline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What the client sends back as `Last-Event-ID`; `Some("")` makes it forget the one it has.
    pub id: Option<String>,
    /// The event's type; `None` or empty is `message`, which `onmessage` gets.
    pub name: Option<String>,
    /// The payload.
    pub data: String,
}

/// A field that can't be on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// CR and LF would end the line; a client ignores an id with NUL in it, and so would lose its place.
    #[error("the event's id holds a CR, LF or NUL")]
    Id,
    /// CR and LF would end the line.
    #[error("the event's name holds a CR or LF")]
    Name,
}

/// The bytes that keep intermediaries from cutting a quiet stream.
///
/// Each form breaks some client: hand-written parsers that split at blank lines lose the event after a `comment`, and
/// libraries that dispatch at every blank line deliver an empty message for a `comment-block`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum HeartbeatForm {
    /// `:` and one newline.
    #[default]
    Comment,
    /// `:` and a blank line.
    CommentBlock,
    /// An event `ping` with `{}` as its data, which scripts can see.
    Event,
}

// === impl Event ===

impl Event {
    /// The event as one block: `event:`, `id:`, `data:` lines and a blank line, ended by LF only.
    ///
    /// # Errors
    /// When the id holds a CR, LF or NUL, or the name a CR or LF.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let Self { id, name, data } = self;
        if id.as_deref().is_some_and(|id| id.contains(['\r', '\n', '\0'])) {
            return Err(EncodeError::Id);
        }
        if name.as_deref().is_some_and(|name| name.contains(['\r', '\n'])) {
            return Err(EncodeError::Name);
        }

        // `event: ` + `id: ` + `data: ` + four newlines are 21 bytes; further lines of data grow the block.
        let mut block = String::with_capacity(
            data.len() + name.as_ref().map_or(0, String::len) + id.as_ref().map_or(0, String::len) + 21,
        );
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            push_field(&mut block, "event: ", name);
        }
        match id.as_deref() {
            Some("") => block.push_str("id:\n"),
            Some(id) => push_field(&mut block, "id: ", id),
            None => {}
        }
        for line in Lines(Some(data)) {
            // The space stays in front of an empty line too: hand-written parsers look for `data: `.
            push_field(&mut block, "data: ", line);
        }
        block.push('\n');
        Ok(Bytes::from(block))
    }
}

// === impl HeartbeatForm ===

impl HeartbeatForm {
    /// The bytes of one heartbeat; they may stand between events only.
    pub fn frame(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Comment => b":\n",
            Self::CommentBlock => b":\n\n",
            Self::Event => b"event: ping\ndata: {}\n\n",
        })
    }
}

/// The hint how long a client waits before it comes back, in whole milliseconds.
///
/// A line without the blank one: it goes in front of a block, since a block of its own makes some clients deliver an
/// empty message.
pub fn retry_line(retry: Duration) -> Bytes {
    Bytes::from(format!("retry: {}\n", retry.as_millis()))
}

/// An id made of the content alone, so that every replica, also after a restart, knows it again: the first 128 bits of
/// the BLAKE3 hash of `data` as 32 lower-case hexadecimal digits.
pub fn content_id(data: &str) -> String {
    blake3::hash(data.as_bytes()).to_hex()[..32].to_owned()
}

/// Bytes of a stream as they go onto the wire, made once and shared by all who get them: as a chunk of a chunked body, with
/// the bare bytes inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    chunk: Bytes,
}

/// What ends a chunk (RFC 9112, section 7.1).
const CHUNK_END: &[u8] = b"\r\n";

// === impl Frame ===

impl Frame {
    /// The frame whose bytes are `parts`, one after the other; not empty, since an empty chunk would end the body.
    pub fn new(parts: &[&[u8]]) -> Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(length > 0, "an empty frame would end a chunked body");
        let size_line = format!("{length:X}\r\n");
        let mut chunk = BytesMut::with_capacity(size_line.len() + length + CHUNK_END.len());
        chunk.extend_from_slice(size_line.as_bytes());
        for part in parts {
            chunk.extend_from_slice(part);
        }
        chunk.extend_from_slice(CHUNK_END);
        Self { chunk: chunk.freeze() }
    }

    /// As a chunk.
    pub fn chunk(&self) -> Bytes {
        self.chunk.clone()
    }

    /// The same, to be looked at.
    pub fn chunk_bytes(&self) -> &[u8] {
        &self.chunk
    }

    /// Bare.
    pub fn block(&self) -> Bytes {
        self.chunk.slice(self.size_line()..self.chunk.len() - CHUNK_END.len())
    }

    /// The same, to be looked at.
    pub fn block_bytes(&self) -> &[u8] {
        &self.chunk[self.size_line()..self.chunk.len() - CHUNK_END.len()]
    }

    /// Length of the bare bytes.
    pub fn len(&self) -> usize {
        self.chunk.len() - self.size_line() - CHUNK_END.len()
    }

    /// Length of the chunk's size line. Looked for in its few bytes, since a field for it would cost eight in every frame.
    fn size_line(&self) -> usize {
        self.chunk.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1)
    }

    /// Never: see [`Frame::new`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same with a `retry:` line in front, in one block: a block of its own makes some clients deliver an empty message.
    pub fn with_retry(&self, retry: Duration) -> Self {
        Self::new(&[&retry_line(retry), &self.block()])
    }
}

/// The bytes of an event whose fields are known to be sound: made by us, or read by the decoder, which can't yield others.
///
/// A field that is not is left out rather than that a panic ends the source: the data still arrives.
pub fn encoded(event: &Event) -> Frame {
    let block = event.encode().unwrap_or_else(|_| {
        let bare = Event { id: None, name: None, data: event.data.clone() };
        bare.encode().expect("an event without id and name has nothing that can't be encoded")
    });
    Frame::new(&[&block])
}

/// The event that ends a job: the id and data of its last snapshot under the name `done`.
pub fn done(snapshot: &Frame) -> Frame {
    Frame::new(&[b"event: done\n", &snapshot.block()])
}

/// The event that tells that a job is not there any more.
pub fn gone() -> Frame {
    Frame::new(&[b"event: gone\ndata: {}\n\n"])
}

/// JSON on one line, otherwise as it was written. Between the tokens of a JSON text a newline is only white space, and
/// inside its strings there is none.
pub fn on_one_line(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    text.trim().replace(['\r', '\n'], "")
}

/// An id longer than this can't come back to us: it takes its part of a request's head, which is bounded.
pub const ID_BYTES_MAX: usize = 1024;

/// What a client comes back with that has this id as its last: a header's value has no blanks around it, and no control
/// bytes (RFC 9110, section 5.5). `None` when it can't come back with it.
pub fn as_returned(id: &str) -> Option<&str> {
    let back = id.trim_matches([' ', '\t']);
    let is_sound = back.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control());
    (!back.is_empty() && back.len() <= ID_BYTES_MAX && is_sound).then_some(back)
}

/// What our own ids begin with, and an app's hardly do: one that is taken for ours is not shown to the app any more, and
/// many number their events `20261122-42`.
const OWN_ID: &str = "sidestream-";

/// An id for an event of an app that gives none: an epoch, which is new with each source, and a number within it.
pub fn own_id(epoch: u32, number: u64) -> String {
    format!("{OWN_ID}{epoch:08x}-{number}")
}

/// Whether an id is one of ours, from whichever process.
pub fn is_own_id(id: &str) -> bool {
    id.strip_prefix(OWN_ID).and_then(|id| id.split_once('-')).is_some_and(|(epoch, number)| {
        let is_epoch = epoch.len() == 8 && epoch.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_epoch && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn push_field(block: &mut String, field: &str, value: &str) {
    block.push_str(field);
    block.push_str(value);
    block.push('\n');
}

/// The lines of a text where CRLF, CR and LF are one newline each. Unlike `str::lines` it keeps the empty line after a
/// trailing newline, and knows the lone CR, which would otherwise let data write fields of its own.
struct Lines<'a>(Option<&'a str>);

// === impl Lines ===

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.take()?;
        let Some(end) = text.find(['\r', '\n']) else {
            return Some(text);
        };
        let newline = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        self.0 = Some(&text[end + newline..]);
        Some(&text[..end])
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use proptest::prelude::*;

    use super::*;
    use crate::sse_decode::{Decoded, DecodedEvent, Decoder};

    fn event(id: Option<&str>, name: Option<&str>, data: &str) -> Event {
        Event { id: id.map(str::to_owned), name: name.map(str::to_owned), data: data.to_owned() }
    }

    fn encoded(id: Option<&str>, name: Option<&str>, data: &str) -> String {
        String::from_utf8(event(id, name, data).encode().unwrap().to_vec()).unwrap()
    }

    fn decode(stream: &[u8]) -> Vec<Decoded> {
        let mut out = Vec::new();
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(stream, &mut out).unwrap();
        assert!(!decoder.is_mid_event(), "a block ends with its blank line");
        out
    }

    fn one_newline(data: &str) -> String {
        data.replace("\r\n", "\n").replace('\r', "\n")
    }

    #[test]
    fn a_block_is_event_id_data_and_a_blank_line() {
        assert_eq!(encoded(Some("7"), Some("done"), "{}"), "event: done\nid: 7\ndata: {}\n\n");
        assert_eq!(encoded(None, None, "x"), "data: x\n\n");
    }

    #[test]
    fn some_ids_come_back_otherwise_or_not_at_all() {
        let (longest, longer) = ("x".repeat(ID_BYTES_MAX), "x".repeat(ID_BYTES_MAX + 1));
        for (id, back) in [
            ("7", Some("7")),
            (" 7\t", Some("7")),
            ("a b\tc", Some("a b\tc")),
            ("zürich", Some("zürich")),
            (&longest, Some(&*longest)),
            (&longer, None),
            ("a\u{1}b", None),
            ("a\u{7f}", None),
            ("  ", None),
            ("", None),
        ] {
            assert_eq!(as_returned(id), back, "{id:?}");
        }
    }

    #[test]
    fn an_id_of_ours_is_known_and_an_apps_is_not_taken_for_one() {
        for id in [own_id(0, 1), own_id(u32::MAX, u64::MAX)] {
            assert!(is_own_id(&id), "{id}");
        }
        for id in
            ["", "20261122-42", "deadbeef-7", "sidestream-", "sidestream-7", "sidestream-20261122-", "x-20261122-42"]
        {
            assert!(!is_own_id(id), "{id}");
        }
    }

    #[test]
    fn an_empty_id_is_sent_because_it_resets_the_clients() {
        assert_eq!(encoded(Some(""), None, "x"), "id:\ndata: x\n\n");
    }

    #[test]
    fn an_empty_name_is_the_default_and_needs_no_line() {
        assert_eq!(encoded(None, Some(""), "x"), "data: x\n\n");
    }

    #[test]
    fn every_kind_of_newline_starts_one_data_line() {
        assert_eq!(
            encoded(None, None, "a\rb\nc\r\nd\n\re\r\n"),
            "data: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: e\ndata: \n\n"
        );
    }

    #[test]
    fn data_that_looks_like_a_field_stays_data() {
        assert_eq!(
            encoded(None, None, "a\revent: evil\n\nid: 1"),
            "data: a\ndata: event: evil\ndata: \ndata: id: 1\n\n"
        );
    }

    #[test]
    fn what_would_break_the_line_is_refused() {
        for id in ["a\rb", "a\nb", "a\0b", "\n"] {
            assert_eq!(event(Some(id), None, "x").encode(), Err(EncodeError::Id), "{id:?}");
        }
        for name in ["a\rb", "a\nb", "\r\n"] {
            assert_eq!(event(None, Some(name), "x").encode(), Err(EncodeError::Name), "{name:?}");
        }
    }

    #[test]
    fn heartbeats_have_the_bytes_that_the_flag_promises() {
        assert_eq!(HeartbeatForm::Comment.frame(), ":\n");
        assert_eq!(HeartbeatForm::CommentBlock.frame(), ":\n\n");
        assert_eq!(HeartbeatForm::Event.frame(), "event: ping\ndata: {}\n\n");
        assert_eq!(HeartbeatForm::default(), HeartbeatForm::Comment);
    }

    #[test]
    fn heartbeat_forms_are_spelled_as_the_flag_is_documented() {
        let names: Vec<String> = HeartbeatForm::value_variants()
            .iter()
            .filter_map(|form| form.to_possible_value())
            .map(|value| value.get_name().to_owned())
            .collect();
        assert_eq!(names, ["comment", "comment-block", "event"]);
    }

    #[test]
    fn a_comment_heartbeat_is_invisible_to_a_client() {
        assert_eq!(decode(b":\n:\n\n"), []);
    }

    #[test]
    fn a_retry_line_joins_the_block_behind_it() {
        let line = retry_line(Duration::from_micros(3_210_999));
        assert_eq!(line, "retry: 3210\n");
        let block = event(Some("1"), None, "x").encode().unwrap();
        let decoded = decode(&[line, block].concat());
        assert_eq!(decoded[0], Decoded::Retry(Duration::from_millis(3210)));
        assert_eq!(decoded.len(), 2);
    }

    // The id is a promise between replicas and versions, so it is pinned to the published vector for empty input.
    #[test]
    fn a_content_id_is_the_first_half_of_blake3() {
        assert_eq!(content_id(""), "af1349b9f5f9a1a6a0404dea36dcc949");
        assert_ne!(content_id("a"), content_id("b"));
    }

    fn hostile_text() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            Just("\r"),
            Just("\n"),
            Just("\r\n"),
            Just("\u{feff}"),
            Just("\u{2028}"),
            Just("\u{85}"),
            Just("\0"),
            Just(" "),
            Just(":"),
            Just("data: "),
            Just("id: 9"),
            Just("event"),
            Just("ä"),
            Just("😀"),
            Just("{\"a\":1}"),
        ];
        prop_oneof![prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat()), any::<String>(),]
    }

    proptest! {
        #[test]
        fn a_client_reads_what_was_put_in(
            id in prop::option::of(hostile_text()),
            name in prop::option::of(hostile_text()),
            data in hostile_text(),
        ) {
            let event = Event { id, name, data };
            let bad_id = event.id.as_ref().is_some_and(|id| id.contains(['\r', '\n', '\0']));
            let bad_name = event.name.as_ref().is_some_and(|name| name.contains(['\r', '\n']));
            match event.encode() {
                Ok(block) => {
                    prop_assert!(!bad_id && !bad_name);
                    prop_assert!(!block.contains(&b'\r'));
                    let expected = DecodedEvent {
                        id: event.id.clone(),
                        last_event_id: event.id.unwrap_or_default(),
                        name: event.name.filter(|name| !name.is_empty()),
                        data: one_newline(&event.data),
                    };
                    prop_assert_eq!(decode(&block), [Decoded::Event(expected)]);
                }
                Err(EncodeError::Id) => prop_assert!(bad_id),
                Err(EncodeError::Name) => prop_assert!(bad_name && !bad_id),
            }
        }
    }
}
