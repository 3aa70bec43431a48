//! The admission policies: the expressions refuse and warn of what they are there for, and nothing else.

use serde_json::{Value, json};

use crate::evaluation::{self, Request, says};

/// What the policy of this name says about an object; empty where it does not apply.
fn verdict(policy: &str, object: &Value) -> Vec<String> {
    let request = Request {
        object: object.clone(),
        ..Request::default()
    };
    evaluation::verdict(policy, &request)
}

fn object(kind: &str, namespace: &str, spec: &str) -> Value {
    let mut object = json!({ "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": { "name": "a", "namespace": namespace } });
    if let Some(spec) = charts::parse(spec).unwrap().pop() {
        object["spec"] = spec;
    }
    object
}

fn policy(spec: &str) -> Value {
    object("AuthorizationPolicy", "b", spec)
}

/// Whether our own reader, which the lab and `ztctl policy` have, accepts the object.
fn reader_accepts(object: &Value) -> bool {
    objects::parse("a.yaml", &object.to_string()).is_ok()
}

#[test]
fn what_nobody_could_enforce_is_refused() {
    for (spec, expected) in [
        ("{action: CUSTOM, rules: [{}], provider: {name: a}}", "the action"),
        ("{action: AUDIT, rules: [{}]}", "the action"),
        ("{action: CUSTOM, targetRefs: [], rules: [{}]}", "the action"),
        ("{action: DENY, targetRefs: []}", "needs rules"),
        (
            "{targetRefs: [], rules: [{to: [{operation: {ports: [http]}}]}]}",
            "a port is",
        ),
        ("{action: DENY}", "needs rules"),
        ("{action: DENY, rules: []}", "needs rules"),
        ("{rules: [{from: []}]}", "empty from"),
        ("{rules: [{from: [{}]}]}", "empty from"),
        ("{rules: [{to: []}]}", "empty from"),
        ("{rules: [{when: []}]}", "empty from"),
        (
            "{rules: [{}, {from: [{source: {namespaces: [a]}}, {source: {principals: ['spiffe://a/ns/b/sa/c']}}]}]}",
            "spiffe://",
        ),
        (
            "{rules: [{from: [{source: {notPrincipals: ['spiffe://a']}}]}]}",
            "spiffe://",
        ),
        (
            "{rules: [{when: [{key: source.principal, values: ['spiffe://a']}]}]}",
            "spiffe://",
        ),
        (
            "{rules: [{when: [{key: source.principal, notValues: ['spiffe://a']}]}]}",
            "spiffe://",
        ),
        (
            "{rules: [{from: [{source: {trustDomains: [a]}}]}]}",
            "trust domains",
        ),
        (
            "{rules: [{from: [{source: {notTrustDomains: [a]}}]}]}",
            "trust domains",
        ),
        (
            "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]}",
            "an address",
        ),
        (
            "{rules: [{from: [{source: {notIpBlocks: [ten]}}]}]}",
            "an address",
        ),
        (
            "{rules: [{when: [{key: destination.ip, values: [10.0.0]}]}]}",
            "an address",
        ),
        ("{rules: [{to: [{operation: {ports: ['80000']}}]}]}", "a port is"),
        (
            "{rules: [{to: [{operation: {ports: ['80', '0']}}]}]}",
            "a port is",
        ),
        ("{rules: [{to: [{operation: {notPorts: [http]}}]}]}", "a port is"),
        (
            "{rules: [{when: [{key: destination.port, values: ['-1']}]}]}",
            "a port is",
        ),
    ] {
        let object = policy(spec);
        let found = verdict("ztunnel-mesh-refuse", &object);
        says(&found, expected, &spec);
        assert!(!reader_accepts(&object), "{spec}: our reader accepts it");
    }
}

