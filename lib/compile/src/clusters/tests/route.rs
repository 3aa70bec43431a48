//! What is told, as a node proxy decides by it.

use std::sync::Arc;
use std::time::Instant;

use mesh::route::{NothingResolved, route};
use mesh::{EndpointHealth, Facts, HboneRoute, Hop, Request, Route, Rules, Snapshot};
use prost::Message;

use super::*;

/// Where connections of `client` to the Service go, for many draws.
fn routes(told: &Told) -> Vec<HboneRoute> {
    let mut snapshot = Snapshot::new();
    snapshot.apply([mesh::Change::PoliciesSynced]);
    for (name, address) in &told.0 {
        snapshot.apply([mesh::Change::decode_address(name, &address.encode_to_vec())]);
    }
    let client = told.workload("Kubernetes//Pod/demo/client").unwrap();
    let source = mesh::Workload::from_proto(client.clone()).unwrap();
    let request = Request {
        source: &source,
        destination: "10.96.0.1:80".parse().unwrap(),
    };
    let (health, rules, now) = (EndpointHealth::new(), Rules::default(), Instant::now());
    let tried: &[Arc<str>] = &[];
    let draw = |entropy: u64| {
        let facts = Facts {
            snapshot: &snapshot,
            health: &health,
            tried,
            asked: &[],
            now,
            entropy: entropy.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            names: &NothingResolved,
            rules: &rules,
        };
        match route(&request, &facts) {
            Route::Hbone(route) => *route,
            other => panic!("{other:?}"),
        }
    };
    (0..50).map(draw).collect()
}

#[test]
fn a_node_proxy_goes_to_what_is_near_and_else_by_a_tunnel_in_a_tunnel_through_the_gateway() {
    let (mut clusters, mut told) = two();
    let client = pod("client", "client", true, true).replace("app: web", "app: client");
    told.take(clusters.apply(puts(&client.replace("10.1.0.2", "10.1.0.9"))));
    for found in routes(&told) {
        assert_eq!(found.hop, Hop::NetworkGateway);
        assert_eq!(found.peer.to_string(), "192.0.2.1:15008");
        assert_eq!(found.authority, "web.demo.svc.cluster.local:80");
        let identity = |name: &str| format!("spiffe://cluster.local/ns/{name}");
        let names = |list: &[mesh::Identity]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&found.accepted), [identity("istio-system/sa/edge")]);
        let inner = found.inner.unwrap();
        assert_eq!(inner.authority, "web.demo.svc.cluster.local:80");
        assert_eq!(names(&inner.accepted), [identity("demo/sa/web")]);
        assert_eq!(&*inner.network, "n1");
    }
    // One here, on the same address as one there: networks are apart.
    told.take(clusters.apply(puts(&pod("near", "web", true, true))));
    for found in routes(&told) {
        assert_eq!((found.hop, &*found.next.name), (Hop::Endpoint, "near"));
        assert_eq!(found.peer.to_string(), "10.1.0.2:15008");
    }
    told.take(clusters.apply(puts(&pod("near", "web", false, true))));
    assert!(routes(&told).iter().all(|found| found.hop == Hop::NetworkGateway));
}
