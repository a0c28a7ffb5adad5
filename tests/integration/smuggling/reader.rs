//! An honest reader of RFC 9112, written for nothing but that: which requests stand in these bytes?
//!
//! It is as strict as the standard allows a server to be, and knows nothing of how the program reads.

/// A request that is all there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Honest {
    pub(super) method: String,
    pub(super) target: String,
    /// Each byte as a character.
    pub(super) body: String,
    /// The client has said that it is the last one.
    pub(super) is_last: bool,
}

/// What stands behind the last request that is whole and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Nothing,
    /// More has to come before it is a request. With a head that is whole, that may have gone on already.
    Incomplete(Option<(String, String)>),
    /// No request. The head may have been one.
    Malformed(Option<(String, String)>),
}

/// A head that is in order.
struct Head {
    method: String,
    target: String,
    framing: Framing,
    is_last: bool,
}

enum Framing {
    Length(usize),
    Chunked,
}

/// Why there is no more.
enum Stop {
    Incomplete,
    Malformed,
}

/// The requests in these bytes, up to the first that is the client's last, and what is left.
pub(super) fn read(mut bytes: &[u8]) -> (Vec<Honest>, Tail) {
    let mut requests: Vec<Honest> = Vec::new();
    loop {
        // Empty lines before a request are put up with (section 2.2).
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        if bytes.is_empty() || requests.last().is_some_and(|request| request.is_last) {
            return (requests, Tail::Nothing);
        }
        let start = bytes;
        let head = match read_head(&mut bytes) {
            Ok(head) => head,
            // Whoever waits for the end of a head may wait, whatever is in it.
            Err(Stop::Malformed) if has_end(start) => return (requests, Tail::Malformed(None)),
            Err(Stop::Malformed | Stop::Incomplete) => return (requests, Tail::Incomplete(None)),
        };
        let name = Some((head.method.clone(), head.target.clone()));
        match read_body(&mut bytes, &head.framing) {
            Ok(body) => {
                let body = body.into_iter().map(char::from).collect();
                requests.push(Honest { method: head.method, target: head.target, body, is_last: head.is_last });
            }
            Err(Stop::Incomplete) => return (requests, Tail::Incomplete(name)),
            Err(Stop::Malformed) => return (requests, Tail::Malformed(name)),
        }
    }
}

/// Whether an empty line ends the head that begins here, in anybody's reading.
fn has_end(head: &[u8]) -> bool {
    let is_empty_line = |line: &[u8]| matches!(line, b"" | b"\r");
    let mut lines = head.split(|byte| *byte == b'\n').skip_while(|line| is_empty_line(line));
    let ends = lines.position(is_empty_line);
    // What stands behind the last line feed is no line yet.
    ends.is_some() && lines.next().is_some()
}

/// The next line without its end, which has to be a CRLF.
fn line<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    let at = bytes.iter().position(|byte| *byte == b'\n').ok_or(Stop::Incomplete)?;
    let line = bytes[..at].strip_suffix(b"\r").ok_or(Stop::Malformed)?;
    *bytes = &bytes[at + 1..];
    if line.iter().any(|byte| matches!(byte, 0 | b'\r')) { Err(Stop::Malformed) } else { Ok(line) }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn field(line: &[u8]) -> Result<(String, String), Stop> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Stop::Malformed)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_value = value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || !is_value {
        return Err(Stop::Malformed);
    }
    let value: String = value.iter().copied().map(char::from).collect();
    let name = name.iter().copied().map(char::from).collect::<String>().to_ascii_lowercase();
    Ok((name, value.trim_matches([' ', '\t']).to_owned()))
}

fn read_head(bytes: &mut &[u8]) -> Result<Head, Stop> {
    let first = line(bytes)?;
    let words: Vec<_> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version @ (b"HTTP/1.1" | b"HTTP/1.0")] = words[..] else { return Err(Stop::Malformed) };
    let is_http_10 = version == b"HTTP/1.0";
    // Bytes beyond ASCII are not allowed, but mean nothing that could be misread.
    let is_target = target.starts_with(b"/")
        && target.iter().all(|byte| !byte.is_ascii() || byte.is_ascii_graphic() && *byte != b'#');
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) || !is_target {
        return Err(Stop::Malformed);
    }
    let mut fields = Vec::new();
    loop {
        let line = line(bytes)?;
        if line.is_empty() {
            break;
        }
        fields.push(field(line)?);
    }
    let all = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect()
    };
    match all("host")[..] {
        [_] => {}
        [] if is_http_10 => {}
        _ => return Err(Stop::Malformed),
    }
    let framing = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Framing::Length(0),
        ([first, others @ ..], []) if others.iter().all(|other| other == first) => {
            let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
            Framing::Length(first.parse().ok().filter(|_| is_number).ok_or(Stop::Malformed)?)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && !is_http_10 => Framing::Chunked,
        _ => return Err(Stop::Malformed),
    };
    let option = |name: &str| all("connection").iter().any(|value| value.to_ascii_lowercase().contains(name));
    let is_last = option("close") || is_http_10 && !option("keep-alive");
    let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect();
    Ok(Head { method: text(method), target: text(target), framing, is_last })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Stop> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Stop::Incomplete)?;
    *bytes = rest;
    Ok(taken)
}

fn read_body(bytes: &mut &[u8], framing: &Framing) -> Result<Vec<u8>, Stop> {
    if let Framing::Length(length) = framing {
        return Ok(take(bytes, *length)?.to_vec());
    }
    let mut body = Vec::new();
    loop {
        let size = line(bytes)?;
        let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = size.split_at(digits);
        let is_extension = extension.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
        let is_extension = is_extension && matches!(extension.first(), None | Some(b';' | b' ' | b'\t'));
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.is_empty() && is_extension);
        match usize::from_str_radix(digits.ok_or(Stop::Malformed)?, 16).map_err(|_| Stop::Malformed)? {
            0 => break,
            size => body.extend_from_slice(take(bytes, size)?),
        }
        if take(bytes, 2)? != b"\r\n" {
            return Err(Stop::Malformed);
        }
    }
    loop {
        let line = line(bytes)?;
        if line.is_empty() {
            return Ok(body);
        }
        field(line)?;
    }
}
