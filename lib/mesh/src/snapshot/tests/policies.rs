use super::*;

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
fn policies_listed_as_dry_runs_count_only_while_they_are() {
    let mut snapshot = mesh(vec![], vec![]);
    let dry = |name: &str, dry_run: bool| {
        let mut policy = policy("shop", name, Scope::WorkloadSelector);
        policy.dry_run = dry_run;
        Change::Policy(policy)
    };
    snapshot.apply([dry("tried", true), dry("enforced", false)]);
    let message = proto::origin::DryRunPolicies {
        policies: ["shop/tried", "shop/enforced", "shop/gone", "shop/tried"]
            .map(str::to_owned)
            .to_vec(),
    };
    let raw = wire::Workload {
        extensions: vec![wire::Extension {
            name: proto::origin::DRY_RUN_EXTENSION.to_owned(),
            config: Some(prost_types::Any {
                type_url: proto::origin::DRY_RUN_TYPE_URL.to_owned(),
                value: prost::Message::encode_to_vec(&message),
            }),
        }],
        ..pod("shop", "cart", &["10.0.0.1"])
    };
    let workload = read_pod(raw);
    let keys = |snapshot: &Snapshot| {
        snapshot
            .policies_selecting(&workload)
            .map(|state| state.key().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&snapshot), ["shop/tried"]);
    // One that nobody has sent closes nothing: it would not be enforced anyway.
    assert_eq!(snapshot.unknown_policies(&workload).count(), 0);
    snapshot.apply([dry("tried", false), dry("enforced", true)]);
    assert_eq!(keys(&snapshot), ["shop/enforced"]);
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
