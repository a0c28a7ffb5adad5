//! Follows HTTP/1 request framing on the raw bytes of a connection, and says of every head whether it agrees with
//! itself.
//!
//! This is needed beside hyper's own parser, because some facts do not survive it: it drops `Content-Length` in silence
//! when `Transfer-Encoding` is there too, and it takes bare line feeds. A proxy that forwards such a request chooses
//! one reading where the next server may choose the other, which is how requests are smuggled (RFC 9112, section 11.2).
//!
//! The observer is never more lenient than hyper. Where it is stricter, it stops and refuses the next request instead
//! of guessing where that one begins.

use std::mem;

/// A head that is longer than this is not followed; the same bound as hyper's read buffer is set to.
pub(crate) const HEAD_LIMIT: usize = 64 * 1024;

/// Nobody has a body that is longer, and a reader that counts in signed numbers would take it for one below zero.
const LENGTH_LIMIT: u64 = i64::MAX as u64;

/// In which way a request disagrees with itself about where it ends or for whom it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Disagreement {
    /// `Content-Length` together with `Transfer-Encoding`, in either order.
    #[error("content-length together with transfer-encoding")]
    LengthAndEncoding = 1,
    /// Two lengths, or one that is no number.
    #[error("content-length that is no single number")]
    Length,
    /// A `Transfer-Encoding` other than exactly one `chunked`, or one on HTTP/1.0.
    #[error("transfer-encoding other than chunked")]
    Encoding,
    /// A chunk size or trailer line that is not as the standard has it. The only one that is found in a body: it belongs
    /// to the request whose head was the last in order.
    #[error("malformed chunk")]
    Chunk,
    /// A body that broke off, whether by its form or by the client's leaving.
    #[error("broken body")]
    Body,
    /// A line of the head that ends with a bare line feed.
    #[error("line end without a carriage return")]
    BareLineFeed,
    /// A field that goes on in the next line, one without a colon, or whitespace before the colon.
    #[error("malformed header field")]
    Field,
    /// Not `method SP target SP HTTP/1.x`.
    #[error("malformed request line")]
    RequestLine,
    /// A request target that no server behind a proxy is asked for.
    #[error("unsuitable request target")]
    Target,
    /// A head over 64 KiB.
    #[error("head over 64 KiB")]
    TooLarge,
    /// No `Host` on HTTP/1.1.
    #[error("no host")]
    NoHost,
    /// More than one `Host`.
    #[error("more than one host")]
    TwoHosts,
    /// A `Host` that is a list or no authority, or one that differs from the request target's.
    #[error("unsuitable host")]
    Host,
    /// A request whose head was not followed: after a `CONNECT`, say.
    #[error("unobserved request")]
    Unobserved,
}

// === impl Disagreement ===

impl Disagreement {
    /// Every value, so that one can be kept in an atomic byte.
    const ALL: [Self; 14] = [
        Self::LengthAndEncoding,
        Self::Length,
        Self::Encoding,
        Self::Chunk,
        Self::Body,
        Self::BareLineFeed,
        Self::Field,
        Self::RequestLine,
        Self::Target,
        Self::TooLarge,
        Self::NoHost,
        Self::TwoHosts,
        Self::Host,
        Self::Unobserved,
    ];

    pub(super) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|disagreement| *disagreement as u8 == code)
    }
}

/// The state of one connection's read side. 64 bytes, and no heap unless a line is split over two reads.
#[derive(Debug)]
pub(crate) struct Observer {
    phase: Phase,
    /// The beginning of a line whose end has not been read yet; bounded by [`HEAD_LIMIT`].
    line: Vec<u8>,
    /// Bytes of the head so far.
    head_len: u32,
    head: Head,
}

/// Where in the message the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    RequestLine,
    Fields,
    /// A body with this many bytes to come.
    Body(u64),
    ChunkSize,
    /// A chunk's data and its line end with this many bytes to come.
    Chunk(u64),
    Trailers,
    Stopped,
}

