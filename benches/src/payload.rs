//! The event that all servers deliver: the JSON that an app would answer, with a number and a time in it.
//!
//! Both have a fixed width, so that every event of a run is equally long, and a client finds them without parsing JSON.

use std::io::Write;

use memchr::memmem;

const SEQ: &[u8] = b"\"seq\":\"";
const SEQ_DIGITS: usize = 10;
const AT: &[u8] = b"\",\"at\":\"";
const AT_DIGITS: usize = 19;

/// What an event says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its number: one more than that of the event before, on the same topic.
    pub(crate) seq: u64,
    /// When it was written, on the clock of [`crate::clock`].
    pub(crate) at: u64,
}

/// Appends the JSON of an event: `size` bytes, or what the fields need if that is more.
pub(crate) fn write_json(out: &mut Vec<u8>, id: u32, stamp: Stamp, size: usize) {
    let start = out.len();
    let Stamp { seq, at } = stamp;
    let fields = write!(out, r#"{{"id":"v{id}","status":"processing","seq":"{seq:010}","at":"{at:019}","pad":""#);
    debug_assert!(fields.is_ok(), "writing into a Vec does not fail");
    let pad = size.saturating_sub(out.len() - start + 2);
    out.resize(out.len() + pad, b'x');
    out.extend_from_slice(b"\"}");
}

/// An event as a server writes it that gives its own ids.
pub(crate) fn event(stamp: Stamp, json: &[u8]) -> Vec<u8> {
    let mut event = format!("id: {}\ndata: ", stamp.seq).into_bytes();
    event.extend_from_slice(json);
    event.extend_from_slice(b"\n\n");
    event
}

/// The same in one chunk of a chunked body.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// Finds the stamp in a line of an event.
pub(crate) fn stamp(line: &[u8]) -> Option<Stamp> {
    let line = &line[memmem::find(line, SEQ)? + SEQ.len()..];
    let (seq, line) = line.split_at_checked(SEQ_DIGITS)?;
    let (at, _) = line.strip_prefix(AT)?.split_at_checked(AT_DIGITS)?;
    Some(Stamp { seq: number(seq)?, at: number(at)? })
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, digit| {
        digit.is_ascii_digit().then(|| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_way_through_json() {
        let stamped = Stamp { seq: 42, at: 1_234_567_890_123 };
        let mut json = Vec::new();
        write_json(&mut json, 7, stamped, 200);
        assert_eq!(json.len(), 200);
        assert_eq!(stamp(&json), Some(stamped));
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["status"], "processing");
    }

    #[test]
    fn a_line_without_a_stamp_has_none() {
        assert_eq!(stamp(br#"data: {"error":"the app does not answer"}"#), None);
        assert_eq!(stamp(br#"data: {"seq":"00000000"#), None);
    }
}
