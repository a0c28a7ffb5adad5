//! The values of flags and route keys, read once and right from then on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::ListenOn;

/// The word for the sockets that systemd has opened.
pub(super) const SYSTEMD: &str = "systemd";

/// Longer than any process lives between two deployments, and short enough to be added to any point in time.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// The timers' own grain.
const MIN_DURATION: Duration = Duration::from_millis(1);

/// More than there can be of anything that is counted here.
const NUMBER_MAX: usize = u32::MAX as usize;

/// Why a value makes no sense: the end of a sentence that names the flag or key and the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// `15`, `fast`.
    #[error("a duration is written with its unit, as in 15s, 500ms or 1m30s")]
    Duration,
    /// Less than the timers can do.
    #[error("a duration is at least 1ms")]
    TooShort,
    /// More than can be meant.
    #[error("a duration is at most 365 days")]
    TooLong,
    /// `-5s`.
    #[error("a duration can't be negative")]
    NegativeDuration,
    /// Zero where it has no meaning.
    #[error("it can't be zero; write a duration such as 1s")]
    ZeroDuration,
    /// Not a number, or zero where one is needed.
    #[error("it must be a whole number from 1 to {NUMBER_MAX}")]
    NotPositive,
    /// Not a number, or too large.
    #[error("it must be a whole number from 0 to {0}")]
    Number(usize),
    /// A listen address.
    #[error("an address is written IP:PORT, localhost:PORT, [IPv6]:PORT or :PORT, as in 127.0.0.1:8080")]
    Address,
    /// A listen address with some host name.
    #[error("'{0}' is a name, and listening needs an IP address or localhost, as in 0.0.0.0:8080")]
    HostName(String),
    /// An admin address.
    #[error("write an address such as 127.0.0.1:9180, or off")]
    AdminAddress,
    /// A header name that HTTP doesn't allow.
    #[error("it is not the name of an HTTP header; write one such as cookie or x-api-key")]
    HeaderName,
    /// A header that says nothing about the user.
    #[error("this header belongs to one connection and tells no users apart; write one such as cookie or x-api-key")]
    HopByHop,
    /// A network.
    #[error("a network is written as an address with its prefix length, as in 10.0.0.0/8, or as one IP address")]
    Network,
    /// A flag without a value, from the environment.
    #[error("write true or false")]
    Switch,
    /// Log directives.
    #[error("write a level (error, warn, info, debug, trace, off) or directives such as info,sidestream::source=debug")]
    LogFilter,
}

/// A duration, `0` included.
pub(crate) fn duration(text: &str) -> Result<Duration, ValueError> {
    let parse = |text: &str| humantime::parse_duration(text.trim()).map_err(|_| ValueError::Duration);
    if text.trim().strip_prefix('-').is_some_and(|rest| parse(rest).is_ok()) {
        return Err(ValueError::NegativeDuration);
    }
    match parse(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        short if short < MIN_DURATION => Err(ValueError::TooShort),
        long if long > MAX_DURATION => Err(ValueError::TooLong),
        usual => Ok(usual),
    }
}

/// A duration where zero would mean nothing.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, ValueError> {
    let duration = duration(text)?;
    if duration.is_zero() { Err(ValueError::ZeroDuration) } else { Ok(duration) }
}

/// Whether a flag that stands alone is given. Only the environment says it in a word.
pub(crate) fn switch(text: &str) -> Result<bool, ValueError> {
    match &*text.trim().to_ascii_lowercase() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Ok(true),
        "false" | "no" | "off" | "0" | "f" | "n" => Ok(false),
        _ => Err(ValueError::Switch),
    }
}

/// A limit that can't be switched off.
pub(crate) fn positive_number(text: &str) -> Result<usize, ValueError> {
    text.trim().parse().ok().filter(|number| (1..=NUMBER_MAX).contains(number)).ok_or(ValueError::NotPositive)
}

/// A limit that `0` switches off.
pub(crate) fn number(text: &str) -> Result<usize, ValueError> {
    number_up_to(text, NUMBER_MAX)
}

/// A number with an upper bound, `0` included.
pub(crate) fn number_up_to(text: &str, max: usize) -> Result<usize, ValueError> {
    text.trim().parse().ok().filter(|number| *number <= max).ok_or(ValueError::Number(max))
}

/// Where to listen: an address, or what systemd has opened.
pub(crate) fn listen_on(text: &str) -> Result<ListenOn, ValueError> {
    if text.trim() == SYSTEMD { Ok(ListenOn::Systemd) } else { listen_addr(text).map(ListenOn::At) }
}

