//! The explanation: what it keeps, and that it is of the same engine.

use proptest::prelude::*;

use super::oracle::{Case, any_case};
use super::*;
use crate::policy::Attribute;

fn explained(case: &Case) -> (Decision, Explanation) {
    let (peer, workload, snapshot) = (case.identity(), case.workload(), case.snapshot());
    let connection = Connection {
        peer: peer.as_ref(),
        source_ip: ip(&format!("10.0.0.{}", case.source)),
        workload: &workload,
        destination: SocketAddr::new(ip(&format!("10.0.0.{}", case.destination)), case.port),
    };
    (authorize(&connection, &snapshot), explain(&connection, &snapshot))
}

/// The verdict that follows from the tree alone, and that every level of it follows from the one below.
fn verdict_of_tree(explanation: &Explanation, has_peer: bool) -> Verdict {
    let (mut deny, mut allow, mut allow_exists) = (false, false, false);
    for policy in explanation.policies.iter().filter(|policy| !policy.dry_run) {
        match &policy.outcome {
            PolicyOutcome::Tried {
                action,
                matched,
                rules,
                ..
            } => {
                rules.iter().for_each(levels_agree);
                assert_eq!(*matched, rules.iter().position(|rule| rule.matched));
                match action {
                    Action::Deny => deny |= matched.is_some(),
                    Action::Allow => {
                        allow_exists = true;
                        allow |= matched.is_some();
                    }
                }
            }
            PolicyOutcome::NotUnderstood { .. } => deny = true,
            PolicyOutcome::Unknown => deny |= !has_peer || !policy.policy.key.contains('_'),
        }
    }
    if !deny && (allow || !allow_exists) {
        Verdict::Allow
    } else {
        Verdict::Deny
    }
}

fn levels_agree(rule: &ExplainedRule) {
    assert_eq!(rule.matched, rule.clauses.iter().all(|clause| clause.matched));
    for clause in &rule.clauses {
        let any = clause.matches.is_empty() || clause.matches.iter().any(|one| one.matched);
        assert_eq!(clause.matched, any);
        for one in &clause.matches {
            assert_eq!(one.matched, !one.is_empty && one.failed.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn it_is_of_the_same_engine(case in any_case()) {
        let (decision, explanation) = explained(&case);
        prop_assert_eq!(verdict_of_tree(&explanation, case.identity().is_some()), decision.verdict);
        prop_assert_eq!(explanation.decision, decision);
    }
}

#[test]
fn it_says_why_each_policy_applies_and_what_failed() {
    let source = message::Match {
        namespaces: vec![
            text(MatchType::Exact("a".into())),
            text(MatchType::Prefix("b".into())),
        ],
        not_destination_ports: vec![8080, 8081],
        not_principals: vec![text(MatchType::Exact("other".into()))],
        ..Default::default()
    };
    let mut tried = policy("shop/tried", Scope::Namespace, Action::Deny, vec![rule(&[])]);
    tried.dry_run = true;
    let mut broken = policy("shop/broken", Scope::Namespace, Action::Allow, vec![]);
    broken.action = 7;
    let snapshot = synced(&[
        policy("istio-system/wide", Scope::Global, Action::Allow, vec![]),
        policy(
            "shop/own",
            Scope::Namespace,
            Action::Allow,
            vec![rule(&[&[source, message::Match::default()], &[]])],
        ),
        policy("other/listed", Scope::Namespace, Action::Allow, vec![rule(&[])]),
        policy("other/elsewhere", Scope::Namespace, Action::Deny, vec![rule(&[])]),
        tried,
        broken,
        strict(),
    ]);
    let mut raw = pod("shop", "cart", &["10.0.0.1"]);
    raw.authorization_policies = ["other/listed", "shop/gone", STRICT].map(str::to_owned).to_vec();
    let peer = identity(CLIENT);
    let connection = Connection {
        peer: Some(&peer),
        source_ip: ip("10.0.1.7"),
        workload: &read_pod(raw),
        destination: "10.0.0.1:8080".parse().unwrap(),
    };
    let explanation = explain(&connection, &snapshot);
    assert_eq!(explanation.decision, authorize(&connection, &snapshot));
    let selected: Vec<_> = explanation
        .policies
        .iter()
        .map(|policy| (&*policy.policy.key, policy.selected_by, policy.dry_run))
        .collect();
    assert_eq!(
        selected,
        [
            ("istio-system/wide", SelectedBy::Mesh, false),
            ("shop/broken", SelectedBy::Namespace, false),
            ("shop/own", SelectedBy::Namespace, false),
            ("shop/tried", SelectedBy::Namespace, true),
            (STRICT, SelectedBy::Listed, false),
            ("other/listed", SelectedBy::Listed, false),
            ("shop/gone", SelectedBy::Listed, false),
        ]
    );
    assert!(matches!(
        &explanation.policies[1].outcome,
        PolicyOutcome::NotUnderstood { reason } if reason.contains("action 7")
    ));
    assert_eq!(explanation.policies[6].outcome, PolicyOutcome::Unknown);
    let PolicyOutcome::Tried { rules, matched, .. } = &explanation.policies[2].outcome else {
        panic!("{explanation:?}");
    };
    assert_eq!((rules.len(), *matched), (1, None));
    let [first, second] = &rules[0].clauses[..] else {
        panic!("{rules:?}");
    };
    assert!(!first.matched && second.matched && first.matches[1].is_empty);
    let failed = &first.matches[0].failed;
    assert_eq!(
        failed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "source namespace: wanted a or b*, is web",
            "destination port: wanted none of 8080, 8081, is 8080",
        ]
    );
    assert_eq!(
        failed
            .iter()
            .map(|one| (one.attribute, one.negated))
            .collect::<Vec<_>>(),
        [(Attribute::Namespace, false), (Attribute::DestinationPort, true)]
    );
}

#[test]
fn what_the_caller_lacks_is_said_and_lists_are_bounded() {
    let names = (0..25).map(|n| text(MatchType::Exact(format!("n{n}")))).collect();
    let one = message::Match {
        namespaces: names,
        source_ips: vec![block("10.0.0.0", 8)],
        ..Default::default()
    };
    let snapshot = synced(&[policy(
        "shop/p",
        Scope::Namespace,
        Action::Allow,
        vec![rule(&[&[one]])],
    )]);
    let connection = Connection {
        peer: None,
        source_ip: ip("0.0.0.0"),
        workload: &read_pod(pod("shop", "cart", &["10.0.0.1"])),
        destination: "10.0.0.1:8080".parse().unwrap(),
    };
    let explanation = explain(&connection, &snapshot);
    let PolicyOutcome::Tried { rules, .. } = &explanation.policies[0].outcome else {
        panic!("{explanation:?}");
    };
    let failed = &rules[0].clauses[0].matches[0].failed;
    assert_eq!(
        failed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "source namespace: wanted n0 or n1 or n2 or n3 or n4 or n5 or n6 or n7 or n8 or n9 (15 more), has none",
            "source address: wanted 10.0.0.0/8, has none",
        ]
    );
}
