//! Choosing an endpoint of a service. Nothing here allocates, unless no endpoint is left.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use super::{Facts, Need, Shortage};
use crate::endpoints::{ByCloseness, Endpoint, Kind, Mixer, Table, digest_of_address};
use crate::service::{IpFamilies, LoadBalancingMode, Service};
use crate::workload::Workload;

/// How many endpoints are drawn before all are looked at: only where most cannot be used, more are needed.
const MAX_DRAWS: usize = 16;

/// The most networks whose gateway failed that one choice leaves out.
pub(super) const MAX_AVOIDED_NETWORKS: usize = 4;

/// What an endpoint is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The application's connection.
    Application,
    /// The HBONE port of a waypoint, on another network too if there is a gateway to it.
    Waypoint,
    /// The HBONE port of a waypoint on the caller's own network.
    NearWaypoint,
    /// The HBONE port of a network gateway: reached from any network.
    Gateway,
}

/// A choice to be made.
pub(super) struct Choice<'a> {
    pub(super) service: &'a Service,
    pub(super) source: &'a Workload,
    pub(super) facts: &'a Facts<'a>,
    /// The service's port.
    pub(super) port: u16,
    /// An address of this family is preferred.
    pub(super) wanted: IpAddr,
    pub(super) purpose: Purpose,
    /// Endpoints on these networks are left out.
    pub(super) avoided: [Option<&'a str>; MAX_AVOIDED_NETWORKS],
}

/// An endpoint that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// The endpoint.
    pub workload: &'a Arc<Workload>,
    /// How it is reached.
    pub reach: Reach,
}

/// How an endpoint is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// At its address.
    Address(SocketAddr),
    /// At one of the addresses that its host name resolves to, on this port.
    Hostname(u16),
    /// Through the gateway of its network.
    Gateway,
}

