mod balance;
mod names;
mod networks;
mod on_demand;
mod oracle;
mod waypoints;

use std::time::Instant;

use proto::workload as wire;

use super::*;
use crate::address::IpPrefix;
use crate::change::Change;
use crate::health::EndpointHealth;
use crate::service::ServiceAddress;
use crate::snapshot::Snapshot;
use crate::testing::{gateway, identity, mesh, pod, read_pod, service, serving};

/// Routes a connection of pod `web/client` (10.0.0.9, node-a).
fn go(snapshot: &Snapshot, destination: &str) -> Route {
    go_from(snapshot, client(), destination)
}

fn go_from(snapshot: &Snapshot, source: wire::Workload, destination: &str) -> Route {
    go_by(
        snapshot,
        source,
        destination,
        &Rules::default(),
        &[],
        &NothingResolved,
    )
}

fn go_by(
    snapshot: &Snapshot,
    source: wire::Workload,
    destination: &str,
    rules: &Rules,
    asked: &[Need],
    names: &dyn Names,
) -> Route {
    let source = read_pod(source);
    let request = Request {
        source: &source,
        destination: destination.parse().unwrap(),
    };
    let health = EndpointHealth::new();
    let facts = Facts {
        asked,
        names,
        ..facts(snapshot, &health, &[], Instant::now(), 0, rules)
    };
    route(&request, &facts)
}

/// Pod `web/client`.
fn client() -> wire::Workload {
    pod("web", "client", &["10.0.0.9", "fd00::9"])
}

fn facts<'a>(
    snapshot: &'a Snapshot,
    health: &'a EndpointHealth,
    tried: &'a [Arc<str>],
    now: Instant,
    entropy: u64,
    rules: &'a Rules,
) -> Facts<'a> {
    Facts {
        snapshot,
        health,
        tried,
        asked: &[],
        now,
        entropy,
        names: &NothingResolved,
        rules,
    }
}

/// `authority` of a tunnel, or what else became of it.
fn summary(route: &Route) -> String {
    match route {
        Route::Hbone(hbone) => format!("hbone {} {}", hbone.peer, hbone.authority),
        Route::Passthrough { destination, why, .. } => format!("tcp {destination} {}", why.code()),
        Route::Wait(need) => format!("wait {need:?}"),
        Route::Refuse(refusal) => format!("refuse {}", refusal.code()),
    }
}

fn tunnel(route: Route) -> HboneRoute {
    match route {
        Route::Hbone(hbone) => *hbone,
        other => panic!("{other:?}"),
    }
}

fn to(snapshot: &Snapshot, destination: &str) -> String {
    summary(&go(snapshot, destination))
}

#[test]
fn what_the_mesh_does_not_know_passes() {
    let snapshot = mesh(vec![pod("shop", "cart", &["10.0.0.1"])], vec![]);
    assert_eq!(
        to(&snapshot, "93.184.216.34:443"),
        "tcp 93.184.216.34:443 unknown_destination"
    );
    assert_eq!(
        to(&snapshot, "[::ffff:93.184.216.34]:443"),
        "tcp 93.184.216.34:443 unknown_destination"
    );
    assert_eq!(
        to(&snapshot, "[2001:db8::1]:443"),
        "tcp [2001:db8::1]:443 unknown_destination"
    );
}

#[test]
fn what_was_not_understood_is_never_sent_in_plaintext() {
    let rejected = Rejected {
        addresses: vec![block("10.0.0.1", 32)],
        ..Rejected::new("Kubernetes//Pod/shop/cart", "unknown tunnel protocol 99")
    };
    let mut snapshot = mesh(vec![], vec![]);
    snapshot.apply([Change::RejectedAddress(rejected.clone())]);
    assert_eq!(to(&snapshot, "10.0.0.1:80"), "refuse destination_not_understood");
    assert_eq!(
        to(&snapshot, "10.0.0.2:80"),
        "tcp 10.0.0.2:80 unknown_destination"
    );

    let mut removed = snapshot.clone();
    removed.apply([Change::RemoveAddress("Kubernetes//Pod/shop/cart".into())]);
    assert_eq!(to(&removed, "10.0.0.1:80"), "tcp 10.0.0.1:80 unknown_destination");

    let mut good = mesh(vec![pod("shop", "cart", &["10.0.0.1"])], vec![]);
    let before = to(&good, "10.0.0.1:80");
    let uid = good.workloads().next().unwrap().uid.to_string();
    good.apply([Change::RejectedAddress(Rejected {
        name: uid,
        ..rejected
    })]);
    assert_eq!(to(&good, "10.0.0.1:80"), before, "the last good version stays");
}

