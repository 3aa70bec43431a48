use super::*;
use crate::testing::gateway_at;

const KEY: &str = "shop/cart.shop.svc";

/// An endpoint of `shop/cart` on network `n2`, whose gateway is at 192.0.2.1 on port 15443.
fn far(name: &str, addresses: &[&str]) -> wire::Workload {
    let pod = wire::Workload {
        network: "n2".into(),
        network_gateway: Some(gateway_at("n2", "192.0.2.1", 15443)),
        service_account: "cart".into(),
        ..pod("shop", name, addresses)
    };
    serving(pod, KEY, &[])
}

/// The gateway of `n2`.
fn edge() -> wire::Workload {
    wire::Workload {
        network: "n2".into(),
        service_account: "edge".into(),
        ..pod("infra", "edge", &["192.0.2.1"])
    }
}

fn cart() -> wire::Service {
    wire::Service {
        subject_alt_names: vec!["spiffe://cluster.local/ns/shop/sa/named".into()],
        ..service("shop", "cart", &["10.96.0.1"], &[(80, 8080)])
    }
}

fn near() -> wire::Workload {
    serving(pod("shop", "near", &["10.0.0.1"]), KEY, &[])
}

fn ids(names: &[&str]) -> Vec<Identity> {
    names
        .iter()
        .map(|name| identity(&format!("spiffe://cluster.local/ns/{name}")))
        .collect()
}

/// Routes to 10.96.0.1:80 for many entropies, each once, in order.
fn routes(snapshot: &Snapshot, tried: &[Arc<str>]) -> Vec<String> {
    let source = read_pod(client());
    let request = Request {
        source: &source,
        destination: "10.96.0.1:80".parse().unwrap(),
    };
    let (health, rules) = (EndpointHealth::new(), Rules::default());
    let seen: std::collections::BTreeSet<_> = (0..100)
        .map(|entropy| {
            let facts = facts(snapshot, &health, tried, Instant::now(), entropy, &rules);
            summary(&route(&request, &facts))
        })
        .collect();
    seen.into_iter().collect()
}

#[test]
fn an_endpoint_on_another_network_is_reached_by_a_tunnel_in_a_tunnel_to_its_gateway() {
    let snapshot = mesh(vec![far("far", &["10.0.0.1"]), edge()], vec![cart()]);
    let source = wire::Workload {
        network: "".into(),
        ..client()
    };
    let found = tunnel(go_from(&snapshot, source, "10.96.0.1:80"));
    assert_eq!(found.hop, Hop::NetworkGateway);
    assert_eq!(found.peer.to_string(), "192.0.2.1:15443");
    assert_eq!(found.authority, "cart.shop.svc:80");
    assert_eq!(found.accepted, ids(&["infra/sa/edge"]));
    assert_eq!((&*found.next.name, found.workload), ("edge", None));
    let inner = found.inner.unwrap();
    assert_eq!(inner.authority, "cart.shop.svc:80");
    assert_eq!(inner.accepted, ids(&["shop/sa/cart", "shop/sa/named"]));
    assert_eq!(&*inner.network, "");
    assert_eq!(found.destination.to_string(), "10.96.0.1:80");
    assert_eq!(found.service.unwrap().key().as_ref(), KEY);
}

#[test]
fn the_own_network_is_told_to_the_other_one() {
    let snapshot = mesh(
        vec![far("far", &["10.0.0.1"]), edge()],
        vec![wire::Service {
            addresses: vec![wire::NetworkAddress {
                network: "n1".into(),
                ..crate::testing::vip_address("10.96.0.1")
            }],
            ..cart()
        }],
    );
    let source = wire::Workload {
        network: "n1".into(),
        ..client()
    };
    let found = tunnel(go_from(&snapshot, source, "10.96.0.1:80"));
    assert_eq!(&*found.inner.unwrap().network, "n1");
}

