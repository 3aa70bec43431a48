//! Each wrong manifest with the line, the path and a part of the message.

use super::super::parse;

/// What the errors say: line, field, and a part of the problem.
fn refused(text: &str, expected: &[(usize, &str, &str)]) {
    let errors = parse("m.yaml", text).expect_err(text).0;
    let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), expected.len(), "{found:#?}\n{text}");
    for (error, (line, field, problem)) in errors.iter().zip(expected) {
        assert_eq!(
            (error.line, error.field.as_str()),
            (Some(*line), *field),
            "{error}"
        );
        assert!(error.problem.contains(problem), "{error}");
        assert!(
            error.to_string().starts_with(&format!("m.yaml:{line}: ")),
            "{error}"
        );
    }
}

/// A document of one kind whose spec is on line 4.
fn document(version: &str, kind: &str, spec: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: p}}\nspec: {spec}\n")
}

fn pod(spec: &str) -> String {
    document("v1", "Pod", spec)
}

/// One error on line 4.
fn pod_refused(spec: &str, field: &str, problem: &str) {
    refused(&pod(spec), &[(4, field, problem)]);
}

fn container_refused(container: &str, field: &str, problem: &str) {
    let spec = format!("{{containers: [{{name: a, {container}}}]}}");
    pod_refused(&spec, &format!("spec.containers[0]{field}"), problem);
}

fn service_refused(spec: &str, field: &str, problem: &str) {
    refused(&document("v1", "Service", spec), &[(4, field, problem)]);
}

fn peer_refused(spec: &str, field: &str, problem: &str) {
    refused(
        &document("security.istio.io/v1", "PeerAuthentication", spec),
        &[(4, field, problem)],
    );
}

fn authorization(spec: &str) -> String {
    document("security.istio.io/v1", "AuthorizationPolicy", spec)
}

fn authorization_refused(spec: &str, field: &str, problem: &str) {
    refused(&authorization(spec), &[(4, field, problem)]);
}

fn rule_refused(rule: &str, field: &str, problem: &str) {
    authorization_refused(
        &format!("{{rules: [{{{rule}}}]}}"),
        &format!("spec.rules[0]{field}"),
        problem,
    );
}

fn source_refused(source: &str, field: &str, problem: &str) {
    rule_refused(
        &format!("from: [{{source: {source}}}]"),
        &format!(".from[0].source{field}"),
        problem,
    );
}

#[test]
fn documents() {
    let named = |rest: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: a{rest}\n");
    refused(
        "- a\n",
        &[(
            1,
            "",
            "must be a mapping with apiVersion, kind and metadata, not a list",
        )],
    );
    refused("just text\n", &[(1, "", "not the string \"just text\"")]);
    refused(
        "a: 1\n",
        &[(1, "", "apiVersion is missing"), (1, "", "kind is missing")],
    );
    let kind = "\"Ingress\" is not supported; supported are Namespace (v1)";
    refused(
        "apiVersion: v1\nkind: Ingress\nmetadata: {name: a}\n",
        &[(2, "kind", kind)],
    );
    let foreign =
        "\"CiliumNetworkPolicy\" is not supported, so that nothing of it would be enforced: only Cilium";
    refused(
        &document("cilium.io/v2", "CiliumNetworkPolicy", "{}"),
        &[(2, "kind", foreign)],
    );
    refused(
        &document("v2", "Pod", "{containers: [{name: a}]}"),
        &[(1, "apiVersion", "use v1")],
    );
    refused(
        "apiVersion: v1\nkind: Namespace\n",
        &[(1, "", "metadata is missing")],
    );
    refused(
        &named(", namespace: b}"),
        &[(3, "metadata.namespace", "lives in no namespace")],
    );
    refused(
        &named(", creationTimestamp: today}"),
        &[(3, "metadata.creationTimestamp", "no time")],
    );
    refused(&named(".b}"), &[(3, "metadata.name", "DNS-1123 label")]);
    refused(&named("}\nspecs: {}"), &[(4, "specs", "did you mean spec?")]);
    let unnamed = "apiVersion: v1\nkind: Namespace\nmetadata:\n  generateName: a\n";
    refused(unnamed, &[(4, "metadata", "name is missing")]);
    refused(
        "apiVersion: v1\nkind: List\nitems: {}\n",
        &[(3, "items", "must be a list")],
    );
    let list =
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: A\n";
    refused(list, &[(7, "metadata.name", "\"A\" is no DNS-1123 label")]);
}