#[test]
fn the_proxy_is_not_called_by_its_application() {
    let snapshot = mesh(vec![], vec![]);
    for port in OWN_PORTS {
        for loopback in ["127.0.0.1", "127.8.8.8", "[::1]", "[::ffff:127.0.0.1]"] {
            assert_eq!(to(&snapshot, &format!("{loopback}:{port}")), "refuse self_call");
        }
        let elsewhere = format!("10.0.0.1:{port}");
        assert_eq!(
            to(&snapshot, &elsewhere),
            format!("tcp {elsewhere} unknown_destination")
        );
    }
    assert_eq!(
        to(&snapshot, "127.0.0.1:8080"),
        "tcp 127.0.0.1:8080 unknown_destination"
    );
}

#[test]
fn a_workload_in_the_mesh_is_reached_by_its_tunnel() {
    let raw = wire::Workload {
        service_account: "sa".into(),
        ..pod("shop", "cart", &["10.0.0.1", "fd00::1"])
    };
    let snapshot = mesh(vec![raw], vec![]);
    let HboneRoute {
        peer,
        authority,
        accepted,
        next: workload,
        service,
        destination,
        ..
    } = tunnel(go(&snapshot, "10.0.0.1:8080"));
    assert_eq!(
        (peer.to_string(), authority.as_str()),
        ("10.0.0.1:15008".to_owned(), "10.0.0.1:8080")
    );
    assert_eq!(accepted, [identity("spiffe://cluster.local/ns/shop/sa/sa")]);
    assert_eq!(
        (&*workload.name, service, destination.to_string()),
        ("cart", None, "10.0.0.1:8080".to_owned())
    );
    assert_eq!(
        to(&snapshot, "[fd00::1]:80"),
        "hbone [fd00::1]:15008 [fd00::1]:80"
    );
    assert_eq!(
        to(&snapshot, "[::ffff:10.0.0.1]:80"),
        "hbone 10.0.0.1:15008 10.0.0.1:80"
    );
}

#[test]
fn a_workload_outside_the_mesh_is_reached_plainly() {
    let plain = wire::Workload {
        tunnel_protocol: 0,
        ..pod("shop", "old", &["10.0.0.1"])
    };
    let snapshot = mesh(vec![plain], vec![]);
    let Route::Passthrough {
        destination,
        workload: Some(workload),
        why,
        ..
    } = go(&snapshot, "10.0.0.1:80")
    else {
        panic!()
    };
    assert_eq!(
        (destination.to_string(), &*workload.name),
        ("10.0.0.1:80".to_owned(), "old")
    );
    assert_eq!(why, PassthroughReason::NotInMesh);
}

#[test]
fn exact_service_then_workload_then_prefix() {
    let cart = serving(pod("shop", "cart", &["10.0.0.1"]), "shop/wide.shop.svc", &[]);
    let services = vec![
        service("shop", "exact", &["10.0.0.2"], &[(80, 0)]),
        service("shop", "wide", &["10.0.0.0/24"], &[(80, 8080)]),
    ];
    let hidden = serving(
        pod("shop", "hidden", &["10.0.0.2"]),
        "shop/exact.shop.svc",
        &[(80, 8081)],
    );
    let snapshot = mesh(vec![cart, hidden], services);
    assert_eq!(to(&snapshot, "10.0.0.2:80"), "hbone 10.0.0.2:15008 10.0.0.2:8081");
    assert_eq!(
        to(&snapshot, "10.0.0.1:80"),
        "hbone 10.0.0.1:15008 10.0.0.1:80",
        "by its own address: no mapping"
    );
    assert_eq!(
        to(&snapshot, "10.0.0.77:80"),
        "hbone 10.0.0.1:15008 10.0.0.1:8080"
    );
    assert_eq!(
        to(&snapshot, "10.0.1.77:80"),
        "tcp 10.0.1.77:80 unknown_destination"
    );
}