#[test]
fn a_workload_that_stands_for_many_has_no_identity_of_its_own() {
    let snapshot = mesh(vec![far("all-of-n2", &[]), edge()], vec![cart()]);
    let inner = tunnel(go(&snapshot, "10.96.0.1:80")).inner.unwrap();
    assert_eq!(inner.accepted, ids(&["shop/sa/named"]));
    // Without a name there is nobody to hold the other end to.
    let nameless = wire::Service {
        subject_alt_names: vec![],
        ..cart()
    };
    let snapshot = mesh(vec![far("all-of-n2", &[]), edge()], vec![nameless.clone()]);
    assert_eq!(routes(&snapshot, &[]), ["refuse no_remote_identity"]);
    let snapshot = mesh(vec![far("all-of-n2", &[]), edge(), near()], vec![nameless]);
    assert_eq!(routes(&snapshot, &[]), ["hbone 10.0.0.1:15008 10.0.0.1:8080"]);
}

#[test]
fn a_gateway_may_be_a_service() {
    let remote = wire::Workload {
        network_gateway: Some(wire::GatewayAddress {
            hbone_mtls_port: 15443,
            ..gateway("infra", "edge.infra.svc")
        }),
        ..far("far", &["10.0.0.1"])
    };
    let edges = ["192.0.2.1", "192.0.2.2"].map(|ip| {
        let edge = wire::Workload {
            uid: format!("edge-{ip}"),
            addresses: pod("", "", &[ip]).addresses,
            ..edge()
        };
        serving(edge, "infra/edge.infra.svc", &[])
    });
    let gateway_service = service("infra", "edge", &[], &[(15443, 15008)]);
    let mut pods = vec![remote.clone()];
    pods.extend(edges);
    let snapshot = mesh(pods, vec![cart(), gateway_service]);
    let both = ["192.0.2.1", "192.0.2.2"].map(|ip| format!("hbone {ip}:15008 cart.shop.svc:80"));
    assert_eq!(routes(&snapshot, &[]), both);
    assert_eq!(routes(&snapshot, &["edge-192.0.2.1".into()]), both[1..]);
    let all = ["edge-192.0.2.1".into(), "edge-192.0.2.2".into()];
    assert_eq!(routes(&snapshot, &all), ["refuse gateway_unavailable"]);
    let snapshot = mesh(vec![remote], vec![cart()]);
    assert_eq!(routes(&snapshot, &[]), ["refuse gateway_unknown"]);
}

#[test]
fn where_a_gateway_cannot_be_used_what_is_left_is() {
    let by_gateway = "hbone 192.0.2.1:15443 cart.shop.svc:80";
    let directly = "hbone 10.0.0.1:15008 10.0.0.1:8080";
    let pods = vec![far("far", &["10.9.0.1"]), near()];
    let snapshot = mesh([pods.clone(), vec![edge()]].concat(), vec![cart()]);
    assert_eq!(routes(&snapshot, &[]), [directly, by_gateway]);
    let edge_uid: Arc<str> = "Kubernetes//Pod/infra/edge".into();
    assert_eq!(routes(&snapshot, std::slice::from_ref(&edge_uid)), [directly]);
    assert_eq!(
        routes(&snapshot, &["Kubernetes//Pod/shop/near".into()]),
        [by_gateway]
    );
    assert_eq!(routes(&mesh(pods, vec![cart()]), &[]), [directly]);
    let snapshot = mesh(vec![far("far", &["10.9.0.1"]), edge()], vec![cart()]);
    assert_eq!(routes(&snapshot, &[edge_uid]), ["refuse gateway_unavailable"]);
}

#[test]
fn without_a_gateway_there_is_no_way_to_another_network() {
    let no_gateway = wire::Workload {
        network_gateway: None,
        ..far("far", &["10.0.0.1"])
    };
    let plain = wire::Workload {
        tunnel_protocol: 0,
        ..far("plain", &["10.0.0.2"])
    };
    let snapshot = mesh(vec![no_gateway, plain, edge()], vec![cart()]);
    let Route::Refuse(refusal) = go(&snapshot, "10.96.0.1:80") else {
        panic!()
    };
    assert_eq!(
        refusal.to_string(),
        format!("service {KEY} has no endpoint to use: of 2, 2 on another network without a usable gateway")
    );
}

#[test]
fn only_services_reach_into_another_network() {
    let snapshot = mesh(vec![far("far", &["10.0.0.1"]), edge()], vec![cart()]);
    assert_eq!(
        to(&snapshot, "10.0.0.1:80"),
        "tcp 10.0.0.1:80 unknown_destination"
    );
}

