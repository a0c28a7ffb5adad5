//! Event streams: read, written, and kept alive by somebody else.

use std::time::Duration;

use bytes::Bytes;

use super::Cut;
use crate::{
    event::{self, Event, Frame, HeartbeatForm},
    guard::boundary::{Finder, Gap},
    sse_decode::{Decoded, DecodedEvent, Decoder, TooLarge},
};

/// More than any input.
const NO_LIMIT: usize = 1 << 30;

/// How a stream is cut never changes what it says, and it says what a plain reading of the standard says.
pub fn decoder(data: &[u8]) {
    let Some(cut) = Cut::new(data) else { return };
    for limit in [NO_LIMIT, usize::from(cut.choice)] {
        let whole = decode(limit, [cut.stream]);
        assert_eq!(whole, decode(limit, cut.chunks()), "cut into chunks");
        assert_eq!(whole, decode(limit, cut.stream.chunks(1)), "byte by byte");
        if limit == NO_LIMIT {
            assert_eq!(whole.events, read_plainly(cut.stream), "read plainly");
        }
        for decoded in &whole.events {
            let Decoded::Event(event) = decoded else { continue };
            assert!(event.data.len() <= limit.saturating_mul(3), "a byte becomes at most U+FFFD, which has three");
        }
    }
}

/// What goes in comes out on the other side of the wire, and nothing else does: neither in front of it nor behind it.
pub fn encoder(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    // No text holds this byte.
    let mut texts = rest.split(|byte| *byte == 0xff).map(|text| String::from_utf8_lossy(text).into_owned());
    let mut next = |is_there: bool| is_there.then(|| texts.next()).flatten();
    let (id, name) = (next(choice & 1 != 0), next(choice & 2 != 0));
    let event = Event { id, name, data: next(true).unwrap_or_default() };
    let is_bad = |text: &Option<String>, bad: &[char]| text.as_ref().is_some_and(|text| text.contains(bad));
    let is_refused = is_bad(&event.id, &['\r', '\n', '\0']) || is_bad(&event.name, &['\r', '\n']);
    let expected = DecodedEvent {
        id: event.id.clone(),
        last_event_id: event.id.clone().unwrap_or_else(|| "before".to_owned()),
        name: event.name.clone().filter(|name| !name.is_empty()),
        data: event.data.replace("\r\n", "\n").replace('\r', "\n"),
    };
    match event.encode() {
        Err(_) => assert!(is_refused, "{event:?} could have been sent"),
        Ok(block) => {
            assert!(!is_refused, "{event:?} can't be sent");
            let around = [b"id: before\ndata: 1\n\n", &*block, b"data: 2\n\n"].concat();
            let all = decode(NO_LIMIT, [&*around]).events;
            assert_eq!((all.len(), &all[1]), (3, &Decoded::Event(expected.clone())));
        }
    }

    // What the sources send: never refused, and framed for a chunked body.
    let frame = event::encoded(&event);
    check_chunk(&frame);
    let retry = Duration::from_millis(u64::from(choice) * 1000);
    let read = decode(NO_LIMIT, [&*frame.with_retry(retry).block()]).events;
    assert_eq!((read.len(), &read[0]), (2, &Decoded::Retry(retry)));
    check_chunk(&frame.with_retry(retry));
    if event.name.is_none() {
        let done = decode(NO_LIMIT, [&*event::done(&frame).block()]).events;
        let [Decoded::Event(done)] = &*done else { panic!("{done:?} is not one event") };
        assert_eq!((done.name.as_deref(), &done.data), (Some("done"), &expected.data));
    }
}

