mod oracle;

use prost::Message;
use proto::security as message;
use proto::security::string_match::MatchType;

use super::*;
use crate::change::Change;
use crate::policy::Scope;
use crate::rejected::Rejected;
use crate::testing::{identity, ip, pod, read_pod};

const STRICT: &str = "istio-system/istio_converted_static_strict";
const CLIENT: &str = "spiffe://cluster.local/ns/web/sa/client";

/// What a policy may say of a connection.
fn text(match_type: MatchType) -> message::StringMatch {
    message::StringMatch {
        match_type: Some(match_type),
    }
}

fn exact(value: &str) -> message::StringMatch {
    text(MatchType::Exact(value.to_owned()))
}

fn presence() -> message::StringMatch {
    text(MatchType::Presence(()))
}

fn block(address: &str, length: u32) -> message::Address {
    message::Address {
        address: crate::testing::raw_ip(address).into(),
        length,
    }
}

fn account(namespace: &str, name: &str) -> message::ServiceAccountMatch {
    message::ServiceAccountMatch {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
    }
}

fn rule(clauses: &[&[message::Match]]) -> message::Rule {
    let clause = |matches: &&[message::Match]| message::Clause {
        matches: matches.to_vec(),
    };
    message::Rule {
        clauses: clauses.iter().map(clause).collect(),
    }
}

fn policy(key: &str, scope: Scope, action: Action, rules: Vec<message::Rule>) -> message::Authorization {
    let (namespace, name) = key.split_once('/').unwrap();
    message::Authorization {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        scope: scope as i32,
        action: action as i32,
        rules,
        ..Default::default()
    }
}

fn strict() -> message::Authorization {
    let no_principal = message::Match {
        not_principals: vec![presence()],
        ..Default::default()
    };
    policy(
        STRICT,
        Scope::WorkloadSelector,
        Action::Deny,
        vec![rule(&[&[no_principal]])],
    )
}

fn change(raw: &message::Authorization) -> Change {
    Change::decode_policy(&format!("{}/{}", raw.namespace, raw.name), &raw.encode_to_vec())
}

fn synced(policies: &[message::Authorization]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    snapshot.apply(policies.iter().map(change).chain([Change::PoliciesSynced]));
    snapshot
}

/// Asks about a connection to port 8080 of pod `shop/cart` that lists these policies.
fn ask(snapshot: &Snapshot, listed: &[&str], peer: Option<&str>) -> Decision {
    let mut raw = pod("shop", "cart", &["10.0.0.1"]);
    raw.authorization_policies = listed.iter().map(|key| (*key).to_owned()).collect();
    let peer = peer.map(identity);
    let connection = Connection {
        peer: peer.as_ref(),
        source_ip: ip("10.0.1.7"),
        workload: &read_pod(raw),
        destination: "10.0.0.1:8080".parse().unwrap(),
    };
    authorize(&connection, snapshot)
}

/// The verdict of one policy of the workload's namespace with these rules.
fn verdict(action: Action, rules: Vec<message::Rule>, peer: Option<&str>) -> Verdict {
    ask(
        &synced(&[policy("shop/p", Scope::Namespace, action, rules)]),
        &[],
        peer,
    )
    .verdict
}

/// Whether a rule of one match lets the caller in.
fn matches(one: message::Match, peer: Option<&str>) -> bool {
    verdict(Action::Allow, vec![rule(&[&[one]])], peer) == Verdict::Allow
}

#[test]
fn nothing_passes_before_the_first_complete_set_of_policies() {
    let mut snapshot = Snapshot::new();
    let decision = ask(&snapshot, &[], Some(CLIENT));
    assert_eq!(
        (decision.verdict, decision.reason.code()),
        (Verdict::Deny, "policies_not_synced")
    );
    snapshot.apply([Change::PoliciesSynced]);
    let decision = ask(&snapshot, &[], None);
    assert_eq!(
        (decision.verdict, decision.reason.code()),
        (Verdict::Allow, "no_allow_policy")
    );
    assert_eq!(decision.revision, 1);
}

#[test]
fn the_empty_cases() {
    let nothing = message::Match::default;
    let table = [
        ("a policy without rules never matches", vec![], false),
        ("a rule without clauses matches", vec![rule(&[])], true),
        ("a clause without matches matches", vec![rule(&[&[]])], true),
        ("an empty match never matches", vec![rule(&[&[nothing()]])], false),
        (
            "one rule of two is enough",
            vec![rule(&[&[nothing()]]), rule(&[])],
            true,
        ),
        (
            "one clause of two is not",
            vec![rule(&[&[], &[nothing()]])],
            false,
        ),
    ];
    for (what, rules, is_match) in table {
        for peer in [None, Some(CLIENT)] {
            let allowed = verdict(Action::Allow, rules.clone(), peer) == Verdict::Allow;
            let denied = verdict(Action::Deny, rules.clone(), peer) == Verdict::Deny;
            assert_eq!((allowed, denied), (is_match, is_match), "{what}");
        }
    }
}

