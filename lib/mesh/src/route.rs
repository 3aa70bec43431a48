//! Where an outbound connection goes.
//!
//! The order, for the address on the caller's own network: a service with exactly this address, a workload, a service
//! with a prefix that contains it, else it is not of the mesh.
//!
//! - A service with a waypoint is reached through the waypoint, unless the caller is the waypoint; another one at an
//!   endpoint, or where it was addressed if it says so.
//! - An endpoint or waypoint on another network is reached through that network's gateway, by a tunnel in a tunnel.
//! - A workload that was addressed itself is reached through its own waypoint, unless the caller is the waypoint.
//! - Waypoints of waypoints are not followed, and nothing goes around a waypoint or gateway that is named and cannot
//!   be used: it may hold policies that nothing else enforces.
//! - Plain TCP is for what is not of the mesh or does not speak its protocol.

mod choose;
mod decision;
mod facts;
mod refusal;
#[cfg(test)]
mod tests;
mod through;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use choose::{Chosen, Reach};
pub use decision::{HboneRoute, Hop, InnerTunnel, Need, Route};
pub use facts::{Facts, Names, NothingResolved, OutboundPolicy, Request, Resolution, Rules};
pub use refusal::{Obstacle, Refusal, Shortage, Through};

use crate::address::NetworkAddress;
use crate::endpoints::Mixer;
use crate::gateway::GatewayAddress;
use crate::identity::Identity;
use crate::rejected::Rejected;
use crate::service::{LoadBalancingMode, Service};
use crate::snapshot::Viewpoint;
use crate::workload::{TunnelProtocol, Workload};
use choose::{Choice, MAX_AVOIDED_NETWORKS, Purpose};
use through::{Target, avoid, known_identities};

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
///
/// Asked again with a workload among [`Facts::tried`], it chooses another where there is one. A workload that was
/// addressed itself is the route again: there is no other.
pub fn route(request: &Request<'_>, facts: &Facts<'_>) -> Route {
    let destination = SocketAddr::new(
        request.destination.ip().to_canonical(),
        request.destination.port(),
    );
    let is_loopback = destination.ip().is_loopback();
    if is_loopback && OWN_PORTS.contains(&destination.port()) {
        return Route::Refuse(Refusal::SelfCall { destination });
    }
    let (source, snapshot) = (request.source, facts.snapshot);
    let search = Search { source, facts };
    let address = NetworkAddress::new(source.network.clone(), destination.ip());
    let viewpoint = Viewpoint {
        namespace: &source.namespace,
        preferred: facts.rules.preferred_service_namespace.as_deref(),
    };
    if let Some(service) = snapshot.service_by_vip(&address, viewpoint) {
        return search.to_service(service, &address, destination);
    }
    if let Some(workload) = snapshot.workload_by_address(&address) {
        return search.to_workload(workload, None, destination);
    }
    if let Some(rejected) = snapshot.not_understood(&address) {
        return not_understood(rejected);
    }
    if !is_loopback && let Some(wait) = search.wait_for(Need::Address(address.clone())) {
        return wait;
    }
    let around = snapshot.service_by_prefix(&address, viewpoint);
    if !is_loopback
        && let Some(rejected) = snapshot.not_understood_around(&address, around.map(|service| &**service))
    {
        return not_understood(rejected);
    }
    if let Some(service) = around {
        return search.to_service(service, &address, destination);
    }
    if facts.rules.outbound_policy == OutboundPolicy::RegistryOnly && !is_loopback {
        return Route::Refuse(Refusal::NotInRegistry { destination });
    }
    passthrough(destination, None, None, PassthroughReason::UnknownDestination)
}

fn not_understood(rejected: &Rejected) -> Route {
    Route::Refuse(Refusal::NotUnderstood {
        target: rejected.name.as_str().into(),
        reason: rejected.reason.as_str().into(),
    })
}

