//! What a request in a tunnel to a workload asks for, and where inside the workload it leads.
//!
//! A pod serves its own addresses, and by host name the services that it is an endpoint of. A waypoint also serves
//! the services and workloads that name it as theirs, and a pod whose own proxy takes decrypted connections (an
//! application tunnel) serves whatever is asked for: that proxy decides. Everything else is refused, so that a
//! tunnel is no way to a third party.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::address::NetworkAddress;
use crate::gateway::{GatewayAddress, GatewayDestination};
use crate::route::OWN_PORTS;
use crate::service::Service;
use crate::snapshot::Snapshot;
use crate::workload::{ApplicationTunnelProtocol, Workload};

/// What the authority of a CONNECT names (RFC 9113 §8.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// `ip:port`.
    Address(SocketAddr),
    /// `host:port`, the host in lower case.
    Hostname(Arc<str>, u16),
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Hostname(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A CONNECT that has arrived at a workload.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What it names.
    pub authority: &'a Authority,
    /// The address of the workload that the peer connected to.
    pub local: IpAddr,
    /// The workload it arrived at.
    pub workload: &'a Workload,
    /// The namespace whose services win conflicts after the workload's own and canonical ones.
    pub preferred_namespace: Option<&'a str>,
}

/// Where inside the workload a request leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The workload's own address and the port to dial: what policy decides about.
    pub address: SocketAddr,
    /// What precedes the bytes, where the workload's own proxy takes them.
    pub tunnel: Option<ApplicationTunnelProtocol>,
    /// The address that was asked for; for a host name one of the service's own, IPv4 before IPv6. None for a
    /// service without an address on the workload's network.
    pub named: Option<SocketAddr>,
    /// The service that was asked for, where one was.
    pub service: Option<Arc<Service>>,
}

/// Why a request leads nowhere. `Display` is a full sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer asks for somebody else's address.
    OtherAddress {
        /// What it asks for.
        wanted: SocketAddr,
        /// The address it connected to.
        own: IpAddr,
    },
    /// No service has this host name.
    UnknownHostname {
        /// The name.
        host: Arc<str>,
    },
    /// The service exists, and this workload has nothing to do with it.
    NotServed {
        /// The service's `namespace/hostname`.
        service: Arc<str>,
    },
    /// The service, or this endpoint of it, has no such port.
    NoSuchPort {
        /// The service's `namespace/hostname`.
        service: Arc<str>,
        /// The port.
        port: u16,
    },
    /// The port belongs to the proxy in front of the workload: it would call itself without end.
    ProxyPort {
        /// What would be dialled.
        address: SocketAddr,
    },
    /// The workload's own proxy has to be told an address, and the service has none on this network.
    NoServiceAddress {
        /// The service's `namespace/hostname`.
        service: Arc<str>,
    },
}

impl Refusal {
    /// A stable word for metrics, logs and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OtherAddress { .. } => "not_own_address",
            Self::UnknownHostname { .. } => "unknown_hostname",
            Self::NotServed { .. } => "service_not_served",
            Self::NoSuchPort { .. } => "no_such_port",
            Self::ProxyPort { .. } => "proxy_port",
            Self::NoServiceAddress { .. } => "no_service_address",
        }
    }

    /// The HTTP status to answer: 400 where the peer asked for what is not ours, 503 where we cannot serve it.
    pub fn status(&self) -> u16 {
        match self {
            Self::OtherAddress { .. } => 400,
            _ => 503,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherAddress { wanted, own } => write!(
                f,
                "a connection to {wanted} was asked for in a tunnel to {own}, which neither has that address nor is \
                 its waypoint; dial {}, or name this workload as the waypoint",
                wanted.ip()
            ),
            Self::UnknownHostname { host } => write!(
                f,
                "no service is called {host}; a tunnel names a service by its full host name"
            ),
            Self::NotServed { service } => write!(
                f,
                "this workload is neither an endpoint nor the waypoint of service {service}; check the service's \
                 selector and the caller's state"
            ),
            Self::NoSuchPort { service, port } => write!(
                f,
                "service {service} has no port {port} here; add it to the service, or call one that it has"
            ),
            Self::ProxyPort { address } => write!(
                f,
                "{address} is a port of the proxy itself; an application in the mesh listens on another"
            ),
            Self::NoServiceAddress { service } => write!(
                f,
                "service {service} has no address on this network, and the proxy in this workload needs one; give \
                 the service an address"
            ),
        }
    }
}

