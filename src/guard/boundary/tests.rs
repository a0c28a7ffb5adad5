use proptest::prelude::*;

use super::*;
use crate::{
    event::HeartbeatForm,
    sse_decode::{Decoded, Decoder},
};

const LIMIT: usize = 1 << 20;

/// What a client reads, heartbeats of the form that clients can see left out.
fn decode(stream: &[u8]) -> Vec<Decoded> {
    let mut out = Vec::new();
    Decoder::new(LIMIT).push(stream, &mut out).unwrap();
    out.retain(|decoded| !matches!(decoded, Decoded::Event(event) if event.name.as_deref() == Some("ping")));
    out
}

/// The gap behind `stream`, found the slow way: by its lines.
fn gap_behind(stream: &[u8], hides_bom: bool) -> Option<Gap> {
    if BOM.starts_with(stream) && !stream.is_empty() && stream.len() < BOM.len() {
        return hides_bom.then_some(Gap::Events);
    }
    let text = stream.strip_prefix(BOM).unwrap_or(stream);
    let text = text.iter().map(|byte| char::from(*byte)).collect::<String>().replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<_> = text.split('\n').collect();
    if lines.pop() != Some("") {
        return None;
    }
    let block: Vec<_> = lines.rsplit(|line| line.is_empty()).next().unwrap_or_default().to_vec();
    if block.is_empty() {
        return Some(Gap::Events);
    }
    block.iter().all(|line| line.starts_with(':')).then_some(Gap::Comments)
}

/// Sends `chunks` with a heartbeat behind every one that `beats` names, where there is a gap; `beats[0]` is before the
/// first. Each step is compared with the slow way.
fn guarded(chunks: &[&[u8]], beats: &[bool], form: HeartbeatForm) -> Vec<u8> {
    let mut finder = Finder::new();
    let (mut read, mut sent) = (Vec::new(), Vec::new());
    let mut hides_bom = false;
    for (at, is_due) in beats.iter().enumerate() {
        if let Some(chunk) = at.checked_sub(1).and_then(|at| chunks.get(at)) {
            read.extend_from_slice(chunk);
            sent.extend_from_slice(&finder.push(Bytes::copy_from_slice(chunk)).bytes);
        }
        let gap = finder.gap();
        assert_eq!(gap, gap_behind(&read, hides_bom), "behind {:?}", String::from_utf8_lossy(&read));
        if let Some(gap) = gap.filter(|_| *is_due) {
            let form = if gap == Gap::Events { form } else { HeartbeatForm::Comment };
            hides_bom |= read.is_empty();
            sent.extend_from_slice(&finder.insert(form.frame()));
        }
    }
    sent.extend_from_slice(&finder.finish());
    sent
}

fn sent(steps: &[&str]) -> String {
    let mut finder = Finder::new();
    let mut sent = Vec::new();
    for step in steps {
        match *step {
            "<beat>" => sent.extend_from_slice(&finder.insert(Bytes::from_static(b":\n"))),
            step => sent.extend_from_slice(&finder.push(Bytes::copy_from_slice(step.as_bytes())).bytes),
        }
    }
    sent.extend_from_slice(&finder.finish());
    String::from_utf8(sent).unwrap()
}

fn gap(stream: &str) -> Option<Gap> {
    let mut finder = Finder::new();
    finder.push(Bytes::copy_from_slice(stream.as_bytes()));
    finder.gap()
}

#[test]
fn a_gap_is_behind_a_blank_line_of_any_kind() {
    for end in ["\n\n", "\r\r", "\r\n\r\n", "\n\r", "\n\r\n", "\r\n\n", "\r\n\r", "\r\r\n"] {
        assert_eq!(gap(&format!("data: x{end}")), Some(Gap::Events), "{end:?}");
    }
    for inside in
        ["data: x", "data: x\n", "data: x\r", "data: x\r\n", "d", "event: x\n", "id: 1\n", "retry: 1\n", "junk\n"]
    {
        assert_eq!(gap(inside), None, "{inside:?}");
        assert_eq!(gap(&format!("data: x\n\n{inside}")), None, "{inside:?}");
    }
    assert_eq!(gap(""), Some(Gap::Events));
}

// Apps send `: ping` and one newline, and then nothing for long: without this they would go without heartbeats.
#[test]
fn behind_a_comment_line_is_room_for_comments_only() {
    assert_eq!(gap(": ping\n"), Some(Gap::Comments));
    assert_eq!(gap("data: x\r\n\r\n:\r\n: ping\r"), Some(Gap::Comments));
    assert_eq!(gap(": ping"), None);
    assert_eq!(gap(": ping\ndata: x\n"), None);
    assert_eq!(gap("data: x\n: ping\n"), None);
    assert_eq!(gap(": ping\n\n"), Some(Gap::Events));
}

// The LF would be a blank line of its own behind the heartbeat, for which some clients deliver an empty message.
#[test]
fn a_crlf_that_comes_in_two_is_no_blank_line_behind_the_heartbeat() {
    let first = "data: a\r\n\r\n";
    assert_eq!(sent(&["data: a\r\n\r", "<beat>", "\ndata: b\r\n\r\n"]), format!("{first}:\ndata: b\r\n\r\n"));
    assert_eq!(sent(&["data: a\r\n\r", "<beat>", "\n", "<beat>", "data: b"]), format!("{first}:\n:\ndata: b"));
    assert_eq!(sent(&["data: a\r\n\r", "<beat>", "<beat>", "\n\r\n"]), format!("{first}:\n:\n\r\n"));
    // The pieces of a whole line end are left alone.
    assert_eq!(sent(&["data: a\r\n\r", "\n", "<beat>"]), format!("{first}:\n"));
}

