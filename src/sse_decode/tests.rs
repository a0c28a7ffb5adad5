use proptest::prelude::*;
use sse_parse::SseParser;

use super::*;

const LIMIT: usize = 1 << 20;

/// What a stream came to, in the terms of the standard.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// type, data, last event id
    events: Vec<(String, String, String)>,
    retries: Vec<u64>,
    last_event_id: String,
}

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::new(LIMIT);
    let mut out = Vec::new();
    for chunk in chunks {
        decoder.push(chunk, &mut out).unwrap();
    }
    let mut outcome = Outcome { last_event_id: decoder.last_event_id().to_owned(), ..Outcome::default() };
    for decoded in out {
        match decoded {
            Decoded::Event(event) => {
                assert!(event.id.is_none() || event.id.as_ref() == Some(&event.last_event_id));
                let name = event.name.unwrap_or_else(|| "message".to_owned());
                outcome.events.push((name, event.data, event.last_event_id));
            }
            Decoded::Retry(retry) => outcome.retries.push(u64::try_from(retry.as_millis()).unwrap()),
        }
    }
    outcome
}

fn events(stream: &[u8]) -> Vec<DecodedEvent> {
    let mut out = Vec::new();
    Decoder::new(LIMIT).push(stream, &mut out).unwrap();
    out.into_iter().filter_map(|decoded| if let Decoded::Event(event) = decoded { Some(event) } else { None }).collect()
}

fn data(stream: &[u8]) -> Vec<String> {
    events(stream).into_iter().map(|event| event.data).collect()
}

/// rule, stream, events as (type, data, last event id), retries, last event id at the end
type Vector =
    (&'static str, &'static [u8], &'static [(&'static str, &'static str, &'static str)], &'static [u64], &'static str);

