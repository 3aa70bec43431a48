use std::collections::BTreeMap;

use super::*;
use crate::testing::{gateway_at, ip};

const WAYPOINT: &str = "infra/w.infra.svc";

/// A pod of the waypoint service `infra/w`, with account `w`.
fn waypoint_pod(name: &str, ip: &str) -> wire::Workload {
    let pod = wire::Workload {
        service_account: "w".into(),
        native_tunnel: true,
        ..pod("infra", name, &[ip])
    };
    serving(pod, WAYPOINT, &[])
}

fn waypoint_service() -> wire::Service {
    service("infra", "w", &["10.96.9.9"], &[(15008, 15008)])
}

fn by_name() -> wire::GatewayAddress {
    gateway("infra", "w.infra.svc")
}

/// Service `shop/cart` with this waypoint, at 10.96.0.1 and fd96::1 and 10.97.0.0/16, port 80 to 8080.
fn guarded(waypoint: wire::GatewayAddress) -> wire::Service {
    wire::Service {
        waypoint: Some(waypoint),
        ..service(
            "shop",
            "cart",
            &["10.96.0.1", "fd96::1", "10.97.0.0/16"],
            &[(80, 8080)],
        )
    }
}

fn cart() -> wire::Workload {
    serving(pod("shop", "cart", &["10.0.0.1"]), "shop/cart.shop.svc", &[])
}

fn guarded_pod(waypoint: wire::GatewayAddress) -> wire::Workload {
    wire::Workload {
        waypoint: Some(waypoint),
        ..pod("shop", "db", &["10.0.0.2"])
    }
}

#[test]
fn a_service_is_reached_through_its_waypoint_at_the_address_that_was_called() {
    let snapshot = mesh(
        vec![cart(), waypoint_pod("w-1", "10.0.1.1")],
        vec![guarded(by_name()), waypoint_service()],
    );
    let found = tunnel(go(&snapshot, "10.96.0.1:80"));
    assert_eq!(found.hop, Hop::ServiceWaypoint);
    assert_eq!(
        (found.peer.to_string(), found.authority.as_str()),
        ("10.0.1.1:15008".into(), "10.96.0.1:80")
    );
    assert_eq!(found.accepted, [identity("spiffe://cluster.local/ns/infra/sa/w")]);
    assert_eq!(
        (&*found.next.name, found.workload, found.inner),
        ("w-1", None, None)
    );
    assert_eq!(found.service.unwrap().key().as_ref(), "shop/cart.shop.svc");
    assert_eq!(found.destination.to_string(), "10.96.0.1:80");
    assert_eq!(to(&snapshot, "10.97.3.3:80"), "hbone 10.0.1.1:15008 10.97.3.3:80");
    assert_eq!(to(&snapshot, "[fd96::1]:80"), "hbone 10.0.1.1:15008 [fd96::1]:80");
    // Which ports there are is the waypoint's business.
    assert_eq!(to(&snapshot, "10.96.0.1:81"), "hbone 10.0.1.1:15008 10.96.0.1:81");
    // The pod's own address is not the service's.
    assert_eq!(to(&snapshot, "10.0.0.1:80"), "hbone 10.0.0.1:15008 10.0.0.1:80");
}

#[test]
fn a_waypoint_is_named_by_service_by_its_address_or_by_a_pods_address() {
    let pods = || vec![cart(), waypoint_pod("w-1", "10.0.1.1")];
    let table = [
        (by_name(), "10.0.1.1:15008"),
        (gateway_at("", "10.96.9.9", 15008), "10.0.1.1:15008"),
        (gateway_at("", "10.96.9.9", 15009), "10.0.1.1:15009"),
        (gateway_at("", "10.0.1.1", 0), "10.0.1.1:15008"),
        (gateway_at("", "10.0.1.1", 15009), "10.0.1.1:15009"),
    ];
    for (named, peer) in table {
        let services = vec![guarded(named.clone()), waypoint_service()];
        let snapshot = mesh(pods(), services);
        let found = tunnel(go(&snapshot, "10.96.0.1:80"));
        assert_eq!(found.peer.to_string(), peer, "{named:?}");
        assert_eq!(found.accepted, [identity("spiffe://cluster.local/ns/infra/sa/w")]);
    }
}

#[test]
fn a_waypoint_hidden_from_the_caller_is_still_the_waypoint() {
    let hidden = wire::Service {
        visibility: 1,
        ..waypoint_service()
    };
    for named in [by_name(), gateway_at("", "10.96.9.9", 15008)] {
        let services = vec![guarded(named), hidden.clone()];
        let snapshot = mesh(vec![cart(), waypoint_pod("w-1", "10.0.1.1")], services);
        assert_eq!(to(&snapshot, "10.96.0.1:80"), "hbone 10.0.1.1:15008 10.96.0.1:80");
    }
}

