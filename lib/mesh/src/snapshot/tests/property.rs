use proptest::prelude::*;

use super::*;

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