#[rustfmt::skip]
const VECTORS: &[Vector] = &[
    // Framing of lines.
    ("LF ends a line", b"data: a\ndata: b\n\n", &[("message", "a\nb", "")], &[], ""),
    ("CRLF is one line end", b"data: a\r\ndata: b\r\n\r\n", &[("message", "a\nb", "")], &[], ""),
    ("CR ends a line, also the last one", b"data: a\rdata: b\r\r", &[("message", "a\nb", "")], &[], ""),
    ("all line ends in one block", b"data: a\rdata: b\r\ndata: c\n\r\n", &[("message", "a\nb\nc", "")], &[], ""),
    ("LF CR is two line ends", b"data: a\n\rdata: b\n\n", &[("message", "a", ""), ("message", "b", "")], &[], ""),
    ("CR LF LF is a line end and a blank line", b"data: a\r\n\ndata: b\r\n\n", &[("message", "a", ""), ("message", "b", "")], &[], ""),
    ("CR CR LF is a line end and a blank line", b"data: a\r\r\ndata: b\n\n", &[("message", "a", ""), ("message", "b", "")], &[], ""),
    ("other separators of Unicode end no line", "data: a\u{2028}b\u{85}c\u{b}d\n\n".as_bytes(), &[("message", "a\u{2028}b\u{85}c\u{b}d", "")], &[], ""),
    ("blank lines alone are nothing", b"\n\r\n\r\n\r\r\n", &[], &[], ""),
    // Fields.
    ("several data lines are joined", b"data: YHOO\ndata: +2\ndata: 10\n\n", &[("message", "YHOO\n+2\n10", "")], &[], ""),
    ("one space after the colon goes", b"data:a\n\ndata: a\n\ndata:  a\n\n", &[("message", "a", ""), ("message", "a", ""), ("message", " a", "")], &[], ""),
    ("a tab after the colon stays", b"data:\ta\n\n", &[("message", "\ta", "")], &[], ""),
    ("the first colon divides", b"data: a:b: c\n\n", &[("message", "a:b: c", "")], &[], ""),
    ("a space before the colon makes another field", b"data : a\n\n", &[], &[], ""),
    ("a space before the name makes another field", b" data: a\n\n", &[], &[], ""),
    ("names are compared with their case", b"Data: a\nDATA: b\ndata: c\n\n", &[("message", "c", "")], &[], ""),
    ("a longer or shorter name is unknown", b"dat: a\ndataa: b\nevents: c\nretryy: 1\ni: 1\ndata: d\n\n", &[("message", "d", "")], &[], ""),
    ("a comment is ignored, also within a block", b": x\ndata: a\n:data: b\n:\ndata: c\n\n", &[("message", "a\nc", "")], &[], ""),
    ("a block of comments is nothing", b": ping\n\n:\n: more\n\n", &[], &[], ""),
    ("NUL is data like any other", b"data: a\0b\n\n", &[("message", "a\0b", "")], &[], ""),
    // Events.
    ("data without a colon is an empty line", b"data\n\ndata\ndata\n\n", &[("message", "", ""), ("message", "\n", "")], &[], ""),
    ("an empty data line delivers an empty event", b"data:\n\ndata: \n\n", &[("message", "", ""), ("message", "", "")], &[], ""),
    ("only one trailing newline goes", b"data: a\ndata:\ndata\n\n", &[("message", "a\n\n", "")], &[], ""),
    ("event sets the type for one block", b"event: add\ndata: a\n\ndata: b\n\n", &[("add", "a", ""), ("message", "b", "")], &[], ""),
    ("an empty type is message", b"event: add\nevent:\ndata: a\n\nevent\ndata: b\n\n", &[("message", "a", ""), ("message", "b", "")], &[], ""),
    ("the last type wins, after the data too", b"event: a\ndata: x\nevent: b\n\n", &[("b", "x", "")], &[], ""),
    ("a type without data is forgotten", b"event: a\n\ndata: x\n\n", &[("message", "x", "")], &[], ""),
    ("an unfinished block is discarded", b"data: a\n\ndata: b\n", &[("message", "a", "")], &[], ""),
    ("an unfinished line is discarded", b"data: a\n\ndata: b", &[("message", "a", "")], &[], ""),
    // Ids.
    ("an id holds until the next one", b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n", &[("message", "a", "1"), ("message", "b", "1"), ("message", "c", "2")], &[], "2"),
    ("an empty id resets", b"id: 1\ndata: a\n\nid\ndata: b\n\n", &[("message", "a", "1"), ("message", "b", "")], &[], ""),
    ("an id counts without an event", b"id: 9\n\n", &[], &[], "9"),
    ("an id without an event is in force for the next", b"id: 9\n\ndata: a\n\n", &[("message", "a", "9")], &[], "9"),
    ("an id with NUL is ignored", b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid: \0\ndata: c\n\n", &[("message", "a", "1"), ("message", "b", "1"), ("message", "c", "1")], &[], "1"),
    ("an id with NUL leaves the one before it", b"id: 1\nid: 2\0\ndata: a\n\n", &[("message", "a", "1")], &[], "1"),
    ("the last id of a block wins", b"id: 1\ndata: a\nid: 2\n\n", &[("message", "a", "2")], &[], "2"),
    ("an id of an unfinished block does not count", b"id: 1\n\nid: 2\ndata: a\n", &[], &[], "1"),
    // Retry.
    ("retry takes digits only", b"retry: 1500\nretry: 15a\nretry: -1\nretry: 1 \nretry:  1\nretry: 1.5\nretry: +1\n", &[], &[1500], ""),
    ("retry holds without its block's end", b"retry: 1\n", &[], &[1], ""),
    ("retry of nothing is ignored", b"retry\nretry:\nretry: \n\n", &[], &[], ""),
    ("retry with leading zeros is decimal", b"retry: 0010\nretry:0\n", &[], &[10, 0], ""),
    ("retry takes ASCII digits only", "retry: \u{0661}\u{ff11}\n".as_bytes(), &[], &[], ""),
    ("retry beyond all numbers is ignored", b"retry: 18446744073709551615\nretry: 18446744073709551616\n", &[], &[u64::MAX], ""),
    // Encoding.
    ("a byte order mark at the start goes", b"\xef\xbb\xbfdata: a\n\n", &[("message", "a", "")], &[], ""),
    ("a second byte order mark stays", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", &[], &[], ""),
    ("a later byte order mark stays", b"data: a\n\n\xef\xbb\xbfdata: b\n\n", &[("message", "a", "")], &[], ""),
    ("a byte order mark in a value stays", b"data: \xef\xbb\xbfa\n\n", &[("message", "\u{feff}a", "")], &[], ""),
    ("half a byte order mark is the start of a name", b"\xef\xbbdata: a\n\ndata: b\n\n", &[("message", "b", "")], &[], ""),
    ("half a byte order mark and a line end is a line", b"\xef\xbb\ndata: b\n\n", &[("message", "b", "")], &[], ""),
    ("a byte order mark alone before the blank line", b"\xef\xbb\xbf\ndata: b\n\n", &[("message", "b", "")], &[], ""),
    ("UTF-8 of every length", "id: ä\nevent: €\ndata: 😀\n\n".as_bytes(), &[("€", "😀", "ä")], &[], "ä"),
    ("an invalid byte becomes U+FFFD", b"event: \xfe\nid: \xfd\ndata: a\xffb\n\n", &[("\u{fffd}", "a\u{fffd}b", "\u{fffd}")], &[], "\u{fffd}"),
    ("a cut character becomes one U+FFFD", b"data: \xe2\x82\ndata: \xf0\x9f\x98\n\n", &[("message", "\u{fffd}\n\u{fffd}", "")], &[], ""),
    ("an overlong form is invalid", b"data: \xc0\x80\n\n", &[("message", "\u{fffd}\u{fffd}", "")], &[], ""),
];

fn expected(&(_, _, events, retries, last_event_id): &Vector) -> Outcome {
    let owned = |(name, data, id): &(&str, &str, &str)| ((*name).to_owned(), (*data).to_owned(), (*id).to_owned());
    Outcome {
        events: events.iter().map(owned).collect(),
        retries: retries.to_vec(),
        last_event_id: last_event_id.to_owned(),
    }
}

#[test]
fn every_rule_of_the_standard_holds() {
    for vector in VECTORS {
        assert_eq!(decode([vector.1]), expected(vector), "{}", vector.0);
    }
}

#[test]
fn every_rule_holds_wherever_the_stream_is_split() {
    for vector in VECTORS {
        assert_eq!(decode(vector.1.chunks(1)), expected(vector), "{}, byte by byte", vector.0);
        for middle in 0..=vector.1.len() {
            let (head, tail) = vector.1.split_at(middle);
            // The empty chunk in between must not count as anything.
            assert_eq!(decode([head, b"", tail]), expected(vector), "{}, split at {middle}", vector.0);
        }
    }
}

// The last event before a pause must not wait for the byte that tells CR from CRLF.
#[test]
fn a_lone_cr_dispatches_at_once() {
    let mut decoder = Decoder::new(LIMIT);
    let mut out = Vec::new();
    decoder.push(b"data: a\r\n\r", &mut out).unwrap();
    assert_eq!(out.len(), 1);
    assert!(!decoder.is_mid_event());
    decoder.push(b"\ndata: b\n\n", &mut out).unwrap();
    assert_eq!(out.len(), 2);
}

#[test]
fn only_the_id_of_its_own_block_belongs_to_an_event() {
    let ids: Vec<Option<String>> =
        events(b"id: 1\ndata: a\n\ndata: b\n\nid:\ndata: c\n\nid: x\0\ndata: d\n\nid: 9\n\ndata: e\n\n")
            .into_iter()
            .map(|event| event.id)
            .collect();
    assert_eq!(ids, [Some("1".to_owned()), None, Some(String::new()), None, None]);
}

#[test]
fn retries_and_events_keep_their_order() {
    let mut out = Vec::new();
    Decoder::new(LIMIT).push(b"data: a\nretry: 5\n\nretry: 6\n\n", &mut out).unwrap();
    assert_eq!(out[0], Decoded::Retry(Duration::from_millis(5)));
    assert!(matches!(&out[1], Decoded::Event(event) if event.data == "a"));
    assert_eq!(out[2], Decoded::Retry(Duration::from_millis(6)));
}

#[test]
fn a_cut_is_mid_event_when_a_client_would_have_got_more() {
    let mid = |stream: &[u8]| {
        let mut decoder = Decoder::new(LIMIT);
        decoder.push(stream, &mut Vec::new()).unwrap();
        decoder.is_mid_event()
    };
    for complete in [
        "",
        "data: a\n\n",
        "data: a\r\r",
        "data: a\n\r",
        ":",
        ": ping",
        ": ping\n",
        "retry: 1\n",
        "x: unknown\n",
        "unknown: y",
        "\u{feff}",
    ] {
        assert!(!mid(complete.as_bytes()), "{complete:?}");
    }
    for cut in [
        "d",
        "data",
        "data:",
        "data: a",
        "data: a\n",
        "data\n",
        "data: a\n\ndata:b\n",
        "data: a\n: ping\n",
        "event: x\n",
        "id: 1\n",
        "id: 1",
        "retry: 1",
    ] {
        assert!(mid(cut.as_bytes()), "{cut:?}");
    }
}

#[test]
fn an_event_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    let too_large = TooLarge { limit: 4 };
    for (stream, verdict) in [
        ("data: abcd\n\n", Ok(())),
        ("data: abcde\n\n", Err(too_large)),
        ("data: ab\ndata:c\n\n", Ok(())),
        ("data: ab\ndata:cd\n\n", Err(too_large)),
        ("data\ndata\ndata\ndata\ndata\n\n", Ok(())),
        ("data\ndata\ndata\ndata\ndata\ndata\n\n", Err(too_large)),
        ("event: abcd\nid: abcd\ndata: abcd\n\n", Ok(())),
        ("event: abcde\n", Err(too_large)),
        ("id: abcde", Err(too_large)),
        ("data: abcd\n\ndata: abcd\n\n", Ok(())),
        (": a long comment\nunknown-field: of any length\nretry: 0000000000000001\n\n", Ok(())),
    ] {
        let mut whole = Decoder::new(4);
        assert_eq!(whole.push(stream.as_bytes(), &mut Vec::new()), verdict, "{stream:?}");
        let mut split = Decoder::new(4);
        let result = stream.as_bytes().chunks(1).try_for_each(|byte| split.push(byte, &mut Vec::new()));
        assert_eq!(result, verdict, "{stream:?}, byte by byte");
    }
}

#[test]
fn after_an_overflow_nothing_more_is_believed() {
    let mut decoder = Decoder::new(4);
    let mut out = Vec::new();
    assert!(decoder.push(b"data: ok\n\ndata: too long\n\n", &mut out).is_err());
    assert_eq!(out.len(), 1, "what came before the event still counts");
    assert!(decoder.push(b"\ndata: x\n\n", &mut out).is_err());
    assert_eq!(out.len(), 1);
}

#[test]
fn endless_comments_and_unknown_fields_cost_no_memory() {
    let mut decoder = Decoder::new(64);
    let mut out = Vec::new();
    for start in [": ", "unknown", "unknown: ", "retry: "] {
        decoder.push(start.as_bytes(), &mut out).unwrap();
        for _ in 0..1000 {
            decoder.push(&[b'0'; 4096], &mut out).unwrap();
        }
        decoder.push(b"\n", &mut out).unwrap();
    }
    for _ in 0..100_000 {
        decoder.push(b":\nx: y\n", &mut out).unwrap();
    }
    assert_eq!(decoder.value.capacity() + decoder.data.capacity(), 0);
    assert_eq!(out, [Decoded::Retry(Duration::ZERO)]);
}

// A decoder that looks at the whole line again for every chunk would copy or scan half a million million bytes here,
// which takes minutes at best; this one is done in a moment.
#[test]
fn a_long_line_in_one_byte_chunks_takes_linear_time() {
    let line = [b"data: ".as_slice(), &[b'x'; LIMIT], b"\n\n"].concat();
    let start = tokio::time::Instant::now();
    assert_eq!(decode(line.chunks(1)).events[0].1.len(), LIMIT);
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
}

#[test]
fn many_small_events_in_one_chunk_all_come_out() {
    let stream: String = (0..2000).map(|n| format!("id: {n}\ndata: {n}\n\n")).collect();
    let all = data(stream.as_bytes());
    assert_eq!(all.len(), 2000);
    assert_eq!(all[1999], "1999");
}

/// The same outcome by the other implementation.
fn reference(stream: &[u8]) -> Outcome {
    let mut parser = SseParser::new();
    let mut outcome = Outcome::default();
    let mut updates = 0;
    for byte in stream.chunks(1) {
        parser.feed(byte);
        if parser.stats().retry_updates > updates {
            updates = parser.stats().retry_updates;
            outcome.retries.push(u64::try_from(parser.retry().unwrap().as_millis()).unwrap());
        }
        while let Some(event) = parser.next_event() {
            outcome.events.push((event.event, event.data, event.id));
        }
    }
    outcome.last_event_id = parser.last_event_id().to_owned();
    outcome
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        6 => Just("data"), 2 => Just("event"), 2 => Just("id"), 2 => Just("retry"), 1 => Just(""), 1 => Just("dat"),
        1 => Just("events"), 1 => Just("Data"), 1 => Just("\u{feff}data"),
    ];
    let colon = prop_oneof![4 => Just(": "), 2 => Just(":"), 1 => Just(""), 1 => Just(" :"), 1 => Just(":  ")];
    let value = prop_oneof![
        4 => "[a-zäß€😀:= ]{0,12}".prop_map(String::into_bytes),
        2 => "[0-9]{0,22}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => Just(b"a\0b".to_vec()),
        1 => Just(b"\xe2\x82".to_vec()),
        1 => Just("\u{feff}\u{2028}".into()),
    ];
    (name, colon, value).prop_map(|(name, colon, value)| [name.as_bytes(), colon.as_bytes(), &value].concat())
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        4 => Just(&b""[..]), 2 => Just(&b"\xef\xbb\xbf"[..]), 1 => Just(&b"\xef\xbb"[..]),
        1 => Just(&b"\xef\xbb\xbf\xef\xbb\xbf"[..]),
    ];
    let end = prop_oneof![Just(&b"\n"[..]), Just(&b"\r"[..]), Just(&b"\r\n"[..])];
    let lines = prop::collection::vec((prop_oneof![2 => line(), 1 => Just(Vec::new())], end), 0..24);
    (start, lines, prop::option::of(line())).prop_map(|(start, lines, cut)| {
        let mut stream = start.to_vec();
        for (line, end) in lines {
            stream.extend(line);
            stream.extend(end);
        }
        stream.extend(cut.unwrap_or_default());
        stream
    })
}

