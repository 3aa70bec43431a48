//! Ways through something: a waypoint, the gateway of another network, or both.

use std::net::SocketAddr;
use std::sync::Arc;

use super::choose::{Choice, Chosen, MAX_AVOIDED_NETWORKS, Purpose, Reach};
use super::refusal::{Obstacle, Refusal, Through};
use super::{HBONE_PORT, HboneRoute, Hop, InnerTunnel, Need, Route, Search, accepted};
use crate::gateway::{GatewayAddress, GatewayDestination};
use crate::identity::Identity;
use crate::service::Service;
use crate::workload::Workload;

/// What was addressed.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) workload: Option<&'a Arc<Workload>>,
    pub(super) service: Option<&'a Arc<Service>>,
    pub(super) destination: SocketAddr,
}

/// A waypoint or gateway that was found.
struct Found<'a> {
    workload: &'a Arc<Workload>,
    /// Where its HBONE port is; none where it is on another network.
    peer: Option<SocketAddr>,
    /// The service of which it is an endpoint.
    service: Option<&'a Arc<Service>>,
}

impl<'a> Target<'a> {
    /// Its name in refusals.
    fn name(&self) -> Arc<str> {
        match (self.workload, self.service) {
            (Some(workload), _) => workload.uid.clone(),
            (None, Some(service)) => service.key().clone(),
            (None, None) => self.destination.to_string().into(),
        }
    }
}

impl<'a> Search<'a> {
    /// Through the waypoint that what was addressed names.
    pub(super) fn through_waypoint(&self, waypoint: &'a GatewayAddress, target: Target<'a>) -> Route {
        let by_service = target.workload.is_none();
        let purpose = if by_service {
            Purpose::Waypoint
        } else {
            Purpose::NearWaypoint
        };
        let hop = if by_service {
            Hop::ServiceWaypoint
        } else {
            Hop::WorkloadWaypoint
        };
        let mut avoided = [None; MAX_AVOIDED_NETWORKS];
        let mut refused = None;
        loop {
            let found = match self.find(waypoint, target, purpose, avoided) {
                Ok(found) => found,
                // Why a gateway cannot be used says more than that nothing is left without it.
                Err(route) => return refused.unwrap_or(route),
            };
            let Some(peer) = found.peer else {
                // Nothing but a waypoint says which identity answers for it: the identities that the service names
                // are its endpoints', and whoever answered as one of them would have gone around the waypoint.
                let inner = known_identities(found.workload, found.service);
                match self.through_gateway(found.workload, inner, target) {
                    Err(route @ Route::Refuse(_)) if avoid(&mut avoided, &found.workload.network) => {
                        refused = Some(route);
                        continue;
                    }
                    Ok(route) | Err(route) => return route,
                }
            };
            return Route::Hbone(Box::new(HboneRoute {
                hop,
                peer,
                authority: target.destination.to_string(),
                accepted: accepted(found.workload, found.service),
                next: found.workload.clone(),
                inner: None,
                workload: None,
                service: target.service.cloned(),
                destination: target.destination,
            }));
        }
    }

    /// Through the gateway of the network that an endpoint or waypoint of the addressed service is on: a tunnel to the
    /// gateway, and in it one to whatever the gateway chooses, both asked for the service by name. `inner` is whom
    /// the second may prove to be.
    pub(super) fn through_gateway(
        &self,
        remote: &'a Arc<Workload>,
        inner: Vec<Identity>,
        target: Target<'a>,
    ) -> Result<Route, Route> {
        let Some(service) = target.service else {
            let name = remote.uid.clone();
            return Err(no_way(target, Through::Waypoint, name, Obstacle::OtherNetwork));
        };
        let Some(gateway) = &remote.network_gateway else {
            let name = remote.network.clone();
            return Err(no_way(target, Through::Gateway, name, Obstacle::Unknown));
        };
        let found = self.find(gateway, target, Purpose::Gateway, [None; MAX_AVOIDED_NETWORKS])?;
        let Some(peer) = found.peer else {
            return Err(no_way(
                target,
                Through::Gateway,
                name_of(gateway),
                Obstacle::OtherNetwork,
            ));
        };
        if inner.is_empty() {
            return Err(Route::Refuse(Refusal::NoRemoteIdentity {
                service: service.key().clone(),
                network: remote.network.clone(),
            }));
        }
        let authority = format!("{}:{}", service.hostname, target.destination.port());
        Ok(Route::Hbone(Box::new(HboneRoute {
            hop: Hop::NetworkGateway,
            peer,
            authority: authority.clone(),
            accepted: accepted(found.workload, found.service),
            next: found.workload.clone(),
            inner: Some(InnerTunnel {
                authority,
                accepted: inner,
                network: self.source.network.clone(),
            }),
            workload: None,
            service: Some(service.clone()),
            destination: target.destination,
        })))
    }

