//! What a tunnel request says in its authority and headers: where it goes, who the two ends are, where the client
//! really is, and a trace id.
//!
//! What a peer writes in a header is believed for metrics and logs only, never for a decision. Everything here is
//! pure and bounded, and open to fuzzing; nothing panics on input.

mod baggage;
mod forwarded;
mod trace;

pub use baggage::{MAX_BAGGAGE, PeerDescription, baggage, parse_baggage};
pub use forwarded::{Forwarded, MAX_FORWARDED, forwarded, parse_forwarded};
pub use trace::TraceContext;

pub use mesh::inbound::Authority;
use std::net::{IpAddr, SocketAddr};

/// Name of the header that describes a workload.
pub const BAGGAGE: &str = "baggage";
/// Name of the header with the client's address (RFC 7239).
pub const FORWARDED: &str = "forwarded";
/// Name of the W3C trace context header.
pub const TRACEPARENT: &str = "traceparent";

/// Name of the header that says, inside a tunnel through a gateway, which network the connection comes from.
pub const FORWARDED_NETWORK: &str = "x-forwarded-network";

/// Longest authority that is read, in bytes: a name of RFC 1035 with a port is shorter.
pub const MAX_AUTHORITY: usize = 300;

/// Reads `host:port`; both are required (RFC 9113 section 8.5). None for anything else, also for an address with a
/// scope id, which another host could not mean.
pub fn parse_authority(text: &str) -> Option<Authority> {
    if text.len() > MAX_AUTHORITY {
        return None;
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        // A scope id is no part of an address that another host could mean.
        let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
        return (address.port() != 0 && !text.contains('%')).then_some(Authority::Address(plain));
    }
    let (host, port) = text.rsplit_once(':')?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|port| digits && *port != 0)?;
    let name = host.strip_suffix('.').unwrap_or(host);
    is_host_name(name).then(|| Authority::Hostname(name.to_ascii_lowercase().into(), port))
}

/// A name as DNS has them, with underscores, and no address.
fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.parse::<IpAddr>().is_err()
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

#[cfg(test)]
mod tests;
