//! The sockets that clients and operators come to, opened before anything is promised to anybody.

use std::{io, net::SocketAddr};

use http::uri::Authority;
use tokio::net::{TcpListener, TcpSocket};

use crate::{
    cli::ListenOn,
    config::{Config, UpstreamAddr},
    systemd::Sockets,
};

/// Clients that wait in the kernel to be accepted, as far as it allows (`net.core.somaxconn`, mostly 4,096): when thousands
/// come back in the same second, a longer queue means fewer that are dropped and try again seconds later.
const BACKLOG: u32 = 4096;

const PUBLIC: &str = "--listen";
const ADMIN: &str = "--admin-listen";

/// A socket, and where it really is.
pub type Listener = (SocketAddr, TcpListener);

/// The sockets of both sides.
#[derive(Debug)]
pub struct Listeners {
    /// Never empty.
    pub public: Vec<Listener>,
    /// `None` when it is off.
    pub admin: Option<Listener>,
}

/// Why nobody could come.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address is taken or not ours.
    #[error("{flag} {addr}: can't listen there ({source}); choose another address or port")]
    Refused {
        /// The flag.
        flag: &'static str,
        /// Its value.
        addr: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// What was to be there is not.
    #[error("{0} systemd: systemd has opened no socket {1}; enable the socket's unit, or give an address")]
    NoSocket(&'static str, &'static str),
    /// Clients would wait there for ever.
    #[error(
        "systemd has opened {0} for us, and no flag takes it; add {1} systemd, or take it out of the socket's unit"
    )]
    Unclaimed(SocketAddr, &'static str),
    /// A loop, or the admin side in the place of the app.
    #[error(
        "--upstream 'http://{0}' is where the socket of systemd listens; give the app and the sidecar different ports"
    )]
    Loop(Authority),
    /// Nothing that people do.
    #[error("a socket that systemd has opened can't be used ({0})")]
    Unusable(#[from] io::Error),
}

/// Opens the sockets of both sides, but for those that were opened before.
///
/// # Errors
/// When an address can't be had, or `given` is not what the configuration says it is.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn open(config: &Config, given: Sockets) -> Result<Listeners, ListenError> {
    let Sockets { public: mut given_public, admin: mut given_admin } = given;
    let mut public = Vec::new();
    for place in &config.listen {
        match place {
            ListenOn::At(addr) => public.push(bind(PUBLIC, *addr)?),
            ListenOn::Systemd if given_public.is_empty() => return Err(ListenError::NoSocket(PUBLIC, "for it")),
            ListenOn::Systemd => {
                for socket in given_public.drain(..) {
                    public.push(adopt(socket, &config.upstream)?);
                }
            }
        }
    }
    let admin = match config.admin_listen {
        Some(ListenOn::At(addr)) => Some(bind(ADMIN, addr)?),
        Some(ListenOn::Systemd) => {
            let socket = given_admin.take().ok_or(ListenError::NoSocket(ADMIN, "called admin"))?;
            Some(adopt(socket, &config.upstream)?)
        }
        None => None,
    };
    let left = given_public.pop().map(|socket| (socket, PUBLIC)).or(given_admin.map(|socket| (socket, ADMIN)));
    match left {
        Some((socket, flag)) => Err(ListenError::Unclaimed(socket.local_addr()?, flag)),
        None => Ok(Listeners { public, admin }),
    }
}

fn bind(flag: &'static str, addr: SocketAddr) -> Result<Listener, ListenError> {
    let bound = (|| {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As the standard library does it: connections of a process before us must not keep its port.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(BACKLOG)?;
        Ok((listener.local_addr()?, listener))
    })();
    bound.map_err(|source| ListenError::Refused { flag, addr, source })
}

fn adopt(socket: std::net::TcpListener, upstream: &UpstreamAddr) -> Result<Listener, ListenError> {
    let addr = socket.local_addr()?;
    if upstream.is_at(addr) {
        return Err(ListenError::Loop(upstream.authority.clone()));
    }
    socket.set_nonblocking(true)?;
    Ok((addr, TcpListener::from_std(socket)?))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, time::Duration};

    use super::*;

    // Opening thousands of streams at once took seconds: the kernel dropped what the queue of 128 had no room for.
    #[tokio::test]
    async fn clients_that_come_at_once_wait_in_the_queue_and_are_not_dropped() {
        let (addr, _listener) = bind(PUBLIC, "127.0.0.1:0".parse().unwrap()).unwrap();
        let waiting: Result<Vec<_>, _> =
            (0..300).map(|_| TcpStream::connect_timeout(&addr, Duration::from_millis(900))).collect();
        assert_eq!(waiting.unwrap().len(), 300);
    }

    // Neither side may answer for the app.
    #[tokio::test]
    async fn a_socket_of_systemd_in_the_place_of_the_app_is_refused() {
        for side in ["--listen", "--admin-listen"] {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let upstream = format!("http://{}", socket.local_addr().unwrap());
            let other = if side == PUBLIC { ["--admin-listen", "off"] } else { ["--listen", "127.0.0.1:0"] };
            let flags = [side, "systemd", "--upstream", &upstream].into_iter().chain(other);
            let config = Config::from_args(flags).unwrap();
            let given = match side {
                PUBLIC => Sockets { public: vec![socket], admin: None },
                _ => Sockets { public: Vec::new(), admin: Some(socket) },
            };

            assert!(matches!(open(&config, given), Err(ListenError::Loop(_))), "{side}");
        }
    }
}
