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