#[test]
fn a_service_accepts_its_endpoint_and_whom_it_names() {
    let mut raw = service("shop", "cart", &["10.96.0.1"], &[(80, 8080)]);
    raw.subject_alt_names = vec![
        "spiffe://td/ns/a/sa/z".into(),
        "spiffe://cluster.local/ns/shop/sa/default".into(),
        "nonsense".into(),
    ];
    let endpoint = serving(pod("shop", "cart", &["10.0.0.1"]), "shop/cart.shop.svc", &[]);
    let snapshot = mesh(vec![endpoint], vec![raw]);
    let HboneRoute {
        accepted,
        service: Some(service),
        ..
    } = tunnel(go(&snapshot, "10.96.0.1:80"))
    else {
        panic!()
    };
    assert_eq!(&**service.key(), "shop/cart.shop.svc");
    let expected = [
        "spiffe://cluster.local/ns/shop/sa/default",
        "spiffe://td/ns/a/sa/z",
    ];
    assert_eq!(accepted, expected.map(identity));
}

#[test]
fn a_service_is_seen_from_its_namespace_only_if_it_says_so() {
    let raw = wire::Service {
        visibility: 1,
        ..service("shop", "cart", &["10.96.0.1"], &[(80, 0)])
    };
    let endpoint = serving(pod("shop", "cart", &["10.0.0.1"]), "shop/cart.shop.svc", &[]);
    let snapshot = mesh(vec![endpoint], vec![raw]);
    assert_eq!(
        to(&snapshot, "10.96.0.1:80"),
        "tcp 10.96.0.1:80 unknown_destination"
    );
    let inside = go_from(&snapshot, pod("shop", "client", &["10.0.0.9"]), "10.96.0.1:80");
    assert_eq!(summary(&inside), "hbone 10.0.0.1:15008 10.0.0.1:80");
}

#[test]
fn a_pod_may_be_balanced_to_itself() {
    let own = serving(pod("web", "client", &["10.0.0.9"]), "web/client.web.svc", &[]);
    let snapshot = mesh(
        vec![own.clone()],
        vec![service("web", "client", &["10.96.0.1"], &[(80, 8080)])],
    );
    assert_eq!(
        summary(&go_from(&snapshot, own, "10.96.0.1:80")),
        "hbone 10.0.0.9:15008 10.0.0.9:8080"
    );
}

#[test]
fn tunnels_that_pods_make_themselves_are_not_wrapped() {
    let native = wire::Workload {
        native_tunnel: true,
        ..pod("shop", "waypoint", &["10.0.0.1"])
    };
    let guarded = wire::Workload {
        waypoint: Some(gateway("shop", "w")),
        ..pod("shop", "cart", &["10.0.0.2"])
    };
    let snapshot = mesh(vec![native.clone(), guarded], vec![]);
    assert_eq!(
        to(&snapshot, "10.0.0.1:15008"),
        "tcp 10.0.0.1:15008 already_tunnelled"
    );
    assert_eq!(
        to(&snapshot, "10.0.0.1:80"),
        "hbone 10.0.0.1:15008 10.0.0.1:80",
        "it takes tunnels, not plaintext"
    );
    assert_eq!(to(&snapshot, "10.0.0.2:15008"), "refuse waypoint_unknown");
    let from_native = go_from(&snapshot, native, "10.0.0.2:15008");
    assert_eq!(summary(&from_native), "tcp 10.0.0.2:15008 already_tunnelled");
}

#[test]
fn passthrough_services_leave_connections_where_they_went() {
    let mut raw = service("shop", "ext", &["240.0.0.1", "10.0.0.0/24"], &[(443, 0)]);
    raw.load_balancing = Some(wire::LoadBalancing {
        mode: 3,
        ..Default::default()
    });
    let endpoint = serving(pod("shop", "cart", &["10.0.9.9"]), "shop/ext.shop.svc", &[]);
    let mut snapshot = mesh(vec![endpoint], vec![raw]);
    let Route::Passthrough {
        service: Some(service),
        why,
        ..
    } = go(&snapshot, "240.0.0.1:443")
    else {
        panic!()
    };
    assert_eq!(
        (&**service.key(), why),
        ("shop/ext.shop.svc", PassthroughReason::PassthroughService)
    );
    assert_eq!(
        to(&snapshot, "240.0.0.1:444"),
        "tcp 240.0.0.1:444 passthrough_service"
    );
    // If the address is a workload's, plaintext would go around its tunnel.
    snapshot.apply([Change::Workload(read_pod(pod("shop", "db", &["240.0.0.1"])))]);
    let HboneRoute {
        service, destination, ..
    } = tunnel(go(&snapshot, "240.0.0.1:443"));
    assert_eq!(
        (service.is_some(), destination.to_string()),
        (true, "240.0.0.1:443".to_owned())
    );
}

