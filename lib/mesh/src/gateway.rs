//! Where a waypoint or network gateway is reached.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use proto::workload as wire;

use crate::address::{NetworkAddress, ip_from_bytes};
use crate::port::port_number;

/// Where a waypoint or network gateway is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayAddress {
    /// The service or workload.
    pub destination: GatewayDestination,
    /// Its HBONE port; none is the default port.
    pub hbone_port: Option<NonZeroU16>,
}

/// What names a waypoint or gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GatewayDestination {
    /// A service, by `namespace/hostname`.
    Service(Arc<str>),
    /// An address.
    Address(NetworkAddress),
}

impl GatewayAddress {
    pub(crate) fn from_proto(gateway: wire::GatewayAddress) -> Result<Self, String> {
        use wire::gateway_address::Destination;
        let destination = match gateway.destination {
            Some(Destination::Hostname(name)) if name.namespace.is_empty() || name.hostname.is_empty() => {
                return Err("names no namespace or no hostname".to_owned());
            }
            Some(Destination::Hostname(name)) => {
                GatewayDestination::Service(format!("{}/{}", name.namespace, name.hostname).into())
            }
            Some(Destination::Address(address)) => GatewayDestination::Address(host_address(address)?),
            None => return Err("has no destination we know".to_owned()),
        };
        let hbone_port = NonZeroU16::new(port_number(gateway.hbone_mtls_port)?);
        Ok(Self {
            destination,
            hbone_port,
        })
    }
}

fn host_address(address: wire::NetworkAddress) -> Result<NetworkAddress, String> {
    let ip: IpAddr = ip_from_bytes(&address.address).map_err(|error| error.to_string())?;
    if address.length.is_some() {
        return Err("is a prefix, not one address".to_owned());
    }
    Ok(NetworkAddress::new(address.network, ip))
}
