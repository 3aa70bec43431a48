//! Policies that are stored in a form that would be refused today.

use objects::{Kind, Object, ObjectKey};
use serde_json::{Value, json};

use super::{codes, input, listed};
use crate::{Code, Finding, Input, Settings, lint};

fn stored(kind: Kind, spec: Value) -> Vec<Finding> {
    let value = json!({
        "apiVersion": "security.istio.io/v1", "kind": kind.as_str(),
        "metadata": {"name": "old", "namespace": "shop"}, "spec": spec,
    });
    let key = ObjectKey::new(kind, "shop", "old");
    let object = Object::from_stored_value(&value, &key).unwrap_or_else(|errors| panic!("{errors}"));
    let mesh = input(super::MESH).objects.into_iter().map(|read| read.object);
    lint(&mesh.chain([object]).collect::<Input>(), &Settings::default())
}

#[test]
fn what_cannot_be_read_is_told_by_field() {
    let ports = json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["http"]}}]}]});
    let domains =
        json!({"action": "DENY", "rules": [{"from": [{"source": {"trustDomains": ["a.example"]}}]}]});
    let cases = [
        (
            Kind::AuthorizationPolicy,
            domains,
            "spec.rules[0]",
            "denies more than it says",
        ),
        (
            Kind::AuthorizationPolicy,
            ports,
            "spec.rules[0]",
            "denies more than it says",
        ),
        (
            Kind::AuthorizationPolicy,
            json!({"action": "AUDIT"}),
            "spec.action",
            "do not know the action AUDIT",
        ),
        (
            Kind::AuthorizationPolicy,
            json!({"selector": {"matchLabels": {"a": 1}}}),
            "spec",
            "refuses whatever it could have refused",
        ),
        (
            Kind::PeerAuthentication,
            json!({"mtls": {"mode": "MAYBE"}}),
            "spec",
            "refuses whatever",
        ),
    ];
    for (kind, spec, field, why) in cases {
        let found = stored(kind, spec);
        let told = found.iter().find(|finding| finding.code == Code::Unreadable);
        let told = told.unwrap_or_else(|| panic!("{}", listed(&found)));
        assert_eq!(told.field, field, "{told}");
        assert!(told.why.contains(why), "{told}");
    }
    let good = json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["80"]}}]}]});
    assert!(!codes(&stored(Kind::AuthorizationPolicy, good)).contains(&Code::Unreadable));
}

/// One function decides: an unreadable selector makes the policy STRICT for the namespace, whatever others say.
#[test]
fn a_policy_that_selects_nobody_knows_whom_overrides_the_others() {
    let closed = json!({"selector": {"matchLabels": {"a": 1}}, "mtls": {"mode": "PERMISSIVE"}});
    let key = ObjectKey::new(Kind::PeerAuthentication, "shop", "old");
    let value = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "old", "namespace": "shop"}, "spec": closed,
    });
    let closed = Object::from_stored_value(&value, &key).unwrap_or_else(|errors| panic!("{errors}"));
    let others = input(&format!("{}{OTHERS}", super::MESH)).objects;
    let objects = others.into_iter().map(|read| read.object).chain([closed]);
    let found = lint(&objects.collect::<Input>(), &Settings::default());
    let overridden: Vec<&Finding> = found
        .iter()
        .filter(|finding| finding.code == Code::OlderPolicyDecides)
        .collect();
    assert_eq!(overridden.len(), 2, "{}", listed(&found));
    for finding in overridden {
        assert!(
            finding.why.contains("PeerAuthentication shop/old cannot be read"),
            "{finding}"
        );
    }
}

const OTHERS: &str = "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop, creationTimestamp: 2020-01-01T00:00:00Z}
spec: {mtls: {mode: PERMISSIVE}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: web, namespace: shop, creationTimestamp: 2020-01-01T00:00:00Z}
spec: {selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}}
";