/// Where a request leads inside the workload that it arrived at.
pub fn target(asked: &Asked<'_>, snapshot: &Snapshot) -> Result<Target, Refusal> {
    let (port, named, service) = match asked.authority {
        Authority::Address(wanted) => {
            let service = by_address(asked, *wanted, snapshot)?;
            (wanted.port(), Some(*wanted), service)
        }
        Authority::Hostname(host, port) => {
            let (service, target_port) = by_hostname(asked, host, *port, snapshot)?;
            let named = service_address(service, asked.workload).map(|ip| SocketAddr::new(ip, *port));
            (target_port, named, Some(service.clone()))
        }
    };
    let tunnel = asked.workload.application_tunnel;
    let port = match tunnel {
        Some(tunnel) if tunnel.port != 0 => tunnel.port,
        _ => port,
    };
    let address = SocketAddr::new(asked.local, port);
    if OWN_PORTS.contains(&port) {
        return Err(Refusal::ProxyPort { address });
    }
    let tunnel = tunnel.map(|tunnel| tunnel.protocol);
    if let (Some(ApplicationTunnelProtocol::Proxy), None, Some(service)) = (tunnel, named, &service) {
        return Err(Refusal::NoServiceAddress {
            service: service.key().clone(),
        });
    }
    Ok(Target {
        address,
        tunnel,
        named,
        service,
    })
}

/// What a request names and the snapshot does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// What is at an address.
    Address(NetworkAddress),
    /// The service with this host name.
    Service(Arc<str>),
}

/// What has to be looked up before a refusal of [`target`] is final, where a snapshot holds only what was asked for: the
/// service or workload that is named, or a waypoint that one names by its address. None: the refusal stands.
pub fn missing(asked: &Asked<'_>, snapshot: &Snapshot) -> Option<Missing> {
    let unknown = |address: &NetworkAddress| {
        snapshot
            .service_by_address(address, &asked.workload.namespace)
            .is_none()
            && snapshot.workload_by_address(address).is_none()
    };
    let waypoint = |waypoint: &GatewayAddress| match &waypoint.destination {
        GatewayDestination::Address(address) if !is_named_by(asked.workload, waypoint, snapshot) => {
            unknown(address).then(|| Missing::Address(address.clone()))
        }
        _ => None,
    };
    let of_service = |service: &Arc<Service>| service.waypoints.iter().find_map(|(named, _)| waypoint(named));
    match asked.authority {
        Authority::Address(wanted) if wanted.ip() == asked.local => None,
        Authority::Address(wanted) => {
            let address = NetworkAddress::new(asked.workload.network.clone(), wanted.ip());
            if unknown(&address) {
                return Some(Missing::Address(address));
            }
            match snapshot.service_by_address(&address, &asked.workload.namespace) {
                Some(service) => of_service(service),
                None => {
                    let workload = snapshot.workload_by_address(&address)?;
                    workload.waypoint.as_ref().and_then(waypoint)
                }
            }
        }
        Authority::Hostname(host, _) => {
            let mut services = snapshot.services_by_hostname(host).peekable();
            match services.peek() {
                Some(_) => services.find_map(of_service),
                None => Some(Missing::Service(host.clone())),
            }
        }
    }
}