#[test]
fn what_can_be_enforced_is_let_in() {
    for spec in [
        "",
        "{}",
        "{rules: [{}]}",
        "{action: DENY, rules: [{}]}",
        "{rules: [{from: [{source: {principals: ['cluster.local/ns/a/sa/*', '*'], ipBlocks: [10.0.0.1, 10.0.0.0/8, 'fd00::/64', 'fd00::1']}}]}]}",
        "{rules: [{to: [{operation: {ports: ['1', '65535'], notPorts: ['80']}}]}]}",
        "{rules: [{to: [{operation: {paths: [/a]}}]}, {when: [{key: 'request.headers[x]', values: ['spiffe://a']}]}]}",
        "{rules: [{when: [{key: destination.port, values: ['80']}, {key: source.ip, notValues: [10.0.0.1]}]}]}",
    ] {
        let object = policy(spec);
        assert_eq!(verdict("ztunnel-mesh-refuse", &object), [""; 0], "{spec}");
        assert!(reader_accepts(&object), "{spec}: our reader refuses it");
    }
    // An empty list attaches to nothing.
    for spec in ["{targetRefs: []}", "{targetRefs: [], action: DENY, rules: [{}]}"] {
        let object = policy(spec);
        assert_eq!(verdict("ztunnel-mesh-refuse", &object), [""; 0], "{spec}");
        assert!(reader_accepts(&object), "{spec}: our reader refuses it");
    }
    // What a waypoint gets is a waypoint's affair, and what goes away may go.
    let waypoint = "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}], action: CUSTOM, rules: [{}]}";
    assert_eq!(verdict("ztunnel-mesh-refuse", &policy(waypoint)), [""; 0]);
    let mut leaving = policy("{action: AUDIT}");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(verdict("ztunnel-mesh-refuse", &leaving), [""; 0]);
}

#[test]
fn what_is_enforced_in_part_is_told() {
    let peer = |namespace: &str, spec: &str| object("PeerAuthentication", namespace, spec);
    for (object, expected) in [
        (
            policy("{rules: [{from: [{source: {requestPrincipals: [a]}}]}]}"),
            "HTTP",
        ),
        (
            policy("{rules: [{from: [{source: {notRemoteIpBlocks: [10.0.0.1]}}]}]}"),
            "HTTP",
        ),
        (
            policy("{rules: [{}, {to: [{operation: {methods: [GET]}}]}]}"),
            "HTTP",
        ),
        (
            policy("{action: DENY, rules: [{when: [{key: 'request.headers[x]', values: [a]}]}]}"),
            "HTTP",
        ),
        (policy("{selector: {}}"), "empty selector"),
        (policy("{selector: {matchLabels: {}}}"), "empty selector"),
        (peer("b", "{selector: {}}"), "empty selector"),
        (policy("{targetRefs: []}"), "empty targetRefs"),
        (
            policy("{selector: {matchLabels: {a: b}}, rules: [{to: [{operation: {hosts: [a]}}]}]}"),
            "HTTP",
        ),
    ] {
        let found = verdict("ztunnel-mesh-warn", &object);
        says(&found, expected, &object);
    }
    let root = peer("istio-system", "{selector: {matchLabels: {a: b}}}");
    let found = verdict("ztunnel-mesh-warn-root", &root);
    says(&found, "root namespace", &"root namespace");
    let whole = peer("istio-system", "{mtls: {mode: STRICT}}");
    assert_eq!(verdict("ztunnel-mesh-warn-root", &whole), [""; 0]);
    for object in [
        policy(""),
        policy(
            "{rules: [{from: [{source: {namespaces: [a]}}], to: [{operation: {ports: ['80']}}], when: [{key: source.ip, values: [10.0.0.1]}]}]}",
        ),
        policy("{targetRefs: [{kind: Service, name: a}], rules: [{to: [{operation: {methods: [GET]}}]}]}"),
        peer("", ""),
        peer("istio-system", "{mtls: {mode: STRICT}}"),
        peer("b", "{selector: {matchLabels: {a: b}}}"),
    ] {
        assert_eq!(verdict("ztunnel-mesh-warn", &object), [""; 0], "{object}");
    }
}