#[test]
fn labels() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n    a: yes\n    b/: c\n    c: d e\n";
    refused(
        text,
        &[
            (
                6,
                "metadata.labels.a",
                "is the boolean true, but must be a string: put it in quotes",
            ),
            (7, "metadata.labels[\"b/\"]", "the key \"b/\""),
            (8, "metadata.labels.c", "\"d e\" is no label value"),
        ],
    );
}

#[test]
fn two_with_the_same_name() {
    let text = format!(
        "{}---\n{}",
        pod("{containers: [{name: a}]}"),
        pod("{containers: [{name: b}]}")
    );
    let error = parse("m.yaml", &text).expect_err("twice").to_string();
    assert_eq!(
        error,
        "m.yaml:6: Pod default/p: is defined twice: on line 1 and on line 6"
    );
}

#[test]
fn pods() {
    pod_refused("{}", "spec", "containers is missing");
    pod_refused("{containers: []}", "spec.containers", "at least one container");
    pod_refused(
        "{containers: [{name: a}, {name: a}]}",
        "spec.containers[1]",
        "already a container named \"a\"",
    );
    pod_refused(
        "{containers: [{image: a}]}",
        "spec.containers[0]",
        "name is missing",
    );
    pod_refused(
        "{containers: [{name: a}], restartPolicy: always}",
        "spec.restartPolicy",
        "did you mean Always?",
    );
    pod_refused(
        "{containers: [{name: a}], hostNetwork: \"true\"}",
        "spec.hostNetwork",
        "must be true or false",
    );
    container_refused("comand: [a]", ".comand", "did you mean command?");
    container_refused(
        "command: a",
        ".command",
        "is the string \"a\", but must be a list",
    );
    container_refused("args: [1]", ".args[0]", "is the number 1, but must be a string");
    container_refused(
        "ports: [{containerPort: 0}]",
        ".ports[0].containerPort",
        "between 1 and 65535",
    );
    container_refused(
        "ports: [{containerPort: 65536}]",
        ".ports[0].containerPort",
        "is the number 65536",
    );
    container_refused(
        "ports: [{containerPort: \"80\"}]",
        ".ports[0].containerPort",
        "is the string \"80\"",
    );
    container_refused("env: [{name: A, value: 1}]", ".env[0].value", "put it in quotes");
    container_refused(
        "env: [{name: A=B, value: a}]",
        ".env[0].name",
        "no name of a variable",
    );
    let path = "env: [{name: B, valueFrom: {fieldRef: {fieldPath: x}}}]";
    container_refused(
        path,
        ".env[0].valueFrom.fieldRef.fieldPath",
        "use one of metadata.name",
    );
    let status = pod("{containers: [{name: a}]}") + "status: {podIP: 1.2.3}\n";
    refused(&status, &[(5, "status.podIP", "no IP address")]);
}

#[test]
fn services() {
    service_refused("{}", "spec", "ports is missing");
    service_refused(
        "{ports: [{port: 0}]}",
        "spec.ports[0].port",
        "between 1 and 65535",
    );
    service_refused(
        "{ports: [{port: 1, targetPort: 70000}]}",
        "spec.ports[0].targetPort",
        "70000",
    );
    service_refused(
        "{ports: [{port: 1, targetPort: \"80\"}]}",
        "spec.ports[0].targetPort",
        "no port name",
    );
    service_refused(
        "{ports: [{port: 1, name: a}, {port: 1, name: b}]}",
        "spec.ports[1]",
        "port 1 is there already",
    );
    service_refused(
        "{ports: [{port: 1}, {port: 2, name: b}]}",
        "spec.ports[0]",
        "needs a name",
    );
    service_refused(
        "{ports: [{port: 1, name: a}, {port: 2, name: a}]}",
        "spec.ports[1]",
        "already a port named",
    );
    service_refused(
        "{clusterIP: none, ports: [{port: 1}]}",
        "spec.clusterIP",
        "no IP address",
    );
    service_refused(
        "{clusterIP: 127.0.0.1, ports: [{port: 1}]}",
        "spec.clusterIP",
        "no address that a pod",
    );
    service_refused(
        "{clusterIP: None, clusterIPs: [10.0.0.1]}",
        "spec",
        "either None or an address",
    );
    service_refused("{type: ExternalName}", "spec", "needs externalName");
    service_refused(
        "{ports: [{port: 1}], externalName: a}",
        "spec",
        "only for a Service of type ExternalName",
    );
    let distribution = "{ports: [{port: 1}], trafficDistribution: Close}";
    service_refused(distribution, "spec.trafficDistribution", "use one of PreferClose");
    let named = "apiVersion: v1\nkind: Service\nmetadata: {name: 0s}\nspec: {ports: [{port: 1}]}\n";
    refused(named, &[(3, "metadata.name", "must begin with a letter")]);
}

