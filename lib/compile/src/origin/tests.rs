//! What policies and workloads say about the objects they stem from.

use prost::Message;
use proto::origin::{
    DRY_RUN_EXTENSION, DryRunPolicies, Effect, NotEnforced, ORIGIN_EXTENSION, Origin,
    PEER_AUTHENTICATION_EXTENSION, PeerAuthenticationOrigin,
};
use proto::workload::Extension;

use crate::testing::{compiled, pod, puts, workload};
use crate::{Compiler, Settings};

const POD: &str = "Kubernetes//Pod/demo/web";
const STRICT: &str = "istio-system/istio_converted_static_strict";

fn object(kind: &str, place: &str, spec: &str) -> String {
    let (namespace, name) = place.split_once('/').expect("namespace/name");
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\n\
         metadata: {{namespace: {namespace}, name: {name}, generation: 7}}\nspec: {spec}\n"
    )
}

fn peer(place: &str, spec: &str) -> String {
    object("PeerAuthentication", place, spec)
}

/// The message that travels under a name; panics when it travels twice.
fn read<M: Message + Default>(extensions: &[Extension], name: &str, kind: &str) -> Option<M> {
    let found: Vec<&Extension> = extensions
        .iter()
        .filter(|extension| extension.name == name)
        .collect();
    assert!(found.len() <= 1, "{extensions:?}");
    let config = found.first()?.config.as_ref().expect("a config");
    assert_eq!(config.type_url, format!("type.googleapis.com/ztunnel.dev.{kind}"));
    Some(M::decode(&*config.value).expect("a message"))
}

fn policy_origin(compiler: &Compiler, key: &str) -> Option<Origin> {
    read(&compiler.policies()[key].extensions, ORIGIN_EXTENSION, "Origin")
}

fn mtls_origin(compiler: &Compiler) -> Option<PeerAuthenticationOrigin> {
    let extensions = &workload(compiler, POD).extensions;
    read(
        extensions,
        PEER_AUTHENTICATION_EXTENSION,
        "PeerAuthenticationOrigin",
    )
}

fn origin(kind: &str, place: &str) -> Origin {
    let (namespace, name) = place.split_once('/').expect("namespace/name");
    Origin {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        generation: 7,
        ..Origin::default()
    }
}

fn lost(rule: u32, attributes: &[&str], effect: Effect) -> NotEnforced {
    NotEnforced {
        rule,
        attributes: attributes.iter().map(|name| (*name).to_owned()).collect(),
        effect: effect.into(),
    }
}

