use proptest::prelude::*;
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

#[test]
fn only_policies_that_select_a_workload_are_looked_at() {
    let mut snapshot = mesh(vec![], vec![]);
    let elsewhere = |number: u32| Change::Policy(policy(&format!("ns{number}"), "p", Scope::Namespace));
    let unlisted =
        |number: u32| Change::Policy(policy("shop", &format!("s{number}"), Scope::WorkloadSelector));
    snapshot.apply((0..500).map(elsewhere).chain((0..500).map(unlisted)));
    snapshot.apply([
        Change::Policy(policy("istio-system", "mesh", Scope::Global)),
        Change::Policy(policy("shop", "all", Scope::Namespace)),
    ]);
    let listed = [
        "shop/s7",
        "shop/s7",
        "istio-system/mesh",
        "shop/all",
        "ns3/p",
        "shop/gone",
    ];
    let raw = wire::Workload {
        authorization_policies: listed.map(str::to_owned).to_vec(),
        ..pod("shop", "cart", &["10.0.0.1"])
    };
    let workload = read_pod(raw);
    let keys: Vec<_> = snapshot
        .policies_selecting(&workload)
        .map(|state| state.key().to_string())
        .collect();
    assert_eq!(keys, ["istio-system/mesh", "shop/all", "ns3/p", "shop/s7"]);
    assert_eq!(
        snapshot
            .unknown_policies(&workload)
            .map(|key| &**key)
            .collect::<Vec<_>>(),
        ["shop/gone"]
    );
}

#[test]
fn a_policy_that_changes_scope_leaves_nothing_behind() {
    let mut snapshot = mesh(vec![], vec![]);
    let workload = read_pod(pod("shop", "cart", &["10.0.0.1"]));
    for scope in [
        Scope::Global,
        Scope::Namespace,
        Scope::WorkloadSelector,
        Scope::Global,
    ] {
        snapshot.apply([Change::Policy(policy("shop", "p", scope))]);
        let expected = usize::from(scope != Scope::WorkloadSelector);
        assert_eq!(
            snapshot.policies_selecting(&workload).count(),
            expected,
            "{scope:?}"
        );
        assert_eq!(snapshot.policies().count(), 1);
    }
    snapshot.apply([Change::RemovePolicy("shop/p".into())]);
    assert_eq!(
        (
            snapshot.policies_selecting(&workload).count(),
            snapshot.policies().count()
        ),
        (0, 0)
    );
}

#[test]
fn a_rejected_policy_keeps_its_last_good_version() {
    let mut snapshot = mesh(vec![], vec![]);
    snapshot.apply([Change::Policy(policy("shop", "p", Scope::Namespace))]);
    let rejected = Rejected {
        scope: Some(Scope::Global),
        ..Rejected::new("shop/p", "why")
    };
    snapshot.apply([Change::RejectedPolicy(rejected)]);
    assert_eq!(
        snapshot.policy("shop/p").map(PolicyState::scope),
        Some(Scope::Namespace)
    );
    assert!(snapshot.policy("shop/p").and_then(PolicyState::known).is_some());
    assert_eq!(
        snapshot
            .rejected_policies()
            .map(|r| r.reason.as_str())
            .collect::<Vec<_>>(),
        ["why"]
    );
    snapshot.apply([Change::Policy(policy("shop", "p", Scope::Namespace))]);
    assert_eq!(snapshot.rejected_policies().count(), 0);
}

#[test]
fn a_rejected_policy_without_older_version_closes_its_scope() {
    let table = [
        ("shop/p", Some(Scope::WorkloadSelector), Scope::WorkloadSelector),
        ("shop/p", None, Scope::Namespace),
        ("istio-system/p", None, Scope::Global),
        (
            "istio-system/p",
            Some(Scope::WorkloadSelector),
            Scope::WorkloadSelector,
        ),
        ("nonsense", None, Scope::Global),
        ("", None, Scope::Global),
    ];
    for (name, scope, expected) in table {
        let mut snapshot = mesh(vec![], vec![]);
        snapshot.apply([Change::RejectedPolicy(Rejected {
            scope,
            ..Rejected::new(name, "why")
        })]);
        let state = snapshot.policy(name).unwrap();
        assert!(matches!(state, PolicyState::Closed(_)));
        assert_eq!(state.scope(), expected, "{name} {scope:?}");
        assert_eq!(
            (snapshot.policies().count(), snapshot.rejected_policies().count()),
            (0, 1)
        );
        snapshot.apply([Change::RemovePolicy(name.into())]);
        assert_eq!(
            (snapshot.policy(name), snapshot.rejected_policies().count()),
            (None, 0)
        );
    }
    let mut snapshot = Snapshot::with_root_namespace("mesh-root");
    snapshot.apply([
        Change::RejectedPolicy(Rejected::new("mesh-root/p", "why")),
        Change::RejectedPolicy(Rejected::new("istio-system/p", "why")),
    ]);
    assert_eq!(
        snapshot.policy("mesh-root/p").map(PolicyState::scope),
        Some(Scope::Global)
    );
    assert_eq!(
        snapshot.policy("istio-system/p").map(PolicyState::scope),
        Some(Scope::Namespace)
    );
    // A later rejection counts with what can be read of it now.
    let readable = Rejected {
        scope: Some(Scope::WorkloadSelector),
        ..Rejected::new("mesh-root/p", "again")
    };
    snapshot.apply([Change::RejectedPolicy(readable)]);
    assert_eq!(
        snapshot.policy("mesh-root/p").map(PolicyState::scope),
        Some(Scope::WorkloadSelector)
    );
}