/// Heartbeats at every place that allows them leave what a client reads as it is; without any the bytes are untouched.
pub fn boundary(data: &[u8]) {
    let Some(cut) = Cut::new(data) else { return };
    let form = match cut.choice % 3 {
        0 => HeartbeatForm::Comment,
        1 => HeartbeatForm::CommentBlock,
        _ => HeartbeatForm::Event,
    };
    let read = |stream: &[u8]| {
        let mut decoded = decode(NO_LIMIT, [stream]).events;
        // The one heartbeat that clients can see is told apart by its name.
        decoded.retain(|decoded| !matches!(decoded, Decoded::Event(event) if event.name.as_deref() == Some("ping")));
        decoded
    };
    let plain = read(cut.stream);
    let bytes = cut.stream.chunks(1).collect::<Vec<_>>();
    for chunks in [cut.chunks(), bytes] {
        for beats in [Beats::None, Beats::All(form), Beats::Some(form, cut.choice)] {
            let sent = guarded(&chunks, beats);
            assert_eq!(read(&sent), plain, "{beats:?}");
            assert!(!matches!(beats, Beats::None) || sent == cut.stream, "bytes were changed");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Beats {
    None,
    All(HeartbeatForm),
    /// At those places whose bit is set, eight of them over and over.
    Some(HeartbeatForm, u8),
}

/// What the guard sends of these chunks.
fn guarded(chunks: &[&[u8]], beats: Beats) -> Vec<u8> {
    let mut finder = Finder::new();
    let (mut sent, mut events) = (Vec::new(), 0);
    for at in 0..=chunks.len() {
        if let Some(chunk) = at.checked_sub(1).and_then(|at| chunks.get(at)) {
            let piece = finder.push(Bytes::copy_from_slice(chunk));
            events += piece.events;
            if let Some(gap) = piece.last_gap {
                let ended = [&sent[..], &piece.bytes[..gap]].concat();
                assert!(!decode(NO_LIMIT, [&*ended]).is_mid_event, "an end in the last gap would lose something");
            }
            sent.extend_from_slice(&piece.bytes);
        }
        let form = match beats {
            Beats::All(form) => form,
            Beats::Some(form, bits) if bits >> (at % 8) & 1 != 0 => form,
            Beats::Some(..) | Beats::None => continue,
        };
        match finder.gap() {
            Some(Gap::Events) => sent.extend_from_slice(&finder.insert(form.frame())),
            Some(Gap::Comments) => sent.extend_from_slice(&finder.insert(HeartbeatForm::Comment.frame())),
            None => {}
        }
    }
    sent.extend_from_slice(&finder.finish());
    if matches!(beats, Beats::None) {
        let delivered = decode(NO_LIMIT, [&*sent]).events;
        let delivered = delivered.iter().filter(|decoded| matches!(decoded, Decoded::Event(_))).count();
        assert_eq!(events, delivered as u64, "events are counted as they are delivered");
    }
    sent
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    events: Vec<Decoded>,
    verdict: Result<(), TooLarge>,
    last_event_id: String,
    is_mid_event: bool,
}

fn decode<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    let mut verdict = Ok(());
    for chunk in chunks {
        verdict = verdict.and(decoder.push(chunk, &mut events));
    }
    let last_event_id = decoder.last_event_id().to_owned();
    // Behind an overflow nothing is promised but that it stays one.
    let is_mid_event = verdict.is_ok() && decoder.is_mid_event();
    Outcome { events, verdict, last_event_id, is_mid_event }
}

/// The standard's own steps (WHATWG HTML, section 9.2.6), on the whole stream at once.
fn read_plainly(stream: &[u8]) -> Vec<Decoded> {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<_> = text.split('\n').collect();
    // What no line end has followed yet is no line.
    lines.pop();
    let (mut out, mut data, mut name, mut own, mut last) = (Vec::new(), String::new(), "", None, String::new());
    for line in lines {
        if line.is_empty() {
            if let Some(id) = &own {
                last.clone_from(id);
            }
            if let Some(data) = data.strip_suffix('\n') {
                let name = (!name.is_empty()).then(|| name.to_owned());
                let event = DecodedEvent { id: own.take(), last_event_id: last.clone(), name, data: data.into() };
                out.push(Decoded::Event(event));
            }
            (data, name, own) = (String::new(), "", None);
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data = data + value + "\n",
            "event" => name = value,
            "id" if !value.contains('\0') => own = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                out.extend(value.parse().ok().map(|ms| Decoded::Retry(Duration::from_millis(ms))));
            }
            _ => {}
        }
    }
    out
}

/// The chunk holds the block, its length and the line ends of RFC 9112, section 7.1.
fn check_chunk(frame: &Frame) {
    let (chunk, block) = (frame.chunk(), frame.block());
    let size = format!("{:X}\r\n", block.len());
    assert_eq!(chunk, [size.as_bytes(), &block, b"\r\n"].concat());
    assert!(frame.len() == block.len() && !frame.is_empty());
}