impl<'a> Choice<'a> {
    /// Picks an endpoint: of those that can be used, the closest; of these by capacity, and of two that came out the
    /// one with fewer open connections for its capacity. Those that failed lately are used when no other is left,
    /// those without capacity after them.
    pub(super) fn make(&self) -> Option<Chosen<'a>> {
        let snapshot = self.facts.snapshot;
        let tables = snapshot.endpoints_by_closeness(self.service.key(), self.source)?;
        let port = Listed::of(self.service, self.port);
        let mut bits = Mixer::new(self.facts.entropy);
        let mut draw = |favoured| {
            self.tables(&tables)
                .find_map(|table| self.one_of(table, port, favoured, &mut bits))
        };
        let mut chosen = draw(true);
        if chosen.is_none() && self.facts.health.has_failures() {
            // Where all that can be used have failed lately, passing over them would only make it worse.
            chosen = draw(false);
        }
        chosen.or_else(|| {
            self.tables(&tables)
                .find_map(|table| self.idle(table, port, &mut bits))
        })
    }

    /// Why no endpoint can be chosen.
    pub(super) fn shortage(&self) -> Shortage {
        let mut shortage = Shortage::default();
        let port = Listed::of(self.service, self.port);
        for workload in self.facts.snapshot.endpoints(self.service.key()) {
            shortage.total += 1;
            let endpoint = Endpoint::of(workload, Arc::new(Kind::of(self.service.key(), workload)));
            let count = if !workload.healthy && !self.service.load_balancing.allow_unhealthy {
                &mut shortage.unready
            } else {
                match self.reach(&endpoint, port) {
                    Ok(_) => &mut shortage.too_far,
                    Err(Unusable::Tried) => &mut shortage.tried,
                    Err(Unusable::Port) => &mut shortage.without_port,
                    Err(Unusable::Gateway) => &mut shortage.without_gateway,
                    Err(Unusable::Address) => &mut shortage.without_address,
                    Err(Unusable::Name) => &mut shortage.unresolved,
                }
            };
            *count += 1;
        }
        shortage
    }

    /// Whether the service has this port, as far as that is needed.
    pub(super) fn is_listed(&self) -> bool {
        self.purpose != Purpose::Application || self.service.port(self.port).is_some()
    }

    fn tables<'t>(&self, tables: &'t ByCloseness<'a>) -> impl Iterator<Item = &'a Table> + use<'a, 't> {
        let strict = self.service.load_balancing.mode == LoadBalancingMode::Strict;
        let closest = tables.closest_only().filter(|_| strict);
        let all = (!strict).then(|| tables.closest_first());
        closest.into_iter().chain(all.into_iter().flatten())
    }

    /// One with capacity.
    fn one_of(&self, table: &'a Table, port: Listed, favoured: bool, bits: &mut Mixer) -> Option<Chosen<'a>> {
        let usable = |endpoint: &'a Endpoint| {
            if favoured
                && self
                    .facts
                    .health
                    .is_ejected_digest(endpoint.digest, self.facts.now)
            {
                return None;
            }
            let reach = self.reach(endpoint, port).ok()?;
            let workload = &endpoint.workload;
            Some((endpoint, Chosen { workload, reach }))
        };
        if self.service.client_affinity && self.purpose == Purpose::Application {
            return self.same_for_client(table, usable);
        }
        let mut first: Option<(&Endpoint, Chosen<'a>)> = None;
        for _ in 0..MAX_DRAWS {
            let Some(drawn) = usable(table.draw(bits)?) else {
                continue;
            };
            match first {
                None if self.facts.health.has_open_connections() => first = Some(drawn),
                None => return Some(drawn.1),
                Some(first) => return Some(self.less_loaded(first, drawn)),
            }
        }
        first
            .map(|(_, chosen)| chosen)
            .or_else(|| by_share(table.with_capacity(), usable, |endpoint| endpoint.capacity, bits))
    }

    /// One without capacity: evenly, rather than none.
    fn idle(&self, table: &'a Table, port: Listed, bits: &mut Mixer) -> Option<Chosen<'a>> {
        let usable = |endpoint: &'a Endpoint| {
            let reach = self.reach(endpoint, port).ok()?;
            let workload = &endpoint.workload;
            Some((endpoint, Chosen { workload, reach }))
        };
        by_share(table.without_capacity(), usable, |_| 1, bits)
    }

    /// Of two drawn by capacity, the one with fewer open connections for its capacity.
    fn less_loaded(&self, a: (&Endpoint, Chosen<'a>), b: (&Endpoint, Chosen<'a>)) -> Chosen<'a> {
        let open = |endpoint: &Endpoint| u64::from(self.facts.health.open_by_digest(endpoint.digest));
        let (a_load, b_load) = (
            open(a.0) * u64::from(b.0.capacity),
            open(b.0) * u64::from(a.0.capacity),
        );
        if b_load < a_load { b.1 } else { a.1 }
    }

    /// The same one for every connection of a client, as long as it can be used; when one comes or goes, only its
    /// share of the clients moves.
    fn same_for_client(
        &self,
        table: &'a Table,
        usable: impl Fn(&'a Endpoint) -> Option<(&'a Endpoint, Chosen<'a>)>,
    ) -> Option<Chosen<'a>> {
        let of_family = |ip: &&IpAddr| ip.is_ipv4() == self.wanted.is_ipv4();
        let addresses = &self.source.addresses;
        let client = addresses.iter().find(of_family).or(addresses.first());
        let client = client.map_or(0, |ip| digest_of_address(*ip));
        // Whose own cannot be used has a second one, and so on.
        let mut further = Mixer::new(client);
        let mut draw = client;
        for _ in 0..MAX_DRAWS {
            if let Some((_, chosen)) = usable(table.of_client(draw)?) {
                return Some(chosen);
            }
            draw = further.next();
        }
        // Most cannot be used: all are looked at (rendezvous hashing).
        let score = |endpoint: &Endpoint| Mixer::new(client ^ endpoint.digest).next();
        let candidates = table.with_capacity().filter_map(usable);
        let best = candidates.max_by_key(|(endpoint, _)| score(endpoint));
        best.map(|(_, chosen)| chosen)
    }

    /// How an endpoint is reached, or the first reason why it cannot be.
    fn reach(&self, endpoint: &Endpoint, listed: Listed) -> Result<Reach, Unusable> {
        if !self.facts.tried.is_empty() && self.facts.tried.contains(&endpoint.workload.uid) {
            return Err(Unusable::Tried);
        }
        let kind = &*endpoint.kind;
        let port = self.endpoint_port(endpoint, listed).ok_or(Unusable::Port)?;
        if self.purpose != Purpose::Gateway && kind.network != self.source.network {
            let avoided = self
                .avoided
                .iter()
                .flatten()
                .any(|network| **network == *kind.network);
            if avoided || !kind.has_gateway || self.purpose == Purpose::NearWaypoint {
                return Err(Unusable::Gateway);
            }
            return Ok(Reach::Gateway);
        }
        if kind.by_hostname {
            let hostname = &endpoint.workload.hostname;
            return match self.facts.names.resolved(hostname) {
                Some(Ok(found)) if found.iter().any(|ip| self.offers(ip.is_ipv4())) => {
                    Ok(Reach::Hostname(port))
                }
                Some(_) => Err(Unusable::Name),
                // It was waited for, and there is no answer still.
                None if self.facts.asked.contains(&Need::Hostname(hostname.clone())) => Err(Unusable::Name),
                None => Ok(Reach::Hostname(port)),
            };
        }
        let v4 = || endpoint.v4.filter(|_| self.offers(true)).map(IpAddr::V4);
        let v6 = || {
            let has = endpoint.has_v6 && self.offers(false);
            let addresses = has.then(|| endpoint.workload.addresses.iter().find(|ip| ip.is_ipv6()));
            addresses.flatten().copied()
        };
        let ip = if self.wanted.is_ipv4() {
            v4().or_else(v6)
        } else {
            v6().or_else(v4)
        };
        match ip {
            Some(ip) => Ok(Reach::Address(SocketAddr::new(ip, port))),
            None => Err(Unusable::Address),
        }
    }

    /// Whether the service offers addresses of a family.
    pub(super) fn offers(&self, v4: bool) -> bool {
        match self.service.ip_families {
            IpFamilies::V4 => v4,
            IpFamilies::V6 => !v4,
            IpFamilies::Automatic | IpFamilies::Dual => true,
        }
    }

    /// The endpoint's own port for this service, else the service's, else its application tunnel's, else the same.
    /// An endpoint that lists ports without this one, of a service that leaves the number to its endpoints (a named
    /// port), does not serve it. An HBONE port need not be listed at all.
    fn endpoint_port(&self, endpoint: &Endpoint, listed: Listed) -> Option<u16> {
        let kind = &*endpoint.kind;
        let application = self.purpose == Purpose::Application;
        if application && !listed.is_listed && kind.application_tunnel.is_none() {
            return None;
        }
        let own = kind.ports.iter().find(|port| port.service_port == self.port);
        if let Some(port) = own.and_then(|port| port.target_port).or(listed.target_port) {
            return Some(port.get());
        }
        if !application {
            return Some(self.port);
        }
        if let Some(tunnel) = kind.application_tunnel {
            return Some(if tunnel == 0 { self.port } else { tunnel });
        }
        (own.is_some() || kind.ports.is_empty()).then_some(self.port)
    }
}

