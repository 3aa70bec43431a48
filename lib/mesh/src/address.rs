//! Addresses and prefixes.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// An IP address on a named network; the default network has the empty name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// The network's name.
    pub network: Arc<str>,
    /// The address, never IPv4-mapped.
    pub ip: IpAddr,
}

impl NetworkAddress {
    /// An address on a network; an IPv4-mapped one becomes IPv4, as that is how it is looked up.
    pub fn new(network: impl Into<Arc<str>>, ip: IpAddr) -> Self {
        Self {
            network: network.into(),
            ip: ip.to_canonical(),
        }
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.ip)
    }
}

/// An IP prefix. Bits behind its length are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpPrefix {
    address: IpAddr,
    length: u8,
}

impl IpPrefix {
    /// The prefix of `length` bits that contains `address`. IPv4-mapped addresses become IPv4.
    pub fn new(address: IpAddr, length: u32) -> Result<Self, AddressError> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if length > most {
            return Err(AddressError::PrefixTooLong {
                address,
                length,
                most,
            });
        }
        let (address, length) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(mapped)) => match length.checked_sub(96) {
                Some(length) => (IpAddr::V4(mapped), length),
                None => return Err(AddressError::MappedPrefix { address, length }),
            },
            (address, _) => (address, length),
        };
        // At most 128, as checked above.
        let length = length as u8;
        Ok(Self {
            address: masked(address, length),
            length,
        })
    }

    /// The prefix of this one address.
    pub fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self {
            address,
            length: if address.is_ipv4() { 32 } else { 128 },
        }
    }

    /// The prefix's length in bits.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The first address of the prefix.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether it holds one address only.
    pub fn is_host(&self) -> bool {
        self.length == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether all of `other` lies inside.
    pub(crate) fn covers(&self, other: &IpPrefix) -> bool {
        self.length <= other.length
            && self.address.is_ipv4() == other.address.is_ipv4()
            && masked(other.address, self.length) == self.address
    }

    /// Whether the address is inside. The families never mix. The unspecified address is in no prefix, not even in
    /// that of all addresses: nobody has it, and it stands for an address that is not known.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        !ip.is_unspecified()
            && ip.is_ipv4() == self.address.is_ipv4()
            && masked(ip, self.length) == self.address
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Why bytes are no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Neither 4 nor 16 bytes.
    #[error("an IP address has 4 or 16 bytes, this has {0}")]
    Length(usize),
    /// A prefix longer than the address.
    #[error("a prefix of {address} has at most {most} bits, this has {length}")]
    PrefixTooLong {
        /// The address.
        address: IpAddr,
        /// The length given.
        length: u32,
        /// The longest possible.
        most: u32,
    },
    /// It reaches beyond the mapped IPv4 addresses and is therefore in no one family.
    #[error("{address}/{length} mixes IPv4-mapped and IPv6 addresses; write an IPv4 or an IPv6 prefix")]
    MappedPrefix {
        /// The address.
        address: IpAddr,
        /// The length given.
        length: u32,
    },
}

/// Reads 4 or 16 raw bytes. IPv4-mapped addresses are kept as they are: a prefix length may follow.
pub(crate) fn ip_from_bytes(bytes: &[u8]) -> Result<IpAddr, AddressError> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        Ok(Ipv4Addr::from(four).into())
    } else if let Ok(sixteen) = <[u8; 16]>::try_from(bytes) {
        Ok(Ipv6Addr::from(sixteen).into())
    } else {
        Err(AddressError::Length(bytes.len()))
    }
}

pub(crate) fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(length.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    }
}
