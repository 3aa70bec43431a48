//! A naive second opinion: reads the messages as the specification words it, with no index and no shortcut.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

#[derive(Debug, Clone)]
pub(super) struct Case {
    policies: Vec<message::Authorization>,
    listed: Vec<String>,
    peer: Option<(&'static str, &'static str)>,
    pub(super) source: u8,
    pub(super) destination: u8,
    pub(super) port: u16,
}

impl Case {
    fn principal(&self) -> Option<String> {
        self.peer
            .map(|(namespace, account)| format!("td/ns/{namespace}/sa/{account}"))
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.peer
            .map(|(namespace, account)| Identity::new("td", namespace, account))
    }

    pub(super) fn workload(&self) -> Workload {
        let mut raw = pod("a", "w", &["10.0.0.1"]);
        raw.authorization_policies = self.listed.clone();
        read_pod(raw)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        synced(&self.policies)
    }

    pub(super) fn decide(&self) -> Decision {
        let peer = self.identity();
        let connection = Connection {
            peer: peer.as_ref(),
            source_ip: ip(&format!("10.0.0.{}", self.source)),
            workload: &self.workload(),
            destination: SocketAddr::new(ip(&format!("10.0.0.{}", self.destination)), self.port),
        };
        authorize(&connection, &self.snapshot())
    }
}

fn key(policy: &message::Authorization) -> String {
    format!("{}/{}", policy.namespace, policy.name)
}

/// The specification, word for word.
fn oracle(case: &Case) -> Verdict {
    let applies = |policy: &&message::Authorization| {
        !policy.dry_run
            && (policy.scope == 0
                || (policy.scope == 1 && policy.namespace == "a")
                || case.listed.contains(&key(policy)))
    };
    let applicable: Vec<_> = case.policies.iter().filter(applies).collect();
    let some = |action: i32| applicable.iter().filter(move |policy| policy.action == action);
    let unknown = |name: &&String| case.policies.iter().all(|policy| key(policy) != **name);
    for name in case.listed.iter().filter(unknown) {
        if case.peer.is_none() || !name.contains('_') {
            return Verdict::Deny;
        }
    }
    if some(1).any(|policy| policy_matches(case, policy)) {
        return Verdict::Deny;
    }
    if some(0).count() == 0 || some(0).any(|policy| policy_matches(case, policy)) {
        return Verdict::Allow;
    }
    Verdict::Deny
}

fn policy_matches(case: &Case, policy: &message::Authorization) -> bool {
    policy.rules.iter().any(|rule| {
        rule.clauses.iter().all(|clause| {
            clause.matches.is_empty() || clause.matches.iter().any(|one| match_holds(case, one))
        })
    })
}

fn match_holds(case: &Case, one: &message::Match) -> bool {
    let string = |raw: &message::StringMatch, value: &Option<String>| match (value, raw.match_type.as_ref()) {
        (Some(value), Some(MatchType::Exact(text))) => value == text,
        (Some(value), Some(MatchType::Prefix(text))) => value.starts_with(text),
        (Some(value), Some(MatchType::Suffix(text))) => value.ends_with(text),
        (Some(value), Some(MatchType::Presence(()))) => !value.is_empty(),
        (None, _) | (_, None) => false,
    };
    let principal = case.principal();
    let namespace = case.peer.map(|(namespace, _)| namespace.to_owned());
    let account = |raw: &message::ServiceAccountMatch| {
        case.peer == Some((raw.namespace.as_str(), raw.service_account.as_str()))
    };
    // Only the last byte and lengths from 24 on occur here.
    let inside = |raw: &message::Address, last: u8| {
        let host_bits = 32 - raw.length;
        u32::from(raw.address[3]) >> host_bits == u32::from(last) >> host_bits
    };
    let mut named = 0;
    let mut holds = true;
    let mut condition = |count: usize, any: bool, positive: bool| {
        if count > 0 {
            named += 1;
            holds &= any == positive;
        }
    };
    let (m, source, destination) = (one, case.source, case.destination);
    condition(
        m.principals.len(),
        m.principals.iter().any(|s| string(s, &principal)),
        true,
    );
    condition(
        m.not_principals.len(),
        m.not_principals.iter().any(|s| string(s, &principal)),
        false,
    );
    condition(
        m.namespaces.len(),
        m.namespaces.iter().any(|s| string(s, &namespace)),
        true,
    );
    condition(
        m.not_namespaces.len(),
        m.not_namespaces.iter().any(|s| string(s, &namespace)),
        false,
    );
    condition(
        m.service_accounts.len(),
        m.service_accounts.iter().any(account),
        true,
    );
    condition(
        m.not_service_accounts.len(),
        m.not_service_accounts.iter().any(account),
        false,
    );
    condition(
        m.source_ips.len(),
        m.source_ips.iter().any(|a| inside(a, source)),
        true,
    );
    condition(
        m.not_source_ips.len(),
        m.not_source_ips.iter().any(|a| inside(a, source)),
        false,
    );
    condition(
        m.destination_ips.len(),
        m.destination_ips.iter().any(|a| inside(a, destination)),
        true,
    );
    condition(
        m.not_destination_ips.len(),
        m.not_destination_ips.iter().any(|a| inside(a, destination)),
        false,
    );
    let port = u32::from(case.port);
    condition(
        m.destination_ports.len(),
        m.destination_ports.contains(&port),
        true,
    );
    condition(
        m.not_destination_ports.len(),
        m.not_destination_ports.contains(&port),
        false,
    );
    named > 0 && holds
}

