//! The custom resource definitions: their schemas and CEL rules accept what is right and refuse what is wrong.

use std::path::{Path, PathBuf};

use kube_cel::Validator;
use serde_json::{Value, json};

/// What schema and rules say about an object, each as `field: message`; `None` for kinds that are not ours.
fn problems(object: &Value) -> Option<Vec<String>> {
    let definitions = charts::definitions().unwrap();
    let (group, version) = object["apiVersion"].as_str()?.split_once('/')?;
    let ours = |definition: &&Value| {
        definition["spec"]["group"] == group && definition["spec"]["names"]["kind"] == object["kind"]
    };
    let definition = definitions.iter().find(ours)?;
    let schema = charts::schema::of_version(definition, version).expect("a version that is served");
    let mut found: Vec<String> = charts::schema::check(definition, version, object)
        .into_iter()
        .map(|problem| format!("{}: {}", problem.field, problem.message))
        .collect();
    // As in an API server: rules are asked only of what the schema accepts.
    if found.is_empty()
        && let Err(errors) = Validator::new().validate(schema, object, None)
    {
        found.extend(
            errors
                .as_slice()
                .iter()
                .map(|error| format!("{}: {}", error.field_path, error.message)),
        );
    }
    Some(found)
}

fn object(kind: &str, spec: &str) -> Value {
    let group = match kind {
        "PeerAuthentication" | "AuthorizationPolicy" => "security.istio.io",
        _ => "networking.istio.io",
    };
    let spec = charts::parse(spec).unwrap().pop().unwrap_or(json!({}));
    json!({ "apiVersion": format!("{group}/v1"), "kind": kind, "metadata": { "name": "a", "namespace": "b" }, "spec": spec })
}

