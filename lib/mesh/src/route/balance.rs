//! Choosing an endpoint of a service.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use super::{Facts, NotYetSupported, Refusal, Shortage, address_for, endpoint};
use crate::service::{IpFamilies, LoadBalancingMode, LocalityScope, Service};
use crate::workload::Workload;

/// All that the choice depends on.
pub(super) struct Search<'a> {
    pub(super) source: &'a Workload,
    pub(super) facts: &'a Facts<'a>,
}

/// An endpoint and where to reach it.
#[derive(Clone, Copy)]
pub(super) struct Endpoint<'a> {
    pub(super) workload: &'a Arc<Workload>,
    pub(super) address: SocketAddr,
}

pub(super) enum Choice<'a> {
    Endpoint(Endpoint<'a>),
    None(Refusal),
}

impl<'a> Search<'a> {
    /// Picks an endpoint by weighted chance: of those that are usable, not tried and not passed over for recent
    /// failures, the closest.
    pub(super) fn choose(&self, service: &Service, destination: SocketAddr) -> Choice<'a> {
        let Some(port) = service.port(destination.port()) else {
            let refusal = Refusal::NoSuchPort {
                service: service.key().clone(),
                port: destination.port(),
            };
            return Choice::None(refusal);
        };
        let mut shortage = Shortage::default();
        let mut usable = Vec::new();
        for workload in self.facts.snapshot.endpoints(service.key()) {
            shortage.total += 1;
            match self.usable(
                service,
                workload,
                port.service_port,
                port.target_port,
                destination.ip(),
            ) {
                Ok(endpoint) => usable.push(endpoint),
                Err(count) => *count(&mut shortage) += 1,
            }
        }
        let in_favour = |endpoint: &&Endpoint<'_>| {
            !self
                .facts
                .health
                .is_ejected(&endpoint.workload.uid, self.facts.now)
        };
        let favoured: Vec<_> = usable.iter().filter(in_favour).copied().collect();
        // Where all that are close enough have failed lately, passing over them would only make it worse.
        let picked = [&favoured, &usable]
            .into_iter()
            .find_map(|some| self.pick(service, some));
        match picked {
            Some(endpoint) => Choice::Endpoint(endpoint),
            None => Choice::None(refusal(
                service,
                Shortage {
                    too_far: usable.len(),
                    ..shortage
                },
            )),
        }
    }

    fn pick(&self, service: &Service, candidates: &[Endpoint<'a>]) -> Option<Endpoint<'a>> {
        pick(&self.closest(service, candidates), self.facts.entropy)
    }

    /// Where to reach a workload as an endpoint, or the reason to count that it cannot be one now.
    fn usable(
        &self,
        service: &Service,
        workload: &'a Arc<Workload>,
        service_port: u16,
        target_port: Option<NonZeroU16>,
        wanted: IpAddr,
    ) -> Result<Endpoint<'a>, fn(&mut Shortage) -> &mut usize> {
        if !workload.healthy && !service.load_balancing.allow_unhealthy {
            return Err(|shortage| &mut shortage.unready);
        }
        if self.facts.tried.contains(&workload.uid) {
            return Err(|shortage| &mut shortage.tried);
        }
        let Some(port) = endpoint_port(service, workload, service_port, target_port) else {
            return Err(|shortage| &mut shortage.without_port);
        };
        if workload.network != self.source.network {
            return Err(|shortage| &mut shortage.behind_gateway);
        }
        if workload.addresses.is_empty() && !workload.hostname.is_empty() {
            return Err(|shortage| &mut shortage.by_hostname);
        }
        let offered = |ip: &IpAddr| match service.ip_families {
            IpFamilies::V4 => ip.is_ipv4(),
            IpFamilies::V6 => ip.is_ipv6(),
            IpFamilies::Automatic | IpFamilies::Dual => true,
        };
        match address_for(workload, wanted, offered) {
            Some(ip) => Ok(endpoint(workload, ip, port)),
            None => Err(|shortage| &mut shortage.without_address),
        }
    }

    /// Those that count as close: with STRICT all levels match, with FAILOVER the most from the first on.
    fn closest(&self, service: &Service, candidates: &[Endpoint<'a>]) -> Vec<Endpoint<'a>> {
        let scopes = &service.load_balancing.scopes;
        let closeness = |endpoint: &Endpoint<'_>| {
            scopes
                .iter()
                .take_while(|scope| same(**scope, self.source, endpoint.workload))
                .count()
        };
        let wanted = match service.load_balancing.mode {
            LoadBalancingMode::Strict => Some(scopes.len()),
            LoadBalancingMode::Failover => candidates.iter().map(closeness).max(),
            LoadBalancingMode::Any | LoadBalancingMode::Passthrough => return candidates.to_vec(),
        };
        candidates
            .iter()
            .filter(|endpoint| Some(closeness(endpoint)) == wanted)
            .copied()
            .collect()
    }
}

/// The endpoint's own port for this service, else the service's, else the same. An endpoint that lists ports
/// without this one, of a service that leaves the number to its endpoints (a named port), does not serve it.
fn endpoint_port(
    service: &Service,
    workload: &Workload,
    service_port: u16,
    target_port: Option<NonZeroU16>,
) -> Option<u16> {
    let ports = workload
        .services
        .get(service.key())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let own = ports.iter().find(|port| port.service_port == service_port);
    match (own.and_then(|port| port.target_port).or(target_port), own) {
        (Some(port), _) => Some(port.get()),
        (None, None) if !ports.is_empty() => None,
        (None, _) => Some(service_port),
    }
}

fn same(scope: LocalityScope, a: &Workload, b: &Workload) -> bool {
    match scope {
        LocalityScope::Region => a.locality.region == b.locality.region,
        LocalityScope::Zone => a.locality.zone == b.locality.zone,
        LocalityScope::Subzone => a.locality.subzone == b.locality.subzone,
        LocalityScope::Node => a.node == b.node,
        LocalityScope::Cluster => a.cluster_id == b.cluster_id,
        LocalityScope::Network => a.network == b.network,
    }
}

/// Chance weighted by capacity; even chance where nobody has any.
fn pick<'a>(candidates: &[Endpoint<'a>], entropy: u64) -> Option<Endpoint<'a>> {
    let capacity = |endpoint: &Endpoint<'_>| u64::from(endpoint.workload.capacity);
    let total: u64 = candidates.iter().map(capacity).sum();
    if total == 0 {
        return candidates
            .get(share(entropy, candidates.len() as u64) as usize)
            .copied();
    }
    let mut left = share(entropy, total);
    for endpoint in candidates {
        match left.checked_sub(capacity(endpoint)) {
            Some(rest) => left = rest,
            None => return Some(*endpoint),
        }
    }
    None
}

/// Spreads 64 bits evenly over `0..total`.
fn share(entropy: u64, total: u64) -> u64 {
    ((u128::from(entropy) * u128::from(total)) >> 64) as u64
}

/// An honest reason: what this version lacks counts only where nothing else stood in the way.
fn refusal(service: &Service, shortage: Shortage) -> Refusal {
    let target = service.key().clone();
    if shortage.too_far > 0 || (shortage.behind_gateway == 0 && shortage.by_hostname == 0) {
        return Refusal::NoEndpoint {
            service: target,
            shortage,
        };
    }
    let what = match shortage.behind_gateway {
        0 => NotYetSupported::HostnameResolution,
        _ => NotYetSupported::NetworkGateway,
    };
    Refusal::NotYetSupported { target, what }
}