#[test]
fn a_stream_of_crs_stays_one() {
    assert_eq!(sent(&["data: a\r\r", "<beat>", "data: b\r\r", "<beat>"]), "data: a\r\r:\ndata: b\r\r:\n");
}

#[test]
fn a_mark_behind_a_heartbeat_is_dropped_and_one_before_it_stays() {
    assert_eq!(sent(&["<beat>", "\u{feff}data: a\n\n"]), ":\ndata: a\n\n");
    assert_eq!(sent(&["\u{feff}", "<beat>", "data: a\n\n"]), "\u{feff}:\ndata: a\n\n");
    // Only the first is a mark.
    assert_eq!(sent(&["<beat>", "\u{feff}\u{feff}data: a\n\n"]), ":\n\u{feff}data: a\n\n");
}

#[test]
fn half_a_mark_is_never_followed_by_a_heartbeat() {
    let mut finder = Finder::new();
    assert_eq!(finder.push(Bytes::from_static(b"\xef\xbb")).bytes, "\u{feff}".as_bytes()[..2]);
    assert_eq!(finder.gap(), None);
    finder.push(Bytes::from_static(b"\xbf"));
    assert_eq!(finder.gap(), Some(Gap::Events));

    // Held back behind a heartbeat, another may go before it; and what is no mark in the end goes out.
    let mut finder = Finder::new();
    finder.insert(Bytes::from_static(b":\n"));
    assert_eq!(finder.push(Bytes::from_static(b"\xef\xbb")).bytes, "");
    assert_eq!(finder.gap(), Some(Gap::Events));
    assert_eq!(finder.push(Bytes::from_static(b"x: y\n\n")).bytes, &b"\xef\xbbx: y\n\n"[..]);
    assert_eq!(finder.finish(), "");
}

#[test]
fn the_last_gap_of_a_chunk_and_its_events_are_found() {
    let piece = |chunk: &'static str| {
        let Piece { bytes, events, last_gap } = Finder::new().push(Bytes::from_static(chunk.as_bytes()));
        (last_gap.map(|at| std::str::from_utf8(&bytes[..at]).unwrap().to_owned()), events)
    };
    assert_eq!(piece("data: a\r\n\r\ndata: b"), (Some("data: a\r\n\r\n".to_owned()), 1));
    assert_eq!(piece("data: a\n\n: x\n\nid: 1\n\nevent: x\n\ndata\n\n: y\n").1, 2);
    assert_eq!(piece("data: a\ndata: b\n"), (None, 0));
}

#[test]
fn what_an_end_would_lose_is_known() {
    let is_mid_event = |stream: &'static str| {
        let mut finder = Finder::new();
        finder.push(Bytes::from_static(stream.as_bytes()));
        finder.is_mid_event()
    };
    for whole in ["", "data: x\n\n", ": ping", ": ping\n", "data: x\n\nretry: 3000\n", "junk: x\n"] {
        assert!(!is_mid_event(whole), "{whole:?}");
    }
    for half in ["data: x", "data: x\n", "dat", "id: 1\n", "event: x", "data: x\n: ping\n"] {
        assert!(is_mid_event(half), "{half:?}");
    }
}

/// Streams of everything that matters to the finder, in any order.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&'static [u8]] = &[
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b":",
        b": c",
        b"data",
        b"data: x",
        b"datax",
        b"event: e",
        b"id: 1",
        b"retry: 5",
        b"x",
        b" ",
        BOM,
        b"\xef",
        b"\xbb",
        b"\xef\xbb",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..24).prop_map(|words| words.concat())
}

fn cut(stream: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.extend([0, stream.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| stream[pair[0]..pair[1]].to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    // The promise of the whole module.
    #[test]
    fn heartbeats_change_nothing_that_a_client_reads(
        stream in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
        beats in prop::collection::vec(any::<bool>(), 26),
        form in prop::sample::select(vec![HeartbeatForm::Comment, HeartbeatForm::CommentBlock, HeartbeatForm::Event]),
    ) {
        let chunks = cut(&stream, &cuts);
        let chunks: Vec<_> = chunks.iter().map(Vec::as_slice).collect();
        let sent = guarded(&chunks, &beats, form);
        prop_assert_eq!(decode(&sent), decode(&stream), "sent {:?}", String::from_utf8_lossy(&sent));
    }

    #[test]
    fn without_heartbeats_the_bytes_are_the_apps(
        stream in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let chunks = cut(&stream, &cuts);
        let chunks: Vec<_> = chunks.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(guarded(&chunks, &[false; 26], HeartbeatForm::Comment), stream);
    }

    // The drain ends streams there.
    #[test]
    fn a_stream_ended_at_the_last_gap_ends_between_events(
        stream in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let mut finder = Finder::new();
        let (mut sent, mut events) = (Vec::new(), 0);
        for chunk in cut(&stream, &cuts) {
            let piece = finder.push(Bytes::from(chunk));
            events += piece.events;
            if let Some(at) = piece.last_gap {
                let whole = [&sent, &piece.bytes[..at]].concat();
                prop_assert_eq!(gap_behind(&whole, false), Some(Gap::Events));
                let delivered = decode(&whole).iter().filter(|it| matches!(it, Decoded::Event(_))).count();
                prop_assert_eq!(delivered as u64, events);
            }
            sent.extend_from_slice(&piece.bytes);
        }
        prop_assert_eq!(decode(&sent).iter().filter(|it| matches!(it, Decoded::Event(_))).count() as u64, events);
    }
}
