//! Requests as attackers write them, and what has to become of each.

/// One connection's bytes.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// What Node may see of it, in order: method, target, body.
    pub(super) seen: Vec<(&'static str, &'static str, String)>,
    pub(super) end: End,
    /// Answers that do not come from Node.
    pub(super) ours: usize,
    /// Node, asked directly, sees another target or more requests, and the case says why in its name.
    pub(super) differs: bool,
}

/// How the connection goes on behind the requests that were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It may be used again.
    Open,
    /// It closes behind the last answer.
    Closed,
    /// One more answer, 400 or 501 (or 414, 431), and it closes.
    Refused,
    /// As before, or without an answer: not even a status line can be trusted to be understood.
    Dropped,
    /// A body broke in its middle: its request may have been seen, without an end, and it closes. Nothing behind it is
    /// read.
    Broken,
}

/// What stands behind every attack: if Node sees it where it should not, the attack has worked.
pub(super) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn case(name: &str, bytes: impl Into<Vec<u8>>, end: End) -> Case {
    Case { name: name.to_owned(), bytes: bytes.into(), seen: Vec::new(), end, ours: 0, differs: false }
}

impl Case {
    fn sees(mut self, method: &'static str, target: &'static str, body: &str) -> Self {
        self.seen.push((method, target, body.to_owned()));
        self
    }

    /// How many answers come before the connection is left alone.
    pub(super) fn answers(&self) -> usize {
        self.seen.len() + self.ours
    }

    /// The request behind the first one is a request of its own, for everybody.
    fn and_smuggled(self) -> Self {
        self.sees("GET", "/smuggled", "")
    }

    /// One answer more, which is not for a request that Node has seen.
    fn ours(mut self) -> Self {
        self.ours += 1;
        self
    }

    fn differs(mut self) -> Self {
        self.differs = true;
        self
    }
}

/// A request with these lines between the first one and the empty one, and `body` behind it.
fn post(lines: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n{body}{SMUGGLED}")
}

fn get(lines: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n{SMUGGLED}")
}

fn first_line(line: &str) -> String {
    format!("{line}\r\nHost: a.example\r\n\r\n{SMUGGLED}")
}

/// Every case.
pub(super) fn all() -> Vec<Case> {
    let parts = [honest(), lengths(), encodings(), chunks(), lines(), targets(), hosts(), versions(), methods()];
    let mut all = parts.concat();
    all.extend(connection_options());
    all.extend(pipelines());
    all
}

/// What must go through, or the rest would prove nothing.
fn honest() -> Vec<Case> {
    vec![
        case("a plain get", get(""), End::Open).sees("GET", "/a", "").and_smuggled(),
        case("a length", post("Content-Length: 5\r\n", "hello"), End::Open).sees("POST", "/a", "hello").and_smuggled(),
        case("chunks", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), End::Open)
            .sees("POST", "/a", "hello")
            .and_smuggled(),
        case("a body that looks like a request", post("Content-Length: 43\r\n", SMUGGLED), End::Open)
            .sees("POST", "/a", SMUGGLED)
            .and_smuggled(),
        case(
            "a chunk that looks like requests",
            {
                let body = format!("{:x}\r\n{SMUGGLED}{SMUGGLED}\r\n0\r\n\r\n", 2 * SMUGGLED.len());
                post("Transfer-Encoding: chunked\r\n", &body)
            },
            End::Open,
        )
        .sees("POST", "/a", &SMUGGLED.repeat(2))
        .and_smuggled(),
    ]
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "+5",
        "-5",
        "0x5",
        "5, 5",
        "5,6",
        "5 5",
        "5;",
        "5.0",
        "five",
        "",
        "99999999999999999999",
        "18446744073709551616",
    ] {
        cases.push(case(
            &format!("content-length {value:?}"),
            post(&format!("Content-Length: {value}\r\n"), "hello"),
            End::Refused,
        ));
    }
    cases.extend([
        case(
            "two equal lengths, of which we make one",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            End::Open,
        )
        .sees("POST", "/a", "hello")
        .and_smuggled()
        .differs(),
        case("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), End::Refused),
        case("two lengths, one zero", post("Content-Length: 0\r\nContent-Length: 43\r\n", ""), End::Refused),
        case("two lengths, spelled apart", post("Content-Length: 0\r\ncontent-LENGTH: 44\r\n", ""), End::Refused),
        case("leading zeros", post("Content-Length: 005\r\n", "hello"), End::Open)
            .sees("POST", "/a", "hello")
            .and_smuggled(),
        case("tabs around a length, which Node does not take", post("Content-Length:\t5\t\r\n", "hello"), End::Open)
            .differs()
            .sees("POST", "/a", "hello")
            .and_smuggled(),
        case("a vertical tab before a length", post("Content-Length: \x0b5\r\n", "hello"), End::Refused),
        case("a length of zero", post("Content-Length: 0\r\n", ""), End::Open).sees("POST", "/a", "").and_smuggled(),
        case("a get with a body", get("Content-Length: 43\r\n").replacen(SMUGGLED, &SMUGGLED.repeat(2), 1), End::Open)
            .sees("GET", "/a", SMUGGLED)
            .and_smuggled(),
        case("a head with a body", get("Content-Length: 43\r\n").replacen("GET /a", "HEAD /a", 1), End::Open)
            .sees("HEAD", "/a", SMUGGLED),
        case("a length with an underscore is no length", post("Content_Length: 44\r\n", ""), End::Open)
            .sees("POST", "/a", "")
            .and_smuggled(),
        case("CL.TE", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), End::Refused),
        case("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), End::Refused),
        case("CL.0 with TE", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), End::Refused),
    ]);
    cases
}

