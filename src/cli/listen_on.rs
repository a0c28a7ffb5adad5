//! Where a side listens: an address, what systemd has opened, or nowhere.

use std::fmt;
use std::net::SocketAddr;

use super::value;

/// Where a side listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenOn {
    /// An address that we open.
    At(SocketAddr),
    /// What systemd has opened for us.
    Systemd,
}

/// Where the admin side listens, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// Nowhere: no metrics, no health, no dashboard.
    Off,
    /// Here.
    On(ListenOn),
}

// === impl ListenOn ===

impl ListenOn {
    /// The address, unless somebody else has chosen it.
    pub fn addr(self) -> Option<SocketAddr> {
        match self {
            Self::At(addr) => Some(addr),
            Self::Systemd => None,
        }
    }
}

impl From<SocketAddr> for ListenOn {
    fn from(addr: SocketAddr) -> Self {
        Self::At(addr)
    }
}

impl fmt::Display for ListenOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(addr) => addr.fmt(f),
            Self::Systemd => f.write_str(value::SYSTEMD),
        }
    }
}

// === impl AdminListen ===

impl AdminListen {
    /// Where, unless the admin side is off.
    pub fn on(self) -> Option<ListenOn> {
        match self {
            Self::Off => None,
            Self::On(place) => Some(place),
        }
    }
}

impl std::str::FromStr for AdminListen {
    type Err = value::ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "off" {
            return Ok(Self::Off);
        }
        match value::listen_on(text) {
            Ok(place) => Ok(Self::On(place)),
            Err(value::ValueError::Address) => Err(value::ValueError::AdminAddress),
            Err(error) => Err(error),
        }
    }
}
