use std::collections::BTreeSet;

use objects::parse_leniently;

use crate::{Code, Finding, Input, Settings, Severity, lint};

mod cases;
mod guide;
mod overlaps;
mod page;
mod random;
mod reach;
mod stored;
mod waypoints;

/// A namespace in the mesh with a client and a server, and one with a scraper in it.
const MESH: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Namespace
metadata: {name: monitoring, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: web, containers: [{name: a}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: shop}
spec:
  selector: {matchLabels: {app: backend}}
  template:
    metadata: {labels: {app: backend}}
    spec:
      serviceAccountName: backend
      containers:
      - name: a
        ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: prometheus, namespace: monitoring}
spec:
  template:
    metadata: {labels: {app: prometheus}}
    spec: {serviceAccountName: prometheus, containers: [{name: a}]}
"#;

fn input(text: &str) -> Input {
    let mut input = Input::default();
    input.add(parse_leniently("m.yaml", text));
    input
}

/// What is found in the mesh above with these documents beside it.
fn in_mesh(documents: &str, settings: &Settings) -> Vec<Finding> {
    lint(&input(&format!("{MESH}---\n{documents}")), settings)
}

fn codes(found: &[Finding]) -> BTreeSet<Code> {
    found.iter().map(|finding| finding.code).collect()
}

fn listed(found: &[Finding]) -> String {
    found.iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
fn a_good_mesh_has_no_findings() {
    let found = in_mesh("", &Settings::default());
    assert!(found.is_empty(), "{}", listed(&found));
}

#[test]
fn every_finding_is_whole_and_the_worst_comes_first() {
    let text = cases::CASES
        .iter()
        .map(|case| case.bad)
        .collect::<Vec<_>>()
        .join("\n---\n");
    let found = in_mesh(&text, &Settings::default());
    assert!(found.len() > 30, "{}", listed(&found));
    assert!(
        found.is_sorted_by_key(|finding| finding.severity),
        "{}",
        listed(&found)
    );
    for finding in &found {
        assert!(!finding.why.is_empty() && !finding.fix.is_empty(), "{finding}");
        assert!(
            !finding.why.ends_with('.') && !finding.fix.ends_with('.'),
            "{finding}"
        );
        assert!(
            finding.file.as_deref() == Some("m.yaml") && finding.line.is_some(),
            "{finding}"
        );
        assert!(finding.severity >= finding.code.severity(), "{finding}");
    }
    assert_eq!(in_mesh(&text, &Settings::default()), found, "stable");
}

#[test]
fn codes_have_names() {
    let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    for code in Code::ALL {
        assert_eq!(serde_json::to_value(code).expect("text"), code.as_str());
    }
    assert!(Code::ALL.is_sorted_by_key(|code| code.severity()));
}

#[test]
fn what_objects_warn_about_is_found_too() {
    let text = cases::CASES
        .iter()
        .map(|case| case.bad)
        .collect::<Vec<_>>()
        .join("\n---\n");
    let input = input(&text);
    let found = lint(&input, &Settings::default());
    let mut seen = 0;
    for read in &input.objects {
        for warning in objects::warnings(&read.object) {
            seen += 1;
            let object = warning.object.to_string();
            let top = warning
                .field
                .split(['.', '['])
                .next()
                .unwrap_or_default()
                .to_owned();
            assert!(
                found
                    .iter()
                    .any(|finding| finding.object == object && finding.field.starts_with(&top)),
                "{warning}"
            );
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn what_is_applied_has_no_file() {
    let objects = input(cases::CASES[2].bad)
        .objects
        .into_iter()
        .map(|read| read.object);
    let found = lint(
        &objects
            .chain(input(MESH).objects.into_iter().map(|read| read.object))
            .collect(),
        &Settings::default(),
    );
    assert!(
        found
            .iter()
            .all(|finding| finding.file.is_none() && finding.line.is_none())
    );
}

#[test]
fn a_finding_on_one_line() {
    let found = in_mesh(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\nspec: {mtls: \
         {mode: DISABLE}}\n",
        &Settings::default(),
    );
    let [finding] = found.as_slice() else {
        panic!("{}", listed(&found))
    };
    assert_eq!(finding.severity, Severity::Warning);
    let text = finding.to_string();
    assert!(
        text.starts_with(
            "m.yaml:39: warning[disable-is-permissive]: PeerAuthentication shop/p: spec.mtls.mode: DISABLE lets"
        ) && text.contains(". Fix: write PERMISSIVE"),
        "{text}"
    );
}
