//! What the kernel knows of a TCP connection and tells nobody unasked: whether the peer still acknowledges.
//!
//! The one module with `unsafe` in it: neither the standard library nor socket2, rustix or nix reads `TCP_INFO`, and a
//! socket that another task owns can be lent out only by its number. Elsewhere than on Linux there is nothing to read.
#![allow(unsafe_code, reason = "getsockopt(TCP_INFO) and borrowing by number are wrapped by no safe crate")]

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};

/// The part of `TCP_INFO` that tells a living peer from a dead one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Segments on their way that the peer has not acknowledged.
    pub unacked: u32,
    /// Unanswered questions whether a closed window is open again.
    pub probes: u8,
    /// Bytes that wait for the peer's window. 0 also where the kernel does not say (before Linux 4.6).
    pub not_sent: u32,
    /// Time since the last acknowledgement of any kind, also one without progress. To the kernel's tick, 1 to 10 ms.
    pub last_ack: Duration,
    /// Bytes that the peer has acknowledged so far; `None` where the kernel does not say (before Linux 4.1).
    pub acked: Option<u64>,
}

/// A socket's number, for those who may ask the kernel about it while another task owns it.
///
/// The owner withdraws it before the socket is closed or given away, and waits for whoever is asking: so the number never
/// means another connection that was opened meanwhile.
#[derive(Debug)]
pub struct Lent(Mutex<RawFd>);

/// What a withdrawn socket's number is: none.
const WITHDRAWN: RawFd = -1;

/// Asks the kernel. `None` where it can't say.
#[cfg(target_os = "linux")]
pub fn info(socket: BorrowedFd<'_>) -> Option<TcpInfo> {
    let mut bytes = [0_u8; TcpInfo::LEN];
    let mut len = libc::socklen_t::try_from(bytes.len()).expect("some hundred bytes");
    // SAFETY: the descriptor is borrowed, so it is open for the call. The kernel writes at most `len` bytes to `bytes`,
    // which is so long, and the number it wrote to `len`; it keeps neither pointer.
    let outcome = unsafe {
        let (bytes, len) = (bytes.as_mut_ptr().cast(), &raw mut len);
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, bytes, len)
    };
    let filled = bytes.get(..usize::try_from(len).ok()?)?;
    if outcome == 0 { TcpInfo::parse(filled) } else { None }
}

/// Asks the kernel, which does not say it here: only blocked writes tell.
#[cfg(not(target_os = "linux"))]
pub fn info(_: BorrowedFd<'_>) -> Option<TcpInfo> {
    None
}

/// Whether a peer that owes nothing has closed, or said something nevertheless.
pub fn has_spoken(socket: BorrowedFd<'_>) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    let peeked = SockRef::from(&socket).peek(&mut [MaybeUninit::uninit()]);
    !peeked.is_err_and(|error| matches!(error.kind(), WouldBlock | Interrupted))
}

/// Has the kernel itself end the connection when the peer takes nothing for so long (`TCP_USER_TIMEOUT`); `None` leaves
/// that to the system's settings. Nothing happens elsewhere than on Linux.
///
/// # Errors
/// When the kernel refuses.
pub fn set_user_timeout(socket: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return SockRef::from(&socket).set_tcp_user_timeout(timeout);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (SockRef::from(&socket), timeout);
        Ok(())
    }
}

/// Has the kernel ask a peer that says nothing whether it is still there, and end the connection when it is not: two
/// minutes after its last word.
///
/// # Errors
/// When the kernel refuses.
pub fn ask_when_silent(socket: impl AsFd) -> io::Result<()> {
    // Four questions, or a way that loses packets would cut those who are there.
    let (silence, again, questions) = (Duration::from_secs(60), Duration::from_secs(15), 4);
    let keepalive = TcpKeepalive::new().with_time(silence).with_interval(again).with_retries(questions);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)
}

/// Whether an error says that the kernel gave up on a peer that no longer answers: by its time-out, or by the last thing
/// it heard from the network about the way there.
pub fn is_given_up(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable)
}

// === impl TcpInfo ===

impl TcpInfo {
    /// Up to the end of `tcpi_notsent_bytes`. The struct of `linux/tcp.h` only ever grows at its end, and a kernel fills
    /// as much of it as it knows.
    const LEN: usize = 148;

    /// Reads what a kernel has filled; `None` if it is too little even for the oldest.
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            probes: *bytes.get(3)?,
            unacked: u32_at(bytes, 24)?,
            last_ack: Duration::from_millis(u64::from(u32_at(bytes, 56)?)),
            acked: bytes.get(120..128).map(|bytes| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))),
            not_sent: u32_at(bytes, 144).unwrap_or(0),
        })
    }

    /// Whether something is on its way that the peer has to acknowledge, if it lives.
    pub fn is_waiting(&self) -> bool {
        self.unacked > 0 || self.probes > 0
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("four bytes")))
}

