//! Services with few and with many endpoints, to choose from.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use mesh::route::{Facts, NothingResolved, Request, Rules, choose_endpoint};
use mesh::{Change, EndpointHealth, Service, Snapshot, Workload};
use proto::workload as wire;

const KEY: &str = "shop/cart.shop.svc";

/// A service with endpoints over three zones, and what was seen of them.
pub struct Endpoints {
    snapshot: Snapshot,
    health: EndpointHealth,
    client: Workload,
    service: Arc<Service>,
}

impl Endpoints {
    /// This many endpoints; with levels of closeness (network, region, zone), or not; with connections and a failure,
    /// or not.
    pub fn new(endpoints: u32, failover: bool, busy: bool) -> Self {
        let service = Service::from_proto(cart(failover)).expect("a good service");
        Self::of(service, endpoints, busy)
    }

    /// This many endpoints of a service whose clients keep theirs.
    pub fn affine(endpoints: u32, busy: bool) -> Self {
        let mut service = Service::from_proto(cart(false)).expect("a good service");
        service.client_affinity = true;
        Self::of(service, endpoints, busy)
    }

    fn of(service: Service, endpoints: u32, busy: bool) -> Self {
        let mut snapshot = Snapshot::new();
        snapshot.apply([Change::Service(service)]);
        let pods = (0..endpoints).map(|number| Change::Workload(pod(number)));
        snapshot.apply(pods);
        let mut health = EndpointHealth::new();
        if busy {
            // One thousand open connections, however many endpoints share them; and one endpoint that failed.
            for connection in 0..1000 {
                health.connection_opened(&uid(connection * 7919 % endpoints));
            }
            health.record_failure(&uid(endpoints / 2), Instant::now());
        }
        let service = snapshot.service(KEY).expect("it was put in").clone();
        Self {
            client: pod(0),
            snapshot,
            health,
            service,
        }
    }

    /// Chooses this many times; how often an endpoint was found.
    pub fn choose(&self, times: u64) -> u64 {
        let rules = Rules::default();
        let (mut facts, request) = (self.facts(&rules), self.request());
        let mut found = 0;
        for turn in 0..times {
            facts.entropy = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let chosen = choose_endpoint(&self.service, &request, black_box(&facts));
            found += u64::from(black_box(chosen).is_some());
        }
        found
    }

    fn facts<'a>(&'a self, rules: &'a Rules) -> Facts<'a> {
        Facts {
            snapshot: &self.snapshot,
            health: &self.health,
            tried: &[],
            asked: &[],
            now: Instant::now(),
            entropy: 0,
            names: &NothingResolved,
            rules,
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            source: &self.client,
            destination: "10.96.0.1:80".parse().expect("an address"),
        }
    }
}

fn cart(failover: bool) -> wire::Service {
    wire::Service {
        name: "cart".into(),
        namespace: "shop".into(),
        hostname: "cart.shop.svc".into(),
        addresses: vec![wire::NetworkAddress {
            address: vec![10, 96, 0, 1].into(),
            ..Default::default()
        }],
        ports: vec![wire::Port {
            service_port: 80,
            target_port: 8080,
            app_protocol: 0,
        }],
        load_balancing: failover.then(|| wire::LoadBalancing {
            routing_preference: vec![
                wire::load_balancing::Scope::Network.into(),
                wire::load_balancing::Scope::Region.into(),
                wire::load_balancing::Scope::Zone.into(),
            ],
            mode: wire::load_balancing::Mode::Failover.into(),
            health_policy: 0,
        }),
        ..Default::default()
    }
}

fn uid(number: u32) -> String {
    format!("Kubernetes//Pod/shop/cart-{number}")
}

fn pod(number: u32) -> Workload {
    let [_, _, high, low] = number.to_be_bytes();
    let raw = wire::Workload {
        uid: uid(number),
        name: format!("cart-{number}"),
        namespace: "shop".into(),
        addresses: vec![vec![10, 0, high, low].into()],
        tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
        node: format!("node-{}", number / 50),
        locality: Some(wire::Locality {
            region: "r1".into(),
            zone: format!("z{}", number % 3),
            subzone: String::new(),
        }),
        services: [(KEY.to_owned(), wire::PortList::default())].into(),
        ..Default::default()
    };
    Workload::from_proto(raw).expect("a good workload")
}