/// The endpoint that a connection to a service's port would use, without the rest of the route: for measuring the
/// choice, and for explaining it.
pub fn choose_endpoint<'a>(
    service: &'a Service,
    request: &Request<'a>,
    facts: &'a Facts<'a>,
) -> Option<Chosen<'a>> {
    let search = Search {
        source: request.source,
        facts,
    };
    search
        .choice(service, request.destination, [None; MAX_AVOIDED_NETWORKS])
        .make()
}

/// What a decision rests on, while it is made.
#[derive(Clone, Copy)]
struct Search<'a> {
    source: &'a Workload,
    facts: &'a Facts<'a>,
}

impl<'a> Search<'a> {
    /// A connection to an address of a service.
    fn to_service(
        self,
        service: &'a Arc<Service>,
        address: &NetworkAddress,
        destination: SocketAddr,
    ) -> Route {
        let target = Target {
            workload: None,
            service: Some(service),
            destination,
        };
        let waypoint = by_weight(&service.waypoints, self.facts.entropy);
        if let Some(waypoint) = waypoint.filter(|waypoint| !self.is_waypoint(waypoint)) {
            return self.through_waypoint(waypoint, target);
        }
        if service.load_balancing.mode == LoadBalancingMode::Passthrough {
            // It goes where it was addressed; if that is a workload of the mesh, by its tunnel all the same.
            return match self.facts.snapshot.workload_by_address(address) {
                Some(workload) => self.to_workload(workload, Some(service), destination),
                None => {
                    let why = PassthroughReason::PassthroughService;
                    passthrough(destination, None, Some(service), why)
                }
            };
        }
        let mut avoided = [None; MAX_AVOIDED_NETWORKS];
        let mut refused = None;
        loop {
            let choice = self.choice(service, destination, avoided);
            let Some(Chosen { workload, reach }) = choice.make() else {
                // Why a gateway cannot be used says more than that nothing is left without it.
                return refused.unwrap_or_else(|| Route::Refuse(self.no_endpoint(&choice)));
            };
            return match reach {
                Reach::Address(address) => to_endpoint(workload, Some(service), address),
                Reach::Hostname(port) => match self.resolve(&choice, workload, port) {
                    Ok(address) => to_endpoint(workload, Some(service), address),
                    Err(route) => route,
                },
                Reach::Gateway => {
                    let inner = known_identities(workload, Some(service));
                    match self.through_gateway(workload, inner, target) {
                        // Another endpoint may be on this network, or on one whose gateway serves.
                        Err(route @ Route::Refuse(_)) if avoid(&mut avoided, &workload.network) => {
                            refused = Some(route);
                            continue;
                        }
                        Ok(route) | Err(route) => route,
                    }
                }
            };
        }
    }

    /// A connection to a workload's own address.
    fn to_workload(
        self,
        workload: &'a Arc<Workload>,
        service: Option<&'a Arc<Service>>,
        destination: SocketAddr,
    ) -> Route {
        let speaks_hbone = workload.tunnel == TunnelProtocol::Hbone;
        let native = self.source.native_tunnel || workload.native_tunnel;
        if speaks_hbone && destination.port() == HBONE_PORT && native {
            // The bytes are a tunnel already, with certificates of its own: another around it would not be read.
            let why = PassthroughReason::AlreadyTunnelled;
            return passthrough(destination, Some(workload), service, why);
        }
        let waypoint = workload.waypoint.as_ref();
        if let Some(waypoint) = waypoint.filter(|waypoint| !self.is_waypoint(waypoint)) {
            let target = Target {
                workload: Some(workload),
                service,
                destination,
            };
            return self.through_waypoint(waypoint, target);
        }
        to_endpoint(workload, service, destination)
    }

    fn choice(
        &self,
        service: &'a Service,
        destination: SocketAddr,
        avoided: [Option<&'a str>; MAX_AVOIDED_NETWORKS],
    ) -> Choice<'a> {
        Choice {
            service,
            source: self.source,
            facts: self.facts,
            port: destination.port(),
            wanted: destination.ip(),
            purpose: Purpose::Application,
            avoided,
        }
    }

