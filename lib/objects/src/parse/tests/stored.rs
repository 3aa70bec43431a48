//! What is stored already: nothing of a policy vanishes, and what cannot be read is kept as such.

use super::super::parse_stored;
use crate::{
    Action, AuthorizationPolicy, Kind, MtlsMode, Object, ObjectKey, PeerAuthentication, Spec, parse,
};

fn document(kind: Kind, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{namespace: demo, name: p}}\nspec: {spec}\n"
    )
}

fn stored(kind: Kind, text: &str) -> Object {
    let object = parse_stored("m.yaml", text, &ObjectKey::new(kind, "demo", "p"));
    object.unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn policy_in(text: &str) -> AuthorizationPolicy {
    match stored(Kind::AuthorizationPolicy, text).spec {
        Spec::AuthorizationPolicy(policy) => policy,
        other => panic!("{other:?}"),
    }
}

fn policy(spec: &str) -> AuthorizationPolicy {
    policy_in(&document(Kind::AuthorizationPolicy, spec))
}

fn peer_in(text: &str) -> PeerAuthentication {
    match stored(Kind::PeerAuthentication, text).spec {
        Spec::PeerAuthentication(policy) => policy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_good_reads_as_ever() {
    let text = document(
        Kind::AuthorizationPolicy,
        "{action: DENY, selector: {matchLabels: {a: b}}, rules: [{to: [{operation: {ports: [\"1\"]}}]}]}",
    );
    let good = parse("m.yaml", &text).expect("good").remove(0);
    assert_eq!(stored(Kind::AuthorizationPolicy, &text), good);
    let value = good.raw().clone();
    assert_eq!(Object::from_stored_value(&value, &good.key()), Ok(good));
}

#[test]
fn values_are_kept_as_unreadable_ones() {
    let read = policy(
        r#"{rules: [{
            from: [{source: {principals: [a, spiffe://b], notNamespaces: [c, "*d*"], ipBlocks: [1.2.3.4, 1.2.3],
                             trustDomains: [e], notTrustDomains: [f]}},
                   {source: {serviceAccounts: [g, "*"]}}],
            to: [{operation: {ports: ["80", http, "99999"], notPorts: [81]}}],
            when: [{key: destination.port, values: [x], notValues: ["1"]}, {key: connection.sni, values: [1]}]}]}"#,
    );
    assert!(read.unreadable.is_empty());
    let rule = &read.rules[0];
    assert!(rule.unreadable.is_empty(), "{:?}", rule.unreadable);
    let source = &rule.from[0];
    assert_eq!(
        (&*source.principals.any, &*source.principals.unreadable_any),
        (&["a".to_owned()][..], &["\"spiffe://b\"".to_owned()][..])
    );
    assert_eq!(
        (&*source.namespaces.none, &*source.namespaces.unreadable_none),
        (&["c".to_owned()][..], &["\"*d*\"".to_owned()][..])
    );
    assert_eq!(
        (source.ip_blocks.any.len(), &*source.ip_blocks.unreadable_any),
        (1, &["\"1.2.3\"".to_owned()][..])
    );
    let domains: Vec<&str> = source.trust_domains.unreadable().collect();
    assert_eq!(domains, ["\"e\"", "\"f\""]);
    assert_eq!(rule.from[1].service_accounts.unreadable_any, ["\"*\""]);
    let ports = &rule.to[0].ports;
    assert_eq!((&*ports.any, &*ports.none), (&[80][..], &[][..]));
    assert_eq!(ports.unreadable_any, ["\"http\"", "\"99999\""]);
    assert_eq!(ports.unreadable_none.len(), 1);
    assert!(!ports.is_empty());
    assert_eq!(rule.http_attributes().collect::<Vec<_>>(), ["connection.sni"]);
    let parts: Vec<&str> = rule.unreadable_parts().collect();
    let of_sources = ["spiffe://b", "*d*", "1.2.3", "e", "f", "*"];
    let expected = of_sources.iter().chain(&["http", "99999"]);
    let expected: Vec<String> = expected.map(|text| format!("{text:?}")).collect();
    assert_eq!(parts[..8], expected);
    assert_eq!((parts.len(), parts[9]), (10, "\"x\""));
}

#[test]
fn a_rule_that_cannot_be_read_is_known_to_be_there() {
    let wrong = [
        "{form: []}",
        "{from: []}",
        "{from: [{}]}",
        "{to: [{operation: {}}]}",
        "{when: [{key: destination.prot, values: [a]}]}",
        "{when: [{key: destination.port}]}",
        "7",
    ];
    for rule in wrong {
        let read = policy(&format!(
            "{{rules: [{{}}, {rule}, {{to: [{{operation: {{ports: [\"1\"]}}}}]}}]}}"
        ));
        assert!(read.unreadable.is_empty(), "{rule}");
        let unreadable: Vec<bool> = read
            .rules
            .iter()
            .map(|rule| !rule.unreadable.is_empty())
            .collect();
        assert_eq!(unreadable, [false, true, false], "{rule}");
    }
}

#[test]
fn what_is_wrong_as_a_whole_denies_whom_it_selects() {
    let selector = "selector: {matchLabels: {a: b}}";
    // The selector counts where it can be read.
    let cases = [
        (format!("{{{selector}, action: ALOW}}"), true),
        (format!("{{{selector}, rulez: [{{}}]}}"), true),
        (format!("{{{selector}, rules: 7}}"), true),
        (format!("{{{selector}, provider: {{name: a}}}}"), true),
        (
            "{selector: {matchLabels: {a: [b]}}, rules: [{}]}".to_owned(),
            false,
        ),
        ("{selector: {matchlabels: {a: b}}}".to_owned(), false),
        (
            format!("{{{selector}, targetRefs: [{{kind: Service, name: a}}]}}"),
            false,
        ),
        ("[]".to_owned(), false),
    ];
    for (spec, selects) in cases {
        let read = policy(&spec);
        assert!(!read.unreadable.is_empty(), "{spec}");
        assert_eq!(read.action, Action::Deny, "{spec}");
        assert_eq!(read.rules, [crate::Rule::default()], "{spec}");
        assert_eq!(
            (!read.selector.is_empty(), read.target_refs.len()),
            (selects, 0),
            "{spec}"
        );
    }
    // Also when only what stands around the spec is wrong.
    let good = document(
        Kind::AuthorizationPolicy,
        &format!("{{{selector}, rules: [{{}}]}}"),
    );
    let around = [
        good.replace("security.istio.io/v1", "security.istio.io/v7"),
        good.replace("name: p}", "name: p, labels: {a: [b]}}"),
        good.clone() + "speck: {}\n",
    ];
    for text in around {
        let read = policy_in(&text);
        assert!(
            !read.unreadable.is_empty() && read.action == Action::Deny,
            "{text}"
        );
        assert_eq!(read.selector.len(), 1, "{text}");
    }
    // Metadata of later versions changes no meaning.
    let later = policy_in(
        &good
            .replace("name: p}", "name: p, somethingNew: {}}")
            .replace("rules: [{}]", "rules: [{from: [{}]}]"),
    );
    assert!(later.unreadable.is_empty() && later.rules.len() == 1);
}

#[test]
fn what_is_no_affair_of_node_proxies_stays_so() {
    for spec in [
        "{action: AUDIT, rules: [{}]}",
        "{action: CUSTOM, provider: {name: a}, rulez: []}",
    ] {
        let read = policy(spec);
        assert!(
            !read.action.is_supported() && read.unreadable.is_empty(),
            "{spec}"
        );
    }
    for spec in [
        "{targetRefs: [{kind: Serviec, name: a}], rulez: []}",
        "{targetRef: 7}",
    ] {
        let read = policy(spec);
        assert_eq!(
            (read.target_refs.len(), read.action, read.unreadable.len()),
            (1, Action::Allow, 0),
            "{spec}"
        );
    }
    // A DENY without rules is understood: it denies nothing.
    assert!(policy("{action: DENY}").rules.is_empty());
}

#[test]
fn a_peer_authentication_that_cannot_be_read_is_strict() {
    let selector = "selector: {matchLabels: {a: b}}";
    let cases = [
        (format!("{{{selector}, mtls: {{mode: PERMISIVE}}}}"), true),
        (
            format!(
                "{{{selector}, mtls: {{mode: PERMISSIVE}}, portLevelMtls: {{99999: {{mode: DISABLE}}}}}}"
            ),
            true,
        ),
        (format!("{{{selector}, mode: PERMISSIVE}}"), true),
        (
            "{selector: {matchLabels: 7}, mtls: {mode: DISABLE}}".to_owned(),
            false,
        ),
        ("7".to_owned(), false),
    ];
    for (spec, selects) in cases {
        let read = peer_in(&document(Kind::PeerAuthentication, &spec));
        assert_eq!(
            (read.mode, read.port_modes.len()),
            (MtlsMode::Strict, 0),
            "{spec}"
        );
        assert!(!read.unreadable.is_empty(), "{spec}");
        assert_eq!(
            (!read.selector.is_empty(), read.selects_unknown),
            (selects, !selects),
            "{spec}"
        );
    }
    // Without a time that can be read nobody knows which policy is the oldest.
    let good = document(
        Kind::PeerAuthentication,
        &format!("{{{selector}, mtls: {{mode: PERMISSIVE}}}}"),
    );
    let read = peer_in(&good.replace("name: p}", "name: p, creationTimestamp: today}"));
    assert_eq!((read.mode, read.selects_unknown), (MtlsMode::Strict, true));
}

#[test]
fn what_is_not_that_policy_is_refused() {
    let key = ObjectKey::new(Kind::PeerAuthentication, "demo", "p");
    let good = document(Kind::PeerAuthentication, "{}");
    let wrong = [
        String::new(),
        good.clone() + "---\n" + &good,
        good.replace("name: p", "name: q"),
        good.replace("demo", "other"),
        good.replace("PeerAuthentication", "AuthorizationPolicy"),
        good.replace("name: p", "name: q").replace("{}\n", "7\n"),
        "{".to_owned(),
    ];
    for text in wrong {
        assert!(parse_stored("m.yaml", &text, &key).is_err(), "{text}");
    }
    // Other kinds are read as strictly as ever.
    let key = ObjectKey::new(Kind::ServiceAccount, "demo", "p");
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {namespace: demo, name: p}\nnew: 1\n";
    assert!(parse_stored("m.yaml", account, &key).is_err());
}

#[test]
fn the_closed_ones_are_policies_that_close() {
    let closed = |kind| Object::closed(&ObjectKey::new(kind, "demo", "p"), "is gone");
    for kind in [Kind::AuthorizationPolicy, Kind::PeerAuthentication] {
        let object = closed(kind).expect("a policy");
        assert!(object.is_placeholder() && object.unreadable() == ["is gone"]);
        assert_eq!(object.key(), ObjectKey::new(kind, "demo", "p"));
        // Its text, read by anybody, closes too.
        let read = parse("m.yaml", &object.to_yaml()).expect("good").remove(0);
        assert!(!read.is_placeholder());
        match (read.spec, object.spec) {
            (Spec::AuthorizationPolicy(read), Spec::AuthorizationPolicy(closed)) => {
                assert_eq!((read.action, read.rules), (closed.action, closed.rules));
            }
            (Spec::PeerAuthentication(read), Spec::PeerAuthentication(closed)) => {
                assert_eq!((read.mode, closed.mode), (MtlsMode::Strict, MtlsMode::Strict));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(closed(Kind::Pod), None);
}
