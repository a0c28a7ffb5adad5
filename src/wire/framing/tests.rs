use proptest::prelude::*;

use super::*;

type Verdicts = Vec<Result<(), Disagreement>>;

fn observe(chunks: &[&[u8]]) -> Verdicts {
    let mut verdicts = Vec::new();
    let mut observer = Observer::new();
    for chunk in chunks {
        observer.push(chunk, |verdict| verdicts.push(verdict));
    }
    verdicts
}

fn one(text: &str) -> Verdicts {
    observe(&[text.as_bytes()])
}

#[test]
fn plain_and_pipelined_requests_agree() {
    assert_eq!(one("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), [Ok(())]);
    assert_eq!(one("GET / HTTP/1.0\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"), [Ok(()), Ok(())]);
    let post = "POST / HTTP/1.1\r\ncontent-length: 5\r\nContent-Length:5 \r\n\r\nGET /GET / HTTP/1.1\r\n\r\n";
    assert_eq!(one(post), [Ok(()), Ok(())]);
}

#[test]
fn the_head_after_a_chunked_body_is_found() {
    let text = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n\
                5;name=\"v\"\r\nhello\r\n1B \r\n0123456789\r\n\r\nGET /  HTTP!!\r\n0\r\nX-Sum: 1\r\n\r\n\
                GET / HTTP/1.1\r\n\r\n";
    assert_eq!(one(text), [Ok(()), Ok(())]);
}

#[test]
fn a_request_with_two_opinions_of_its_length_disagrees() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\n";
    for (fields, expected) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Disagreement::LengthAndEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Disagreement::LengthAndEncoding),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Disagreement::Length),
        ("Content-Length: 5, 5\r\n", Disagreement::Length),
        ("Content-Length: +5\r\n", Disagreement::Length),
        ("Content-Length: 0x5\r\n", Disagreement::Length),
        ("Content-Length:\r\n", Disagreement::Length),
        ("Content-Length: 18446744073709551616\r\n", Disagreement::Length),
        ("Content-Length: 9223372036854775808\r\n", Disagreement::Length),
        ("Transfer-Encoding: gzip, chunked\r\n", Disagreement::Encoding),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Disagreement::Encoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Disagreement::Encoding),
        ("Transfer-Encoding: chunked,\r\n", Disagreement::Encoding),
        ("Transfer-Encoding: \"chunked\"\r\n", Disagreement::Encoding),
        ("Transfer-Encoding : chunked\r\n", Disagreement::Field),
        ("X: a\r\n Transfer-Encoding: chunked\r\n", Disagreement::Field),
        ("no colon\r\n", Disagreement::Field),
        (": x\r\n", Disagreement::Field),
        ("X: a\n", Disagreement::BareLineFeed),
    ] {
        assert_eq!(one(&format!("{head}{fields}\r\nhello")), [Err(expected)], "{fields:?}");
    }
    assert_eq!(one("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), [Err(Disagreement::Encoding)]);
}

#[test]
fn a_malformed_request_line_disagrees() {
    for line in ["GET /", "GET  / HTTP/1.1", "GET / x HTTP/1.1", "GET / HTTP/2.0", " / HTTP/1.1", "GET / http/1.1"] {
        assert_eq!(one(&format!("{line}\r\n\r\n")), [Err(Disagreement::RequestLine)], "{line:?}");
    }
    assert_eq!(one("GET /a#b HTTP/1.1\r\n\r\n"), [Err(Disagreement::Target)]);
    assert_eq!(one("\nGET / HTTP/1.1\r\n\r\n"), [Err(Disagreement::BareLineFeed)]);
}

/// What follows such a body cannot be trusted to be where we think it is.
#[test]
fn a_malformed_chunk_makes_the_next_request_disagree() {
    for body in [
        "5\nhello\r\n",
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "5 5\rx\r\n",
        "5;\0\r\n",
        "10000000000000000\r\n",
        "ffffffffffffffff\r\n",
        "fffffffffffffffb\r\n",
        "0\r\n\n",
        "0\r\nX: y\n\r\n",
        "0\r\nno colon\r\n",
        "0\r\nX : y\r\n",
        "0\r\nX: \0\r\n",
    ] {
        let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET / HTTP/1.1\r\n\r\n");
        let verdicts = one(&text);
        assert_eq!(verdicts, [Ok(()), Err(Disagreement::Chunk)], "{body:?}");
    }
}

#[test]
fn a_head_of_endless_lines_is_given_up_and_keeps_no_memory() {
    for piece in ["x: 0123456789\r\n", "0123456789"] {
        let mut observer = Observer::new();
        let mut verdicts = Vec::new();
        observer.push(b"GET / HTTP/1.1\r\n", |verdict| verdicts.push(verdict));
        for _ in 0..HEAD_LIMIT / piece.len() {
            observer.push(piece.as_bytes(), |verdict| verdicts.push(verdict));
        }
        assert_eq!(verdicts, [Err(Disagreement::TooLarge)]);
        assert!(!observer.is_running());
        assert_eq!(observer.line.capacity(), 0);
    }
}

#[test]
fn nothing_is_followed_after_connect() {
    let mut observer = Observer::new();
    let mut verdicts = Vec::new();
    observer.push(b"CONNECT a:1 HTTP/1.1\r\n\r\n\x16\x03\x01", |verdict| verdicts.push(verdict));
    assert_eq!(verdicts, [Ok(())]);
    assert!(!observer.is_running());
}

#[test]
fn a_large_body_is_skipped_without_being_kept() {
    let mut observer = Observer::new();
    let mut heads = 0;
    observer.push(b"PUT / HTTP/1.1\r\nContent-Length: 68719476736\r\n\r\n", |_| heads += 1);
    let block = vec![b'\n'; 1 << 20];
    for _ in 0..65536 {
        observer.push(&block, |_| heads += 1);
    }
    assert_eq!(heads, 1);
    assert_eq!(observer.phase, Phase::RequestLine);
    assert_eq!(observer.line.capacity(), 0);
}

fn request() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("GET /a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        "[a-z\r\n:]{0,40}".prop_map(|body| format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())),
        prop::collection::vec("[a-z\r\n0]{1,20}", 0..4).prop_map(|chunks| {
            let body: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
            format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\nT: v\r\n\r\n")
        }),
    ]
}

proptest! {
    /// The verdicts depend on the bytes alone, not on how the network cut them.
    #[test]
    fn every_request_gets_one_verdict_however_it_is_cut(
        requests in prop::collection::vec(request(), 1..6),
        cuts in prop::collection::vec(1usize..30, 1..40),
    ) {
        let text = requests.concat();
        let mut rest = text.as_bytes();
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break }
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        prop_assert_eq!(observe(&pieces), vec![Ok(()); requests.len()]);
    }

    #[test]
    fn no_bytes_whatever_make_it_panic_or_speak_after_an_error(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8),
        text in "[GET POST/ HTTP/1.1:chunked,0-9\r\n]{0,200}",
    ) {
        let mut all: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        all.push(text.as_bytes());
        let verdicts = observe(&all);
        let errors = verdicts.iter().filter(|verdict| verdict.is_err()).count();
        prop_assert!(errors <= 1);
        prop_assert!(errors == 0 || verdicts.last().is_some_and(Result::is_err));
    }
}