fn any_string() -> impl Strategy<Value = message::StringMatch> {
    let values = [
        "a",
        "b",
        "",
        "td/ns/a/sa/x",
        "td/ns/b/sa/y",
        "td/",
        "td/ns/a/",
        "/sa/x",
        "x",
        "y",
    ];
    (0..4, prop::sample::select(values.to_vec())).prop_map(|(kind, value)| {
        text(match kind {
            0 => MatchType::Exact(value.to_owned()),
            1 => MatchType::Prefix(value.to_owned()),
            2 => MatchType::Suffix(value.to_owned()),
            _ => MatchType::Presence(()),
        })
    })
}

/// A match of one value of one attribute.
fn any_condition() -> impl Strategy<Value = message::Match> {
    (0..12).prop_flat_map(condition_about)
}

/// A match of one value of this attribute.
fn condition_about(kind: i32) -> impl Strategy<Value = message::Match> {
    let account_names = (
        prop::sample::select(vec!["a", "b"]),
        prop::sample::select(vec!["x", "y"]),
    );
    let fields = (any_string(), account_names, 0u8..4, 24u32..=32, 80u32..82);
    fields.prop_map(move |(text, (namespace, name), last, length, port)| {
        let account = account(namespace, name);
        let block = block(&format!("10.0.0.{last}"), length);
        let mut one = message::Match::default();
        match kind {
            0 => one.principals.push(text),
            1 => one.not_principals.push(text),
            2 => one.namespaces.push(text),
            3 => one.not_namespaces.push(text),
            4 => one.service_accounts.push(account),
            5 => one.not_service_accounts.push(account),
            6 => one.source_ips.push(block),
            7 => one.not_source_ips.push(block),
            8 => one.destination_ips.push(block),
            9 => one.not_destination_ips.push(block),
            10 => one.destination_ports.push(port),
            _ => one.not_destination_ports.push(port),
        }
        one
    })
}

fn any_rule() -> impl Strategy<Value = message::Rule> {
    // Long lists and long clauses are searched by an index.
    let long = (0..12).prop_flat_map(|kind| prop::collection::vec(condition_about(kind), 8..12));
    let conditions = prop_oneof![
        8 => prop::collection::vec(any_condition(), 0..4),
        1 => long,
    ];
    let one = conditions.prop_map(|conditions| {
        // Encoded messages one after the other are one message with the lists of all.
        let bytes: Vec<u8> = conditions.iter().flat_map(Message::encode_to_vec).collect();
        message::Match::decode(&*bytes).unwrap()
    });
    let matches = prop_oneof![
        8 => prop::collection::vec(one, 0..3),
        1 => prop::collection::vec(prop_oneof![any_condition(), (0..3).prop_flat_map(|n| condition_about(2 * n))], 8..12),
    ];
    let clause = matches.prop_map(|matches| message::Clause { matches });
    prop::collection::vec(clause, 0..3).prop_map(|clauses| message::Rule { clauses })
}

