//! The PROXY protocol header, version 2: how a proxy inside a pod learns who its caller really is
//! (haproxy.org, "The PROXY protocol", §2.2).

use mesh::Identity;
use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY_V2: u8 = 0x21;
/// TCP over IPv4, and over IPv6.
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;
/// The type under which Istio's proxies look for the caller's SPIFFE id; of the range for custom use.
const TLV_PEER_IDENTITY: u8 = 0xD0;

/// The header for a connection from `source` to `destination`, and the caller's proven identity, if it has one.
///
/// The protocol knows one address family per connection. Where the two differ, IPv4 is written as IPv4-mapped IPv6.
pub(crate) fn header(source: SocketAddr, destination: SocketAddr, peer: Option<&Identity>) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            body.extend(from.octets());
            body.extend(to.octets());
            TCP_V4
        }
        (from, to) => {
            body.extend(v6(from));
            body.extend(v6(to));
            TCP_V6
        }
    };
    body.extend(source.port().to_be_bytes());
    body.extend(destination.port().to_be_bytes());
    if let Some(peer) = peer {
        let uri = peer.to_string();
        body.push(TLV_PEER_IDENTITY);
        body.extend(length(uri.len()));
        body.extend(uri.as_bytes());
    }
    let mut header = Vec::with_capacity(16 + body.len());
    header.extend(SIGNATURE);
    header.extend([PROXY_V2, family]);
    header.extend(length(body.len()));
    header.extend(body);
    header
}

/// Both addresses and an identity of [`mesh::MAX_SPIFFE_ID_LENGTH`] are far below 64 KiB.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests;