// === impl Lent ===

impl Lent {
    /// Lends a socket out. Whoever owns it calls [`Lent::withdraw`] before it closes it or gives it away.
    pub fn new(socket: &impl AsFd) -> Self {
        Self(Mutex::new(socket.as_fd().as_raw_fd()))
    }

    /// Of a connection that has no socket.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self(Mutex::new(WITHDRAWN))
    }

    /// Borrows the socket for one call; `None` when it was withdrawn. The owner's close waits so long.
    pub fn with<T>(&self, ask: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        let lent = self.lock();
        // SAFETY: the owner withdraws the number before the socket is closed, and for that it needs the lock we hold.
        (*lent != WITHDRAWN).then(|| ask(unsafe { BorrowedFd::borrow_raw(*lent) }))
    }

    /// From now on nobody touches the socket but its owner.
    pub fn withdraw(&self) {
        *self.lock() = WITHDRAWN;
    }

    fn lock(&self) -> MutexGuard<'_, RawFd> {
        self.0.lock().expect("no code panics under this lock")
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    // The offsets are those of the header in every kernel: what was sent shows in the fields that were meant.
    #[test]
    fn the_kernel_says_what_was_acknowledged_and_what_was_not() {
        let (mut server, mut client) = pair();
        let before = info(server.as_fd()).unwrap();
        server.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        client.write_all(b"an answer carries the acknowledgement").unwrap();
        server.read_exact(&mut [0; 37]).unwrap();
        let heard = info(server.as_fd()).unwrap();
        assert_eq!((heard.unacked, heard.probes, heard.not_sent), (0, 0, 0));
        assert_eq!(heard.acked.unwrap() - before.acked.unwrap(), 5);

        let drop_all = socket2::SockFilter::new(0x06, 0, 0, 0);
        SockRef::from(&client).attach_filter(&[drop_all]).unwrap();
        server.write_all(b"into the dark").unwrap();
        let unheard = info(server.as_fd()).unwrap();
        assert_eq!((unheard.unacked, unheard.probes, unheard.acked), (1, 0, heard.acked));
        assert!(unheard.last_ack >= heard.last_ack);
    }

    #[test]
    fn bytes_that_wait_for_a_closed_window_are_not_sent() {
        let (server, _client) = pair();
        server.set_nonblocking(true).unwrap();
        while (&server).write(&[b'x'; 65536]).is_ok() {}
        let begun = std::time::SystemTime::now();
        loop {
            let info = info(server.as_fd()).unwrap();
            if info.unacked == 0 && info.not_sent > 0 {
                break;
            }
            assert!(begun.elapsed().unwrap() < Duration::from_secs(20), "{info:?}");
            std::thread::yield_now();
        }
    }

    // A kernel fills what it knows: before 4.1 no bytes acknowledged, before 4.6 none that wait.
    #[test]
    fn older_kernels_say_less() {
        let mut bytes = [0_u8; TcpInfo::LEN];
        (bytes[3], bytes[24], bytes[56], bytes[120], bytes[144]) = (1, 2, 3, 4, 5);
        let all = TcpInfo::parse(&bytes).unwrap();
        let last_ack = Duration::from_millis(u64::from(3_u32.to_le()));
        assert_eq!((all.probes, all.unacked.to_le(), all.last_ack, all.not_sent.to_le()), (1, 2, last_ack, 5));
        assert_eq!(all.acked.map(u64::to_le), Some(4));
        let older = TcpInfo::parse(&bytes[..144]).unwrap();
        assert_eq!((older.acked, older.not_sent), (all.acked, 0));
        let oldest = TcpInfo::parse(&bytes[..104]).unwrap();
        assert_eq!((oldest.unacked, oldest.acked, oldest.not_sent), (all.unacked, None, 0));
        assert_eq!(TcpInfo::parse(&bytes[..40]), None);
    }

    #[test]
    fn what_is_no_tcp_socket_has_no_tcp_info() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(info(udp.as_fd()), None);
    }

    // The number of a closed socket soon belongs to another one.
    #[test]
    fn a_withdrawn_socket_is_asked_no_more() {
        let (server, _client) = pair();
        let lent = Lent::new(&server);
        assert!(lent.with(info).flatten().is_some());
        lent.withdraw();
        assert_eq!(lent.with(info), None);
    }
}