/// Everything that can be asked, as text.
fn observed(snapshot: &Snapshot) -> Vec<String> {
    let mut seen = Vec::new();
    let names = |workloads: &mut dyn Iterator<Item = &Arc<Workload>>| {
        workloads
            .map(|workload| format!("{workload:?}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    seen.push(names(&mut snapshot.workloads()));
    seen.push(format!("{:?}", snapshot.services().collect::<Vec<_>>()));
    seen.push(format!("{:?}", snapshot.policies().collect::<Vec<_>>()));
    for node in ["node-a", "node-b"] {
        seen.push(names(&mut snapshot.local_pods(node)));
        seen.push(format!(
            "{:?}",
            snapshot.local_workload(node, "ns0", "w0", "default")
        ));
    }
    for number in 0..4 {
        let address = at(&format!("10.0.0.{number}"));
        seen.push(format!("{:?}", snapshot.workload_by_address(&address)));
        for from in ["ns0", "ns1", "ns2"] {
            seen.push(format!("{:?}", snapshot.service_by_vip(&address, from)));
            seen.push(format!("{:?}", snapshot.service_by_prefix(&address, from)));
        }
        seen.push(names(&mut snapshot.endpoints(&format!("ns0/s{number}.ns0.svc"))));
        seen.push(format!(
            "{:?}",
            snapshot
                .services_by_hostname(&format!("s{number}.ns0.svc"))
                .collect::<Vec<_>>()
        ));
    }
    for namespace in ["ns0", "ns1"] {
        let workload = read_pod(pod(namespace, "any", &[]));
        seen.push(format!(
            "{:?}",
            snapshot.policies_selecting(&workload).collect::<Vec<_>>()
        ));
    }
    seen
}

fn any_workload() -> impl Strategy<Value = Change> {
    let fields = (
        0..4,
        0..2,
        prop::collection::vec(0..4, 0..3),
        0..2,
        prop::collection::vec(0..4, 0..3),
        0..2,
    );
    fields.prop_map(|(name, tunnel, ips, node, services, mode)| {
        let ips: Vec<_> = ips.iter().map(|last: &i32| format!("10.0.0.{last}")).collect();
        let ips: Vec<_> = ips.iter().map(String::as_str).collect();
        let mut raw = pod("ns0", &format!("w{name}"), &ips);
        raw.tunnel_protocol = tunnel;
        raw.network_mode = mode;
        raw.node = if node == 0 { "node-a" } else { "node-b" }.to_owned();
        for service in services {
            raw = serving(raw, &format!("ns0/s{service}.ns0.svc"), &[]);
        }
        Change::Workload(read_pod(raw))
    })
}

fn any_service() -> impl Strategy<Value = Change> {
    let vips = [
        "10.0.0.0",
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.0/31",
        "10.0.0.0/30",
        "10.0.0.2/31",
    ];
    let fields = (
        0..2,
        0..4,
        prop::sample::subsequence(vips.to_vec(), 0..4),
        any::<bool>(),
        0..2,
    );
    fields.prop_map(|(namespace, name, vips, canonical, visibility)| {
        let mut raw = service(&format!("ns{namespace}"), &format!("s{name}"), &vips, &[]);
        (raw.canonical, raw.visibility) = (canonical, visibility);
        Change::Service(read_service(raw))
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    let scopes = prop::sample::select(vec![Scope::Global, Scope::Namespace, Scope::WorkloadSelector]);
    let any_policy = (0..2, 0..3, scopes).prop_map(|(namespace, name, scope)| {
        Change::Policy(policy(&format!("ns{namespace}"), &format!("p{name}"), scope))
    });
    prop_oneof![
        4 => any_workload(),
        4 => any_service(),
        2 => any_policy,
        1 => (0..4).prop_map(|name| Change::RemoveAddress(format!("Kubernetes//Pod/ns0/w{name}"))),
        1 => (0..2, 0..4).prop_map(|(ns, name)| Change::RemoveAddress(format!("ns{ns}/s{name}.ns{ns}.svc"))),
        1 => (0..2, 0..3).prop_map(|(ns, name)| Change::RemovePolicy(format!("ns{ns}/p{name}"))),
    ]
}

proptest! {
    /// A snapshot that lived through changes answers like one built of what is left, in the opposite order.
    #[test]
    fn changed_step_by_step_equals_rebuilt(changes in prop::collection::vec(any_change(), 0..40)) {
        let mut lived = Snapshot::new();
        for change in changes {
            let before = lived.clone();
            let seen = observed(&before);
            lived.apply([change]);
            prop_assert_eq!(seen, observed(&before), "a clone changed");
        }
        let mut left: Vec<_> = lived.workloads().map(|w| Change::Workload(Workload::clone(w))).collect();
        left.extend(lived.services().map(|service| Change::Service(Service::clone(service))));
        left.extend(lived.policies().map(|policy| Change::Policy(Policy::clone(policy))));
        left.reverse();
        let mut rebuilt = Snapshot::new();
        rebuilt.apply(left);
        prop_assert_eq!(observed(&lived), observed(&rebuilt));
    }
}
