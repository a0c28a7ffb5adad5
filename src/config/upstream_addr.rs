//! The address of the app.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::uri::{Authority, Uri};

/// Where the app listens: a host and perhaps a port, always plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddr {
    /// Without user information; without a port it is port 80.
    pub authority: Authority,
}

/// Why a text is not the address of an app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamAddrError {
    /// `localhost:3000`.
    #[error("the scheme is missing; write http://{0}")]
    NoScheme(Authority),
    /// `https://…`.
    #[error(
        "the app is spoken to in plain HTTP on the same machine or pod; write http:// and the port of the app itself"
    )]
    Scheme,
    /// `http://user:secret@…`.
    #[error("it can't hold credentials, each client's own are passed on; write http://{0}")]
    UserInfo(Authority),
    /// `http://…/base`.
    #[error("it can't hold a path or query, targets of routes begin at the root; write http://{0}")]
    Path(Authority),
    /// Anything else.
    #[error("it is not an address; write http://HOST:PORT, as in http://127.0.0.1:3000")]
    Form,
}

// === impl UpstreamAddr ===

impl UpstreamAddr {
    /// Whether whoever listens at `addr` would surely be the app.
    pub fn is_at(&self, addr: SocketAddr) -> bool {
        self.local_addr().is_some_and(|app| super::are_same(addr, app))
    }

    /// The address, if it is surely one of this machine: its IPv4 loopback by name or number.
    fn local_addr(&self) -> Option<SocketAddr> {
        let ip: IpAddr = match self.authority.host() {
            "localhost" => [127, 0, 0, 1].into(),
            host => host.trim_matches(['[', ']']).parse().ok()?,
        };
        ip.is_loopback().then(|| (ip, self.authority.port_u16().unwrap_or(80)).into())
    }
}

impl FromStr for UpstreamAddr {
    type Err = UpstreamAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text.parse::<Authority>().ok().as_ref().and_then(without_user) {
                Some(authority) => Err(UpstreamAddrError::NoScheme(authority)),
                None => Err(UpstreamAddrError::Form),
            };
        };
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(UpstreamAddrError::Scheme);
        }
        let uri: Uri = text.parse().map_err(|_| UpstreamAddrError::Form)?;
        let authority = uri.authority().ok_or(UpstreamAddrError::Form)?;
        let clean = without_user(authority).ok_or(UpstreamAddrError::Form)?;
        // The parser takes any digits for a port, and no digits for none.
        let port = clean.as_str().strip_prefix(clean.host()).and_then(|port| port.strip_prefix(':'));
        if clean.host().is_empty() || port.is_some_and(|port| !port.parse().is_ok_and(|port: u16| port > 0)) {
            return Err(UpstreamAddrError::Form);
        }
        if *authority != clean {
            return Err(UpstreamAddrError::UserInfo(clean));
        }
        // The parser drops a fragment without a word.
        if uri.path() != "/" || uri.query().is_some() || rest.contains('#') {
            return Err(UpstreamAddrError::Path(clean));
        }
        Ok(Self { authority: clean })
    }
}

/// The host and port alone, if there is a host.
fn without_user(authority: &Authority) -> Option<Authority> {
    match authority.as_str().rsplit_once('@') {
        Some((_, host)) => host.parse().ok(),
        None => Some(authority.clone()),
    }
}
