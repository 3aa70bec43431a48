//! A naive second opinion on random meshes: it reads the messages with no index, no table and no draw, and says
//! which routes are right. Every route must be one of them, and with enough turns each of them must come.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::{gateway_at, mesh, read_service};

const NODES: [&str; 2] = ["node-a", "node-b"];
const ZONES: [&str; 2] = ["z1", "z2"];
const NETWORKS: [&str; 2] = ["", "n2"];

#[derive(Debug, Clone)]
struct Case {
    workloads: Vec<wire::Workload>,
    services: Vec<wire::Service>,
    source: wire::Workload,
    destination: SocketAddr,
    tried: Vec<Arc<str>>,
    failed: Vec<Arc<str>>,
}

fn any_workload(number: u8) -> impl Strategy<Value = wire::Workload> {
    let place = (0..2usize, 0..2usize, prop::sample::select(vec![0usize, 0, 0, 1]));
    let fields = (
        place,
        prop::collection::btree_set(0..3u8, 0..3),
        prop::sample::select(vec![0, 1, 1, 1]),
        prop::sample::select(vec![None, Some(0), Some(1), Some(3)]),
        prop::sample::select(vec![0, 0, 0, 1]),
        any_waypoint(),
        prop::sample::select(vec![None, None, Some(9090)]),
        any::<bool>(),
        prop::sample::select(vec![0, 0, 0, 1]),
    );
    fields.prop_map(
        move |((node, zone, network), services, tunnel, capacity, status, waypoint, port, gateway, host)| {
            let mut made = wire::Workload {
                node: NODES[node].into(),
                network: NETWORKS[network].into(),
                locality: Some(wire::Locality {
                    zone: ZONES[zone].into(),
                    ..Default::default()
                }),
                tunnel_protocol: tunnel,
                capacity,
                status,
                waypoint,
                network_mode: host,
                network_gateway: (network == 1 && gateway).then(|| gateway_at("n2", "10.0.0.0", 15443)),
                ..pod("shop", &format!("w{number}"), &[&format!("10.0.0.{number}")])
            };
            for service in services {
                let ports: Vec<_> = port.iter().map(|port| (80, *port)).collect();
                made = serving(made, &format!("shop/s{service}.shop.svc"), &ports);
            }
            made
        },
    )
}

/// Mostly none; service `s0`, one that does not exist, or a pod's address.
fn any_waypoint() -> impl Strategy<Value = Option<wire::GatewayAddress>> {
    prop_oneof![
        6 => Just(None),
        2 => Just(Some(gateway("shop", "s0.shop.svc"))),
        1 => Just(Some(gateway("shop", "missing.shop.svc"))),
        1 => Just(Some(gateway_at("", "10.0.0.1", 0))),
    ]
}

fn any_service(number: u8) -> impl Strategy<Value = wire::Service> {
    let scopes = prop::sample::subsequence(vec![6, 2, 4], 0..=3).prop_shuffle();
    let fields = (
        scopes,
        0..4,
        0..2,
        any_waypoint(),
        prop::sample::select(vec![0u32, 8080]),
        prop::sample::select(vec![0, 0, 1]),
    );
    fields.prop_map(
        move |(routing_preference, mode, health_policy, waypoint, target, visibility)| wire::Service {
            load_balancing: Some(wire::LoadBalancing {
                routing_preference,
                mode,
                health_policy,
            }),
            // The waypoint service itself has none, so that a loop would be one of the router's making.
            waypoint: waypoint.filter(|_| number != 0),
            visibility,
            ..service(
                "shop",
                &format!("s{number}"),
                &[&format!("10.96.0.{number}"), &format!("10.0.{number}.0/24")],
                &[(80, target)],
            )
        },
    )
}

fn any_case() -> impl Strategy<Value = Case> {
    let workloads: Vec<_> = (0..6).map(any_workload).collect();
    let services: Vec<_> = (0..3).map(any_service).collect();
    let destination = prop::sample::select(vec![
        "10.96.0.1:80",
        "10.96.0.1:80",
        "10.96.0.2:80",
        "10.96.0.2:81",
        "10.0.0.1:80",
        "10.0.0.2:15008",
        "10.0.0.9:80",
        "10.0.2.2:80",
        "192.0.2.1:443",
    ]);
    let some = || prop::collection::btree_set(0..6u8, 0..3);
    let uids = |numbers: BTreeSet<u8>| -> Vec<Arc<str>> {
        let uid = |number| format!("Kubernetes//Pod/shop/w{number}").into();
        numbers.into_iter().map(uid).collect()
    };
    let source = (0..7usize, any::<bool>());
    (workloads, services, destination, some(), some(), source).prop_map(
        move |(workloads, services, destination, tried, failed, (source, inside))| {
            let stranger = pod(if inside { "shop" } else { "web" }, "client", &["10.0.9.9"]);
            Case {
                source: workloads
                    .get(source)
                    .filter(|w| w.network.is_empty())
                    .cloned()
                    .unwrap_or(stranger),
                workloads,
                services,
                destination: destination.parse().unwrap(),
                tried: uids(tried),
                failed: uids(failed),
            }
        },
    )
}

