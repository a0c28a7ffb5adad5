//! The sockets that clients and operators come to, opened before anything is promised to anybody.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::config::Config;

/// Clients that wait in the kernel to be accepted, as far as it allows (`net.core.somaxconn`, mostly 4,096): when thousands
/// come back in the same second, a longer queue means fewer that are dropped and try again seconds later.
const BACKLOG: u32 = 4096;

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
}

/// Opens the sockets of both sides.
///
/// # Errors
/// When an address can't be had.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn open(config: &Config) -> Result<Listeners, ListenError> {
    let public = config.listen.iter().map(|addr| bind("--listen", *addr)).collect::<Result<_, _>>()?;
    let admin = config.admin_listen.map(|addr| bind("--admin-listen", addr)).transpose()?;
    Ok(Listeners { public, admin })
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
