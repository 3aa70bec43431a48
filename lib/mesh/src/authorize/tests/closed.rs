use super::*;

#[test]
fn an_unknown_policy_refuses() {
    let snapshot = synced(&[]);
    let converted = "shop/converted_peer_authentication_cart";
    // Listed; whether callers with identity and without pass.
    let table: [(&[&str], bool, bool); 6] = [
        (&[], true, true),
        (&["shop/gone"], false, false),
        (&[STRICT], true, false),
        (&[converted], true, false),
        (&[STRICT, "shop/gone"], false, false),
        (&["shop/my-converted_peer_authentication_x"], false, false),
    ];
    for (listed, with_identity, without) in table {
        let passes = |peer| ask(&snapshot, listed, peer).is_allowed();
        assert_eq!(
            (passes(Some(CLIENT)), passes(None)),
            (with_identity, without),
            "{listed:?}"
        );
    }
    let decision = ask(&snapshot, &["shop/gone"], Some(CLIENT));
    assert_eq!(decision.reason.code(), "policy_unknown");
    assert!(decision.reason.to_string().contains("shop/gone"));
    let decision = ask(&snapshot, &[STRICT], None);
    assert!(
        decision
            .reason
            .to_string()
            .starts_with("PeerAuthentication requires mTLS"),
        "{}",
        decision.reason
    );
}

#[test]
fn a_rejected_policy_closes_by_name() {
    let mut broken = policy("shop/p", Scope::Namespace, Action::Allow, vec![]);
    broken.action = 7;
    let mut snapshot = synced(&[broken.clone()]);
    let decision = ask(&snapshot, &[], Some(CLIENT));
    assert_eq!(
        (decision.verdict, decision.reason.code()),
        (Verdict::Deny, "policy_not_understood")
    );
    assert!(decision.dry_run.is_empty());
    let sentence = decision.reason.to_string();
    assert!(
        sentence.contains("shop/p") && sentence.contains("action 7"),
        "{sentence}"
    );
    // A policy that selects by list closes those who list it, and a good version opens again.
    broken.scope = Scope::WorkloadSelector as i32;
    snapshot.apply([change(&broken)]);
    assert!(ask(&snapshot, &[], None).is_allowed());
    assert!(!ask(&snapshot, &["shop/p"], Some(CLIENT)).is_allowed());
    snapshot.apply([change(&policy(
        "shop/p",
        Scope::WorkloadSelector,
        Action::Allow,
        vec![rule(&[])],
    ))]);
    assert!(ask(&snapshot, &["shop/p"], None).is_allowed());
    // From now on there is a last good version: it decides.
    snapshot.apply([change(&broken)]);
    assert_eq!(
        ask(&snapshot, &["shop/p"], None).reason.code(),
        "allowed_by_policy"
    );
    snapshot.apply([Change::RemovePolicy("shop/p".into())]);
    assert_eq!(ask(&snapshot, &["shop/p"], None).reason.code(), "policy_unknown");
}

#[test]
fn a_rejected_policy_of_the_root_namespace_closes_the_mesh() {
    let mut snapshot = synced(&[]);
    snapshot.apply([Change::RejectedPolicy(Rejected::new("other/p", "why"))]);
    assert!(ask(&snapshot, &[], None).is_allowed());
    snapshot.apply([Change::RejectedPolicy(Rejected::new("istio-system/p", "why"))]);
    assert!(!ask(&snapshot, &[], Some(CLIENT)).is_allowed());
}

#[test]
fn dry_run_decides_nothing_and_is_recorded() {
    let mut refusing = policy("shop/try", Scope::Namespace, Action::Deny, vec![rule(&[])]);
    refusing.dry_run = true;
    let decision = ask(&synced(&[refusing.clone()]), &[], Some(CLIENT));
    assert!(decision.is_allowed());
    let expected = DryRun {
        policy: named("shop/try"),
        rule: Some(0),
        verdict: Verdict::Deny,
        not_understood: None,
    };
    assert_eq!(
        decision.dry_run[0].to_string(),
        "shop/try would deny; its rule 0 matches"
    );
    assert_eq!(decision.dry_run, [expected]);
    // Not understood, but certainly a dry run: it closes nothing and is recorded all the same.
    refusing.action = 5;
    let decision = ask(&synced(&[refusing]), &[], Some(CLIENT));
    assert!(decision.is_allowed());
    assert!(decision.dry_run[0].not_understood.is_some());
    assert_eq!(decision.dry_run[0].verdict, Verdict::Deny);
}
