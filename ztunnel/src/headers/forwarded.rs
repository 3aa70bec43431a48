//! `forwarded` (RFC 7239): the client's own address, and the service that it called.

use std::fmt::Write;
use std::net::SocketAddr;

/// Longest `forwarded` that is read, in bytes; a longer one is ignored as a whole.
pub const MAX_FORWARDED: usize = 1024;

/// `for="client"` and, when a service was addressed, its host name.
pub fn forwarded(client: SocketAddr, service_host: Option<&str>) -> String {
    let mut text = format!("for=\"{client}\"");
    if let Some(host) = service_host {
        // Writing to a String cannot fail.
        let _ = write!(text, ";host={host}");
    }
    text
}

/// What a peer says of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's address, if it is one with a port.
    pub client: Option<SocketAddr>,
    /// The host name of the service, in lower case.
    pub host: Option<String>,
}

/// Reads the first element of `forwarded`: the one written by the proxy nearest to the client. Parameters that are
/// unknown, or no address or name, are ignored.
pub fn parse_forwarded(text: &str) -> Forwarded {
    let mut found = Forwarded::default();
    if text.len() > MAX_FORWARDED {
        return found;
    }
    let element = text.split(',').next().unwrap_or_default();
    for (name, value) in element.split(';').filter_map(|pair| pair.split_once('=')) {
        let value = value.trim();
        let value = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(value);
        if name.trim().eq_ignore_ascii_case("for") {
            found.client = value.parse().ok();
        } else if name.trim().eq_ignore_ascii_case("host") {
            found.host = super::is_host_name(value).then(|| value.to_ascii_lowercase());
        }
    }
    found
}