    /// Whether the source is the waypoint: what it sends has been through it. It is one of the workloads that the
    /// control plane names as the waypoint, or has the identity and an address of one.
    pub(super) fn is_waypoint(&self, waypoint: &GatewayAddress) -> bool {
        let snapshot = self.facts.snapshot;
        let address = match &waypoint.destination {
            GatewayDestination::Service(key) => return self.source.services.contains_key(key),
            GatewayDestination::Address(address) => address,
        };
        if let Some(service) = snapshot.service_with_vip(address) {
            return self.source.services.contains_key(service.key());
        }
        snapshot.workload_by_address(address).is_some_and(|workload| {
            let is_same = || {
                workload.identity() == self.source.identity()
                    && workload.network == self.source.network
                    && workload
                        .addresses
                        .iter()
                        .any(|ip| self.source.addresses.contains(ip))
            };
            workload.uid == self.source.uid || is_same()
        })
    }

    /// The workload to dial for a waypoint or gateway. What is named and does not exist closes the way: going around
    /// a waypoint would go around its policies.
    fn find(
        &self,
        gateway: &'a GatewayAddress,
        target: Target<'a>,
        purpose: Purpose,
        avoided: [Option<&'a str>; MAX_AVOIDED_NETWORKS],
    ) -> Result<Found<'a>, Route> {
        let snapshot = self.facts.snapshot;
        let through = match purpose {
            Purpose::Gateway => Through::Gateway,
            _ => Through::Waypoint,
        };
        let refused = |obstacle| no_way(target, through, name_of(gateway), obstacle);
        let port = gateway.hbone_port.map_or(HBONE_PORT, |port| port.get());
        let (rejected, need) = match &gateway.destination {
            GatewayDestination::Service(key) => {
                if let Some(service) = snapshot.service(key) {
                    return self.find_endpoint(service, port, target, purpose, avoided, refused);
                }
                (snapshot.not_understood_name(key), Need::Service(key.clone()))
            }
            GatewayDestination::Address(address) => {
                // The control plane names it, so it does not matter from where it may be seen.
                if let Some(service) = snapshot.service_with_vip(address) {
                    return self.find_endpoint(service, port, target, purpose, avoided, refused);
                }
                if let Some(workload) = snapshot.workload_by_address(address) {
                    if self.facts.tried.contains(&workload.uid) {
                        return Err(refused(Obstacle::Tried));
                    }
                    let is_near = purpose == Purpose::Gateway || workload.network == self.source.network;
                    if !is_near && purpose == Purpose::NearWaypoint {
                        return Err(refused(Obstacle::OtherNetwork));
                    }
                    return Ok(Found {
                        workload,
                        peer: is_near.then(|| SocketAddr::new(address.ip, port)),
                        service: None,
                    });
                }
                (snapshot.not_understood(address), Need::Address(address.clone()))
            }
        };
        if let Some(rejected) = rejected {
            return Err(Route::Refuse(Refusal::NotUnderstood {
                target: rejected.name.as_str().into(),
                reason: rejected.reason.as_str().into(),
            }));
        }
        Err(self.wait_for(need).unwrap_or_else(|| refused(Obstacle::Unknown)))
    }

    fn find_endpoint(
        &self,
        service: &'a Arc<Service>,
        port: u16,
        target: Target<'a>,
        purpose: Purpose,
        avoided: [Option<&'a str>; MAX_AVOIDED_NETWORKS],
        refused: impl Fn(Obstacle) -> Route,
    ) -> Result<Found<'a>, Route> {
        let choice = Choice {
            service,
            source: self.source,
            facts: self.facts,
            port,
            wanted: target.destination.ip(),
            purpose,
            avoided,
        };
        let Some(Chosen { workload, reach }) = choice.make() else {
            return Err(refused(Obstacle::NoEndpoint(choice.shortage())));
        };
        let peer = match reach {
            Reach::Address(address) => Some(address),
            Reach::Gateway => None,
            Reach::Hostname(port) => Some(self.resolve(&choice, workload, port)?),
        };
        let service = Some(service);
        Ok(Found {
            workload,
            peer,
            service,
        })
    }
}

/// Leaves a network out; `false` where it is left out already, or there is no room.
pub(super) fn avoid<'a>(avoided: &mut [Option<&'a str>; MAX_AVOIDED_NETWORKS], network: &'a str) -> bool {
    if avoided.contains(&Some(network)) {
        return false;
    }
    match avoided.iter_mut().find(|place| place.is_none()) {
        Some(place) => {
            *place = Some(network);
            true
        }
        None => false,
    }
}

/// Who may answer for a workload on another network, behind its gateway, which chooses for itself: whom the service
/// names, and the workload's own identity where it is a real one. A workload without addresses stands for many
/// behind the gateway, and what it says of its account is of none of them.
pub(super) fn known_identities(workload: &Workload, service: Option<&Arc<Service>>) -> Vec<Identity> {
    if !workload.addresses.is_empty() {
        return accepted(workload, service);
    }
    let named = service.map(|service| service.subject_alt_names.clone());
    let mut named = named.unwrap_or_default();
    named.sort();
    named.dedup();
    named
}

fn no_way(target: Target<'_>, through: Through, name: Arc<str>, obstacle: Obstacle) -> Route {
    Route::Refuse(Refusal::NoWay {
        target: target.name(),
        through,
        name,
        obstacle,
    })
}

fn name_of(gateway: &GatewayAddress) -> Arc<str> {
    match &gateway.destination {
        GatewayDestination::Service(key) => key.clone(),
        GatewayDestination::Address(address) => address.to_string().into(),
    }
}