fn any_policy() -> impl Strategy<Value = message::Authorization> {
    let names = prop::sample::select(vec!["p", "q", "istio_converted_static_strict"]);
    let namespaces = prop::sample::select(vec!["a", "b", "istio-system"]);
    let rules = prop::collection::vec(any_rule(), 0..3);
    (names, namespaces, 0..3, 0..2, rules, prop::bool::weighted(0.2)).prop_map(
        |(name, namespace, scope, action, rules, dry_run)| message::Authorization {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            scope,
            action,
            rules,
            dry_run,
            ..Default::default()
        },
    )
}

pub(super) fn any_case() -> impl Strategy<Value = Case> {
    let names = vec![
        "a/p",
        "a/q",
        "b/p",
        "istio-system/p",
        "a/converted_peer_authentication_p",
        STRICT,
    ];
    let listed = prop::sample::subsequence(names, 0..3);
    let peers = vec![
        None,
        Some(("a", "x")),
        Some(("a", "y")),
        Some(("b", "x")),
        Some(("b", "y")),
    ];
    let connection = (prop::sample::select(peers), 0u8..4, 0u8..4, 80u16..82);
    (prop::collection::vec(any_policy(), 0..5), listed, connection).prop_map(
        |(mut policies, listed, (peer, source, destination, port))| {
            policies.sort_by_key(key);
            policies.dedup_by_key(|policy| key(policy));
            let listed = listed.into_iter().map(str::to_owned).collect();
            Case {
                policies,
                listed,
                peer,
                source,
                destination,
                port,
            }
        },
    )
}

/// The cases below are worth something only if every kind of decision occurs among them.
#[test]
fn cases_reach_every_reason() {
    let mut runner = TestRunner::deterministic();
    let mut codes = BTreeMap::<_, u32>::new();
    for _ in 0..4000 {
        let case = any_case().new_tree(&mut runner).unwrap().current();
        *codes.entry(case.decide().reason.code()).or_default() += 1;
    }
    let expected = [
        "allowed_by_policy",
        "denied_by_policy",
        "mtls_required",
        "no_allow_policy",
        "no_allow_policy_matched",
        "policy_unknown",
    ];
    assert_eq!(codes.keys().copied().collect::<Vec<_>>(), expected);
    assert!(codes.values().all(|count| *count >= 20), "{codes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn agrees_with_the_specification(case in any_case()) {
        prop_assert_eq!(case.decide().verdict, oracle(&case));
    }

    /// A dry run foretells what enforcing that policy does.
    #[test]
    fn dry_run_foretells(mut case in any_case()) {
        let before = case.decide();
        for number in 0..case.policies.len() {
            if case.policies[number].dry_run {
                let name = key(&case.policies[number]);
                let foretold = before.dry_run.iter().find(|dry_run| *dry_run.policy.key == *name);
                case.policies[number].dry_run = false;
                let enforced = case.decide().verdict;
                case.policies[number].dry_run = true;
                prop_assert_eq!(foretold.map_or(before.verdict, |dry_run| dry_run.verdict), enforced);
            }
        }
    }

    /// One more policy that requires mTLS, one more DENY policy, or one that is not understood never lets more in.
    #[test]
    fn closing_never_opens(case in any_case(), added in any_policy(), which in 0..3) {
        let before = case.decide().verdict;
        let mut closed = case.clone();
        let mut added = message::Authorization { name: "added".to_owned(), action: 1, ..added };
        match which {
            0 => closed.listed.push("a/converted_peer_authentication_new".to_owned()),
            1 => closed.listed.push("a/added".to_owned()),
            _ => added.action = 9,
        }
        closed.policies.push(added);
        prop_assert!(before == Verdict::Deny && closed.decide().verdict == Verdict::Deny || before == Verdict::Allow);
    }

    /// Whatever else applies, STRICT lets nobody in without identity.
    #[test]
    fn strict_holds(mut case in any_case()) {
        case.policies.retain(|policy| key(policy) != STRICT);
        case.policies.push(strict());
        case.listed.push(STRICT.to_owned());
        case.peer = None;
        prop_assert_eq!(case.decide().verdict, Verdict::Deny);
    }
}
