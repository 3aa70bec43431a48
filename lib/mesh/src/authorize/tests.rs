mod attributes;
mod closed;
mod explain;
mod nearest;
mod oracle;
mod origin;
mod truth;

use prost::Message;
use proto::security as message;
use proto::security::string_match::MatchType;

use super::*;
use crate::change::Change;
use crate::policy::{Action, Scope};
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

/// A policy whose object the control plane did not tell.
fn named(key: &str) -> NamedPolicy {
    NamedPolicy {
        key: key.into(),
        origin: None,
    }
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
            policy: named("shop/deny"),
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
            policy: named("shop/allow"),
            rule: 1
        }
    );
    assert_eq!(decision.reason.policy(), Some(&named("shop/allow")));
}

#[test]
fn who_refuses_plaintext_is_told_apart() {
    let deny = policy("shop/deny", Scope::Namespace, Action::Deny, vec![rule(&[])]);
    let decision = ask(&synced(&[deny]), &[], None);
    assert_eq!(decision.reason.code(), "denied_by_policy");
    assert!(decision.dry_run.is_empty());
    // Another control plane may put anything under the name of STRICT.
    let odd = message::Authorization {
        rules: vec![rule(&[])],
        ..strict()
    };
    let reason = ask(&synced(&[odd]), &[STRICT], Some(CLIENT)).reason;
    assert_eq!(reason.code(), "denied_by_policy");
}

#[test]
fn verdicts_have_words() {
    let words = [Verdict::Allow, Verdict::Deny].map(|verdict| verdict.to_string());
    assert_eq!(words, ["allow", "deny"]);
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
        "two ALLOW policies select this workload and none matched: shop/b, shop/a"
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
fn every_reason_is_a_sentence_with_its_own_code() {
    let (policy, rule, reason): (_, _, Arc<str>) = (named("shop/p"), 3, "why".into());
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
            count: 1,
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
        "one ALLOW policy selects this workload and did not match: shop/p"
    );
}