/// Whether an address may be asked for, and the service that it is an address of.
fn by_address(
    asked: &Asked<'_>,
    wanted: SocketAddr,
    snapshot: &Snapshot,
) -> Result<Option<Arc<Service>>, Refusal> {
    let workload = asked.workload;
    if wanted.ip() == asked.local {
        return Ok(None);
    }
    let address = NetworkAddress::new(workload.network.clone(), wanted.ip());
    let service = snapshot.service_by_address(&address, &workload.namespace);
    let is_waypoint = || match service {
        Some(service) => is_waypoint_of_service(workload, service, snapshot),
        None => snapshot
            .workload_by_address(&address)
            .and_then(|target| target.waypoint.as_ref())
            .is_some_and(|waypoint| is_named_by(workload, waypoint, snapshot)),
    };
    if workload.application_tunnel.is_some() || is_waypoint() {
        Ok(service.cloned())
    } else {
        Err(Refusal::OtherAddress {
            wanted,
            own: asked.local,
        })
    }
}

/// The service that a host name means here, and the port of this workload that stands for the service's.
fn by_hostname<'a>(
    asked: &Asked<'_>,
    host: &Arc<str>,
    port: u16,
    snapshot: &'a Snapshot,
) -> Result<(&'a Arc<Service>, u16), Refusal> {
    let workload = asked.workload;
    let serves = |service: &Service| {
        workload.services.contains_key(service.key())
            || workload.application_tunnel.is_some()
            || is_waypoint_of_service(workload, service, snapshot)
    };
    // A caller of another namespace may mean another service of the same name, but then it would not have come here:
    // those that this workload serves go first.
    let rank = |service: &&Arc<Service>| {
        (
            Reverse(serves(service)),
            Reverse(workload.services.contains_key(service.key())),
            *service.namespace != *workload.namespace,
            !service.canonical,
            asked.preferred_namespace != Some(&*service.namespace),
        )
    };
    let Some(service) = snapshot.services_by_hostname(host).min_by_key(rank) else {
        return Err(Refusal::UnknownHostname { host: host.clone() });
    };
    if !serves(service) {
        return Err(Refusal::NotServed {
            service: service.key().clone(),
        });
    }
    match serving_port(service, workload, port) {
        Some(target) => Ok((service, target)),
        None => Err(Refusal::NoSuchPort {
            service: service.key().clone(),
            port,
        }),
    }
}

/// The endpoint's own port for this service, else the service's, else the same. An endpoint that lists ports
/// without this one, of a service that leaves the number to its endpoints (a named port), does not serve it.
fn serving_port(service: &Service, workload: &Workload, port: u16) -> Option<u16> {
    let of_service = service.port(port)?.target_port;
    let Some(own) = workload.services.get(service.key()) else {
        return Some(of_service.map_or(port, NonZeroU16::get));
    };
    let entry = own.iter().find(|candidate| candidate.service_port == port);
    match entry.and_then(|entry| entry.target_port).or(of_service) {
        Some(target) => Some(target.get()),
        None if entry.is_none() && !own.is_empty() => None,
        None => Some(port),
    }
}

/// The address of a service that stands for its name, IPv4 before IPv6.
fn service_address(service: &Service, workload: &Workload) -> Option<IpAddr> {
    service
        .addresses
        .iter()
        .filter(|address| address.network == workload.network && address.prefix.is_host())
        .map(|address| address.prefix.address())
        .min_by_key(IpAddr::is_ipv6)
}

fn is_waypoint_of_service(workload: &Workload, service: &Service, snapshot: &Snapshot) -> bool {
    service
        .waypoints
        .iter()
        .any(|(waypoint, _)| is_named_by(workload, waypoint, snapshot))
}

/// Whether this gateway address leads to the workload: it has the address, or is an endpoint of the service.
fn is_named_by(workload: &Workload, gateway: &GatewayAddress, snapshot: &Snapshot) -> bool {
    match &gateway.destination {
        GatewayDestination::Service(key) => workload.services.contains_key(key),
        GatewayDestination::Address(address) => {
            let own = address.network == workload.network && workload.addresses.contains(&address.ip);
            own || snapshot
                .service_by_address(address, &workload.namespace)
                .is_some_and(|service| workload.services.contains_key(service.key()))
        }
    }
}
