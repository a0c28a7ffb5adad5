//! What must hold for any bytes from outside: one function per target, which panics when it does not hold.
//!
//! The functions stand here and not in `fuzz/`, because they look at private parts, and because the tests play the kept
//! corpus through them with any stable compiler: `fuzz/fuzz_targets` only hands libFuzzer's bytes on, with the cargo
//! feature `fuzzing`. `tests/fuzz` is the long run.

mod answers;
mod output;
mod requests;
mod routes;
mod streams;

pub use self::answers::{status, template};
pub use self::output::app_errors;
pub use self::requests::{client_ip, framing, query};
pub use self::routes::{path, route};
pub use self::streams::{boundary, decoder, encoder};

/// Any bytes, looked at in one way.
pub type FuzzTarget = fn(&[u8]);

/// Every target by the name of its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, FuzzTarget); 11] = [
    ("app_errors", app_errors),
    ("boundary", boundary),
    ("client_ip", client_ip),
    ("decoder", decoder),
    ("encoder", encoder),
    ("framing", framing),
    ("path", path),
    ("query", query),
    ("route", route),
    ("status", status),
    ("template", template),
];

/// The bytes of a stream, cut into chunks.
///
/// An input begins with a choice, the number of cuts, and one byte for each: how far the next chunk reaches, in bytes.
/// What is left is the stream, and its rest the last chunk.
struct Cut<'a> {
    /// A byte for whatever else a target has to choose.
    choice: u8,
    stream: &'a [u8],
    lengths: &'a [u8],
}

// === impl Cut ===

impl<'a> Cut<'a> {
    fn new(data: &'a [u8]) -> Option<Self> {
        let (&[choice, count], rest) = data.split_first_chunk()?;
        let (lengths, stream) = rest.split_at_checked(usize::from(count % 16))?;
        Some(Self { choice, stream, lengths })
    }

    fn chunks(&self) -> Vec<&'a [u8]> {
        let mut rest = self.stream;
        let mut chunks = Vec::with_capacity(self.lengths.len() + 1);
        for length in self.lengths {
            let (chunk, after) = rest.split_at(rest.len().min(usize::from(*length)));
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        chunks
    }
}

#[cfg(test)]
mod tests;