/// An address to listen on; `:8080` means every IPv4 address of the machine.
pub(crate) fn listen_addr(text: &str) -> Result<SocketAddr, ValueError> {
    let text = text.trim();
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let (host, port) = text.rsplit_once(':').ok_or(ValueError::Address)?;
    let port = port.parse().map_err(|_| ValueError::Address)?;
    match host {
        "" => Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        name if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && name.bytes().any(|b| b.is_ascii_alphabetic()) =>
        {
            Err(ValueError::HostName(name.to_owned()))
        }
        _ => Err(ValueError::Address),
    }
}

/// A header that tells users apart.
pub(crate) fn credential_header(text: &str) -> Result<HeaderName, ValueError> {
    // RFC 9110, section 7.6.1, with the older names that proxies still take out; and a body's length, for polls and
    // subscriptions have no body.
    const REFUSED: [&str; 10] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = HeaderName::try_from(text.trim()).map_err(|_| ValueError::HeaderName)?;
    if REFUSED.contains(&name.as_str()) { Err(ValueError::HopByHop) } else { Ok(name) }
}

/// A network, or a single address as a network of its own.
pub(crate) fn network(text: &str) -> Result<IpNet, ValueError> {
    let text = text.trim();
    let net: Option<IpNet> = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.map(|net| net.trunc()).ok_or(ValueError::Network)
}

/// A duration as it can be written on the command line.
pub(crate) fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_carry_a_unit_and_have_bounds() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("15"), Err(ValueError::Duration));
        assert_eq!(duration(""), Err(ValueError::Duration));
        assert_eq!(duration("-1s"), Err(ValueError::NegativeDuration));
        assert_eq!(duration("-1"), Err(ValueError::Duration));
        assert_eq!(duration("10us"), Err(ValueError::TooShort));
        assert_eq!(duration("366d"), Err(ValueError::TooLong));
        assert_eq!(duration("99999999999999999999s"), Err(ValueError::Duration));
        assert_eq!(positive_duration("0"), Err(ValueError::ZeroDuration));
    }

    #[test]
    fn listen_addresses_are_ip_and_port() {
        for (text, addr) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            (":8080", "0.0.0.0:8080"),
            ("localhost:81", "127.0.0.1:81"),
            ("[::]:8080", "[::]:8080"),
            (" 0.0.0.0:1 ", "0.0.0.0:1"),
        ] {
            assert_eq!(listen_addr(text), Ok(addr.parse().unwrap()), "{text:?}");
        }
        for text in ["8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:8080", "256.0.0.1:80", "", ":"] {
            assert_eq!(listen_addr(text), Err(ValueError::Address), "{text:?}");
        }
        assert_eq!(listen_addr("app.local:80"), Err(ValueError::HostName("app.local".to_owned())));
    }

    #[test]
    fn a_switch_is_said_in_a_word() {
        for (text, is_on) in
            [("true", true), ("YES", true), (" 1", true), ("false", false), ("Off", false), ("0", false)]
        {
            assert_eq!(switch(text), Ok(is_on), "{text:?}");
        }
        for text in ["maybe", "", "2"] {
            assert_eq!(switch(text), Err(ValueError::Switch), "{text:?}");
        }
    }

    #[test]
    fn systemd_may_have_opened_it() {
        assert_eq!(listen_on(" systemd"), Ok(ListenOn::Systemd));
        assert_eq!(listen_on(":1"), Ok(ListenOn::At("0.0.0.0:1".parse().unwrap())));
        assert_eq!(listen_on("Systemd"), Err(ValueError::Address));
        assert_eq!(listen_on(&ListenOn::Systemd.to_string()), Ok(ListenOn::Systemd));
    }

    #[test]
    fn a_bare_address_is_a_network_of_its_own() {
        assert_eq!(network("10.1.2.3").map(|net| net.to_string()), Ok("10.1.2.3/32".to_owned()));
        assert_eq!(network("::1").map(|net| net.to_string()), Ok("::1/128".to_owned()));
        assert_eq!(network("10.1.2.3/8").map(|net| net.to_string()), Ok("10.0.0.0/8".to_owned()));
        for text in ["10.0.0.0/33", "10.0.0", "nginx", ""] {
            assert_eq!(network(text), Err(ValueError::Network), "{text:?}");
        }
    }

    proptest! {
        // What `check` and the error texts say can be put into the command line as it is.
        #[test]
        fn a_written_duration_is_read_back(ms in 1_u64..365 * 24 * 3600 * 1000) {
            let value = Duration::from_millis(ms);
            prop_assert_eq!(duration(&time(value)), Ok(value));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (duration(&text), listen_addr(&text), network(&text), credential_header(&text));
        }
    }
}