#[test]
fn a_policy_names_its_object_and_the_rules_it_was_made_of() {
    let rules = "[{to: [{operation: {methods: [GET], hosts: [a]}}]}, {to: [{operation: {ports: [\"80\"]}}]},
                  {to: [{operation: {ports: [\"81\"], paths: [/a]}}]}, {}]";
    let made = |action: &str| {
        let text = object(
            "AuthorizationPolicy",
            "demo/p",
            &format!("{{action: {action}, rules: {rules}}}"),
        );
        let compiler = compiled(&text);
        let rules = compiler.policies()["demo/p"].rules.len();
        (policy_origin(&compiler, "demo/p").expect("an origin"), rules)
    };
    let expected = |rules: &[u32], not_enforced: Vec<NotEnforced>| Origin {
        rules: rules.to_vec(),
        not_enforced,
        ..origin("AuthorizationPolicy", "demo/p")
    };
    let omitted = vec![
        lost(0, &["hosts", "methods"], Effect::RuleOmitted),
        lost(2, &["paths"], Effect::RuleOmitted),
    ];
    assert_eq!(made("ALLOW"), (expected(&[1, 3], omitted), 2));
    let erased = vec![
        lost(0, &["hosts", "methods"], Effect::NoEffect),
        lost(2, &["paths"], Effect::EnforcedWithout),
    ];
    assert_eq!(made("DENY"), (expected(&[0, 1, 2, 3], erased), 4));
}

#[test]
fn a_workload_names_what_decides_about_plaintext() {
    let web = pod("demo", "web", "{app: web}", "");
    let mesh = peer("istio-system/mesh", "{mtls: {mode: STRICT}}");
    let namespace = peer("demo/all", "{mtls: {mode: STRICT}}");
    let unset = peer("demo/all", "{}");
    let own = |rest: &str| {
        peer(
            "demo/own",
            &format!("{{selector: {{matchLabels: {{app: web}}}}{rest}}}"),
        )
    };
    let base = |place: &str| PeerAuthenticationOrigin {
        base: Some(origin("PeerAuthentication", place)),
        ..PeerAuthenticationOrigin::default()
    };
    let with_ports = |base: Option<&str>, ports: &[u32]| PeerAuthenticationOrigin {
        base: base.map(|place| origin("PeerAuthentication", place)),
        by_port: Some(origin("PeerAuthentication", "demo/own")),
        ports: ports.to_vec(),
    };
    let cases = [
        (vec![&mesh], Some(base("istio-system/mesh"))),
        (vec![&mesh, &unset], Some(base("istio-system/mesh"))),
        (vec![&mesh, &namespace], Some(base("demo/all"))),
        (vec![&unset], None),
    ];
    for (objects, expected) in cases {
        let text: String = objects.into_iter().map(String::as_str).collect();
        assert_eq!(mtls_origin(&compiled(&(web.clone() + &text))), expected, "{text}");
    }
    let ports = ", portLevelMtls: {80: {mode: PERMISSIVE}, 81: {mode: STRICT}, 82: {mode: UNSET}}";
    let cases = [
        (
            mesh.clone(),
            ports.to_owned(),
            Some(with_ports(Some("istio-system/mesh"), &[80, 81])),
        ),
        (
            mesh.clone(),
            format!(", mtls: {{mode: STRICT}}{ports}"),
            Some(with_ports(Some("demo/own"), &[80, 81])),
        ),
        (String::new(), ports.to_owned(), Some(with_ports(None, &[80, 81]))),
        (mesh.clone(), ", mtls: {mode: DISABLE}".to_owned(), None),
    ];
    for (others, rest, expected) in cases {
        let compiler = compiled(&(web.clone() + &others + &own(&rest)));
        assert_eq!(mtls_origin(&compiler), expected, "{rest}");
    }
}

#[test]
fn converted_policies_name_the_peer_authentication_and_the_shared_one_nobody() {
    let own = peer(
        "demo/own",
        "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: PERMISSIVE}}}",
    );
    let compiler = compiled(&(pod("demo", "web", "{app: web}", "") + &own));
    assert_eq!(
        policy_origin(&compiler, "demo/converted_peer_authentication_own"),
        Some(origin("PeerAuthentication", "demo/own"))
    );
    assert_eq!(policy_origin(&compiler, STRICT), None);
}

#[test]
fn dry_runs_are_listed_apart_unless_the_settings_say_otherwise() {
    let spec = "{selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}";
    let tried = |name: &str| {
        object("AuthorizationPolicy", name, spec)
            .replace("generation: 7", "annotations: {istio.io/dry-run: \"true\"}")
    };
    let text = pod("demo", "web", "{app: web}", "")
        + &tried("istio-system/z")
        + &tried("demo/a")
        + &object("AuthorizationPolicy", "demo/b", spec);
    for list_dry_run in [false, true] {
        let mut compiler = Compiler::new(Settings {
            list_dry_run,
            ..Settings::default()
        });
        compiler.apply(puts(&text));
        let web = workload(&compiler, POD);
        let listed: &[&str] = if list_dry_run {
            &["demo/a", "demo/b", "istio-system/z"]
        } else {
            &["demo/b"]
        };
        assert_eq!(web.authorization_policies, listed);
        let apart: DryRunPolicies =
            read(&web.extensions, DRY_RUN_EXTENSION, "DryRunPolicies").expect("listed apart");
        assert_eq!(apart.policies, ["demo/a", "istio-system/z"]);
        for (key, expected) in [("demo/a", true), ("demo/b", false), ("istio-system/z", true)] {
            assert_eq!(compiler.policies()[key].dry_run, expected, "{key}");
        }
        // The model of the node proxy meets them all, and enforces only the others.
        let read = mesh::Workload::from_proto(web.clone()).expect("a good workload");
        let keys: Vec<&str> = read.dry_run_policies.iter().map(|key| &**key).collect();
        assert_eq!(keys, ["demo/a", "istio-system/z"]);
    }
    // A pod that no dry run selects says nothing of them.
    let bare = compiled(&(pod("demo", "web", "{}", "") + &tried("demo/a")));
    assert!(workload(&bare, POD).extensions.is_empty());
}

#[test]
fn another_deciding_object_is_news_for_the_workload() {
    let mut compiler =
        compiled(&(pod("demo", "web", "{}", "") + &peer("istio-system/mesh", "{mtls: {mode: STRICT}}")));
    let output = compiler.apply(puts(&peer("demo/all", "{mtls: {mode: STRICT}}")));
    assert_eq!(output.addresses.keys().collect::<Vec<_>>(), [POD]);
    assert_eq!(
        mtls_origin(&compiler).and_then(|origin| origin.base),
        Some(origin("PeerAuthentication", "demo/all"))
    );
    let later = peer("demo/all", "{mtls: {mode: STRICT}}").replace("generation: 7", "generation: 8");
    let output = compiler.apply(puts(&later));
    assert_eq!(output.addresses.keys().collect::<Vec<_>>(), [POD]);
    assert_eq!(
        mtls_origin(&compiler)
            .and_then(|origin| origin.base)
            .map(|origin| origin.generation),
        Some(8)
    );
}

#[test]
fn what_cannot_be_read_as_a_whole_says_why_and_a_bounded_part_of_it() {
    let stored = |kind, spec: serde_json::Value| {
        let value = serde_json::json!({
            "apiVersion": "security.istio.io/v1", "kind": objects::Kind::as_str(kind),
            "metadata": {"name": "own", "namespace": "demo", "generation": 7}, "spec": spec,
        });
        let key = objects::ObjectKey::new(kind, "demo", "own");
        objects::Object::from_stored_value(&value, &key).expect("an object")
    };
    let unknown = serde_json::json!({"selector": {"matchLabels": {"a": 1}}});
    for kind in [
        objects::Kind::AuthorizationPolicy,
        objects::Kind::PeerAuthentication,
    ] {
        let origin = super::of(&stored(kind, unknown.clone()));
        assert!(origin.closed_because.contains("matchLabels"), "{origin:?}");
        let good = super::of(&stored(kind, serde_json::json!({})));
        assert_eq!(good.closed_because, "");
    }
    let long = serde_json::json!({"selector": {"matchLabels": {"ü".repeat(9999): 1}}});
    let origin = super::of(&stored(objects::Kind::AuthorizationPolicy, long));
    assert!(
        origin.closed_because.chars().count() <= super::MAX_CLOSED_BECAUSE + 1,
        "{origin:?}"
    );
}