/// What a service says of one of its ports.
#[derive(Debug, Clone, Copy)]
struct Listed {
    is_listed: bool,
    target_port: Option<NonZeroU16>,
}

impl Listed {
    fn of(service: &Service, port: u16) -> Self {
        let listed = service.port(port);
        Self {
            is_listed: listed.is_some(),
            target_port: listed.and_then(|port| port.target_port),
        }
    }
}

/// Why an endpoint cannot be used.
enum Unusable {
    Tried,
    Port,
    Gateway,
    Address,
    Name,
}

/// One of those that can be used, by its share; all are looked at, twice.
fn by_share<'a>(
    endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
    usable: impl Fn(&'a Endpoint) -> Option<(&'a Endpoint, Chosen<'a>)>,
    share: impl Fn(&Endpoint) -> u32,
    bits: &mut Mixer,
) -> Option<Chosen<'a>> {
    let of = |endpoint: &Endpoint| u64::from(share(endpoint));
    let total: u64 = endpoints
        .clone()
        .filter_map(&usable)
        .map(|(endpoint, _)| of(endpoint))
        .sum();
    let mut left = bits.below(total);
    for (endpoint, chosen) in endpoints.filter_map(&usable) {
        match left.checked_sub(of(endpoint)) {
            Some(rest) => left = rest,
            None => return Some(chosen),
        }
    }
    None
}