#[test]
fn deployments_nodes_and_slices() {
    let deployment = |spec: &str| document("apps/v1", "Deployment", spec);
    let template = "template: {spec: {containers: [{name: a}]}}";
    let unmatched = deployment(&format!("{{selector: {{matchLabels: {{a: b}}}}, {template}}}"));
    refused(
        &unmatched,
        &[(4, "spec.selector", "does not match the labels of the template")],
    );
    let empty = deployment(&format!("{{replicas: -1, selector: {{}}, {template}}}"));
    let expected = [
        (4, "spec.replicas", "is the number -1"),
        (4, "spec.selector", "must not be empty"),
    ];
    refused(&empty, &expected);
    refused(
        &document("v1", "Node", "{podCIDR: 10.0.0.0}"),
        &[(4, "spec.podCIDR", "no address prefix")],
    );
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e}\naddressType: IPv4\n\
                 endpoints: [{addresses: [\"fd00::1\"]}]\n";
    refused(
        slice,
        &[(5, "endpoints[0].addresses[0]", "not of the slice's addressType")],
    );
}

#[test]
fn peer_authentications() {
    peer_refused("{mtls: {mode: strict}}", "spec.mtls.mode", "did you mean STRICT?");
    peer_refused("{mtsl: {mode: STRICT}}", "spec.mtsl", "did you mean mtls?");
    peer_refused(
        "{portLevelMtls: {80: {mode: STRICT}}}",
        "spec.portLevelMtls",
        "needs a selector",
    );
    peer_refused(
        "{selector: {}, portLevelMtls: {80: {mode: STRICT}}}",
        "spec.portLevelMtls",
        "needs a selector",
    );
    let ports = |ports: &str| format!("{{selector: {{matchLabels: {{a: b}}}}, portLevelMtls: {{{ports}}}}}");
    peer_refused(&ports(""), "spec.portLevelMtls", "at least one port");
    peer_refused(
        &ports("0: {mode: STRICT}"),
        "spec.portLevelMtls.0",
        "\"0\" is no port",
    );
    peer_refused(&ports("65536: {}"), "spec.portLevelMtls.65536", "is no port");
    peer_refused(&ports("http: {}"), "spec.portLevelMtls.http", "is no port");
    peer_refused(&ports("080: {}"), "spec.portLevelMtls.080", "is no port");
    let star = "{selector: {matchLabels: {\"*\": b}}}";
    peer_refused(star, "spec.selector.matchLabels[\"*\"]", "not accepted");
}

#[test]
fn authorization_policies() {
    let port = "\n  rules:\n  - to:\n    - operation:\n        ports:\n        - \"80\"\n        - \"80000\"\n        - 81";
    let expected = [
        (
            10,
            "spec.rules[0].to[0].operation.ports[1]",
            "\"80000\" is no port",
        ),
        (11, "spec.rules[0].to[0].operation.ports[2]", "put it in quotes"),
    ];
    refused(&authorization(port), &expected);
    authorization_refused(
        "{selector: {}, targetRef: {kind: Service, name: a}}",
        "spec",
        "at most one of",
    );
    authorization_refused("{action: DENY}", "spec", "needs rules");
    authorization_refused(
        "{action: AUDIT, rules: [{}]}",
        "spec.action",
        "AUDIT is not enforced here",
    );
    authorization_refused(
        "{action: CUSTOM, rules: [{}]}",
        "spec.action",
        "external authorizer",
    );
    authorization_refused("{action: allow}", "spec.action", "did you mean ALLOW?");
    authorization_refused("{provider: {name: x}}", "spec.provider", "CUSTOM");
    let rules = vec!["{}"; 513].join(",");
    authorization_refused(
        &format!("{{rules: [{rules}]}}"),
        "spec.rules",
        "has 513 items; at most 512",
    );
    let targets = vec!["{kind: Service, name: a}"; 17].join(",");
    authorization_refused(
        &format!("{{targetRefs: [{targets}]}}"),
        "spec.targetRefs",
        "at most 16",
    );
    let pod = "{targetRefs: [{kind: Pod, name: a}]}";
    authorization_refused(pod, "spec.targetRefs[0]", "cannot be attached to \"Pod\"");
    let foreign = "{targetRefs: [{kind: Service, name: a, namespace: other}]}";
    authorization_refused(foreign, "spec.targetRefs[0].namespace", "own namespace");
}

#[test]
fn authorization_rules() {
    rule_refused("from: []", ".from", "empty list");
    rule_refused("from: [{}]", ".from[0]", "source is missing");
    rule_refused("to: [{operation: {}}]", ".to[0].operation", "match everything");
    rule_refused("to: []", ".to", "empty list");
    source_refused("{}", "", "match everybody");
    source_refused("{principals: }", "", "match everybody");
    source_refused("{principals: []}", ".principals", "empty list");
    source_refused(
        "{principals: [\"spiffe://cluster.local/ns/a/sa/b\"]}",
        ".principals[0]",
        "drop spiffe://",
    );
    source_refused("{principals: [\"\"]}", ".principals[0]", "is empty");
    source_refused("{principals: [\"a*b\"]}", ".principals[0]", "taken literally");
    source_refused(
        "{notNamespaces: [\"*a*\"]}",
        ".notNamespaces[0]",
        "taken literally",
    );
    source_refused("{ipBlocks: [10.0.0.0/33]}", ".ipBlocks[0]", "longer than 32 bits");
    source_refused(
        "{notIpBlocks: [ten]}",
        ".notIpBlocks[0]",
        "no IP address or prefix",
    );
    source_refused("{trustDomains: [a]}", ".trustDomains[0]", "not enforced here");
    source_refused(
        "{notTrustDomains: [a]}",
        ".notTrustDomains[0]",
        "not enforced here",
    );
    source_refused(
        "{serviceAccounts: [a/b/c]}",
        ".serviceAccounts[0]",
        "no service account",
    );
    source_refused(
        "{serviceAccounts: [\"*\"]}",
        ".serviceAccounts[0]",
        "'*' is not accepted",
    );
    for others in [
        "principals: [b]",
        "notPrincipals: [b]",
        "namespaces: [b]",
        "notNamespaces: [b]",
        "principals: [b], notNamespaces: [c]",
    ] {
        for accounts in ["serviceAccounts", "notServiceAccounts"] {
            source_refused(
                &format!("{{{accounts}: [a], {others}}}"),
                "",
                "exclude principals and namespaces",
            );
        }
    }
    // A name of 253 characters, with a namespace that just keeps within the limit and is no label, and longer ones.
    let name = vec!["a".repeat(63); 4].join(".")[..253].to_owned();
    for (namespace, problem) in [
        (66, "is no service account"),
        (67, "longer than 320 characters"),
        (80, "longer than 320 characters"),
    ] {
        source_refused(
            &format!("{{serviceAccounts: [{}/{name}]}}", "b".repeat(namespace)),
            ".serviceAccounts[0]",
            problem,
        );
    }
    let accounts = vec!["a"; 17].join(",");
    source_refused(
        &format!("{{serviceAccounts: [{accounts}]}}"),
        ".serviceAccounts",
        "at most 16",
    );
    source_refused(
        "{principal: [a], namespaces: [b]}",
        ".principal",
        "did you mean principals?",
    );
    rule_refused(
        "when: [{key: source.port, values: [\"1\"]}]",
        ".when[0].key",
        "no attribute \"source.port\"",
    );
    rule_refused(
        "when: [{key: source.ip}]",
        ".when[0]",
        "needs values or notValues",
    );
    rule_refused(
        "when: [{key: destination.port, values: [\"0\"]}]",
        ".when[0].values[0]",
        "is no port",
    );
    let scheme = "when: [{key: source.principal, notValues: [\"spiffe://a\"]}]";
    rule_refused(scheme, ".when[0].notValues[0]", "drop spiffe://");
}
