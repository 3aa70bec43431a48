//! Rules of syntax: names, labels, addresses, protocols. Each error ends the sentence that begins with the value.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

pub(crate) const PROTOCOLS: [(&str, Protocol); 3] = [
    ("TCP", Protocol::Tcp),
    ("UDP", Protocol::Udp),
    ("SCTP", Protocol::Sctp),
];

/// An address prefix. The bits behind the prefix are as written; they do not take part in comparisons of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    /// The address.
    pub address: IpAddr,
    /// How many leading bits count: at most 32 or 128.
    pub length: u8,
}

impl IpBlock {
    /// Whether an address lies in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn bits(address: IpAddr) -> (u128, u8) {
            match address {
                IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
                IpAddr::V6(address) => (u128::from(address), 128),
            }
        }
        let ((ours, width), (theirs, other)) = (bits(self.address), bits(address));
        let differs = (ours ^ theirs)
            .checked_shr(128 - u32::from(self.length))
            .unwrap_or(0);
        width == other && differs == 0
    }
}

/// `10.0.0.0/8`.
impl fmt::Display for IpBlock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.length)
    }
}

/// A DNS label (RFC 1123): at most 63 of `[a-z0-9-]`, alphanumeric at both ends.
pub(crate) fn dns_label(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 63 || !label_characters(text) {
        return Err(
            "is no DNS-1123 label: 1 to 63 lower case letters, digits and '-', with a letter or digit at \
                    both ends"
                .to_owned(),
        );
    }
    Ok(())
}

/// A DNS label that begins with a letter (RFC 1035), as Services need it.
pub(crate) fn dns_1035_label(text: &str) -> Result<(), String> {
    dns_label(text)?;
    if !text.as_bytes()[0].is_ascii_lowercase() {
        return Err("is no DNS-1035 label: it must begin with a letter".to_owned());
    }
    Ok(())
}

/// A DNS subdomain (RFC 1123): labels joined by dots, at most 253.
pub(crate) fn dns_subdomain(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 253 || !text.split('.').all(label_characters) {
        return Err(
            "is no DNS-1123 name: 1 to 253 lower case letters, digits, '-' and '.', with a letter or digit \
                    at both ends of each part"
                .to_owned(),
        );
    }
    Ok(())
}

/// The name of a port (RFC 6335): at most 15 of `[a-z0-9-]`, with at least one letter.
pub(crate) fn port_name(text: &str) -> Result<(), String> {
    let letter = text.bytes().any(|byte| byte.is_ascii_lowercase());
    if text.len() > 15 || !label_characters(text) || !letter || text.contains("--") {
        return Err(
            "is no port name: 1 to 15 lower case letters, digits and single '-', at least one letter, with \
                    a letter or digit at both ends"
                .to_owned(),
        );
    }
    Ok(())
}

/// The key of a label or annotation: a name of at most 63, optionally behind `prefix/`.
pub(crate) fn qualified_name(text: &str) -> Result<(), String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix.is_some_and(|prefix| dns_subdomain(prefix).is_err()) {
        return Err(format!(
            "the key {text:?} has a bad prefix: what stands before '/' must be a DNS-1123 name"
        ));
    }
    if name.is_empty() || !label_text(name) {
        return Err(format!(
            "the key {text:?} is not accepted: 1 to 63 letters, digits, '-', '_' and '.', with a letter or digit \
             at both ends, optionally behind a DNS name and '/'"
        ));
    }
    Ok(())
}

/// A label: key and value.
pub(crate) fn label(key: &str, value: &str) -> Result<(), String> {
    qualified_name(key)?;
    if !value.is_empty() && !label_text(value) {
        return Err(format!(
            "{value:?} is no label value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at \
             both ends"
        ));
    }
    Ok(())
}

/// An annotation: a key like a label's, any value.
pub(crate) fn annotation(key: &str, _value: &str) -> Result<(), String> {
    // Kubernetes checks annotation keys in lower case.
    qualified_name(&key.to_ascii_lowercase())
}

/// An IP address. The IPv6 form of an IPv4 address is refused, as by Kubernetes: it would be another key for the same.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    match text.parse() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err("is the IPv6 form of an IPv4 address: write the IPv4 address".to_owned())
        }
        Ok(address) => Ok(address),
        Err(_) => Err("is no IP address, such as 10.0.0.1 or 2001:db8::1".to_owned()),
    }
}

/// An address prefix with its length.
pub(crate) fn cidr(text: &str) -> Result<IpBlock, String> {
    let wrong = || "is no address prefix, such as 10.0.0.0/16 or 2001:db8::/64".to_owned();
    let (ip, length) = text.split_once('/').ok_or_else(wrong)?;
    if ip.parse::<IpAddr>().is_err() {
        return Err(wrong());
    }
    let ip = address(ip)?;
    let canonical = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|_| canonical).ok_or_else(wrong)?;
    let widest = if ip.is_ipv4() { 32 } else { 128 };
    if length > widest {
        return Err(format!("has a prefix longer than {widest} bits"));
    }
    Ok(IpBlock { address: ip, length })
}

/// An address prefix, or an address alone, which stands for itself.
pub(crate) fn ip_block(text: &str) -> Result<IpBlock, String> {
    if !text.contains('/') && text.parse::<IpAddr>().is_ok() {
        let address = address(text)?;
        return Ok(IpBlock {
            address,
            length: if address.is_ipv4() { 32 } else { 128 },
        });
    }
    cidr(text).map_err(|problem| match problem.as_str() {
        "is no address prefix, such as 10.0.0.0/16 or 2001:db8::/64" => {
            "is no IP address or prefix, such as 10.0.0.1, 10.0.0.0/16 or 2001:db8::/64".to_owned()
        }
        _ => problem,
    })
}

/// An address that a cluster IP may be.
pub(crate) fn unicast(text: &str) -> Result<IpAddr, String> {
    let ip = address(text)?;
    let bad = match ip {
        IpAddr::V4(ip) => {
            ip == Ipv4Addr::UNSPECIFIED || ip.is_loopback() || ip.is_multicast() || ip.is_link_local()
        }
        IpAddr::V6(ip) => ip == Ipv6Addr::UNSPECIFIED || ip.is_loopback() || ip.is_multicast(),
    };
    if bad {
        Err("is no address that a pod or service may have".to_owned())
    } else {
        Ok(ip)
    }
}

fn label_characters(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    bytes.iter().all(inner) && ends(bytes.first()) && ends(bytes.last())
}

fn label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 63 && bytes.iter().all(inner) && ends(bytes.first()) && ends(bytes.last())
}

#[cfg(test)]
mod tests;