/// What the oracle knows: everything, in lists.
struct Oracle {
    workloads: Vec<Workload>,
    services: Vec<Service>,
    source: Workload,
    tried: Vec<Arc<str>>,
    failed: Vec<Arc<str>>,
}

impl Oracle {
    fn of(case: &Case) -> Self {
        Self {
            workloads: case.workloads.iter().cloned().map(read_pod).collect(),
            services: case.services.iter().cloned().map(read_service).collect(),
            source: read_pod(case.source.clone()),
            tried: case.tried.clone(),
            failed: case.failed.clone(),
        }
    }

    /// All routes that are right, as [`summary`] writes them.
    fn right(&self, destination: SocketAddr) -> BTreeSet<String> {
        let ip = destination.ip();
        let visible = || {
            self.services
                .iter()
                .filter(|s| s.visible_from(&self.source.namespace))
        };
        let has = |service: &Service, host: bool| {
            let mut addresses = service.addresses.iter();
            addresses.any(|a| {
                *a.network == *self.source.network && a.prefix.is_host() == host && a.prefix.contains(ip)
            })
        };
        if let Some(service) = visible().find(|s| has(s, true)) {
            return self.to_service(service, destination);
        }
        if let Some(workload) = self.at(&self.source.network, ip) {
            return self.to_workload(workload, destination);
        }
        if let Some(service) = visible().find(|s| has(s, false)) {
            return self.to_service(service, destination);
        }
        [format!("tcp {destination} unknown_destination")].into()
    }

    fn at(&self, network: &str, ip: IpAddr) -> Option<&Workload> {
        let mut all = self.workloads.iter();
        all.find(|w| *w.network == *network && !w.host_network && w.addresses.contains(&ip))
    }

    fn to_service(&self, service: &Service, destination: SocketAddr) -> BTreeSet<String> {
        if let Some((waypoint, _)) = service.waypoints.first()
            && !self.is_waypoint(waypoint)
        {
            return self.through(waypoint, Some(service), destination);
        }
        if service.load_balancing.mode == LoadBalancingMode::Passthrough {
            return match self.at(&self.source.network, destination.ip()) {
                Some(workload) => self.to_workload(workload, destination),
                None => [format!("tcp {destination} passthrough_service")].into(),
            };
        }
        if service.port(destination.port()).is_none() {
            // With no endpoint at all there is none with the port either.
            return ["refuse no_such_port".to_owned()].into();
        }
        let chosen = self.choose(service, destination.port(), false, false);
        if chosen.is_empty() {
            let behind = self.choose(service, destination.port(), true, false);
            return match behind.is_empty() {
                true => ["refuse no_endpoint".to_owned()].into(),
                false => [self.gateway_trouble()].into(),
            };
        }
        chosen
            .iter()
            .map(|(workload, port)| {
                if workload.network != self.source.network {
                    return format!("hbone 10.0.0.0:15443 {}:{}", service.hostname, destination.port());
                }
                let address = SocketAddr::new(workload.addresses[0], *port);
                reached(workload, address)
            })
            .collect()
    }

    fn to_workload(&self, workload: &Workload, destination: SocketAddr) -> BTreeSet<String> {
        if let Some(waypoint) = &workload.waypoint
            && !self.is_waypoint(waypoint)
        {
            return self.through(waypoint, None, destination);
        }
        [reached(workload, destination)].into()
    }

    fn through(
        &self,
        waypoint: &GatewayAddress,
        service: Option<&Service>,
        destination: SocketAddr,
    ) -> BTreeSet<String> {
        let key = match &waypoint.destination {
            crate::GatewayDestination::Service(key) => key,
            crate::GatewayDestination::Address(address) => {
                return [match self.at(&address.network, address.ip) {
                    None => "refuse waypoint_unknown".to_owned(),
                    Some(w) if self.tried.contains(&w.uid) => "refuse waypoint_unavailable".to_owned(),
                    Some(_) => format!("hbone {}:15008 {destination}", address.ip),
                }]
                .into();
            }
        };
        let Some(found) = self.services.iter().find(|s| s.key() == key) else {
            return ["refuse waypoint_unknown".to_owned()].into();
        };
        let mut chosen = self.choose(found, HBONE_PORT, false, true);
        if service.is_none() {
            let near: Vec<_> = self.near_only(found);
            chosen = near;
        }
        if chosen.is_empty() {
            let trouble = service.is_some() && !self.choose(found, HBONE_PORT, true, true).is_empty();
            let refusal = if trouble {
                self.gateway_trouble()
            } else {
                "refuse waypoint_unavailable".to_owned()
            };
            return [refusal].into();
        }
        chosen
            .iter()
            .map(|(workload, _)| match service {
                Some(service) if workload.network != self.source.network => {
                    format!("hbone 10.0.0.0:15443 {}:{}", service.hostname, destination.port())
                }
                _ => format!("hbone {}:15008 {destination}", workload.addresses[0]),
            })
            .collect()
    }