#[test]
fn other_networks_are_other_addresses() {
    let near = pod("shop", "near", &["10.0.0.1"]);
    let snapshot = mesh(vec![near], vec![]);
    let far = wire::Workload {
        network: "n2".into(),
        ..pod("web", "far", &["10.0.0.9"])
    };
    assert_eq!(
        summary(&go_from(&snapshot, far, "10.0.0.1:80")),
        "tcp 10.0.0.1:80 unknown_destination"
    );
}

#[test]
fn only_what_the_mesh_knows_is_reached_where_that_is_the_rule() {
    let plain = wire::Workload {
        tunnel_protocol: 0,
        ..pod("shop", "old", &["10.0.0.2"])
    };
    let snapshot = mesh(vec![pod("shop", "cart", &["10.0.0.1"]), plain], vec![]);
    let rules = Rules {
        outbound_policy: OutboundPolicy::RegistryOnly,
        ..Rules::default()
    };
    let found = |destination| {
        summary(&go_by(
            &snapshot,
            client(),
            destination,
            &rules,
            &[],
            &NothingResolved,
        ))
    };
    assert_eq!(found("93.184.216.34:443"), "refuse not_in_registry");
    assert_eq!(found("10.0.0.1:80"), "hbone 10.0.0.1:15008 10.0.0.1:80");
    assert_eq!(found("10.0.0.2:80"), "tcp 10.0.0.2:80 not_in_mesh");
    assert_eq!(
        found("127.0.0.1:8080"),
        "tcp 127.0.0.1:8080 unknown_destination",
        "the pod itself is not outside"
    );
}

#[test]
fn of_services_of_other_namespaces_the_preferred_one_is_meant() {
    let endpoint = |namespace: &str, ip: &str| {
        serving(
            pod(namespace, "p", &[ip]),
            &format!("{namespace}/s.{namespace}.svc"),
            &[],
        )
    };
    let of = |namespace: &str| service(namespace, "s", &["10.96.0.1", "10.97.0.0/16"], &[(80, 0)]);
    let pods = vec![
        endpoint("a", "10.0.0.1"),
        endpoint("b", "10.0.0.2"),
        endpoint("c", "10.0.0.3"),
    ];
    let rules = Rules {
        preferred_service_namespace: Some("b".into()),
        ..Rules::default()
    };
    for destination in ["10.96.0.1:80", "10.97.0.1:80"] {
        let found = |snapshot: &Snapshot, from: &str| {
            let from = pod(from, "client", &["10.0.0.9"]);
            summary(&go_by(snapshot, from, destination, &rules, &[], &NothingResolved))
        };
        let snapshot = mesh(pods.clone(), vec![of("a"), of("b"), of("c")]);
        assert_eq!(found(&snapshot, "web"), "hbone 10.0.0.2:15008 10.0.0.2:80");
        assert_eq!(found(&snapshot, "c"), "hbone 10.0.0.3:15008 10.0.0.3:80");
        let canonical = wire::Service {
            canonical: true,
            ..of("c")
        };
        let snapshot = mesh(pods.clone(), vec![of("a"), of("b"), canonical]);
        assert_eq!(found(&snapshot, "web"), "hbone 10.0.0.3:15008 10.0.0.3:80");
        assert_eq!(found(&snapshot, "a"), "hbone 10.0.0.1:15008 10.0.0.1:80");
    }
}

