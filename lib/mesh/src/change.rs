//! What the control plane says, one resource at a time.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use proto::workload as wire;

use crate::address::IpPrefix;
use crate::policy::Policy;
use crate::rejected::Rejected;
use crate::service::{Service, ServiceAddress};
use crate::workload::Workload;

/// One change of the snapshot. It lives for the moment between decoding and applying.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "short-lived; a box would cost an allocation and save nothing"
)]
pub enum Change {
    /// A workload is new or changed.
    Workload(Workload),
    /// A service is new or changed.
    Service(Service),
    /// A policy is new or changed.
    Policy(Policy),
    /// The workload of this uid or the service `namespace/hostname` is gone.
    RemoveAddress(String),
    /// The policy `namespace/name` is gone.
    RemovePolicy(String),
    /// A policy was not understood. Its last good version stays; without one everything it might apply to is
    /// closed until a good version or its removal arrives.
    RejectedPolicy(Rejected),
    /// A workload or service was not understood. Its last good version stays; without one connections to its
    /// addresses are refused until a good version or its removal arrives.
    RejectedAddress(Rejected),
    /// The first complete set of policies has arrived. Before it, every connection is refused.
    PoliciesSynced,
}

impl Change {
    /// Reads an encoded `istio.workload.Address` delivered under this name: a workload or a service. It never
    /// fails: what cannot be read is the change [`Change::RejectedAddress`], so that it cannot be forgotten.
    pub fn decode_address(name: &str, bytes: &[u8]) -> Self {
        let address: wire::Address = match prost::Message::decode(bytes) {
            Ok(address) => address,
            Err(error) => {
                let reason = format!("is no valid Address message: {error}");
                return Self::unread_address(name, [], reason);
            }
        };
        let read = match address.r#type {
            Some(wire::address::Type::Workload(workload)) => {
                let addresses = workload.addresses.iter();
                let addresses = addresses.filter_map(|it| readable(&workload.network, it, None));
                let addresses: Vec<ServiceAddress> = addresses.collect();
                Workload::from_proto(workload)
                    .map(Self::Workload)
                    .map_err(|error| (error, addresses))
            }
            Some(wire::address::Type::Service(service)) => {
                let addresses = service.addresses.iter();
                let addresses = addresses.filter_map(|it| readable(&it.network, &it.address, it.length));
                let addresses = addresses.collect();
                Service::from_proto(service)
                    .map(Self::Service)
                    .map_err(|error| (error, addresses))
            }
            None => return Self::unread_address(name, [], "is neither a workload nor a service"),
        };
        read.unwrap_or_else(|(rejected, addresses)| {
            Self::RejectedAddress(Rejected {
                addresses,
                ..rejected.named(name)
            })
        })
    }

    /// A workload or service of which nothing is known but its names, `network/ip` or `network/ip/length` among them where
    /// it has addresses, or was asked for by one: the name itself may be such a one.
    pub fn unread_address<'a>(
        name: &'a str,
        aliases: impl IntoIterator<Item = &'a str>,
        reason: impl Into<String>,
    ) -> Self {
        let names = std::iter::once(name).chain(aliases);
        Self::RejectedAddress(Rejected {
            addresses: names.filter_map(address_in_name).collect(),
            ..Rejected::new(name, reason)
        })
    }

    /// Reads an encoded `istio.security.Authorization` delivered under this name (`namespace/name`). It never
    /// fails: what cannot be read is the change [`Change::RejectedPolicy`], so that it cannot be forgotten.
    pub fn decode_policy(name: &str, bytes: &[u8]) -> Self {
        match Policy::decode(bytes) {
            Ok(policy) if **policy.key() == *name => Self::Policy(policy),
            Ok(policy) => Self::RejectedPolicy(Rejected::new(
                name,
                format!("is delivered under this name, but says it is {}", policy.key()),
            )),
            Err(rejected) => Self::RejectedPolicy(rejected.named(name)),
        }
    }
}

/// The address or block of a name `network/ip` or `network/ip/length`.
fn address_in_name(name: &str) -> Option<ServiceAddress> {
    let (before, last) = name.rsplit_once('/')?;
    let (network, prefix) = match last.parse() {
        Ok(ip) => (before, IpPrefix::host(ip)),
        Err(_) => {
            let (network, ip) = before.rsplit_once('/')?;
            (network, IpPrefix::new(ip.parse().ok()?, last.parse().ok()?).ok()?)
        }
    };
    Some(ServiceAddress {
        network: network.into(),
        prefix,
    })
}

/// An address of 4 or 16 bytes, or the block of that length around it.
fn readable(network: &str, raw: &[u8], length: Option<u32>) -> Option<ServiceAddress> {
    let ip = match raw.len() {
        4 => <[u8; 4]>::try_from(raw).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(raw).ok().map(IpAddr::from),
    }?;
    let prefix = match length {
        Some(length) => IpPrefix::new(ip, length).ok()?,
        None => IpPrefix::host(ip),
    };
    Some(ServiceAddress {
        network: network.into(),
        prefix,
    })
}
