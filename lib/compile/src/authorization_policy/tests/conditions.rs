//! What authors are told.

use objects::{Kind, ObjectKey};

use super::policy;
use crate::testing::{compiled, puts, stored};
use crate::{Compiler, Condition, Settings};

fn key() -> ObjectKey {
    ObjectKey::new(Kind::AuthorizationPolicy, "demo", "p")
}

/// The condition of a policy that is stored already.
fn condition(text: &str) -> Option<Condition> {
    let mut compiler = Compiler::new(Settings::default());
    let text = text.replace("name: p}", "name: p, generation: 4}");
    let output = compiler.apply([stored(Kind::AuthorizationPolicy, "demo", "p", &text)]);
    let conditions = output.conditions.get(&key()).expect("it was given");
    assert!(conditions.len() <= 1);
    for condition in conditions {
        assert_eq!(
            (condition.kind, condition.observed_generation),
            ("ZtunnelAccepted", 4)
        );
        // What is not enforced as written is also a warning.
        let warned = output
            .warnings
            .iter()
            .any(|warning| warning.message == condition.message);
        assert_eq!(warned, !condition.is_clean(), "{condition:?}");
    }
    conditions.first().cloned()
}

#[test]
fn each_policy_has_its_condition() {
    let long = format!("{{rules: [{}]}}", ["{form: []}"; 7].join(", "));
    let cases = [
        ("{}", true, "Accepted", "attached to ztunnel"),
        ("{action: DENY, rules: [{}]}", true, "Accepted", "attached to ztunnel"),
        ("{action: AUDIT}", false, "UnsupportedValue", "ztunnel does not support the AUDIT action"),
        ("{action: CUSTOM}", false, "UnsupportedValue", "ztunnel does not support the CUSTOM action"),
        ("{action: DENY}", false, "UnsupportedValue", "Nothing of the DENY rules is left"),
        (
            "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}",
            false,
            "UnsupportedValue",
            "(found: methods). In ambient mode you must use a waypoint proxy to enforce HTTP rules. Nothing of the DENY",
        ),
        (
            "{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: [\"1\"]}}]}]}",
            true,
            "UnsupportedValue",
            "may deny more than they say",
        ),
        (
            "{rules: [{to: [{operation: {paths: [/], methods: [GET]}}]}]}",
            true,
            "UnsupportedValue",
            "(found: methods, paths). In ambient mode you must use a waypoint proxy to enforce HTTP rules. ALLOW rules",
        ),
        (
            "{action: DENY, rules: [{to: [{operation: {ports: [http]}}]}]}",
            true,
            "UnsupportedValue",
            "ztunnel does not understand parts of the policy (found: rule 0: \"http\"). DENY rules are enforced without",
        ),
        (
            "{rules: [{}, {from: [{source: {trustDomains: [a], ipBlocks: [b], namespaces: [\"*c*\"]}}]}]}",
            true,
            "UnsupportedValue",
            "(found: rule 1: \"*c*\"; rule 1: \"b\"; rule 1: \"a\"). ALLOW rules",
        ),
        (
            "{rules: [{when: [{key: source.ip, values: [x]}, {key: destination.port, values: [q]},
                              {key: source.serviceAccount, values: [\"*\"]}, {key: source.principal, values: [\"*z*\"]}]}]}",
            true,
            "UnsupportedValue",
            "(found: rule 0: \"x\"; rule 0: \"q\"; rule 0: \"*\"; rule 0: \"*z*\")",
        ),
        (&long, true, "UnsupportedValue", "rule 4: spec.rules[4].form: there is no such field; did you mean from?; and 2 more"),
        (
            "{selector: {matchLabels: {a: b}}, rulez: []}",
            false,
            "Invalid",
            "all connections to the workloads that it selects are refused",
        ),
        ("{rulez: []}", false, "Invalid", "all connections to every workload of its namespace are refused"),
    ];
    for (spec, status, reason, message) in cases {
        let found = condition(&policy("demo", spec)).expect("a condition");
        assert_eq!((found.status, found.reason), (status, reason), "{found:?}");
        assert!(found.message.contains(message), "{found:?}");
    }
    let dry = |spec: &str| {
        let text =
            policy("demo", spec).replace("name: p}", "annotations: {istio.io/dry-run: \"true\"}, name: p}");
        condition(&text).expect("a condition")
    };
    assert!(dry("{}").is_clean() && dry("{}").message.contains("as a dry run"));
    let closed = dry("{rulez: []}");
    assert_eq!((closed.status, closed.reason), (false, "Invalid"));
    assert!(
        closed.message.contains("As a dry run it is recorded as denying"),
        "{closed:?}"
    );
}

#[test]
fn a_policy_of_the_root_namespace_says_that_it_closes_the_mesh() {
    let mut compiler = Compiler::new(Settings::default());
    let text = policy("istio-system", "{rulez: []}");
    let output = compiler.apply([stored(Kind::AuthorizationPolicy, "istio-system", "p", &text)]);
    let conditions = &output.conditions[&ObjectKey::new(Kind::AuthorizationPolicy, "istio-system", "p")];
    assert!(
        conditions[0].message.contains("every workload of the mesh"),
        "{conditions:?}"
    );
}

#[test]
fn conditions_come_and_go_with_what_is_given() {
    let mut compiler = compiled(&policy("demo", "{}"));
    assert_eq!(compiler.conditions()[&key()].len(), 1);
    // Given again, it is told again; nothing is told of it with others.
    let output = compiler.apply(puts(&policy("demo", "{}")));
    assert_eq!(output.conditions[&key()].len(), 1);
    assert!(output.is_empty());
    assert!(
        compiler
            .apply(puts(&policy("other", "{}")))
            .conditions
            .keys()
            .all(|other| *other != key())
    );
    // It becomes a waypoint's affair: the condition is to be taken away, and another one says that there is none.
    let output = compiler.apply(puts(&policy("demo", "{targetRefs: [{kind: Service, name: a}]}")));
    let kinds: Vec<_> = output.conditions[&key()].iter().map(|told| told.kind).collect();
    assert_eq!(kinds, ["ztunnel.dev/TargetsBound"]);
    // Gone, it has none; that is told once, since the object may be there still as another control plane's.
    for told in [Some(&vec![]), None] {
        let output = compiler.apply([(key(), None)]);
        assert_eq!(output.conditions.get(&key()), told);
        assert_eq!(compiler.conditions().get(&key()), None);
    }
}