fn encodings() -> Vec<Case> {
    let chunks = "0\r\n\r\n";
    let mut cases = Vec::new();
    for value in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity, chunked",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked\x0b",
        "\x0bchunked",
        "\x0cchunked",
        "chu nked",
        "",
        "chunk\u{212a}d",
        "chunked foo",
        "deflate",
        "trailers",
        "chunked\x00",
        "\x00chunked",
        "cow",
        "chunked\x7f",
    ] {
        cases.push(case(
            &format!("transfer-encoding {value:?}"),
            post(&format!("Transfer-Encoding: {value}\r\n"), chunks),
            End::Refused,
        ));
        let both = format!("Content-Length: 5\r\nTransfer-Encoding: {value}\r\n");
        cases.push(case(&format!("content-length and transfer-encoding {value:?}"), post(&both, chunks), End::Refused));
    }
    for (name, line) in [
        ("two", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("two, the second another", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("two, the first another", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("a space before the name", " Transfer-Encoding: chunked\r\n"),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("folded with a tab", "Transfer-Encoding: chunked\r\n\tidentity\r\n"),
        ("behind a bare line feed", "X: y\nTransfer-Encoding: chunked\r\n"),
        ("behind a bare carriage return", "X: y\rTransfer-Encoding: chunked\r\n"),
        ("ended by a bare line feed", "Transfer-Encoding: chunked\n"),
        ("a NUL in the name", "Transfer-\x00Encoding: chunked\r\n"),
        ("a NUL behind the name", "Transfer-Encoding\x00: chunked\r\n"),
        ("a colon for a name", ": chunked\r\n"),
        ("no colon", "Transfer-Encoding chunked\r\n"),
        ("quoted name", "\"Transfer-Encoding\": chunked\r\n"),
    ] {
        cases.push(case(&format!("transfer-encoding, {name}"), post(line, chunks), End::Refused));
        cases.push(case(
            &format!("transfer-encoding, {name}, and a length"),
            post(&format!("Content-Length: 5\r\n{line}"), chunks),
            End::Refused,
        ));
    }
    cases.extend([
        case("mixed case", post("tRANSFER-eNCODING: ChUnKeD\r\n", chunks), End::Open)
            .sees("POST", "/a", "")
            .and_smuggled(),
        case("a tab before chunked", post("Transfer-Encoding:\tchunked\r\n", chunks), End::Open)
            .sees("POST", "/a", "")
            .and_smuggled(),
        case(
            "blanks around chunked, which Node does not take",
            post("Transfer-Encoding:    chunked \t \r\n", chunks),
            End::Open,
        )
        .differs()
        .sees("POST", "/a", "")
        .and_smuggled(),
        case("an encoding with an underscore is none", post("Transfer_Encoding: chunked\r\n", ""), End::Open)
            .sees("POST", "/a", "")
            .and_smuggled(),
        case(
            "chunks on HTTP/1.0",
            post("Transfer-Encoding: chunked\r\n", chunks).replacen("/1.1", "/1.0", 1),
            End::Dropped,
        ),
        case("TE: chunked is no encoding", post("TE: chunked\r\n", ""), End::Open)
            .sees("POST", "/a", "")
            .and_smuggled(),
    ]);
    cases
}

fn chunks() -> Vec<Case> {
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let mut cases = Vec::new();
    for (name, body) in [
        ("size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("size with a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("size behind a blank", " 5\r\nhello\r\n0\r\n\r\n"),
        ("empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("size that is none", "g\r\nhello\r\n0\r\n\r\n"),
        ("size over 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("size of 64 bits that wraps", "fffffffffffffffb\r\nhello\r\n0\r\n\r\n"),
        ("size with a bare line feed", "5\nhello\r\n0\r\n\r\n"),
        ("size with a bare carriage return", "5\rhello\r\n0\r\n\r\n"),
        ("negative size", "-1\r\nhello\r\n0\r\n\r\n"),
        ("size with an underscore", "5_0\r\nhello\r\n0\r\n\r\n"),
        ("extension with a bare line feed", "5;a\nhello\r\n0\r\n\r\n"),
        ("extension with a bare carriage return", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("extension with a NUL", "5;\x00\r\nhello\r\n0\r\n\r\n"),
        ("no line end behind the data", "5\r\nhello0\r\n\r\n"),
        ("two bytes instead of the line end", "5\r\nhelloXX0\r\n\r\n"),
        ("a bare line feed behind the data", "5\r\nhello\n0\r\n\r\n"),
        ("data longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
        ("last chunk with a bare line feed", "5\r\nhello\r\n0\n\r\n"),
        ("end with a bare line feed", "5\r\nhello\r\n0\r\n\n"),
        ("trailer with a bare line feed", "5\r\nhello\r\n0\r\nX: y\n\r\n"),
        ("trailer with a bare carriage return", "5\r\nhello\r\n0\r\nX: y\rZ: a\r\n\r\n"),
        ("trailer without a colon", "5\r\nhello\r\n0\r\nnonsense\r\n\r\n"),
        ("trailer with a NUL", "5\r\nhello\r\n0\r\nX: \x00\r\n\r\n"),
        ("trailer with a blank before its colon", "5\r\nhello\r\n0\r\nX : y\r\n\r\n"),
        ("folded trailer", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"),
    ] {
        cases.push(case(&format!("chunk: {name}"), chunked(body), End::Broken).sees("POST", "/a", ""));
    }
    cases.extend([
        case("chunk: extensions", chunked("5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n"), End::Open).sees("POST", "/a", "hello").and_smuggled(),
        case("chunk: blanks behind the size, which Node does not take", chunked("5 \t\r\nhello\r\n0\r\n\r\n"), End::Open).differs().sees("POST", "/a", "hello").and_smuggled(),
        case("chunk: leading zeros", chunked("0005\r\nhello\r\n000\r\n\r\n"), End::Open).sees("POST", "/a", "hello").and_smuggled(),
        case("chunk: capital digits", chunked("A\r\n0123456789\r\n0\r\n\r\n"), End::Open).sees("POST", "/a", "0123456789").and_smuggled(),
        case("chunk: trailers", chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), End::Open).sees("POST", "/a", "hello").and_smuggled(),
        case(
            "chunk: trailers that may not be trailers, which Node refuses and we leave out",
            chunked("5\r\nhello\r\n0\r\nContent-Length: 43\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nCookie: a\r\nAuthorization: b\r\n\r\n"),
            End::Open,
        )
        .differs()
        .sees("POST", "/a", "hello")
        .and_smuggled(),
        case("chunk: a size that swallows the next request", chunked(&format!("30\r\nhello{SMUGGLED}")), End::Broken).sees("POST", "/a", ""),
    ]);
    cases
}

fn lines() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, bytes) in [
        ("bare line feeds everywhere", format!("GET /a HTTP/1.1\nHost: a.example\n\n{SMUGGLED}")),
        ("a bare line feed behind the first line", format!("GET /a HTTP/1.1\nHost: a.example\r\n\r\n{SMUGGLED}")),
        ("a bare line feed behind a header", get("X: y\n")),
        ("a bare line feed for the end", format!("GET /a HTTP/1.1\r\nHost: a.example\r\n\n{SMUGGLED}")),
        ("a bare carriage return in a value", get("X: y\rz\r\n")),
        ("a bare carriage return in a name", get("X\rY: z\r\n")),
        ("a carriage return for every end", format!("GET /a HTTP/1.1\rHost: a.example\r\r{SMUGGLED}")),
        ("a doubled carriage return", get("X: y\r\r\n")),
        ("a NUL in a value", get("X: y\x00z\r\n")),
        ("a NUL in a name", get("X\x00Y: z\r\n")),
        ("a control character in a value", get("X: y\x01z\r\n")),
        ("a DEL in a value", get("X: y\x7fz\r\n")),
        ("a blank before a colon", get("X : y\r\n")),
        ("a blank before a name", get(" X: y\r\n")),
        ("a folded line", get("X: y\r\n z\r\n")),
        ("a folded first header", format!("GET /a HTTP/1.1\r\n Host: a.example\r\n\r\n{SMUGGLED}")),
        ("an empty name", get(": y\r\n")),
        ("no colon", get("nonsense\r\n")),
        ("a name in brackets", get("[x]: y\r\n")),
        ("a name beyond ASCII", get("X\u{e9}: y\r\n")),
        ("a blank line first, with a bare line feed", format!("\n{}", get(""))),
        ("another request in a header's value", get("X: y\r\n\nGET /smuggled HTTP/1.1\r\n")),
    ] {
        cases.push(case(name, bytes, End::Refused));
    }
    cases.extend([
        case("empty lines before a request", format!("\r\n\r\n{}", get("")), End::Open)
            .sees("GET", "/a", "")
            .and_smuggled(),
        case("empty lines between requests", get("").replacen(SMUGGLED, &format!("\r\n{SMUGGLED}"), 1), End::Open)
            .sees("GET", "/a", "")
            .and_smuggled(),
        case("bytes beyond ASCII in a value", get("X: \u{e9}\u{1f600}\r\n"), End::Open)
            .sees("GET", "/a", "")
            .and_smuggled(),
        case("an empty value", get("X:\r\n"), End::Open).sees("GET", "/a", "").and_smuggled(),
        case("more headers than anybody sends", get(&"X: y\r\n".repeat(300)), End::Refused),
        case("a head over every limit", get(&format!("X: {}\r\n", "y".repeat(80 * 1024))), End::Refused),
    ]);
    cases
}

fn targets() -> Vec<Case> {
    let line = |target: &str| first_line(&format!("GET {target} HTTP/1.1"));
    let mut cases = Vec::new();
    for target in [
        "*",
        "a.example:80",
        "ftp://a.example/a",
        "http://u:p@a.example/a",
        "http://b.example/a",
        "//",
        "/a#b",
        "http:/a",
        "http://",
        "a",
        "/a b",
        "/a\tb",
        "/\x00",
        "/a\x01",
        "\\a",
        "file:///a",
        "http://a.example:81/a",
    ] {
        let end = End::Refused;
        let case = case(&format!("target {target:?}"), line(target), end);
        cases.push(if target == "//" {
            Case { end: End::Open, ..case }.sees("GET", "//", "").and_smuggled()
        } else {
            case
        });
    }
    cases.extend([
        case("absolute form, which we turn into the app's", line("http://a.example/a?b"), End::Open)
            .sees("GET", "/a?b", "")
            .and_smuggled()
            .differs(),
        case("absolute form without a path, which we turn into the app's", line("http://a.example"), End::Open)
            .sees("GET", "/", "")
            .and_smuggled()
            .differs(),
        case("a path that begins with two slashes", line("//b.example/a"), End::Open)
            .sees("GET", "//b.example/a", "")
            .and_smuggled(),
        case("dots in a path", line("/a/../b/./c"), End::Open).sees("GET", "/a/../b/./c", "").and_smuggled(),
        case("an url in a path", line("/http://b.example/"), End::Open)
            .sees("GET", "/http://b.example/", "")
            .and_smuggled(),
        case("encoded tricks in a path", line("/%2e%2e/%2f%5c%00%0d%0a?%0d%0aX:y"), End::Open)
            .sees("GET", "/%2e%2e/%2f%5c%00%0d%0a?%0d%0aX:y", "")
            .and_smuggled(),
        case("OPTIONS *", first_line("OPTIONS * HTTP/1.1"), End::Open).sees("OPTIONS", "*", "").and_smuggled(),
    ]);
    cases
}

fn hosts() -> Vec<Case> {
    let host = |lines: &str| format!("GET /a HTTP/1.1\r\n{lines}\r\n{SMUGGLED}");
    let mut cases = Vec::new();
    for (name, lines) in [
        ("none", ""),
        ("two", "Host: a.example\r\nHost: b.example\r\n"),
        ("two alike", "Host: a.example\r\nHost: a.example\r\n"),
        ("two, spelled apart", "Host: a.example\r\nhOST: b.example\r\n"),
        ("two, one empty", "Host:\r\nHost: a.example\r\n"),
        ("empty", "Host: \r\n"),
        ("a list", "Host: a.example, b.example\r\n"),
        ("with a user", "Host: u@a.example\r\n"),
        ("with a path", "Host: a.example/b\r\n"),
        ("with a query", "Host: a.example?b\r\n"),
        ("with a port that is none", "Host: a.example:x\r\n"),
        ("with a port too large", "Host: a.example:99999\r\n"),
        ("with two ports", "Host: a.example:80:80\r\n"),
        ("with a blank inside", "Host: a example\r\n"),
        ("with a blank before the colon", "Host : a.example\r\n"),
        ("with a backslash", "Host: a.example\\b\r\n"),
        ("with a NUL", "Host: a.example\x00b\r\n"),
        ("with a tab", "Host: a.example\tb\r\n"),
        ("folded", "Host: a.example\r\n b.example\r\n"),
    ] {
        cases.push(case(&format!("host: {name}"), host(lines), End::Refused));
    }
    cases.extend([
        case("host: with a port", host("Host: a.example:8080\r\n"), End::Open).sees("GET", "/a", "").and_smuggled(),
        case("host: an address", host("Host: [::1]:80\r\n"), End::Open).sees("GET", "/a", "").and_smuggled(),
        case("host: in another header", host("Host: a.example\r\nX-Host: b\r\nForwarded: host=b\r\n"), End::Open)
            .sees("GET", "/a", "")
            .and_smuggled(),
    ]);
    cases
}

fn versions() -> Vec<Case> {
    vec![
        case("HTTP/0.9", format!("GET /a\r\n{SMUGGLED}"), End::Refused),
        case("HTTP/0.9 in words", first_line("GET /a HTTP/0.9"), End::Refused),
        case("HTTP/1.2", first_line("GET /a HTTP/1.2"), End::Refused),
        case("HTTP/2.0", first_line("GET /a HTTP/2.0"), End::Dropped),
        case("HTTP/3", first_line("GET /a HTTP/3"), End::Refused),
        case("HTTP/1.10", first_line("GET /a HTTP/1.10"), End::Refused),
        case("http in small letters", first_line("GET /a http/1.1"), End::Refused),
        case("another protocol", first_line("GET /a HTTPS/1.1"), End::Refused),
        case("a blank behind the version", first_line("GET /a HTTP/1.1 "), End::Refused),
        case("two blanks", first_line("GET  /a HTTP/1.1"), End::Refused),
        case("tabs for blanks", first_line("GET\t/a\tHTTP/1.1"), End::Refused),
        case("a blank before the method", first_line(" GET /a HTTP/1.1"), End::Refused),
        case("the preface of HTTP/2", format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{SMUGGLED}"), End::Dropped),
        case("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), End::Refused),
        case("HTTP/1.0 closes", get("").replacen("/1.1", "/1.0", 1), End::Closed).sees("GET", "/a", ""),
        case(
            "HTTP/1.0 with keep-alive stays",
            get("Connection: keep-alive\r\n").replacen("/1.1", "/1.0", 1),
            End::Open,
        )
        .sees("GET", "/a", "")
        .and_smuggled(),
        case(
            "HTTP/1.0 with a length",
            post("Connection: keep-alive\r\nContent-Length: 5\r\n", "hello").replacen("/1.1", "/1.0", 1),
            End::Open,
        )
        .sees("POST", "/a", "hello")
        .and_smuggled(),
    ]
}

fn methods() -> Vec<Case> {
    let method = |method: &str| first_line(&format!("{method} /a HTTP/1.1"));
    let long = "X".repeat(20_000);
    vec![
        case("a small-letter method, which Node refuses", method("get"), End::Open).ours().and_smuggled().differs(),
        case("an unknown method, which Node refuses", method("FROBNICATE"), End::Open).ours().and_smuggled().differs(),
        case("a very long method, which Node refuses", method(&long), End::Open).ours().and_smuggled().differs(),
        case("a method with a slash", method("GET/a"), End::Refused),
        case("a method with a NUL", method("GE\x00T"), End::Refused),
        case("no method", method(""), End::Refused),
        case("CONNECT", first_line("CONNECT b.example:443 HTTP/1.1"), End::Refused),
        case(
            "CONNECT with a body",
            "CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\nContent-Length: 0\r\n\r\n".to_owned() + SMUGGLED,
            End::Refused,
        ),
        case("CONNECT to a path", first_line("CONNECT /a HTTP/1.1"), End::Refused),
        case("TRACE", method("TRACE"), End::Open).sees("TRACE", "/a", "").and_smuggled(),
        case("DELETE with a body", post("Content-Length: 5\r\n", "hello").replacen("POST", "DELETE", 1), End::Open)
            .sees("DELETE", "/a", "hello")
            .and_smuggled(),
        case(
            "a get with chunks",
            get("Transfer-Encoding: chunked\r\n").replacen(SMUGGLED, &format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"), 1),
            End::Open,
        )
        .sees("GET", "/a", "hello")
        .and_smuggled(),
        case("M-SEARCH", method("M-SEARCH"), End::Open).sees("M-SEARCH", "/a", "").and_smuggled(),
    ]
}

fn connection_options() -> Vec<Case> {
    let mut cases = Vec::new();
    for option in [
        "Transfer-Encoding",
        "Content-Length",
        "Host",
        "Cookie",
        "X-Forwarded-For",
        "keep-alive, Host, Content-Length",
        "upgrade",
        "\x0bclose",
        "close, keep-alive;",
    ] {
        let bytes = post(&format!("Connection: {option}\r\nCookie: a=b\r\nContent-Length: 5\r\n"), "hello");
        let case = case(&format!("connection {option:?}"), bytes, End::Open).sees("POST", "/a", "hello").and_smuggled();
        cases.push(match option {
            "close, keep-alive;" => Case { seen: case.seen[..1].to_vec(), end: End::Closed, ..case },
            "\x0bclose" => Case { seen: Vec::new(), end: End::Refused, ..case },
            _ => case,
        });
    }
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    cases.extend([
        case(
            "connection names the encoding of a chunked body",
            post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", chunked),
            End::Open,
        )
        .sees("POST", "/a", "hello")
        .and_smuggled(),
        case("connection: close", get("Connection: close\r\n"), End::Closed).sees("GET", "/a", ""),
        case(
            "h2c, behind which Node stops reading",
            get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
            End::Open,
        )
        .differs()
        .sees("GET", "/a", "")
        .and_smuggled(),
        case(
            "a websocket that is refused, behind which Node stops reading",
            get("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"),
            End::Open,
        )
        .differs()
        .sees("GET", "/a", "")
        .and_smuggled(),
        case(
            "a websocket with a body that is refused, behind which Node stops reading",
            post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n", "hello"),
            End::Open,
        )
        .differs()
        .sees("POST", "/a", "hello")
        .and_smuggled(),
        case("expect: 100-continue", post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"), End::Open)
            .sees("POST", "/a", "hello")
            .and_smuggled(),
        case("expect: 100-continue without a body", get("Expect: 100-continue\r\n"), End::Open)
            .sees("GET", "/a", "")
            .and_smuggled(),
        case(
            "expect: 100-Continue twice",
            post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
            End::Open,
        )
        .sees("POST", "/a", "hello")
        .and_smuggled(),
    ]);
    cases
}

/// Requests behind a request that is a stream's, or refused.
fn pipelines() -> Vec<Case> {
    let stream = "GET /live/1 HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\n";
    vec![
        case("behind a refused request", format!("GET /a HTTP/1.1\r\n\r\n{SMUGGLED}{SMUGGLED}"), End::Refused),
        case(
            "behind a good and a refused request",
            format!("{}GET /b HTTP/1.1\r\n\r\n{SMUGGLED}", get("")),
            End::Refused,
        )
        .sees("GET", "/a", "")
        .and_smuggled(),
        case("many requests in one packet", SMUGGLED.repeat(20), End::Open).sees_many(20),
        case("behind a HEAD of a stream", format!("{}\r\n{SMUGGLED}", stream.replacen("GET", "HEAD", 1)), End::Open)
            .ours()
            .and_smuggled()
            .differs(),
        case("behind a stream, which is the connection's last", format!("{stream}\r\n{SMUGGLED}"), End::Open)
            .ours()
            .differs(),
        case(
            "a stream with a body that looks like requests",
            format!("{stream}Content-Length: 86\r\n\r\n{SMUGGLED}{SMUGGLED}{SMUGGLED}"),
            End::Open,
        )
        .ours()
        .differs(),
        case(
            "a stream with two lengths",
            format!("{stream}Content-Length: 0\r\nContent-Length: 43\r\n\r\n{SMUGGLED}"),
            End::Refused,
        ),
    ]
}

impl Case {
    fn sees_many(mut self, count: usize) -> Self {
        for _ in 0..count {
            self = self.and_smuggled();
        }
        self
    }
}