#[test]
fn every_kind_of_attribute() {
    let m = message::Match::default;
    let principal = |value| message::Match {
        principals: vec![value],
        ..m()
    };
    let not_principal = |value| message::Match {
        not_principals: vec![value],
        ..m()
    };
    let namespace = |value| message::Match {
        namespaces: vec![value],
        ..m()
    };
    let not_namespace = |value| message::Match {
        not_namespaces: vec![value],
        ..m()
    };
    let prefix = |value: &str| text(MatchType::Prefix(value.to_owned()));
    let suffix = |value: &str| text(MatchType::Suffix(value.to_owned()));
    // What it says; whether it holds for the client; whether it holds without identity.
    let table = [
        (principal(exact("cluster.local/ns/web/sa/client")), true, false),
        (
            principal(exact("spiffe://cluster.local/ns/web/sa/client")),
            false,
            false,
        ),
        (principal(exact("cluster.local/ns/web/sa/other")), false, false),
        (principal(prefix("cluster.local/")), true, false),
        (principal(prefix("")), true, false),
        (principal(suffix("/sa/client")), true, false),
        (principal(suffix("/sa/clien")), false, false),
        (principal(presence()), true, false),
        (not_principal(presence()), false, true),
        (
            not_principal(exact("cluster.local/ns/web/sa/client")),
            false,
            true,
        ),
        (not_principal(exact("other")), true, true),
        (namespace(exact("web")), true, false),
        (namespace(exact("")), false, false),
        (namespace(prefix("we")), true, false),
        (namespace(suffix("eb")), true, false),
        (namespace(presence()), true, false),
        (not_namespace(exact("web")), false, true),
        (not_namespace(exact("shop")), true, true),
        (
            message::Match {
                service_accounts: vec![account("web", "client")],
                ..m()
            },
            true,
            false,
        ),
        (
            message::Match {
                service_accounts: vec![account("web", "clien.")],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                service_accounts: vec![account("shop", "client")],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                not_service_accounts: vec![account("web", "client")],
                ..m()
            },
            false,
            true,
        ),
        (
            message::Match {
                source_ips: vec![block("10.0.1.0", 24)],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                source_ips: vec![block("10.0.2.0", 24)],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                source_ips: vec![block("10.0.2.0", 24), block("10.0.1.7", 32)],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                not_source_ips: vec![block("10.0.1.7", 32)],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                not_source_ips: vec![block("fd00::", 8)],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                destination_ips: vec![block("10.0.0.1", 32)],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                destination_ips: vec![block("10.0.0.2", 32)],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                not_destination_ips: vec![block("0.0.0.0", 0)],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                destination_ports: vec![80, 8080],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                destination_ports: vec![80],
                ..m()
            },
            false,
            false,
        ),
        (
            message::Match {
                not_destination_ports: vec![80],
                ..m()
            },
            true,
            true,
        ),
        (
            message::Match {
                not_destination_ports: vec![80, 8080],
                ..m()
            },
            false,
            false,
        ),
        // Different attributes are AND-ed.
        (
            message::Match {
                destination_ports: vec![8080],
                ..namespace(exact("web"))
            },
            true,
            false,
        ),
        (
            message::Match {
                destination_ports: vec![80],
                ..namespace(exact("web"))
            },
            false,
            false,
        ),
        (
            message::Match {
                not_namespaces: vec![exact("web")],
                ..principal(presence())
            },
            false,
            false,
        ),
    ];
    for (one, with_identity, without) in table {
        let found = (matches(one.clone(), Some(CLIENT)), matches(one.clone(), None));
        assert_eq!(found, (with_identity, without), "{one:?}");
    }
}

#[test]
fn a_source_in_mapped_form_is_the_same_source() {
    let one = message::Match {
        source_ips: vec![block("10.0.1.0", 24)],
        ..Default::default()
    };
    let snapshot = synced(&[policy(
        "shop/p",
        Scope::Namespace,
        Action::Allow,
        vec![rule(&[&[one]])],
    )]);
    let workload = read_pod(pod("shop", "cart", &["10.0.0.1"]));
    let destination = "[::ffff:10.0.0.1]:8080".parse().unwrap();
    let connection = Connection {
        peer: None,
        source_ip: ip("::ffff:10.0.1.7"),
        workload: &workload,
        destination,
    };
    assert!(authorize(&connection, &snapshot).is_allowed());
}