#[test]
fn an_address_that_was_not_understood_is_not_taken_by_a_prefix() {
    let rejected = Rejected {
        addresses: vec![block("10.0.0.7", 32)],
        ..Rejected::new("Kubernetes//Pod/shop/cart", "unknown tunnel protocol 99")
    };
    let endpoint = serving(pod("shop", "p", &["10.1.0.1"]), "shop/wide.shop.svc", &[]);
    let mut snapshot = mesh(
        vec![endpoint],
        vec![service("shop", "wide", &["10.0.0.0/24"], &[(80, 0)])],
    );
    snapshot.apply([Change::RejectedAddress(rejected)]);
    assert_eq!(to(&snapshot, "10.0.0.7:80"), "refuse destination_not_understood");
    assert_eq!(to(&snapshot, "10.0.0.8:80"), "hbone 10.1.0.1:15008 10.1.0.1:80");
}

fn block(ip: &str, length: u32) -> ServiceAddress {
    ServiceAddress {
        network: "".into(),
        prefix: IpPrefix::new(ip.parse().unwrap(), length).unwrap(),
    }
}

#[test]
fn a_block_that_was_not_understood_is_not_sent_to_in_plaintext() {
    let rejected = Rejected {
        addresses: vec![block("10.0.0.0", 16)],
        ..Rejected::new("shop/partner.example", "unknown visibility 7")
    };
    let endpoint = serving(pod("shop", "p", &["10.1.0.1"]), "shop/wide.shop.svc", &[]);
    let endpoint = serving(endpoint, "shop/near.shop.svc", &[]);
    let services = vec![
        service("shop", "wide", &["10.0.0.0/8"], &[(80, 0)]),
        service("shop", "near", &["10.0.3.0/24"], &[(80, 0)]),
    ];
    let mut snapshot = mesh(vec![endpoint], services);
    snapshot.apply([Change::RejectedAddress(rejected.clone())]);
    let refused = "refuse destination_not_understood";
    let tunnelled = "hbone 10.1.0.1:15008 10.1.0.1:80";
    assert_eq!(to(&snapshot, "10.0.0.7:80"), refused, "the known block is wider");
    assert_eq!(
        to(&snapshot, "10.0.3.7:80"),
        tunnelled,
        "the known block is nearer"
    );
    assert_eq!(to(&snapshot, "10.2.0.7:80"), tunnelled);
    let mut snapshot = mesh(vec![], vec![]);
    snapshot.apply([Change::RejectedAddress(rejected)]);
    assert_eq!(to(&snapshot, "10.0.0.7:80"), refused);
    assert_eq!(
        to(&snapshot, "10.1.0.7:80"),
        "tcp 10.1.0.7:80 unknown_destination"
    );
    snapshot.apply([Change::RemoveAddress("shop/partner.example".into())]);
    assert_eq!(
        to(&snapshot, "10.0.0.7:80"),
        "tcp 10.0.0.7:80 unknown_destination"
    );
}

#[test]
fn every_refusal_has_its_own_code_and_names_its_subject() {
    let service: Arc<str> = "shop/cart".into();
    let no_way = |through, obstacle| Refusal::NoWay {
        target: service.clone(),
        through,
        name: "a/w".into(),
        obstacle,
    };
    let all = [
        Refusal::NoSuchPort {
            service: service.clone(),
            port: 81,
        },
        Refusal::NoEndpoint {
            service: service.clone(),
            shortage: Shortage::default(),
        },
        Refusal::NotUnderstood {
            target: service.clone(),
            reason: "x".into(),
        },
        Refusal::NoRemoteIdentity {
            service: service.clone(),
            network: "n2".into(),
        },
        no_way(Through::Waypoint, Obstacle::Unknown),
        no_way(Through::Waypoint, Obstacle::Tried),
        no_way(Through::Waypoint, Obstacle::OtherNetwork),
        no_way(Through::Gateway, Obstacle::Unknown),
        no_way(Through::Gateway, Obstacle::NoEndpoint(Shortage::default())),
        no_way(Through::Gateway, Obstacle::OtherNetwork),
    ];
    let codes: std::collections::BTreeSet<_> = all.iter().map(Refusal::code).collect();
    assert_eq!(codes.len(), all.len());
    for refusal in &all {
        assert!(refusal.to_string().contains("shop/cart"), "{refusal}");
    }
    let destination = "127.0.0.1:15001".parse().unwrap();
    for refusal in [
        Refusal::SelfCall { destination },
        Refusal::NotInRegistry { destination },
    ] {
        assert!(refusal.to_string().contains("127.0.0.1:15001"), "{refusal}");
    }
}