#[test]
fn a_waypoint_is_balanced_like_a_service_and_passed_over_when_it_fails() {
    let pods = vec![
        cart(),
        waypoint_pod("w-1", "10.0.1.1"),
        waypoint_pod("w-2", "10.0.1.2"),
        wire::Workload {
            status: 1,
            ..waypoint_pod("w-3", "10.0.1.3")
        },
    ];
    let snapshot = mesh(pods, vec![guarded(by_name()), waypoint_service()]);
    let found = peers(&snapshot, "10.96.0.1:80", &[]);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["10.0.1.1:15008", "10.0.1.2:15008"]
    );
    let tried = ["Kubernetes//Pod/infra/w-1".into()];
    assert_eq!(
        peers(&snapshot, "10.96.0.1:80", &tried)
            .keys()
            .collect::<Vec<_>>(),
        ["10.0.1.2:15008"]
    );
    let tried = [
        "Kubernetes//Pod/infra/w-1".into(),
        "Kubernetes//Pod/infra/w-2".into(),
    ];
    assert_eq!(
        peers(&snapshot, "10.96.0.1:80", &tried)
            .keys()
            .collect::<Vec<_>>(),
        ["waypoint_unavailable"],
        "never around it"
    );
}

#[test]
fn weighted_waypoints_replace_the_single_one() {
    let weighted = |weights: [u32; 2]| wire::Service {
        weighted_waypoints: [("10.0.1.1", weights[0]), ("10.0.1.2", weights[1])]
            .into_iter()
            .map(|(ip, weight)| wire::WeightedWaypoint {
                destination: Some(gateway_at("", ip, 15008)),
                weight,
            })
            .collect(),
        ..guarded(gateway_at("", "10.0.1.3", 15008))
    };
    let pods: Vec<_> = (1..=3)
        .map(|n| waypoint_pod(&format!("w-{n}"), &format!("10.0.1.{n}")))
        .collect();
    let share = |weights| {
        let snapshot = mesh(pods.clone(), vec![weighted(weights)]);
        let found = peers(&snapshot, "10.96.0.1:80", &[]);
        assert!(!found.contains_key("10.0.1.3:15008"), "{found:?}");
        found.get("10.0.1.1:15008").copied().unwrap_or(0)
    };
    assert_eq!((share([1, 0]), share([0, 5])), (1000, 0));
    assert!(
        (430..570).contains(&share([0, 0])),
        "evenly where nobody has a weight"
    );
    assert!((830..970).contains(&share([9, 1])));
}

#[test]
fn a_waypoint_that_does_not_exist_closes_the_way() {
    let names = [by_name(), gateway_at("", "10.0.1.1", 15008)];
    for named in names {
        let snapshot = mesh(
            vec![cart(), guarded_pod(named.clone())],
            vec![guarded(named.clone())],
        );
        for destination in ["10.96.0.1:80", "10.97.0.1:80", "10.0.0.2:80"] {
            assert_eq!(to(&snapshot, destination), "refuse waypoint_unknown");
        }
        let Route::Refuse(refusal) = go(&snapshot, "10.96.0.1:80") else {
            panic!()
        };
        assert!(
            refusal
                .to_string()
                .starts_with("shop/cart.shop.svc is reached through waypoint "),
            "{refusal}"
        );
    }
    // It exists and nothing serves it.
    let snapshot = mesh(vec![cart()], vec![guarded(by_name()), waypoint_service()]);
    assert_eq!(to(&snapshot, "10.96.0.1:80"), "refuse waypoint_unavailable");
    // It exists, and was not understood.
    let mut snapshot = mesh(vec![cart()], vec![guarded(by_name())]);
    snapshot.apply([Change::RejectedAddress(Rejected::new(WAYPOINT, "ip_families 9"))]);
    assert_eq!(to(&snapshot, "10.96.0.1:80"), "refuse destination_not_understood");
}

#[test]
fn a_workloads_waypoint_is_for_those_who_address_the_workload() {
    let direct = serving(guarded_pod(by_name()), "shop/open.shop.svc", &[]);
    let plain = wire::Workload {
        tunnel_protocol: 0,
        uid: "Kubernetes//Pod/shop/old".into(),
        addresses: pod("", "", &["10.0.0.3"]).addresses,
        services: Default::default(),
        ..direct.clone()
    };
    let snapshot = mesh(
        vec![direct, plain, waypoint_pod("w-1", "10.0.1.1")],
        vec![
            service("shop", "open", &["10.96.0.5"], &[(80, 0)]),
            waypoint_service(),
        ],
    );
    let found = tunnel(go(&snapshot, "10.0.0.2:80"));
    assert_eq!(found.hop, Hop::WorkloadWaypoint);
    assert_eq!(
        (found.peer.to_string(), found.authority.as_str()),
        ("10.0.1.1:15008".into(), "10.0.0.2:80")
    );
    assert_eq!((found.workload, found.service), (None, None));
    assert_eq!(to(&snapshot, "10.0.0.3:80"), "hbone 10.0.1.1:15008 10.0.0.3:80");
    assert_eq!(to(&snapshot, "10.96.0.5:80"), "hbone 10.0.0.2:15008 10.0.0.2:80");
}