    fn is_waypoint(&self, waypoint: &GatewayAddress) -> bool {
        match &waypoint.destination {
            crate::GatewayDestination::Service(key) => self.source.services.contains_key(key),
            crate::GatewayDestination::Address(address) => self
                .at(&address.network, address.ip)
                .is_some_and(|w| w.uid == self.source.uid),
        }
    }

    /// The gateway of `n2` is whatever has 10.0.0.0 there.
    fn gateway(&self) -> Option<&Workload> {
        self.at("n2", "10.0.0.0".parse().unwrap())
    }

    fn gateway_trouble(&self) -> String {
        match self.gateway() {
            None => "refuse gateway_unknown".to_owned(),
            Some(_) => "refuse gateway_unavailable".to_owned(),
        }
    }

    fn near_only(&self, service: &Service) -> Vec<(&Workload, u16)> {
        self.among(service, HBONE_PORT, true, |w| w.network == self.source.network)
    }

    /// Endpoints that may be chosen: the best by all rules. `broken` counts networks whose gateway cannot be used.
    fn choose(&self, service: &Service, port: u16, broken: bool, tunnel: bool) -> Vec<(&Workload, u16)> {
        let gateway = self.gateway().is_some_and(|w| !self.tried.contains(&w.uid));
        self.among(service, port, tunnel, |w| {
            let declared = w.network_gateway.is_some() && w.tunnel == TunnelProtocol::Hbone;
            w.network == self.source.network || (declared && (gateway || broken))
        })
    }

    fn among(
        &self,
        service: &Service,
        port: u16,
        tunnel: bool,
        reachable: impl Fn(&Workload) -> bool,
    ) -> Vec<(&Workload, u16)> {
        let scopes = &service.load_balancing.scopes;
        let rank = |w: &Workload| {
            let same = |scope: &crate::LocalityScope| match scope {
                crate::LocalityScope::Network => w.network == self.source.network,
                crate::LocalityScope::Zone => w.locality.zone == self.source.locality.zone,
                crate::LocalityScope::Node => w.node == self.source.node,
                other => panic!("{other:?}"),
            };
            match service.load_balancing.mode {
                LoadBalancingMode::Any | LoadBalancingMode::Passthrough => 0,
                _ => scopes.iter().take_while(|scope| same(scope)).count(),
            }
        };
        let strict = service.load_balancing.mode == LoadBalancingMode::Strict;
        let usable: Vec<_> = self
            .workloads
            .iter()
            .filter(|w| w.services.contains_key(service.key()))
            .filter(|w| w.healthy || service.load_balancing.allow_unhealthy)
            .filter(|w| !self.tried.contains(&w.uid))
            .filter(|w| reachable(w))
            .filter(|w| !strict || rank(w) == scopes.len())
            .map(|w| {
                let own = w.services[service.key()].iter().find(|p| p.service_port == port);
                let target = own
                    .and_then(|p| p.target_port)
                    .or(service.port(port).and_then(|p| p.target_port));
                (w, target.map_or(port, |target| target.get()))
            })
            // Ports of its own, and not this one, of a service that leaves the number to it.
            .filter(|_| tunnel || service.port(port).is_some())
            .collect();
        let failed = |w: &Workload| self.failed.contains(&w.uid);
        let best = |some: Vec<(&'_ Workload, u16)>| {
            let highest = some.iter().map(|(w, _)| rank(w)).max();
            some.into_iter()
                .filter(|(w, _)| Some(rank(w)) == highest)
                .map(|(w, port)| (w.uid.clone(), port))
                .collect::<Vec<_>>()
        };
        let steps: [&dyn Fn(&Workload) -> bool; 3] =
            [&|w| w.capacity > 0 && !failed(w), &|w| w.capacity > 0, &|w| {
                w.capacity == 0
            }];
        for step in steps {
            let some: Vec<_> = usable.iter().copied().filter(|(w, _)| step(w)).collect();
            if !some.is_empty() {
                let uids = best(some);
                return usable
                    .into_iter()
                    .filter(|(w, port)| uids.contains(&(w.uid.clone(), *port)))
                    .collect();
            }
        }
        Vec::new()
    }
}

fn reached(workload: &Workload, address: SocketAddr) -> String {
    if workload.tunnel == TunnelProtocol::Hbone && !workload.host_network {
        format!("hbone {}:15008 {address}", address.ip())
    } else {
        format!("tcp {address} not_in_mesh")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn routes_are_those_of_a_naive_reading(case in any_case()) {
        let snapshot = mesh(case.workloads.clone(), case.services.clone());
        let source = read_pod(case.source.clone());
        let request = Request { source: &source, destination: case.destination };
        let (mut health, now, rules) = (EndpointHealth::new(), Instant::now(), Rules::default());
        for uid in &case.failed {
            health.record_failure(uid, now);
        }
        let right = Oracle::of(&case).right(case.destination);
        let mut seen = BTreeSet::new();
        for entropy in 0..400u64 {
            let facts = facts(&snapshot, &health, &case.tried, now, entropy, &rules);
            let found = summary(&route(&request, &facts));
            prop_assert!(right.contains(&found), "{} is not one of {:?}", found, right);
            seen.insert(found);
        }
        prop_assert_eq!(seen, right);
    }
}
