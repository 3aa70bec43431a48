//! What must not matter: the order of objects, how they are split over documents, and what they are called.

use std::collections::BTreeMap;
use std::sync::Arc;

use objects::{Object, ObjectKey};
use proptest::prelude::*;

use super::{labels, mode, namespace, object};
use crate::testing::{Probes, pod, puts, verdicts};
use crate::{Compiler, Settings};

/// A policy with a name and an age of its own.
#[derive(Clone, Debug)]
enum Policy {
    Peer {
        namespace: &'static str,
        labels: String,
        mode: &'static str,
        port: &'static str,
    },
    Authorization {
        namespace: &'static str,
        labels: String,
        action: &'static str,
        rule: &'static str,
    },
}

const RULES: [&str; 4] = [
    "{}",
    "{to: [{operation: {ports: [\"80\"]}}]}",
    "{from: [{source: {namespaces: [demo]}}]}",
    "{from: [{source: {notPrincipals: [\"*\"]}}], to: [{operation: {notPorts: [\"80\"]}}]}",
];

fn policy() -> impl Strategy<Value = Policy> {
    let peer =
        (namespace(), labels(), mode(), mode()).prop_map(|(namespace, labels, mode, port)| Policy::Peer {
            namespace,
            labels,
            mode,
            port,
        });
    let authorization = (
        namespace(),
        labels(),
        prop::sample::select(vec!["ALLOW", "DENY"]),
        prop::sample::select(RULES.to_vec()),
    )
        .prop_map(|(namespace, labels, action, rule)| Policy::Authorization {
            namespace,
            labels,
            action,
            rule,
        });
    prop_oneof![peer, authorization]
}

fn text(policy: &Policy, name: &str, age: usize) -> String {
    let (kind, namespace, spec) = match policy {
        Policy::Peer {
            namespace,
            labels,
            mode,
            port,
        } => {
            let ports = if labels == "{}" {
                String::new()
            } else {
                format!(", portLevelMtls: {{80: {{mode: {port}}}}}")
            };
            let spec = format!("{{selector: {{matchLabels: {labels}}}, mtls: {{mode: {mode}}}{ports}}}");
            ("PeerAuthentication", namespace, spec)
        }
        Policy::Authorization {
            namespace,
            labels,
            action,
            rule,
        } => {
            let spec = format!("{{selector: {{matchLabels: {labels}}}, action: {action}, rules: [{rule}]}}");
            ("AuthorizationPolicy", namespace, spec)
        }
    };
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: {name}, \
         creationTimestamp: \"2026-08-01T00:00:{age:02}Z\"}}\nspec: {spec}\n"
    )
}

fn probes() -> Probes {
    Probes {
        callers: vec![None, Some(("demo", "x")), Some(("other", "x"))],
        sources: vec!["10.9.0.1"],
        ports: vec![80, 81],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The seed of a failure is printed with it.
    #[test]
    fn neither_order_nor_splitting_matters(
        objects in prop::collection::vec(object(), 1..25),
        (order, splits) in (any::<prop::sample::Index>(), prop::collection::vec(any::<bool>(), 25)),
    ) {
        // Of objects of one name the last counts, so each is kept once.
        let objects: BTreeMap<ObjectKey, Option<Arc<Object>>> = objects.iter().flat_map(|text| puts(text)).collect();
        let mut whole = Compiler::new(Settings::default());
        whole.apply(objects.clone());
        let mut shuffled: Vec<_> = objects.into_iter().collect();
        let middle = order.index(shuffled.len());
        shuffled.rotate_left(middle);
        shuffled[middle / 2..].reverse();
        let mut split = Compiler::new(Settings::default());
        let mut batch = Vec::new();
        for (change, ends) in shuffled.into_iter().zip(splits) {
            batch.push(change);
            if ends {
                split.apply(batch.drain(..));
            }
        }
        split.apply(batch);
        prop_assert_eq!(whole.addresses(), split.addresses());
        prop_assert_eq!(whole.policies(), split.policies());
        prop_assert_eq!(whole.conditions(), split.conditions());
    }

    /// No two of the policies are equally old, so their names decide nothing.
    #[test]
    fn names_do_not_matter_where_nothing_ties(
        policies in prop::collection::vec(policy(), 1..8),
        names in Just(('a'..='h').collect::<Vec<char>>()).prop_shuffle(),
    ) {
        let pods = ["{app: a}", "{app: b}", "{}", "{app: a, tier: t}"].iter().enumerate();
        let pods: String = pods.map(|(number, labels)| pod("demo", &format!("p{number}"), labels, "")).collect();
        let admitted = |name: &dyn Fn(usize) -> String| {
            let policies = policies.iter().enumerate().map(|(age, policy)| text(policy, &name(age), age));
            let mut compiler = Compiler::new(Settings::default());
            compiler.apply(puts(&(pods.clone() + &policies.collect::<String>())));
            verdicts(&compiler, &probes())
        };
        let plain = admitted(&|age| format!("n{age}"));
        let renamed = admitted(&|age| names[age].to_string());
        prop_assert_eq!(plain, renamed);
    }
}
