//! What the control plane takes from the ConfigMap `istio`, and its revision, count in questions as they do there.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: web, containers: [{name: a, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec: {serviceAccountName: client, containers: [{name: a}]}
---
";
const DENY_ALIAS: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-client, namespace: shop}
spec: {action: DENY, rules: [{from: [{source: {principals: [old.example/ns/shop/sa/client]}}]}]}
---
";
const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: policies, labels: {istio.io/rev: canary}}
spec: {mtls: {mode: STRICT}}
---
";

fn config(namespace: &str, settings: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: {namespace}}}\ndata: {{mesh: '{settings}'}}\n---\n"
    )
}

fn policy(arguments: &[&str], manifests: &str) -> Output {
    let files = TempDir::new().unwrap();
    let path = files.path().join("m.yaml");
    fs::write(&path, manifests).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztctl"));
    command.arg("policy").args(arguments);
    if arguments[0] == "test" {
        let tests = files.path().join("t.yaml");
        fs::write(
            &tests,
            "manifests: [m.yaml]\ncases:\n\
             - {name: a, from: 'plaintext:192.0.2.9', to: 'shop/web:80', expect: deny}\n\
             - {name: b, from: 'sa:shop/client', to: 'shop/web:80', expect: deny}\n",
        )
        .unwrap();
        command.arg(&tests);
    } else {
        command.arg("-f").arg(&path);
    }
    command.output().unwrap()
}

fn code(from: &str, more: &[&str], manifests: &str) -> Option<i32> {
    let output = policy(&[&["can", from, "shop/web:80"], more].concat(), manifests);
    output.status.code()
}

const PLAIN: &str = "plaintext:192.0.2.9";

#[test]
fn aliases_and_the_root_namespace_of_the_config_map_count() {
    let bare = format!("{MESH}{DENY_ALIAS}{STRICT}");
    let set = bare.clone()
        + &config(
            "istio-system",
            "{trustDomainAliases: [old.example], rootNamespace: policies}",
        );
    for (from, unset) in [("shop/client", 0), (PLAIN, 0)] {
        assert_eq!(code(from, &[], &bare), Some(unset), "{from}");
        assert_eq!(code(from, &[], &set), Some(1), "{from}");
    }
    // The command line counts more, as it does in the control plane; aliases stay.
    assert_eq!(
        code(
            PLAIN,
            &[
                "--root-namespace",
                "x",
                "--control-plane-namespace",
                "istio-system"
            ],
            &set
        ),
        Some(0)
    );
    assert_eq!(
        code("shop/client", &["--trust-domain", "new.example"], &set),
        Some(1)
    );
    assert_eq!(policy(&["test"], &set).status.code(), Some(0));
    assert_eq!(policy(&["test"], &bare).status.code(), Some(1));
    let report = |manifests: &str| {
        let outside = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: out}\nspec: {containers: [{name: a}]}\n";
        let output = policy(&["strict-report"], &format!("{manifests}{outside}"));
        output.status.code()
    };
    assert_eq!((report(&bare), report(&set)), (Some(1), Some(0)));
    // The control plane may be elsewhere than its policies.
    let elsewhere = bare
        + &config(
            "planes",
            "{trustDomainAliases: [old.example], rootNamespace: policies}",
        );
    assert_eq!(code("shop/client", &[], &elsewhere), Some(0));
    assert_eq!(
        code(
            "shop/client",
            &["--control-plane-namespace", "planes"],
            &elsewhere
        ),
        Some(1)
    );
    assert_eq!(
        code(PLAIN, &["--control-plane-namespace", "planes"], &elsewhere),
        Some(1)
    );
}

#[test]
fn policies_of_another_revision_decide_nothing() {
    let set = format!(
        "{MESH}{STRICT}{}",
        config("istio-system", "{rootNamespace: policies}")
    );
    for (revision, expected) in [("", 1), ("canary", 1), ("blue", 0)] {
        assert_eq!(
            code(PLAIN, &["--revision", revision], &set),
            Some(expected),
            "{revision:?}"
        );
    }
}

#[test]
fn the_linter_knows_aliases_and_what_is_read() {
    let set = format!(
        "{MESH}{DENY_ALIAS}{STRICT}{}",
        config(
            "istio-system",
            "{trustDomainAliases: [old.example], rootNamespace: policies}"
        )
    );
    let said = |more: &[&str], manifests: &str| {
        let output = policy(&[&["lint"], more].concat(), manifests);
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(said(&[], &format!("{MESH}{DENY_ALIAS}")).contains("wrong-trust-domain"));
    assert!(
        !said(&[], &set).contains("wrong-trust-domain"),
        "{}",
        said(&[], &set)
    );
    let outside =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: out}\nspec: {containers: [{name: a}]}\n";
    let set = format!("{set}{outside}");
    assert!(
        said(&[], &set).contains("plaintext-callers"),
        "{}",
        said(&[], &set)
    );
    assert!(!said(&["--revision", "blue"], &set).contains("plaintext-callers"));
}

/// A DENY of an alias covers an ALLOW of the trust domain, and what names both in two lists can match.
#[test]
fn the_linter_compares_rules_as_the_compiler_expands_them() {
    let config = config("istio-system", "trustDomainAliases: [old.example]");
    let allow = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: shop}
spec:
  rules:
  - from: [{source: {principals: [old.example/ns/shop/sa/client]}}]
    when: [{key: source.principal, values: [cluster.local/ns/shop/sa/client]}]
---
";
    let lint = |manifests: &str| String::from_utf8(policy(&["lint"], manifests).stdout).unwrap();
    assert!(lint(&format!("{MESH}{allow}")).contains("never-matches"));
    let text = lint(&format!("{MESH}{allow}{config}"));
    assert!(!text.contains("never-matches"), "{text}");
    assert_eq!(
        code("shop/client", &[], &format!("{MESH}{allow}{config}")),
        Some(0)
    );
    let shadowed = lint(&format!("{MESH}{allow}{DENY_ALIAS}{config}"));
    assert!(shadowed.contains("shadowed-by-deny"), "{shadowed}");
}
