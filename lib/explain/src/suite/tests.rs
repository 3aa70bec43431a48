use super::Suite;
use crate::testing::{SHOP, world};

fn suite(text: &str) -> Suite {
    Suite::read("tests.yaml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn cases_pass_and_fail_with_a_reason() {
    let suite = suite(
        "
manifests: [a.yaml, b/]
cases:
- {name: open, from: outside/legacy, to: 'shop/web:80', expect: allow}
- name: closed by its own object
  objects:
  - apiVersion: security.istio.io/v1
    kind: PeerAuthentication
    metadata: {name: strict, namespace: shop}
    spec: {mtls: {mode: STRICT}}
  from: outside/legacy
  to: shop/web:80
  expect: deny
- {name: open again, from: outside/legacy, to: 'shop/web:80', expect: deny}
- {name: nobody decides, from: shop/client, to: 'shop/web:80', expect: allow, by: shop/x}
- {name: not there, from: shop/gone, to: 'shop/web:80', expect: allow}
- name: a policy of its own
  objects:
  - apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {name: only-client, namespace: shop}
    spec: {rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]}]}
  from: sa:shop/client
  to: shop/web:80
  expect: allow
  by: shop/only-client
",
    );
    assert_eq!(suite.manifests, ["a.yaml", "b/"]);
    let mut world = world(SHOP);
    let outcomes: Vec<String> = suite
        .cases
        .iter()
        .map(|case| match case.run(&mut world) {
            Ok(_) => format!("{}: passed", case.line),
            Err(failed) => format!("{}: {failed}", case.line),
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            "4: passed",
            "5: passed",
            "14: expected deny, is allowed: no ALLOW policy selects this workload, and no DENY policy matched",
            "15: expected allow by shop/x, is allowed: no ALLOW policy selects this workload, and no DENY policy matched",
            "16: could not be answered: there is no pod shop/gone",
            "17: passed",
        ]
    );
}

#[test]
fn what_is_wrong_with_a_file_is_named_with_line_and_field() {
    let text = "
manifest: [a]
cases:
- from: web
  to: shop/web
  expect: yes
  by: x
- name: b
  from: a/b
  to: a/b:80
  expect: perhaps
  objects:
  - apiVersion: security.istio.io/v1
    kind: PeerAuthentication
    metadata: {name: strict, namespace: shop}
    spec: {mtls: {mode: STRIKT}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: x}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: x}}
";
    let errors = Suite::read("tests.yaml", text).unwrap_err().to_string();
    let expected = [
        "tests.yaml:2: manifest: there is no such field; did you mean manifests?",
        "tests.yaml:4: cases[0]: name is missing: what the case is about",
        "tests.yaml:4: cases[0].from: \"web\" is no caller: write NAMESPACE/POD, sa:NAMESPACE/NAME, sa:NAMESPACE/NAME@IP or plaintext:IP",
        "tests.yaml:5: cases[0].to: \"shop/web\" is no target: write NAMESPACE/POD:PORT or service:NAMESPACE/NAME:PORT",
        "tests.yaml:6: cases[0].expect: is the boolean true, but must be a string: put it in quotes",
        "tests.yaml:7: cases[0].by: \"x\" is no policy: write NAMESPACE/NAME",
        "tests.yaml:11: cases[1].expect: \"perhaps\" is not accepted: use one of allow, deny",
        "tests.yaml:16: PeerAuthentication shop/strict: cases[1].objects[0].spec.mtls.mode: \"STRIKT\" is not accepted: use one of UNSET, DISABLE, PERMISSIVE, STRICT; did you mean STRICT?",
        "tests.yaml:18: cases[1].objects[2]: Namespace x is given twice",
    ];
    let found: Vec<&str> = errors.lines().collect();
    assert_eq!(found, expected);
    assert!(
        Suite::read("t", "[]").is_err()
            && Suite::read("t", "manifests: []").is_err()
            && Suite::read("t", "").is_err()
    );
}

/// Cases about Services too are answered by their own policies, for each endpoint.
#[test]
fn a_policy_of_a_case_counts_for_every_endpoint_of_a_service() {
    let text = format!(
        "{SHOP}apiVersion: v1
kind: Pod
metadata: {{namespace: shop, name: web-2, labels: {{app: web, version: two}}}}
spec: {{containers: [{{name: a}}]}}
---
apiVersion: v1
kind: Service
metadata: {{namespace: shop, name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}
"
    );
    let suite = suite(
        "
cases:
- {name: open, from: shop/client, to: 'service:shop/web:80', expect: allow}
- name: one of two refuses
  objects:
  - apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {name: second, namespace: shop}
    spec: {selector: {matchLabels: {version: two}}, action: DENY, rules: [{}]}
  from: shop/client
  to: service:shop/web:80
  expect: deny
  by: shop/second
- {name: open again, from: shop/client, to: 'service:shop/web:80', expect: allow}
",
    );
    let mut world = world(&text);
    for case in &suite.cases {
        case.run(&mut world)
            .unwrap_or_else(|failed| panic!("{}: {failed}", case.name));
    }
}
