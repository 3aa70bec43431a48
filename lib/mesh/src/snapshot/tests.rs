mod policies;
mod property;

use proto::workload as wire;

use super::*;
use crate::policy::{Action, Scope};
use crate::testing::{ip, mesh, pod, read_pod, read_service, service, serving};

fn at(text: &str) -> NetworkAddress {
    NetworkAddress::new("", ip(text))
}

fn uid_at(snapshot: &Snapshot, address: &str) -> Option<String> {
    snapshot
        .workload_by_address(&at(address))
        .map(|workload| workload.uid.to_string())
}

fn key_at(snapshot: &Snapshot, address: &str, from: &str) -> Option<String> {
    snapshot
        .service_by_address(&at(address), from)
        .map(|service| service.key().to_string())
}

fn policy(namespace: &str, name: &str, scope: Scope) -> Policy {
    Policy::new(namespace, name, scope, Action::Deny, Vec::new())
}

#[test]
fn a_clone_keeps_its_revision() {
    let mut snapshot = mesh(vec![pod("shop", "cart", &["10.0.0.1"])], vec![]);
    let before = snapshot.clone();
    snapshot.apply([Change::RemoveAddress("Kubernetes//Pod/shop/cart".into())]);
    assert_eq!((before.revision(), snapshot.revision()), (1, 2));
    assert!(before.workload("Kubernetes//Pod/shop/cart").is_some());
    assert_eq!(snapshot.workload("Kubernetes//Pod/shop/cart"), None);
    assert_eq!(
        (
            uid_at(&before, "10.0.0.1").is_some(),
            uid_at(&snapshot, "10.0.0.1")
        ),
        (true, None)
    );
}

#[test]
fn endpoints_may_arrive_before_their_service() {
    let mut snapshot = mesh(
        vec![serving(
            pod("shop", "cart", &["10.0.0.1"]),
            "shop/cart.shop.svc",
            &[],
        )],
        vec![],
    );
    assert_eq!(snapshot.service("shop/cart.shop.svc"), None);
    assert_eq!(snapshot.endpoints("shop/cart.shop.svc").count(), 1);
    snapshot.apply([Change::Service(read_service(service(
        "shop",
        "cart",
        &["10.96.0.1"],
        &[],
    )))]);
    assert_eq!(
        key_at(&snapshot, "10.96.0.1", "shop").as_deref(),
        Some("shop/cart.shop.svc")
    );
    // The service goes and comes back; its endpoints stay known.
    snapshot.apply([Change::RemoveAddress("shop/cart.shop.svc".into())]);
    assert_eq!(
        (
            key_at(&snapshot, "10.96.0.1", "shop"),
            snapshot.services_by_hostname("cart.shop.svc").count()
        ),
        (None, 0)
    );
    assert_eq!(snapshot.endpoints("shop/cart.shop.svc").count(), 1);
}

#[test]
fn a_recreated_pod_leaves_nothing_of_the_old_one() {
    let old = serving(
        pod("shop", "cart-0", &["10.0.0.1", "fd00::1"]),
        "shop/a.shop.svc",
        &[],
    );
    let mut snapshot = mesh(vec![old], vec![]);
    let new = serving(pod("shop", "cart-0", &["10.0.0.2"]), "shop/b.shop.svc", &[]);
    snapshot.apply([Change::Workload(read_pod(wire::Workload {
        node: "node-b".into(),
        ..new
    }))]);
    assert_eq!(
        (uid_at(&snapshot, "10.0.0.1"), uid_at(&snapshot, "fd00::1")),
        (None, None)
    );
    assert!(uid_at(&snapshot, "10.0.0.2").is_some());
    assert_eq!(snapshot.endpoints("shop/a.shop.svc").count(), 0);
    assert_eq!(snapshot.endpoints("shop/b.shop.svc").count(), 1);
    assert_eq!(
        (
            snapshot.local_pods("node-a").count(),
            snapshot.local_pods("node-b").count()
        ),
        (0, 1)
    );
    assert_eq!(snapshot.workloads().count(), 1);
}

#[test]
fn a_shared_address_means_the_pod_in_the_mesh() {
    let entry = wire::Workload {
        uid: "Kubernetes/networking.istio.io/WorkloadEntry/shop/a".into(),
        ..pod("shop", "a", &["10.0.0.1"])
    };
    let plain = wire::Workload {
        tunnel_protocol: 0,
        ..pod("shop", "b", &["10.0.0.1"])
    };
    let unready = wire::Workload {
        status: 1,
        ..pod("shop", "c", &["10.0.0.1"])
    };
    let ready = pod("shop", "d", &["10.0.0.1"]);
    let host = wire::Workload {
        network_mode: 1,
        ..pod("shop", "0", &["10.0.0.1"])
    };
    // Whatever the order of arrival, the best is found, and the next best once it is gone.
    for turn in 0..5 {
        let mut all = vec![
            entry.clone(),
            plain.clone(),
            unready.clone(),
            ready.clone(),
            host.clone(),
        ];
        all.rotate_left(turn);
        let mut snapshot = mesh(all, vec![]);
        for best in [&ready, &unready, &plain, &entry] {
            assert_eq!(uid_at(&snapshot, "10.0.0.1").as_ref(), Some(&best.uid));
            snapshot.apply([Change::RemoveAddress(best.uid.clone())]);
        }
        assert_eq!(
            uid_at(&snapshot, "10.0.0.1"),
            None,
            "host network is never found by address"
        );
        assert!(snapshot.workload(&host.uid).is_some());
    }
}