#[test]
fn deny_comes_before_allow_and_names_the_rule() {
    let everybody = || vec![rule(&[&[message::Match::default()]]), rule(&[])];
    let policies = [
        policy("shop/allow", Scope::Namespace, Action::Allow, everybody()),
        policy("shop/deny", Scope::WorkloadSelector, Action::Deny, everybody()),
    ];
    let snapshot = synced(&policies);
    let decision = ask(&snapshot, &["shop/deny"], Some(CLIENT));
    assert_eq!(
        decision.reason,
        Reason::DeniedByPolicy {
            policy: "shop/deny".into(),
            rule: 1
        }
    );
    assert_eq!(
        decision.reason.to_string(),
        "denied by rule 1 of DENY policy shop/deny"
    );
    let decision = ask(&snapshot, &[], Some(CLIENT));
    assert_eq!(
        decision.reason,
        Reason::AllowedByPolicy {
            policy: "shop/allow".into(),
            rule: 1
        }
    );
    assert_eq!(decision.reason.policy().map(|key| &**key), Some("shop/allow"));
}

#[test]
fn scopes_select() {
    let nobody = |key: &str, scope| policy(key, scope, Action::Allow, vec![]);
    let denied = |raw, listed: &[&str]| !ask(&synced(&[raw]), listed, Some(CLIENT)).is_allowed();
    assert!(denied(nobody("istio-system/p", Scope::Global), &[]));
    assert!(denied(nobody("shop/p", Scope::Namespace), &[]));
    assert!(!denied(nobody("other/p", Scope::Namespace), &[]));
    assert!(!denied(nobody("shop/p", Scope::WorkloadSelector), &[]));
    assert!(denied(nobody("shop/p", Scope::WorkloadSelector), &["shop/p"]));
    assert!(denied(
        nobody("istio-system/p", Scope::WorkloadSelector),
        &["istio-system/p"]
    ));
}

#[test]
fn without_a_matching_allow_policy_all_of_them_are_named() {
    let snapshot = synced(&[
        policy("shop/b", Scope::Namespace, Action::Allow, vec![]),
        policy("shop/a", Scope::WorkloadSelector, Action::Allow, vec![]),
        policy("shop/unlisted", Scope::WorkloadSelector, Action::Allow, vec![]),
    ]);
    let decision = ask(&snapshot, &["shop/a"], Some(CLIENT));
    assert_eq!(decision.verdict, Verdict::Deny);
    assert_eq!(
        decision.reason.to_string(),
        "no ALLOW policy matched: shop/b, shop/a select this workload"
    );
    assert_eq!(decision.reason.code(), "no_allow_policy_matched");
}

#[test]
fn strict_refuses_callers_without_identity() {
    let snapshot = synced(&[strict()]);
    assert!(ask(&snapshot, &[STRICT], Some(CLIENT)).is_allowed());
    let decision = ask(&snapshot, &[STRICT], None);
    let expected =
        format!("PeerAuthentication requires mTLS (policy {STRICT}); the caller presented no identity");
    assert_eq!(
        (decision.reason.to_string(), decision.reason.code()),
        (expected, "mtls_required")
    );
    assert!(
        ask(&snapshot, &[], None).is_allowed(),
        "it applies only where it is listed"
    );
}

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
        policy: "shop/try".into(),
        rule: Some(0),
        verdict: Verdict::Deny,
        not_understood: None,
    };
    assert_eq!(decision.dry_run, [expected]);
    // Not understood, but certainly a dry run: it closes nothing and is recorded all the same.
    refusing.action = 5;
    let decision = ask(&synced(&[refusing]), &[], Some(CLIENT));
    assert!(decision.is_allowed());
    assert!(decision.dry_run[0].not_understood.is_some());
    assert_eq!(decision.dry_run[0].verdict, Verdict::Deny);
}

#[test]
fn every_reason_is_a_sentence_with_its_own_code() {
    let (policy, rule, reason): (Arc<str>, _, Arc<str>) = ("shop/p".into(), 3, "why".into());
    let all = [
        Reason::DeniedByPolicy {
            policy: policy.clone(),
            rule,
        },
        Reason::MtlsRequired {
            policy: policy.clone(),
            rule,
        },
        Reason::PolicyUnknown {
            policy: policy.clone(),
        },
        Reason::PolicyNotUnderstood {
            policy: policy.clone(),
            reason,
        },
        Reason::NoAllowPolicyMatched {
            policies: vec![policy.clone()],
        },
        Reason::AllowedByPolicy { policy, rule },
        Reason::NoAllowPolicy,
        Reason::PoliciesNotSynced,
    ];
    let mut codes: Vec<_> = all.iter().map(Reason::code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), all.len());
    for reason in &all[..6] {
        assert!(reason.to_string().contains("shop/p"), "{reason}");
    }
    assert_eq!(
        all[4].to_string(),
        "no ALLOW policy matched: shop/p selects this workload"
    );
}