fn split<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(stream.len());
    let mut start = 0;
    cuts.into_iter().map(|end| &stream[mem::replace(&mut start, end)..end]).collect()
}

// What looked like a byte order mark and is none begins a line, whether it came in one piece or in several.
#[test]
fn half_a_mark_begins_a_line_however_it_is_cut() {
    for stream in [&b"\xef\xbb?"[..], b"\xef\xbb?\xbf", b"\xefdata: a", b"\xef\xbbxxxxxx"] {
        let mut whole = Decoder::new(LIMIT);
        let mut bytes = Decoder::new(LIMIT);
        whole.push(stream, &mut Vec::new()).unwrap();
        stream.chunks(1).for_each(|byte| bytes.push(byte, &mut Vec::new()).unwrap());
        assert_eq!(bytes.is_mid_event(), whole.is_mid_event(), "{:?}", stream.escape_ascii().to_string());
    }
}

// An id with a NUL is ignored; whether it is too long as well must not depend on what arrives together.
#[test]
fn a_long_id_with_a_nul_is_too_long_however_it_is_cut() {
    let stream = b"id: 123456\x00\ndata: a\n\n";
    for chunks in [stream.chunks(stream.len()), stream.chunks(1), stream.chunks(11)] {
        let mut decoder = Decoder::new(5);
        let verdicts: Vec<_> = chunks.map(|chunk| decoder.push(chunk, &mut Vec::new())).collect();
        assert_eq!(verdicts.last(), Some(&Err(TooLarge { limit: 5 })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn two_implementations_agree_on_any_stream(stream in stream(), cuts in any::<Vec<prop::sample::Index>>()) {
        let expected = reference(&stream);
        prop_assert_eq!(&decode([&stream[..]]), &expected);
        prop_assert_eq!(&decode(stream.chunks(1)), &expected);
        prop_assert_eq!(&decode(split(&stream, &cuts)), &expected);
    }

    #[test]
    fn two_implementations_agree_on_noise(
        stream in prop::collection::vec(prop::sample::select(&b"\r\n\r\n: :datid1\0\xef\xbb\xbf\xff"[..]), 0..200),
        cuts in any::<Vec<prop::sample::Index>>(),
    ) {
        let expected = reference(&stream);
        prop_assert_eq!(&decode([&stream[..]]), &expected);
        prop_assert_eq!(&decode(split(&stream, &cuts)), &expected);
    }

    #[test]
    fn the_limit_bounds_memory_and_never_depends_on_the_splits(
        stream in stream(),
        cuts in any::<Vec<prop::sample::Index>>(),
        limit in 0_usize..24,
    ) {
        let mut whole = (Decoder::new(limit), Vec::new());
        let mut pieces = (Decoder::new(limit), Vec::new());
        let verdict = whole.0.push(&stream, &mut whole.1);
        let mut verdict_of_pieces = Ok(());
        for chunk in split(&stream, &cuts) {
            verdict_of_pieces = verdict_of_pieces.and(pieces.0.push(chunk, &mut pieces.1));
            prop_assert!(pieces.0.data.len() <= limit + 1 && pieces.0.value.len() <= limit);
        }
        prop_assert_eq!(verdict, verdict_of_pieces);
        prop_assert_eq!(whole.1, pieces.1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // The promise of `is_mid_event`: where it is false, a new connection can go on with the rest.
    #[test]
    fn a_stream_cut_between_events_loses_nothing(stream in stream()) {
        let whole = decode([&stream[..]]);
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            let mut decoder = Decoder::new(LIMIT);
            decoder.push(head, &mut Vec::new()).unwrap();
            // Within a comment or a byte order mark the rest would read differently, though nothing was lost.
            if decoder.is_mid_event() || matches!(decoder.line, Line::Ignored) || decoder.bom.is_some() {
                continue;
            }
            let before = decode([head]);
            // The blank line keeps a later byte order mark from standing at the start of the new stream.
            let after = decode([b"\n", tail]);
            prop_assert_eq!([before.retries, after.retries].concat(), &whole.retries[..], "cut at {}", cut);
            let events = before.events.into_iter().chain(after.events).map(|(name, data, _)| (name, data));
            let all = whole.events.iter().map(|(name, data, _)| (name.clone(), data.clone()));
            prop_assert!(events.eq(all), "cut at {}", cut);
        }
    }
}
