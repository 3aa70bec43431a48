//! The endpoints of services, laid out so that choosing one takes the same time however many there are.
//!
//! For each service, endpoints are grouped by place: one [`Table`] of all, one for each value of the first level of
//! closeness that the service names, one for each pair of values of the first two, and so on. A caller finds its
//! own groups by its own values, closest last. A table draws by weight in constant time.
//!
//! Tables are derived from workloads and services and change with them; what does not change is shared with older
//! snapshots.

mod digest;
mod ring;
mod table;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rpds::HashTrieMapSync;

pub(crate) use digest::{Mixer, digest, digest_of_address};
pub(crate) use table::Table;

use crate::port::Port;
use crate::service::{LoadBalancingMode, LocalityScope, Service};
use crate::workload::{TunnelProtocol, Workload};

/// The most levels of closeness: each scope counts once.
pub(crate) const MAX_LEVELS: usize = 6;

/// How many kinds of endpoint of one service are remembered to be shared between endpoints.
const MAX_SHARED_KINDS: usize = 8;

/// An endpoint of a service, with what choosing it looks at.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) workload: Arc<Workload>,
    /// What most endpoints of a service have in common.
    pub(crate) kind: Arc<Kind>,
    /// Of the uid.
    pub(crate) digest: u64,
    pub(crate) capacity: u32,
    /// The first of its IPv4 addresses.
    pub(crate) v4: Option<Ipv4Addr>,
    /// It has IPv6 addresses; they are looked up in the workload.
    pub(crate) has_v6: bool,
}

/// What endpoints of a service have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Its own ports for this service.
    pub(crate) ports: Vec<Port>,
    /// The port of its application tunnel; 0 is the port of the connection.
    pub(crate) application_tunnel: Option<u16>,
    pub(crate) network: Arc<str>,
    /// From another network it is reached through a gateway, which takes tunnels only.
    pub(crate) has_gateway: bool,
    /// It is reached by host name.
    pub(crate) by_hostname: bool,
}

/// The endpoints of all services.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoints {
    by_service: HashTrieMapSync<Arc<str>, OfService>,
}

/// The endpoints of one service.
#[derive(Debug, Clone)]
struct OfService {
    plan: Plan,
    kinds: Vec<Arc<Kind>>,
    all: Group,
}

/// What of a service decides how its endpoints are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    levels: Vec<LocalityScope>,
    allow_unhealthy: bool,
    /// Clients keep their endpoints.
    affine: bool,
}

/// Endpoints that agree in the levels so far, and the groups of those that agree in the next one too.
#[derive(Debug, Clone, Default)]
struct Group {
    table: Table,
    closer: HashTrieMapSync<Arc<str>, Group>,
}

/// The tables that hold a caller's endpoints by closeness: the first is of all of them, each next one a part of it
/// that is closer to the caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByCloseness<'a> {
    tables: [Option<&'a Table>; MAX_LEVELS + 1],
    levels: usize,
}

impl Endpoints {
    /// A service is new or changed; `workloads` are all that name it.
    pub(crate) fn service<'a>(
        &mut self,
        service: &Service,
        workloads: impl Iterator<Item = &'a Arc<Workload>>,
    ) {
        let plan = Plan::of(service);
        if self
            .by_service
            .get(service.key())
            .is_some_and(|known| known.plan == plan)
        {
            return;
        }
        let mut endpoints = OfService {
            plan,
            kinds: Vec::new(),
            all: Group::default(),
        };
        for workload in workloads {
            endpoints.insert(service.key(), workload);
        }
        self.by_service.insert_mut(service.key().clone(), endpoints);
    }

    /// A service is gone.
    pub(crate) fn remove_service(&mut self, key: &str) {
        self.by_service.remove_mut(key);
    }

    /// A workload is new, changed or gone.
    pub(crate) fn workload(&mut self, old: Option<&Workload>, new: Option<&Arc<Workload>>) {
        for service in old.iter().flat_map(|workload| workload.services.keys()) {
            if let (Some(endpoints), Some(old)) = (self.by_service.get_mut(service), old) {
                endpoints.remove(old);
            }
        }
        for service in new.iter().flat_map(|workload| workload.services.keys()) {
            if let (Some(endpoints), Some(new)) = (self.by_service.get_mut(service), new) {
                endpoints.insert(service, new);
            }
        }
    }

    /// The usable endpoints of a service for callers at a place.
    pub(crate) fn by_closeness(&self, service: &str, caller: &Workload) -> Option<ByCloseness<'_>> {
        let endpoints = self.by_service.get(service)?;
        let mut tables = [None; MAX_LEVELS + 1];
        let mut group = Some(&endpoints.all);
        let levels = &endpoints.plan.levels;
        for (depth, table) in tables.iter_mut().enumerate().take(levels.len() + 1) {
            let Some(found) = group else { break };
            *table = Some(&found.table);
            group = levels
                .get(depth)
                .and_then(|level| found.closer.get(place(*level, caller)));
        }
        Some(ByCloseness {
            tables,
            levels: levels.len(),
        })
    }
}