#[test]
fn what_comes_from_the_waypoint_goes_to_the_destination() {
    let named = [
        by_name(),
        gateway_at("", "10.96.9.9", 15008),
        gateway_at("", "10.0.1.1", 15008),
    ];
    for named in named {
        let snapshot = mesh(
            vec![
                cart(),
                guarded_pod(named.clone()),
                waypoint_pod("w-1", "10.0.1.1"),
            ],
            vec![guarded(named.clone()), waypoint_service()],
        );
        let from = |source: wire::Workload, destination| summary(&go_from(&snapshot, source, destination));
        let waypoint = waypoint_pod("w-1", "10.0.1.1");
        assert_eq!(
            from(waypoint.clone(), "10.0.0.2:80"),
            "hbone 10.0.0.2:15008 10.0.0.2:80"
        );
        assert_eq!(
            from(waypoint, "10.96.0.1:80"),
            "hbone 10.0.0.1:15008 10.0.0.1:8080",
            "no loop through itself"
        );
        // Neither its identity nor its address alone makes a waypoint.
        let same_account = wire::Workload {
            service_account: "w".into(),
            ..pod("infra", "other", &["10.0.1.7"])
        };
        let same_address = pod("web", "other", &["10.0.1.1"]);
        for source in [same_account, same_address] {
            assert_eq!(from(source, "10.0.0.2:80"), "hbone 10.0.1.1:15008 10.0.0.2:80");
        }
    }
}

#[test]
fn a_passing_service_with_a_waypoint_goes_through_it() {
    let passing = wire::Service {
        load_balancing: Some(wire::LoadBalancing {
            mode: 3,
            ..Default::default()
        }),
        ..guarded(by_name())
    };
    let snapshot = mesh(
        vec![waypoint_pod("w-1", "10.0.1.1")],
        vec![passing, waypoint_service()],
    );
    assert_eq!(
        to(&snapshot, "10.96.0.1:443"),
        "hbone 10.0.1.1:15008 10.96.0.1:443"
    );
}

#[test]
fn waypoints_of_waypoints_are_not_followed() {
    let own = wire::Service {
        waypoint: Some(by_name()),
        ..waypoint_service()
    };
    let snapshot = mesh(
        vec![cart(), waypoint_pod("w-1", "10.0.1.1")],
        vec![guarded(by_name()), own],
    );
    assert_eq!(to(&snapshot, "10.96.0.1:80"), "hbone 10.0.1.1:15008 10.96.0.1:80");
}

#[test]
fn a_waypoint_with_a_host_name_is_resolved() {
    let waypoint = wire::Workload {
        addresses: vec![],
        hostname: "w.example".into(),
        ..waypoint_pod("w-1", "10.0.1.1")
    };
    let snapshot = mesh(
        vec![cart(), waypoint],
        vec![guarded(by_name()), waypoint_service()],
    );
    assert_eq!(
        go(&snapshot, "10.96.0.1:80"),
        Route::Wait(Need::Hostname("w.example".into()))
    );
    let names = names::Known([("w.example", Ok(vec![ip("10.0.1.9")]))].into());
    let found = go_by(
        &snapshot,
        client(),
        "10.96.0.1:80",
        &Rules::default(),
        &[],
        &names,
    );
    assert_eq!(summary(&found), "hbone 10.0.1.9:15008 10.96.0.1:80");
}

/// Peers, or codes of refusals, with their turns out of 1000.
fn peers(snapshot: &Snapshot, destination: &str, tried: &[Arc<str>]) -> BTreeMap<String, u32> {
    let source = read_pod(client());
    let request = Request {
        source: &source,
        destination: destination.parse().unwrap(),
    };
    let (health, rules, now) = (EndpointHealth::new(), Rules::default(), Instant::now());
    let mut found = BTreeMap::new();
    for turn in 0..1000 {
        let entropy = u64::MAX / 1000 * turn;
        let name = match route(&request, &facts(snapshot, &health, tried, now, entropy, &rules)) {
            Route::Hbone(hbone) => hbone.peer.to_string(),
            Route::Refuse(refusal) => refusal.code().to_owned(),
            other => format!("{other:?}"),
        };
        *found.entry(name).or_default() += 1;
    }
    found
}