#[test]
fn levels_of_closeness_prefer_the_own_network_without_demanding_it() {
    let preferring = |mode, scopes: &[i32]| wire::Service {
        load_balancing: Some(wire::LoadBalancing {
            routing_preference: scopes.to_vec(),
            mode,
            health_policy: 0,
        }),
        ..cart()
    };
    let by_gateway = "hbone 192.0.2.1:15443 cart.shop.svc:80";
    let directly = "hbone 10.0.0.1:15008 10.0.0.1:8080";
    let far = far("far", &["10.9.0.1"]);
    let failover = preferring(2, &[6, 1, 2]);
    let all = mesh(vec![far.clone(), edge(), near()], vec![failover.clone()]);
    assert_eq!(routes(&all, &[]), [directly]);
    let far_only = mesh(vec![far.clone(), edge()], vec![failover]);
    assert_eq!(routes(&far_only, &[]), [by_gateway]);
    let strict = mesh(vec![far, edge()], vec![preferring(1, &[6])]);
    assert_eq!(routes(&strict, &[]), ["refuse no_endpoint"]);
}

/// Service `shop/cart` with waypoint service `infra/w`.
fn guarded() -> wire::Service {
    wire::Service {
        waypoint: Some(gateway("infra", "w.infra.svc")),
        ..cart()
    }
}

fn far_waypoint() -> wire::Workload {
    let waypoint = wire::Workload {
        uid: "far-waypoint".into(),
        namespace: "infra".into(),
        service_account: "w".into(),
        services: Default::default(),
        ..far("w-1", &["10.9.1.1"])
    };
    serving(waypoint, "infra/w.infra.svc", &[])
}

#[test]
fn a_waypoint_on_another_network_is_reached_through_its_gateway_and_held_to_its_own_identity() {
    let waypoint = service("infra", "w", &[], &[(15008, 0)]);
    let snapshot = mesh(
        vec![far_waypoint(), edge(), near()],
        vec![guarded(), waypoint.clone()],
    );
    let found = tunnel(go(&snapshot, "10.96.0.1:80"));
    assert_eq!(found.hop, Hop::NetworkGateway);
    assert_eq!(
        (found.peer.to_string(), &*found.authority),
        ("192.0.2.1:15443".into(), "cart.shop.svc:80")
    );
    let inner = found.inner.unwrap();
    assert_eq!(inner.authority, "cart.shop.svc:80");
    assert_eq!(
        inner.accepted,
        ids(&["infra/sa/w"]),
        "an endpoint must not answer in its place"
    );
    // Without its gateway there is no way, and nothing goes around.
    let snapshot = mesh(vec![far_waypoint(), near()], vec![guarded(), waypoint]);
    assert_eq!(to(&snapshot, "10.96.0.1:80"), "refuse gateway_unknown");
}

#[test]
fn a_waypoint_named_by_an_address_of_another_network_needs_the_gateway_too() {
    let guarded = |gateway| wire::Service {
        waypoint: Some(gateway),
        ..cart()
    };
    let named = gateway_at("n2", "10.9.1.1", 15008);
    let snapshot = mesh(vec![far_waypoint(), edge()], vec![guarded(named.clone())]);
    assert_eq!(
        to(&snapshot, "10.96.0.1:80"),
        "hbone 192.0.2.1:15443 cart.shop.svc:80"
    );
    let lost = wire::Workload {
        network_gateway: None,
        ..far_waypoint()
    };
    let snapshot = mesh(vec![lost, edge()], vec![guarded(named)]);
    assert_eq!(to(&snapshot, "10.96.0.1:80"), "refuse gateway_unknown");
}

#[test]
fn a_workloads_waypoint_must_be_on_the_same_network() {
    let waypoint = service("infra", "w", &[], &[(15008, 0)]);
    for named in [
        gateway("infra", "w.infra.svc"),
        gateway_at("n2", "10.9.1.1", 15008),
    ] {
        let direct = wire::Workload {
            waypoint: Some(named),
            ..pod("shop", "db", &["10.0.0.2"])
        };
        let snapshot = mesh(vec![direct, far_waypoint(), edge()], vec![waypoint.clone()]);
        let found = to(&snapshot, "10.0.0.2:80");
        assert!(
            ["refuse waypoint_unavailable", "refuse waypoint_on_other_network"].contains(&&*found),
            "{found}"
        );
    }
}