    /// One of the addresses of a host name: of the wanted family where there is one, any of them.
    fn resolve(&self, choice: &Choice<'_>, workload: &Workload, port: u16) -> Result<SocketAddr, Route> {
        let hostname = &workload.hostname;
        let Some(resolution) = self.facts.names.resolved(hostname) else {
            return Err(Route::Wait(Need::Hostname(hostname.clone())));
        };
        let failed = |reason| {
            let hostname = hostname.clone();
            Route::Refuse(Refusal::NameNotResolved { hostname, reason })
        };
        let addresses = resolution.map_err(failed)?;
        let mut bits = Mixer::new(!self.facts.entropy);
        let mut any_of = |is_wanted: &dyn Fn(&IpAddr) -> bool| {
            let found = || addresses.iter().map(IpAddr::to_canonical).filter(is_wanted);
            found().nth(bits.below(found().count() as u64) as usize)
        };
        let offered = |ip: &IpAddr| choice.offers(ip.is_ipv4());
        let of_family = |ip: &IpAddr| offered(ip) && ip.is_ipv4() == choice.wanted.is_ipv4();
        any_of(&of_family)
            .or_else(|| any_of(&offered))
            .map(|ip| SocketAddr::new(ip, port))
            .ok_or_else(|| failed("it has no address of a family that the service offers".into()))
    }

    /// Waits for what was not asked for yet, where the snapshot holds only what was asked for.
    fn wait_for(&self, need: Need) -> Option<Route> {
        let may_exist = self.facts.rules.on_demand && !self.facts.asked.contains(&need);
        may_exist.then_some(Route::Wait(need))
    }

    /// Why no endpoint could be chosen: what stood in the way of the only one by name, else how many fell away.
    fn no_endpoint(&self, choice: &Choice<'a>) -> Refusal {
        let service = choice.service.key().clone();
        let shortage = choice.shortage();
        let any_port = |workload: &Arc<Workload>| workload.application_tunnel.is_some();
        if !choice.is_listed() && !self.facts.snapshot.endpoints(&service).any(any_port) {
            return Refusal::NoSuchPort {
                service,
                port: choice.port,
            };
        }
        if shortage.unresolved > 0 && shortage.too_far == 0 {
            for workload in self.facts.snapshot.endpoints(&service) {
                if let Some(Err(reason)) = self.facts.names.resolved(&workload.hostname) {
                    let hostname = workload.hostname.clone();
                    return Refusal::NameNotResolved { hostname, reason };
                }
            }
        }
        Refusal::NoEndpoint { service, shortage }
    }
}

/// One by weight; evenly where none has any.
fn by_weight(waypoints: &[(GatewayAddress, u32)], entropy: u64) -> Option<&GatewayAddress> {
    if let [(only, _)] = waypoints {
        return Some(only);
    }
    let total: u64 = waypoints.iter().map(|(_, weight)| u64::from(*weight)).sum();
    // Other bits than those that choose an endpoint: who is sent to a waypoint must not decide to which of its pods.
    let mut bits = Mixer::new(entropy.rotate_left(32));
    if total == 0 {
        return waypoints
            .get(bits.below(waypoints.len() as u64) as usize)
            .map(|(waypoint, _)| waypoint);
    }
    let mut left = bits.below(total);
    for (waypoint, weight) in waypoints {
        match left.checked_sub(u64::from(*weight)) {
            Some(rest) => left = rest,
            None => return Some(waypoint),
        }
    }
    None
}

/// A connection to a workload that was chosen, at the pod's address and the application's port.
fn to_endpoint(workload: &Arc<Workload>, service: Option<&Arc<Service>>, destination: SocketAddr) -> Route {
    if workload.tunnel == TunnelProtocol::None || workload.host_network {
        return passthrough(destination, Some(workload), service, PassthroughReason::NotInMesh);
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

fn passthrough(
    destination: SocketAddr,
    workload: Option<&Arc<Workload>>,
    service: Option<&Arc<Service>>,
    why: PassthroughReason,
) -> Route {
    Route::Passthrough {
        destination,
        workload: workload.cloned(),
        service: service.cloned(),
        why,
    }
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
