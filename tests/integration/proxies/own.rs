//! An app that streams by itself, with nothing before it: what sidestream is compared with.

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::harness::{wire::Wire, within};

/// One stream of the app, framed as Node frames it: in chunks for HTTP/1.1, and for HTTP/1.0 up to the end of the
/// connection. The difference matters to nginx, which passes chunks on as they come and fills its buffers with the rest.
#[derive(Debug)]
pub(super) struct OwnStream {
    wire: Wire,
    in_chunks: bool,
}

// === impl OwnStream ===

impl OwnStream {
    /// Takes a request and begins to answer it, with none of the headers that a proxy could heed.
    pub(super) async fn accept(listener: &TcpListener) -> Self {
        let (socket, _) = within("the proxy to ask the app", listener.accept()).await.expect("a listener accepts");
        socket.set_nodelay(true).expect("a socket takes TCP_NODELAY");
        let mut wire = Wire::new(socket);
        let head = within("a request", wire.head()).await.expect("the request is whole").expect("there is a request");
        let in_chunks = head.first_line.ends_with("HTTP/1.1");
        let framing = if in_chunks { "Transfer-Encoding: chunked" } else { "Connection: close" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n");
        wire.send(answer.as_bytes()).await.expect("the proxy takes a head");
        Self { wire, in_chunks }
    }

    /// Sends one event.
    pub(super) async fn send(&mut self, event: &str) {
        let bytes = if self.in_chunks { format!("{:x}\r\n{event}\r\n", event.len()) } else { event.to_owned() };
        self.wire.send(bytes.as_bytes()).await.expect("the proxy takes an event");
    }

    /// Ends the stream in order.
    pub(super) async fn close(mut self) {
        if self.in_chunks {
            self.wire.send(b"0\r\n\r\n").await.expect("the proxy takes the end");
        }
        let socket: &mut TcpStream = &mut self.wire.socket;
        socket.shutdown().await.expect("the socket is open");
    }
}
