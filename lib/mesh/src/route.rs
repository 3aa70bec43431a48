//! Where an outbound connection goes.
//!
//! The order: a service by exact address, a workload by address, a service by prefix, else the destination is
//! not of the mesh and passes. What the mesh knows and this version cannot serve is refused, never sent in
//! plaintext around what it asks for.

mod balance;
mod decision;
mod facts;
mod refusal;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use decision::{HboneRoute, Hop, InnerTunnel, Need, Route};
pub use facts::{Facts, Names, NothingResolved, OutboundPolicy, Request, Resolution, Rules};
pub use refusal::{NotYetSupported, Refusal, Shortage};

use crate::address::NetworkAddress;
use crate::identity::Identity;
use crate::service::{LoadBalancingMode, Service};
use crate::workload::{TunnelProtocol, Workload};
use balance::{Choice, Endpoint};

/// The port on which pods take HBONE.
pub const HBONE_PORT: u16 = 15008;
/// Ports in a pod's namespace that are the proxy's own: outbound, inbound plaintext, inbound HBONE, DNS.
pub const OWN_PORTS: [u16; 4] = [15001, 15006, HBONE_PORT, 15053];

/// Why a connection goes without a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PassthroughReason {
    /// Nothing of the mesh has this address.
    UnknownDestination,
    /// The service leaves connections where they were addressed.
    PassthroughService,
    /// The workload takes plain TCP only.
    NotInMesh,
    /// The source or the destination makes tunnels itself, and this is one.
    AlreadyTunnelled,
}

impl PassthroughReason {
    /// A stable word for metrics, logs and scripts.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownDestination => "unknown_destination",
            Self::PassthroughService => "passthrough_service",
            Self::NotInMesh => "not_in_mesh",
            Self::AlreadyTunnelled => "already_tunnelled",
        }
    }
}

/// Decides where a connection goes. The same arguments give the same route.
pub fn route(request: &Request<'_>, facts: &Facts<'_>) -> Route {
    let destination = SocketAddr::new(
        request.destination.ip().to_canonical(),
        request.destination.port(),
    );
    if destination.ip().is_loopback() && OWN_PORTS.contains(&destination.port()) {
        return Route::Refuse(Refusal::SelfCall { destination });
    }
    let source = request.source;
    let address = NetworkAddress::new(source.network.clone(), destination.ip());
    let search = balance::Search { source, facts };
    let snapshot = facts.snapshot;
    if let Some(service) = snapshot.service_by_vip(&address, &source.namespace) {
        return to_service(&search, service, &address, destination);
    }
    if let Some(workload) = snapshot.workload_by_address(&address) {
        return to_workload(source, workload, None, destination);
    }
    if let Some(service) = snapshot.service_by_prefix(&address, &source.namespace) {
        return to_service(&search, service, &address, destination);
    }
    if let Some(rejected) = snapshot.not_understood(&address) {
        return Route::Refuse(Refusal::NotUnderstood {
            target: rejected.name.as_str().into(),
            reason: rejected.reason.as_str().into(),
        });
    }
    let why = PassthroughReason::UnknownDestination;
    Route::Passthrough {
        destination,
        workload: None,
        service: None,
        why,
    }
}

/// A connection to an address of a service.
fn to_service(
    search: &balance::Search<'_>,
    service: &Arc<Service>,
    address: &NetworkAddress,
    destination: SocketAddr,
) -> Route {
    if !service.waypoints.is_empty() {
        let target = service.key().clone();
        return Route::Refuse(Refusal::NotYetSupported {
            target,
            what: NotYetSupported::Waypoint,
        });
    }
    if service.load_balancing.mode == LoadBalancingMode::Passthrough {
        // It goes where it was addressed; if that is a workload of the mesh, by its tunnel all the same.
        return match search.facts.snapshot.workload_by_address(address) {
            Some(workload) => to_workload(search.source, workload, Some(service), destination),
            None => Route::Passthrough {
                destination,
                workload: None,
                service: Some(service.clone()),
                why: PassthroughReason::PassthroughService,
            },
        };
    }
    match search.choose(service, destination) {
        Choice::Endpoint(endpoint) => to_endpoint(endpoint.workload, Some(service), endpoint.address),
        Choice::None(refusal) => Route::Refuse(refusal),
    }
}

/// A connection to a workload's own address.
fn to_workload(
    source: &Workload,
    workload: &Arc<Workload>,
    service: Option<&Arc<Service>>,
    destination: SocketAddr,
) -> Route {
    let speaks_hbone = workload.tunnel == TunnelProtocol::Hbone;
    if speaks_hbone && destination.port() == HBONE_PORT && (source.native_tunnel || workload.native_tunnel) {
        // The bytes are a tunnel already, with certificates of its own: another around it would not be read.
        return Route::Passthrough {
            destination,
            workload: Some(workload.clone()),
            service: service.cloned(),
            why: PassthroughReason::AlreadyTunnelled,
        };
    }
    if workload.waypoint.is_some() {
        let target = workload.uid.clone();
        return Route::Refuse(Refusal::NotYetSupported {
            target,
            what: NotYetSupported::Waypoint,
        });
    }
    to_endpoint(workload, service, destination)
}

/// A connection to a workload that was chosen, at the pod's address and the application's port.
fn to_endpoint(workload: &Arc<Workload>, service: Option<&Arc<Service>>, destination: SocketAddr) -> Route {
    if workload.tunnel == TunnelProtocol::None || workload.host_network {
        return Route::Passthrough {
            destination,
            workload: Some(workload.clone()),
            service: service.cloned(),
            why: PassthroughReason::NotInMesh,
        };
    }
    Route::Hbone(Box::new(HboneRoute {
        hop: Hop::Endpoint,
        peer: SocketAddr::new(destination.ip(), HBONE_PORT),
        // `SocketAddr` writes IPv6 addresses in brackets, as an authority wants them.
        authority: destination.to_string(),
        accepted: accepted(workload, service),
        next: workload.clone(),
        inner: None,
        workload: Some(workload.clone()),
        service: service.cloned(),
        destination,
    }))
}

/// Who may answer for a workload: itself, and whom the addressed service names.
fn accepted(workload: &Workload, service: Option<&Arc<Service>>) -> Vec<Identity> {
    let named = service
        .map(|service| service.subject_alt_names.as_slice())
        .unwrap_or_default();
    let mut accepted = Vec::with_capacity(named.len() + 1);
    accepted.push(workload.identity());
    accepted.extend_from_slice(named);
    accepted.sort();
    accepted.dedup();
    accepted
}

/// The address of a workload to use for a connection to `wanted`: of its family where possible.
fn address_for(workload: &Workload, wanted: IpAddr, is_offered: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let mut offered = workload.addresses.iter().copied().filter(is_offered);
    let first = offered.next()?;
    if first.is_ipv4() == wanted.is_ipv4() {
        return Some(first);
    }
    offered
        .find(|ip| ip.is_ipv4() == wanted.is_ipv4())
        .or(Some(first))
}

/// An endpoint and where to reach it.
fn endpoint(workload: &Arc<Workload>, ip: IpAddr, port: u16) -> Endpoint<'_> {
    Endpoint {
        workload,
        address: SocketAddr::new(ip, port),
    }
}