impl Endpoint {
    pub(crate) fn of(workload: &Arc<Workload>, kind: Arc<Kind>) -> Self {
        Self {
            kind,
            digest: digest(&workload.uid),
            capacity: workload.capacity,
            v4: workload.addresses.iter().find_map(|ip| match ip {
                IpAddr::V4(ip) => Some(*ip),
                IpAddr::V6(_) => None,
            }),
            has_v6: workload.addresses.iter().any(IpAddr::is_ipv6),
            workload: workload.clone(),
        }
    }
}

impl<'a> ByCloseness<'a> {
    /// Tables from the closest to that of all endpoints. An endpoint of a closer table is in all later ones too.
    pub(crate) fn closest_first(&self) -> impl Iterator<Item = &'a Table> {
        self.tables.into_iter().rev().flatten()
    }

    /// The endpoints that agree with the caller in every level.
    pub(crate) fn closest_only(&self) -> Option<&'a Table> {
        self.tables.get(self.levels).copied().flatten()
    }
}

impl Plan {
    fn of(service: &Service) -> Self {
        let balancing = &service.load_balancing;
        let mut levels = Vec::new();
        if matches!(
            balancing.mode,
            LoadBalancingMode::Strict | LoadBalancingMode::Failover
        ) {
            for scope in &balancing.scopes {
                // A level that is named twice says nothing new the second time.
                if !levels.contains(scope) {
                    levels.push(*scope);
                }
            }
        }
        Self {
            levels,
            allow_unhealthy: balancing.allow_unhealthy,
            affine: service.client_affinity,
        }
    }
}

impl OfService {
    fn insert(&mut self, service: &str, workload: &Arc<Workload>) {
        if !workload.healthy && !self.plan.allow_unhealthy {
            return;
        }
        let kind = self.shared(Kind::of(service, workload));
        let endpoint = Endpoint::of(workload, kind);
        self.all.insert(&self.plan.levels, self.plan.affine, endpoint);
    }

    fn remove(&mut self, workload: &Workload) {
        self.all.remove(&self.plan.levels, workload);
    }

    /// One kind for all endpoints that are alike, so that it stays in the processor's cache.
    fn shared(&mut self, kind: Kind) -> Arc<Kind> {
        if let Some(known) = self.kinds.iter().find(|known| ***known == kind) {
            return known.clone();
        }
        let kind = Arc::new(kind);
        self.kinds.truncate(MAX_SHARED_KINDS - 1);
        self.kinds.insert(0, kind.clone());
        kind
    }
}

impl Kind {
    /// What a workload is as an endpoint of a service (`namespace/hostname`).
    pub(crate) fn of(service: &str, workload: &Workload) -> Self {
        Self {
            ports: workload.services.get(service).cloned().unwrap_or_default(),
            application_tunnel: workload.application_tunnel.map(|tunnel| tunnel.port),
            network: workload.network.clone(),
            has_gateway: workload.network_gateway.is_some() && workload.tunnel == TunnelProtocol::Hbone,
            by_hostname: workload.addresses.is_empty() && !workload.hostname.is_empty(),
        }
    }
}

impl Group {
    fn insert(&mut self, levels: &[LocalityScope], affine: bool, endpoint: Endpoint) {
        if let Some((level, further)) = levels.split_first() {
            let value = place(*level, &endpoint.workload);
            if !self.closer.contains_key(value) {
                self.closer.insert_mut(value.clone(), Self::default());
            }
            if let Some(group) = self.closer.get_mut(value) {
                group.insert(further, affine, endpoint.clone());
            }
        }
        self.table.insert(endpoint, affine);
    }

    fn remove(&mut self, levels: &[LocalityScope], workload: &Workload) {
        self.table.remove(&workload.uid);
        if let Some((level, further)) = levels.split_first() {
            let value = place(*level, workload);
            if let Some(group) = self.closer.get_mut(value) {
                group.remove(further, workload);
                if group.table.is_empty() {
                    self.closer.remove_mut(value);
                }
            }
        }
    }
}

/// What a workload's place is on a level; nothing said is a place of its own.
fn place(level: LocalityScope, workload: &Workload) -> &Arc<str> {
    match level {
        LocalityScope::Region => &workload.locality.region,
        LocalityScope::Zone => &workload.locality.zone,
        LocalityScope::Subzone => &workload.locality.subzone,
        LocalityScope::Node => &workload.node,
        LocalityScope::Cluster => &workload.cluster_id,
        LocalityScope::Network => &workload.network,
    }
}
