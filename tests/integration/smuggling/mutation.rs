//! Requests that nobody thought of: good ones, put behind each other and damaged at random, from a seed that a failure
//! names.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::corpus::SMUGGLED;

/// What is put into requests, and what stands in for what was there.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    "\x0b",
    "\0",
    ":",
    ";",
    ",",
    "0",
    "5",
    "-",
    "+",
    "0x",
    "chunked",
    "identity",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding : chunked\r\n",
    "transfer-encoding: x\r\n",
    "X: y\r\n z\r\n",
    "Host: b\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "GET /smuggled HTTP/1.1\r\n",
    "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "Connection: close\r\n",
    "\u{e9}",
    "ffffffffffffffff",
];

/// The bytes of seed `seed`.
pub(super) fn bytes(seed: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bytes = Vec::new();
    let count = rng.random_range(1..=4);
    for number in 0..count {
        bytes.extend(good(&mut rng, seed, number));
    }
    // A few are left as they are: they have to pass.
    for _ in 0..rng.random_range(0..=3) {
        damage(&mut rng, &mut bytes);
    }
    bytes
}

fn good(rng: &mut StdRng, seed: u64, number: u32) -> Vec<u8> {
    let body: String =
        (0..rng.random_range(0..40)).map(|_| *b"abc\r\n 05".choose(rng).expect("not empty") as char).collect();
    let target = format!("/{seed}/{number}");
    let blanks = *[" ", "", "\t", "  "].choose(rng).expect("not empty");
    let head = |method: &str, lines: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost:{blanks}a.example\r\nX-A: b\r\n{lines}\r\n")
    };
    let text = match rng.random_range(0..4) {
        0 => head("GET", ""),
        1 => head("PUT", &format!("Content-Length:{blanks}{}\r\n", body.len())) + &body,
        2 => head("POST", &format!("Content-Length: {}\r\n", SMUGGLED.len())) + SMUGGLED,
        _ => {
            let (first, second) = body.split_at(body.len() / 2);
            let chunks: String = [first, second, SMUGGLED]
                .iter()
                .filter(|chunk| !chunk.is_empty())
                .map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()))
                .collect();
            let trailer = if rng.random_bool(0.3) { "X-Sum: 1\r\n" } else { "" };
            head("POST", "Transfer-Encoding: chunked\r\n") + &chunks + "0\r\n" + trailer + "\r\n"
        }
    };
    text.into_bytes()
}

fn damage(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    // Most of the interest is in the ends of lines and around colons.
    let spots: Vec<_> = (0..bytes.len()).filter(|at| matches!(bytes[*at], b'\r' | b'\n' | b':' | b' ')).collect();
    let at = match spots.choose(rng) {
        Some(at) if rng.random_bool(0.7) => *at,
        _ => rng.random_range(0..bytes.len().max(1)),
    };
    let piece = PIECES.choose(rng).expect("not empty").as_bytes();
    let end = (at + rng.random_range(0..4usize)).min(bytes.len());
    match rng.random_range(0..4) {
        0 => drop(bytes.splice(at..at, piece.iter().copied())),
        1 => drop(bytes.splice(at..end, piece.iter().copied())),
        2 => drop(bytes.drain(at..end)),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.random();
            }
        }
    }
}