/// What is known of the head so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: u64,
    has_length: bool,
    has_encoding: bool,
    is_http_10: bool,
    is_connect: bool,
}

// === impl Observer ===

impl Observer {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::RequestLine, line: Vec::new(), head_len: 0, head: Head::default() }
    }

    /// False after a disagreement or a `CONNECT`: nothing needs to be pushed any more.
    pub(crate) fn is_running(&self) -> bool {
        self.phase != Phase::Stopped
    }

    /// True when all that was read belongs to complete messages.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.phase == Phase::RequestLine && self.line.is_empty()
    }

    /// True when a head has begun, and its end has not been read.
    pub(crate) fn is_in_head(&self) -> bool {
        match self.phase {
            Phase::RequestLine => !self.line.is_empty(),
            Phase::Fields => true,
            Phase::Body(_) | Phase::ChunkSize | Phase::Chunk(_) | Phase::Trailers | Phase::Stopped => false,
        }
    }

    /// Follows `bytes`; `verdict` is called once for each head that ends in them, in order. After an error it is never
    /// called again. Bodies cost one comparison per call, whatever their size.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut verdict: impl FnMut(Result<(), Disagreement>)) {
        while !bytes.is_empty() {
            match self.phase {
                Phase::Stopped => return,
                Phase::Body(left) => {
                    let left = skip(&mut bytes, left);
                    self.phase = if left == 0 { Phase::RequestLine } else { Phase::Body(left) };
                }
                Phase::Chunk(left) => {
                    let left = skip(&mut bytes, left);
                    self.phase = if left == 0 { Phase::ChunkSize } else { Phase::Chunk(left) };
                }
                Phase::RequestLine | Phase::Fields | Phase::ChunkSize | Phase::Trailers => {
                    match self.push_line(&mut bytes) {
                        Ok(false) => {}
                        Ok(true) => verdict(Ok(())),
                        Err(disagreement) => {
                            let is_body = matches!(self.phase, Phase::ChunkSize | Phase::Trailers);
                            *self = Self { phase: Phase::Stopped, ..Self::new() };
                            verdict(Err(if is_body { Disagreement::Chunk } else { disagreement }));
                        }
                    }
                }
            }
        }
    }

    /// Takes bytes up to the end of a line; true when that line ended a head.
    fn push_line(&mut self, bytes: &mut &[u8]) -> Result<bool, Disagreement> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let (taken, rest) = bytes.split_at(end);
        *bytes = rest;
        if matches!(self.phase, Phase::RequestLine | Phase::Fields) {
            self.head_len += u32::try_from(taken.len()).unwrap_or(u32::MAX);
            if self.head_len as usize > HEAD_LIMIT {
                return Err(Disagreement::TooLarge);
            }
        } else if self.line.len() + taken.len() > HEAD_LIMIT {
            return Err(Disagreement::Chunk);
        }
        if !taken.ends_with(b"\n") {
            self.line.extend_from_slice(taken);
            return Ok(false);
        }
        if self.line.is_empty() {
            return self.on_line(taken);
        }
        let mut line = mem::take(&mut self.line);
        line.extend_from_slice(taken);
        self.on_line(&line)
    }

    fn on_line(&mut self, line: &[u8]) -> Result<bool, Disagreement> {
        let line = line.strip_suffix(b"\r\n").ok_or(Disagreement::BareLineFeed)?;
        match self.phase {
            // A server is asked to put up with empty lines before a request (RFC 9112, section 2.2), and hyper does.
            Phase::RequestLine if line.is_empty() => {}
            Phase::RequestLine => {
                self.head.on_request_line(line)?;
                self.phase = Phase::Fields;
            }
            Phase::Fields if line.is_empty() => {
                let head = mem::take(&mut self.head);
                self.head_len = 0;
                self.phase = head.body();
                return Ok(true);
            }
            Phase::Fields => self.head.on_field(line)?,
            Phase::ChunkSize => self.phase = after_chunk_size(line)?,
            Phase::Trailers if line.is_empty() => self.phase = Phase::RequestLine,
            Phase::Trailers => drop(field(line).filter(|(_, value)| is_text(value)).ok_or(Disagreement::Chunk)?),
            Phase::Body(_) | Phase::Chunk(_) | Phase::Stopped => {}
        }
        Ok(false)
    }
}

