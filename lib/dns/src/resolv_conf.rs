//! The name servers of a resolv.conf.

use std::net::{IpAddr, SocketAddr};

use crate::MAX_SERVERS;

#[cfg(test)]
mod tests;

/// The name servers that a resolv.conf names, in order, port 53. Lines that are not understood are skipped, as libc
/// does; at most [`MAX_SERVERS`] are taken.
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver"))
                .then(|| words.next())
                .flatten()
        })
        .filter_map(parse_server)
        .take(MAX_SERVERS)
        .collect()
}

/// An address. One with a zone (`fe80::1%eth0`) is skipped: what its interface is called differs by namespace.
fn parse_server(word: &str) -> Option<SocketAddr> {
    let address: IpAddr = word.parse().ok()?;
    Some(SocketAddr::new(address, 53))
}
