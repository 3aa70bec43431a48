//! Whatever makes pods counts, as a caller and as an endpoint, before its pods are there.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// How each kind of maker is written around a template.
const MAKERS: [(&str, &str, &str, &str); 7] = [
    (
        "Deployment",
        "apps/v1",
        "spec: {selector: {matchLabels: {app: LABEL}}, template: ",
        "}",
    ),
    (
        "StatefulSet",
        "apps/v1",
        "spec: {serviceName: x, selector: {matchLabels: {app: LABEL}}, template: ",
        "}",
    ),
    (
        "DaemonSet",
        "apps/v1",
        "spec: {selector: {matchLabels: {app: LABEL}}, template: ",
        "}",
    ),
    (
        "ReplicaSet",
        "apps/v1",
        "spec: {selector: {matchLabels: {app: LABEL}}, template: ",
        "}",
    ),
    (
        "ReplicationController",
        "v1",
        "spec: {selector: {app: LABEL}, template: ",
        "}",
    ),
    ("Job", "batch/v1", "spec: {template: ", "}"),
    (
        "CronJob",
        "batch/v1",
        "spec: {schedule: '* * * * *', jobTemplate: {spec: {template: ",
        "}}}",
    ),
];

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}
spec: {containers: [{name: a, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {selector: {tier: front}, ports: [{port: 80}]}
";

fn maker(kind: &str, namespace: &str, name: &str, labels: &str) -> String {
    let (_, version, before, after) = MAKERS.into_iter().find(|maker| maker.0 == kind).unwrap();
    let before = before.replace("LABEL", name);
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         {before}{{metadata: {{labels: {{app: {name}{labels}}}}}, spec: {{containers: [{{name: a}}]}}}}{after}\n"
    )
}

fn policy(arguments: &[&str], manifests: &str) -> Output {
    let files = TempDir::new().unwrap();
    let path = files.path().join("m.yaml");
    fs::write(&path, manifests).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztctl"));
    command.arg("policy").args(arguments).arg("-f").arg(&path);
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

#[test]
fn every_kind_of_maker_is_a_caller_that_would_break_and_the_linter_names_the_same() {
    for (kind, ..) in MAKERS {
        let manifests = format!("{SHOP}{}", maker(kind, "legacy", "batch", ""));
        let output = policy(&["strict-report", "-o", "json"], &manifests);
        assert_eq!(output.status.code(), Some(1), "{kind}: {output:?}");
        let report = json(&output);
        assert_eq!(
            report["breaking"][0]["callers"][0]["pod"], "legacy/batch",
            "{kind}: {report:#}"
        );
        let linted = json(&policy(&["lint", "-o", "json"], &format!("{manifests}{STRICT}")));
        let named = linted["findings"].as_array().unwrap().iter().any(|finding| {
            finding["code"] == "plaintext-callers"
                && finding["why"].as_str().unwrap().contains("legacy/batch")
        });
        assert!(named, "{kind}: {linted:#}");
    }
}

#[test]
fn every_kind_of_maker_is_an_endpoint_that_can_deny() {
    const DENY: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {action: DENY, selector: {matchLabels: {app: db}}, rules: [{}]}
";
    for (kind, ..) in MAKERS {
        let manifests = format!("{SHOP}{}{DENY}", maker(kind, "shop", "db", ", tier: front"));
        for (target, code) in [
            ("service:shop/front:80", 1),
            ("shop/db:80", 1),
            ("shop/web:80", 0),
        ] {
            let output = policy(&["can", "sa:shop/default", target], &manifests);
            assert_eq!(output.status.code(), Some(code), "{kind} {target}: {output:?}");
        }
    }
}

/// A maker of every kind with one name, beside a pod of that name: each of them is a caller, and pods that are there
/// already, or makers that another one made, are not counted twice.
#[test]
fn makers_of_one_name_are_all_there_and_none_twice() {
    let mut manifests = SHOP.to_owned();
    for (kind, ..) in MAKERS {
        manifests += &maker(kind, "legacy", "batch", "");
    }
    manifests += "---\napiVersion: v1\nkind: Pod\nmetadata: {name: batch, namespace: legacy, labels: {app: other}}\n\
                  spec: {containers: [{name: a}]}\n";
    let callers = |manifests: &str| -> Vec<String> {
        let report = json(&policy(&["strict-report", "-o", "json"], manifests));
        let callers = report["callers"].as_array().unwrap().iter();
        callers
            .map(|caller| caller["pod"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut expected: Vec<String> = MAKERS
        .iter()
        .map(|(kind, ..)| format!("legacy/batch-{}", kind.to_ascii_lowercase()))
        .chain(["legacy/batch".to_owned()])
        .collect();
    expected.sort();
    assert_eq!(callers(&manifests), expected);
    let there = format!(
        "{SHOP}{}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: db-0, namespace: legacy, labels: {{app: db}}}}\n\
         spec: {{containers: [{{name: a}}]}}\n",
        maker("StatefulSet", "legacy", "db", "")
    );
    assert_eq!(callers(&there), ["legacy/db-0"]);
    let owned = maker("ReplicaSet", "legacy", "batch", "").replace(
        "namespace: legacy}",
        "namespace: legacy, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: batch, uid: x}]}",
    );
    assert_eq!(
        callers(&format!(
            "{SHOP}{}{owned}",
            maker("Deployment", "legacy", "batch", "")
        )),
        ["legacy/batch"]
    );
}

#[test]
fn what_cannot_be_read_of_a_maker_is_said() {
    let bad = maker("StatefulSet", "legacy", "batch", "").replace("containers:", "containerz:");
    let manifests = format!("{SHOP}{bad}");
    let output = policy(&["strict-report"], &manifests);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("StatefulSet legacy/batch") && said.contains("containerz"),
        "{said}"
    );
    let linted = json(&policy(&["lint", "-o", "json"], &manifests));
    assert_eq!(linted["findings"][0]["code"], "invalid", "{linted:#}");
    // A kind that nobody knows here, and that looks as if it made pods.
    let rollout = maker("StatefulSet", "legacy", "batch", "")
        .replace("apps/v1", "argoproj.io/v1alpha1")
        .replace("StatefulSet", "Rollout");
    let output = policy(&["strict-report"], &format!("{SHOP}{rollout}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("Rollout legacy/batch: its pods are not taken into account"),
        "{said}"
    );
}