// === impl Head ===

impl Head {
    fn on_request_line(&mut self, line: &[u8]) -> Result<(), Disagreement> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Disagreement::RequestLine);
        };
        if method.is_empty() || target.is_empty() {
            return Err(Disagreement::RequestLine);
        }
        // A fragment is no part of a request target (RFC 9112, section 3.2). hyper would cut it off, and what the app
        // gets would no longer be what the client sent.
        if target.contains(&b'#') {
            return Err(Disagreement::Target);
        }
        self.is_connect = method == b"CONNECT";
        self.is_http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Disagreement::RequestLine),
        };
        Ok(())
    }

    fn on_field(&mut self, line: &[u8]) -> Result<(), Disagreement> {
        let (name, value) = field(line).ok_or(Disagreement::Field)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            self.on_length(value.trim_ascii())
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.on_encoding(value.trim_ascii())
        } else {
            Ok(())
        }
    }

    fn on_length(&mut self, value: &[u8]) -> Result<(), Disagreement> {
        if self.has_encoding {
            return Err(Disagreement::LengthAndEncoding);
        }
        let length = decimal(value).ok_or(Disagreement::Length)?;
        if self.has_length && self.length != length {
            return Err(Disagreement::Length);
        }
        self.has_length = true;
        self.length = length;
        Ok(())
    }

    fn on_encoding(&mut self, value: &[u8]) -> Result<(), Disagreement> {
        if self.has_length {
            return Err(Disagreement::LengthAndEncoding);
        }
        if self.has_encoding || self.is_http_10 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Disagreement::Encoding);
        }
        self.has_encoding = true;
        Ok(())
    }

    /// What follows the head (RFC 9112, section 6.3).
    fn body(self) -> Phase {
        if self.is_connect {
            Phase::Stopped
        } else if self.has_encoding {
            Phase::ChunkSize
        } else if self.length > 0 {
            Phase::Body(self.length)
        } else {
            Phase::RequestLine
        }
    }
}

/// The name and the value of a header or trailer, or `None`: leading whitespace is a folded line, whitespace before the
/// colon is an invitation to read another name.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_name = !name.is_empty() && !name.iter().any(|byte| *byte <= b' ');
    is_name.then_some((name, value))
}

/// Whether there is no control character but the tab in it.
fn is_text(value: &[u8]) -> bool {
    value.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t')
}

/// Leaves out up to `left` of `bytes` and returns what is still to come.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    *bytes = &bytes[here..];
    left - here as u64
}

fn after_chunk_size(line: &[u8]) -> Result<Phase, Disagreement> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    let is_plain = matches!(rest.first(), None | Some(b' ' | b'\t' | b';')) && is_text(rest);
    // Sixteen digits fill a u64; hyper refuses more, even zeros do not help a size over the type.
    if size.is_empty() || size.len() > 16 || !is_plain {
        return Err(Disagreement::Chunk);
    }
    let size = size.iter().fold(0u64, |sum, digit| {
        sum << 4 | u64::from((*digit as char).to_digit(16).expect("counted as a hexadecimal digit"))
    });
    match size {
        0 => Ok(Phase::Trailers),
        // The chunk's own line end is skipped with it: hyper checks those two bytes and ends the connection if they
        // are anything else.
        1..=LENGTH_LIMIT => Ok(Phase::Chunk(size + 2)),
        _ => Err(Disagreement::Chunk),
    }
}

/// Digits only: no sign, no blank, no list.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit).filter(|sum| *sum <= LENGTH_LIMIT)
    })
}

#[cfg(test)]
mod tests;
