//! HTTP/1.x as bytes: heads, chunks and ends of bodies, for the fake app and for the client.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The start line and the headers of a message, in the order and spelling of the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) first_line: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// How long the body after a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A socket with the bytes that were read ahead of their use.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    ahead: Vec<u8>,
}

// === impl Head ===

impl Head {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every value of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    /// The framing that the headers announce, if they announce one.
    pub(crate) fn framing(&self) -> Option<Framing> {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Some(Framing::Chunked);
        }
        self.header("content-length").map(|value| Framing::Length(value.parse().expect("a length in digits")))
    }

    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) =
                    line.split_once(':').unwrap_or_else(|| panic!("a header without a colon: {line:?}"));
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Self { first_line, headers }
    }
}

// === impl Wire ===

impl Wire {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, ahead: Vec::new() }
    }

    /// Whether there are bytes that were read and not yet asked for: another answer, if it came together with the last.
    pub(crate) fn has_more(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Reads more bytes; 0 at the end of the stream.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.ahead.reserve(16 * 1024);
        self.socket.read_buf(&mut self.ahead).await
    }

    /// Whatever is there now, reading only when nothing is; empty at the end of the stream.
    pub(crate) async fn take(&mut self) -> io::Result<Vec<u8>> {
        if self.ahead.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    /// The next head; `None` when the peer closed before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                let head = Head::parse(&self.ahead[..end]);
                self.ahead.drain(..end + 4);
                return Ok(Some(head));
            }
            if self.fill().await? == 0 {
                if self.ahead.is_empty() {
                    return Ok(None);
                }
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the head is cut"));
            }
        }
    }

    /// One line without its CRLF.
    pub(crate) async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let line = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
                self.ahead.drain(..end + 2);
                return Ok(line);
            }
            self.must_fill().await?;
        }
    }

    /// Between 1 and `most` bytes.
    pub(crate) async fn some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.ahead.is_empty() {
            self.must_fill().await?;
        }
        let take = most.min(self.ahead.len());
        Ok(self.ahead.drain(..take).collect())
    }

    /// The next chunk of a chunked body, or its trailers at the end.
    pub(crate) async fn chunk(&mut self) -> io::Result<Result<Vec<u8>, Head>> {
        let line = self.line().await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
        let mut data = Vec::with_capacity(size);
        while data.len() < size {
            data.extend(self.some(size - data.len()).await?);
        }
        if size > 0 {
            let end = self.line().await?;
            assert_eq!(end, "", "a chunk is longer than it says");
            return Ok(Ok(data));
        }
        let mut trailers = Head::default();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(Err(trailers));
            }
            let (name, value) = line.split_once(':').expect("a trailer has a colon");
            trailers.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Writes all of `bytes`.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Closes with a RST: the peer learns of it as an error, not as an end.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.socket);
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("a socket takes SO_LINGER");
    }

    async fn must_fill(&mut self) -> io::Result<()> {
        match self.fill().await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body is cut")),
            _ => Ok(()),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
