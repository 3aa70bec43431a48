//! Service NAT of one node, in the manner of kube-proxy: what uncaptured pods reach Services by.
//!
//! The text is for `iptables-restore --noflush`: naming a chain there empties it, so one run replaces all of ours at
//! once and touches nobody else's.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// One port of one Service address and the ready endpoints behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Virtual {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
    pub(crate) endpoints: Vec<SocketAddr>,
    /// What it is, for people who read the rules.
    pub(crate) comment: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// The rules that make the lab's chains known; run once, and harmless when run again after `-F` of the base chains.
pub(crate) fn base_rules() -> &'static str {
    "*nat\n\
     :LAB-SERVICES - [0:0]\n\
     :LAB-HAIRPIN - [0:0]\n\
     -A PREROUTING -j LAB-SERVICES\n\
     -A OUTPUT -j LAB-SERVICES\n\
     -A POSTROUTING -j LAB-HAIRPIN\n\
     COMMIT\n\
     *filter\n\
     :LAB-REJECT - [0:0]\n\
     -A FORWARD -j LAB-REJECT\n\
     -A OUTPUT -j LAB-REJECT\n\
     COMMIT\n"
}

/// The rules for these Services. One flat chain: the n-th of k endpoints is taken with probability 1/(k-n), which is
/// even over all. A pod that reaches itself through a Service is given the node's address, since it would drop a packet
/// from its own.
pub(crate) fn service_rules(virtuals: &[Virtual], v6: bool) -> String {
    let mut nat = String::from("*nat\n:LAB-SERVICES - [0:0]\n:LAB-HAIRPIN - [0:0]\n");
    let mut hairpins = BTreeSet::new();
    let mut filter = String::from("*filter\n:LAB-REJECT - [0:0]\n");
    for virtual_ in virtuals
        .iter()
        .filter(|virtual_| virtual_.address.is_ipv6() == v6)
    {
        let comment = comment(&virtual_.comment);
        let matched = format!(
            "-d {} -p {proto} -m {proto} --dport {}{comment}",
            host(virtual_.address.ip()),
            virtual_.address.port(),
            proto = virtual_.protocol.name()
        );
        let endpoints: Vec<&SocketAddr> = virtual_
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.is_ipv6() == v6)
            .collect();
        if endpoints.is_empty() {
            let with = if v6 {
                "icmp6-port-unreachable"
            } else {
                "icmp-port-unreachable"
            };
            // Writing to a String cannot fail.
            let _ = writeln!(filter, "-A LAB-REJECT {matched} -j REJECT --reject-with {with}");
            continue;
        }
        hairpins.extend(endpoints.iter().map(|endpoint| endpoint.ip()));
        for (position, endpoint) in endpoints.iter().enumerate() {
            let left = endpoints.len() - position;
            let chance = if left == 1 {
                String::new()
            } else {
                format!(
                    " -m statistic --mode random --probability {:.10}",
                    1.0 / left as f64
                )
            };
            let _ = writeln!(
                nat,
                "-A LAB-SERVICES {matched}{chance} -j DNAT --to-destination {endpoint}"
            );
        }
    }
    for address in hairpins {
        let host = host(address);
        let _ = writeln!(nat, "-A LAB-HAIRPIN -s {host} -d {host} -j MASQUERADE");
    }
    nat.push_str("COMMIT\n");
    filter.push_str("COMMIT\n");
    nat + &filter
}

fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv6() { 128 } else { 32 })
}

/// A comment that cannot break out of its quotes; iptables takes at most 255 bytes.
fn comment(text: &str) -> String {
    let clean: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-./: ".contains(*c))
        .take(200)
        .collect();
    format!(" -m comment --comment \"{clean}\"")
}

#[cfg(test)]
mod tests;