#[test]
fn networks_are_apart() {
    let remote = wire::Workload {
        network: "n2".into(),
        ..pod("shop", "far", &["10.0.0.1"])
    };
    let snapshot = mesh(vec![remote], vec![]);
    assert_eq!(uid_at(&snapshot, "10.0.0.1"), None);
    assert!(
        snapshot
            .workload_by_address(&NetworkAddress::new("n2", ip("10.0.0.1")))
            .is_some()
    );
}

#[test]
fn the_own_workload_is_found_by_node_and_names() {
    let other_node = wire::Workload {
        node: "node-b".into(),
        ..pod("shop", "cart", &["10.0.0.2"])
    };
    let entry = wire::Workload {
        uid: "Kubernetes/networking.istio.io/WorkloadEntry/shop/x".into(),
        ..pod("shop", "x", &[])
    };
    let mut snapshot = mesh(vec![pod("shop", "cart", &["10.0.0.1"]), entry], vec![]);
    assert!(
        snapshot
            .local_workload("node-a", "shop", "cart", "default")
            .is_some()
    );
    for (node, namespace, name, account) in [
        ("node-b", "shop", "cart", "default"),
        ("node-a", "other", "cart", "default"),
        ("node-a", "shop", "cart-2", "default"),
        ("node-a", "shop", "cart", "other"),
    ] {
        assert_eq!(snapshot.local_workload(node, namespace, name, account), None);
    }
    assert_eq!(
        snapshot.local_pods("node-a").count(),
        1,
        "a WorkloadEntry is no pod"
    );
    snapshot.apply([Change::Workload(read_pod(other_node))]);
    assert_eq!(
        snapshot.local_workload("node-a", "shop", "cart", "default"),
        None,
        "it has moved"
    );
}

#[test]
fn conflicts_of_an_address_have_one_winner() {
    let named = |namespace: &str, canonical: bool, namespace_only: bool| wire::Service {
        canonical,
        visibility: namespace_only.into(),
        hostname: "db.example".into(),
        ..service(namespace, "db", &["10.96.0.9"], &[])
    };
    let services = vec![
        named("b", false, false),
        named("c", true, false),
        named("a", false, false),
        named("0", true, true),
    ];
    let mut snapshot = mesh(vec![], services);
    let find = |snapshot: &Snapshot, from: &str| {
        let by_name = snapshot
            .service_by_hostname("db.example", from)
            .map(|service| service.key().to_string());
        assert_eq!(key_at(snapshot, "10.96.0.9", from), by_name);
        by_name.unwrap()
    };
    assert_eq!(
        find(&snapshot, "b"),
        "b/db.example",
        "the callers' namespace comes first"
    );
    assert_eq!(
        find(&snapshot, "z"),
        "c/db.example",
        "then the canonical one that they see"
    );
    assert_eq!(find(&snapshot, "0"), "0/db.example");
    snapshot.apply([Change::RemoveAddress("c/db.example".into())]);
    assert_eq!(find(&snapshot, "z"), "a/db.example", "then the first");
    assert_eq!(snapshot.services_by_hostname("db.example").count(), 3);
}

#[test]
fn prefixes_come_after_exact_addresses_and_the_longest_wins() {
    let wide = service("a", "wide", &["10.0.0.0/8", "fd00::/16"], &[]);
    let narrow = service("b", "narrow", &["10.1.0.0/16"], &[]);
    let twin = wire::Service {
        canonical: true,
        ..service("c", "twin", &["10.1.0.0/16"], &[])
    };
    let exact = service("d", "exact", &["10.1.0.1"], &[]);
    let host = service("d", "host", &["10.1.0.2/32"], &[]);
    let mut snapshot = mesh(vec![], vec![wide, narrow, twin, exact, host]);
    let table = [
        ("10.9.9.9", "z", Some("a/wide.a.svc")),
        ("10.1.9.9", "z", Some("c/twin.c.svc")),
        ("10.1.9.9", "b", Some("b/narrow.b.svc")),
        ("10.1.9.9", "a", Some("a/wide.a.svc")),
        ("10.1.0.1", "a", Some("d/exact.d.svc")),
        ("10.1.0.2", "a", Some("d/host.d.svc")),
        ("fd00::1", "z", Some("a/wide.a.svc")),
        ("fe80::1", "z", None),
        ("11.0.0.1", "z", None),
    ];
    for (address, from, expected) in table {
        assert_eq!(
            key_at(&snapshot, address, from).as_deref(),
            expected,
            "{address} from {from}"
        );
    }
    for key in ["c/twin.c.svc", "b/narrow.b.svc"] {
        snapshot.apply([Change::RemoveAddress(key.into())]);
    }
    assert_eq!(
        key_at(&snapshot, "10.1.9.9", "z").as_deref(),
        Some("a/wide.a.svc")
    );
    snapshot.apply([Change::RemoveAddress("a/wide.a.svc".into())]);
    assert_eq!(key_at(&snapshot, "10.1.9.9", "z"), None);
}