#[test]
fn every_example_is_accepted() {
    let mut files: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")];
    let mut checked = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            for object in charts::parse(&text).unwrap() {
                if let Some(problems) = problems(&object) {
                    assert_eq!(problems, [""; 0], "{}", path.display());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 0);
}

#[test]
fn what_is_right_is_accepted() {
    for (kind, spec) in [
        ("PeerAuthentication", ""),
        ("PeerAuthentication", "{mtls: {mode: STRICT}}"),
        (
            "PeerAuthentication",
            "{selector: {matchLabels: {app: a}}, portLevelMtls: {1: {mode: DISABLE}, 65535: {}}}",
        ),
        ("AuthorizationPolicy", ""),
        ("AuthorizationPolicy", "{action: DENY, rules: [{}]}"),
        (
            "AuthorizationPolicy",
            "{selector: {matchLabels: {app: a}}, rules: [{from: [{source: {serviceAccounts: [a/b, c], ipBlocks: [10.0.0.0/8]}}], \
             to: [{operation: {ports: ['80'], paths: [/a]}}], when: [{key: source.ip, notValues: [fd00::1]}]}]}",
        ),
        (
            "AuthorizationPolicy",
            "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]}",
        ),
        (
            "ServiceEntry",
            "{hosts: [a.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], addresses: [240.0.0.0/8], resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {http: 8080}, \
             weight: 2, labels: {app: a}, locality: a/b/c}, {network: remote}]}",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], resolution: STATIC, workloadSelector: {labels: {app: a}}}",
        ),
        (
            "WorkloadEntry",
            "{address: 10.0.0.1, serviceAccount: a, ports: {http: 1}}",
        ),
        ("WorkloadEntry", "{address: 'unix:///run/a.sock'}"),
        (
            "WorkloadGroup",
            "{metadata: {labels: {app: a}}, template: {serviceAccount: a}, probe: {httpGet: {port: 80, scheme: HTTP}}}",
        ),
    ] {
        let object = object(kind, spec);
        assert_eq!(problems(&object).unwrap(), [""; 0], "{kind} {spec}");
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let many = |count: usize, item: &str| vec![item; count].join(", ");
    let rules = format!("{{rules: [{}]}}", many(513, "{}"));
    let accounts = format!(
        "{{rules: [{{from: [{{source: {{serviceAccounts: [{}]}}}}]}}]}}",
        many(17, "a")
    );
    let long = format!(
        "{{rules: [{{from: [{{source: {{serviceAccounts: [{}]}}}}]}}]}}",
        "a".repeat(321)
    );
    let targets = format!("{{targetRefs: [{}]}}", many(17, "{kind: Service, name: a}"));
    let peer = "PeerAuthentication";
    let policy = "AuthorizationPolicy";
    let entry = "ServiceEntry";
    for (kind, spec, expected) in [
        (peer, "{mtls: {mode: STRIKT}}", "spec.mtls.mode: is \"STRIKT\""),
        (peer, "{mtls: {mod: STRICT}}", "spec.mtls.mod: is no field"),
        (
            peer,
            "{portLevelMtls: {80: {mode: STRICT}}}",
            "spec: portLevelMtls needs a selector",
        ),
        (
            peer,
            "{selector: {}, portLevelMtls: {80: {}}}",
            "portLevelMtls needs a selector",
        ),
        (
            peer,
            "{selector: {matchLabels: {}}, portLevelMtls: {80: {}}}",
            "portLevelMtls needs a selector",
        ),
        (
            peer,
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
            "at least 1",
        ),
        (
            peer,
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {}}}",
            "portLevelMtls",
        ),
        (
            peer,
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {65536: {}}}",
            "portLevelMtls",
        ),
        (
            peer,
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {http: {}}}",
            "portLevelMtls",
        ),
        (peer, "{selector: {matchLabels: {'*': b}}}", "no wildcards"),
        (peer, "{selector: {matchLabels: {'': b}}}", "not empty"),
        (peer, "{selector: {matchLabels: {a: 'b*'}}}", "no wildcards"),
        (policy, "{selector: {matchLabels: {'a*': b}}}", "no wildcards"),
        (policy, "{action: allow}", "spec.action: is \"allow\""),
        (
            policy,
            "{selector: {}, targetRef: {kind: Service, name: a}}",
            "spec: at most one of",
        ),
        (
            policy,
            "{targetRef: {kind: Service, name: a}, targetRefs: []}",
            "at most one of",
        ),
        (policy, &rules, "spec.rules: has 513 items"),
        (policy, &accounts, "serviceAccounts: has 17 items"),
        (policy, &long, "serviceAccounts[0]: has 321 characters"),
        (policy, &targets, "spec.targetRefs: has 17 items"),
        (
            policy,
            "{targetRefs: [{kind: Service, name: a, namespace: other}]}",
            "another namespace",
        ),
        (policy, "{targetRefs: [{kind: Service}]}", "needs name"),
        (
            policy,
            "{targetRefs: [{kind: '', name: a}]}",
            "kind: has 0 characters",
        ),
        (
            policy,
            "{rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]}",
            "serviceAccounts cannot be set together",
        ),
        (
            policy,
            "{rules: [{from: [{source: {notServiceAccounts: [a], notPrincipals: [b]}}]}]}",
            "serviceAccounts cannot be set together",
        ),
        (
            policy,
            "{rules: [{from: [{source: {principal: [a]}}]}]}",
            "principal: is no field",
        ),
        (
            policy,
            "{rules: [{to: [{operation: {ports: [80]}}]}]}",
            "ports[0]: must be of type string",
        ),
        (policy, "{rules: [{when: [{values: [a]}]}]}", "needs key"),
        (entry, "{}", "spec: needs hosts"),
        (entry, "{hosts: []}", "hosts: has 0 items"),
        (entry, "{hosts: ['*']}", "more than a wildcard"),
        (
            entry,
            "{hosts: [a], ports: [{number: 0, name: a}]}",
            "between 1 and 65535",
        ),
        (
            entry,
            "{hosts: [a], ports: [{number: 80, name: a, targetPort: 65536}]}",
            "between 1 and 65535",
        ),
        (
            entry,
            "{hosts: [a], ports: [{number: 80, name: a}, {number: 80, name: b}]}",
            "no port can be there twice",
        ),
        (
            entry,
            "{hosts: [a], ports: [{number: 80, name: a}, {number: 81, name: a}]}",
            "two items with the same",
        ),
        (
            entry,
            "{hosts: [a], addresses: [10.0.0.0/8], resolution: DNS}",
            "only where the resolution is",
        ),
        (
            entry,
            "{hosts: [a], endpoints: [{address: b}]}",
            "other than NONE",
        ),
        (
            entry,
            "{hosts: [a], resolution: NONE, endpoints: [{address: b}]}",
            "other than NONE",
        ),
        (
            entry,
            "{hosts: [a], resolution: DNS_ROUND_ROBIN, endpoints: [{address: b}, {address: c}]}",
            "one endpoint at most",
        ),
        (
            entry,
            "{hosts: [a], resolution: STATIC, workloadSelector: {}, endpoints: [{address: b}]}",
            "at most one of workloadSelector",
        ),
        (
            entry,
            "{hosts: [a], resolution: STATIC, endpoints: [{weight: 1}]}",
            "an address is needed",
        ),
        (
            entry,
            "{hosts: [a], resolution: STATIC, endpoints: [{address: b, ports: {a_b: 1}}]}",
            "letters, digits and dashes",
        ),
        (
            entry,
            "{hosts: [a], resolution: STATIC, endpoints: [{address: b, ports: {a: 65536}}]}",
            "between 1 and 65535",
        ),
        ("WorkloadEntry", "{weight: 1}", "an address is needed"),
        ("WorkloadEntry", "{address: 'unix://a'}", "absolute path"),
        ("WorkloadEntry", "{address: 'unix:///a/'}", "no directory"),
        (
            "WorkloadEntry",
            "{address: 'unix:///a', ports: {a: 1}}",
            "a unix socket has no ports",
        ),
        ("WorkloadGroup", "{}", "needs template"),
        (
            "WorkloadGroup",
            "{template: {}, probe: {exec: {command: [a]}, tcpSocket: {port: 1}}}",
            "only one",
        ),
        (
            "WorkloadGroup",
            "{template: {}, probe: {httpGet: {port: 1, scheme: FTP}}}",
            "HTTP or HTTPS",
        ),
        (
            "WorkloadGroup",
            "{template: {}, probe: {tcpSocket: {port: 0}}}",
            "between 1 and 65535",
        ),
    ] {
        let found = problems(&object(kind, spec)).unwrap();
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{kind} {spec}: {found:?}"
        );
    }
}

#[test]
fn every_version_has_the_same_schema_and_every_rule_can_be_read() {
    let definitions = charts::definitions().unwrap();
    assert_eq!(definitions.len(), 5);
    let mut rules = Vec::new();
    for definition in &definitions {
        let versions = definition["spec"]["versions"].as_array().unwrap();
        assert!(versions.len() >= 2);
        assert!(
            versions
                .iter()
                .all(|version| version["schema"] == versions[0]["schema"])
        );
        assert_eq!(
            versions
                .iter()
                .filter(|version| version["storage"] == true)
                .count(),
            1
        );
        collect(&versions[0]["schema"], &mut rules);
    }
    assert!(rules.len() > 20, "{}", rules.len());
    for rule in rules {
        assert!(kube_cel::cel::Program::compile(&rule).is_ok(), "{rule}");
    }
}

fn collect(schema: &Value, rules: &mut Vec<String>) {
    match schema {
        Value::Object(entries) => {
            for (name, value) in entries {
                match (name.as_str(), value) {
                    ("x-kubernetes-validations", Value::Array(list)) => {
                        rules.extend(list.iter().map(|rule| rule["rule"].as_str().unwrap().to_owned()));
                    }
                    _ => collect(value, rules),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, rules)),
        _ => {}
    }
}
