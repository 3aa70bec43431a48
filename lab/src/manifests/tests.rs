use std::path::Path;

use objects::Object;
use serde_json::json;

use super::*;
use crate::manifests::check::{Place, check};

fn manifests(text: &str) -> Result<Manifests, LabError> {
    Manifests::parse(vec![("m.yaml".to_owned(), text.to_owned())])
}

/// What is wrong with applying these where a namespace `default`, a Service and a Pod are.
fn problems(text: &str) -> String {
    let present: Vec<_> = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "old" },
            "spec": { "clusterIP": "10.96.0.10", "ports": [{ "port": 80 }] } }),
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "there" },
            "spec": { "nodeName": "node-a", "containers": [{ "name": "a", "image": "x", "command": ["sleep", "1"] }] } }),
        json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "proxy", "annotations": { "ztunnel.dev/lab-process": "ztunnel" } },
            "spec": { "containers": [{ "name": "a", "image": "x" }] } }),
    ]
    .into_iter()
    .map(|value| std::sync::Arc::new(Object::from_value(value).unwrap()))
    .collect();
    let place = Place {
        present: &present,
        nodes: &["node-a".to_owned()],
        ztctl: Path::new("/opt/z/ztctl"),
    };
    let manifests = manifests(text).unwrap();
    check(&manifests, &place).map_or_else(|error| error.to_string(), |()| String::new())
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n";

#[test]
fn good_manifests_pass() {
    assert_eq!(
        problems(&format!(
            "{POD}spec:\n  containers: [{{name: a, image: x, command: [sh]}}]\n"
        )),
        ""
    );
    // The same as what is there.
    let same = "apiVersion: v1\nkind: Pod\nmetadata: {name: there}\nspec:\n  containers:\n  - {name: a, image: x, command: [sleep, '1']}\n";
    assert_eq!(problems(same), "");
}

#[test]
fn every_problem_names_file_line_and_field() {
    let containers = "spec:\n  containers:\n    - name: a\n      image: x\n";
    for (text, expected) in [
        (
            format!("{POD}{containers}      command:\n        - /no/such\n"),
            "m.yaml:10: Pod default/p: spec.containers[0].command[0]: `/no/such`: no such program on this machine",
        ),
        (
            format!("{POD}{containers}      workingDir: /no/such\n"),
            "m.yaml:9: Pod default/p: spec.containers[0].workingDir: `/no/such`: no such directory on this machine",
        ),
        (
            format!("---\n{POD}  namespace: missing\n{containers}"),
            "m.yaml:6: Pod missing/p: metadata.namespace: there is no namespace `missing`",
        ),
        (
            format!("{POD}spec:\n  nodeName: node-q\n  containers: [{{name: a, image: x}}]\n"),
            "m.yaml:6: Pod default/p: spec.nodeName: there is no node `node-q`",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: new\nspec:\n  clusterIP: 10.96.0.10\n  ports: [{port: 1}]\n".to_owned(),
            "m.yaml:6: Service default/new: spec.clusterIP: 10.96.0.10 is already the address of Service default/old",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: node-z\n".to_owned(),
            "m.yaml:4: Node node-z: metadata.name: the nodes of this lab are node-a",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: there\nspec:\n  containers: [{name: a, image: x, command: [sleep, '2']}]\n"
                .to_owned(),
            "m.yaml:6: Pod default/there: spec: a Pod that exists keeps its spec",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: proxy\nspec:\n  containers: [{name: a, image: x}]\n".to_owned(),
            "m.yaml:4: Pod default/proxy: metadata.name: this object belongs to the lab itself",
        ),
    ] {
        let found = problems(&text);
        assert!(found.starts_with(expected), "{found}\n  expected {expected}\n{text}");
    }
}

#[test]
fn the_same_object_in_two_files_is_an_error() {
    let text = format!("{POD}spec:\n  containers: [{{name: a, image: x}}]\n");
    let twice = vec![("a.yaml".to_owned(), text.clone()), ("b.yaml".to_owned(), text)];
    let error = Manifests::parse(twice).unwrap_err().to_string();
    assert_eq!(
        error,
        "b.yaml:4: Pod default/p: metadata.name: the same object is defined at a.yaml:4"
    );
}

#[test]
fn all_files_are_read_before_the_errors_are_told() {
    let wrong = |name: &str| {
        (
            format!("{name}.yaml"),
            "apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n".to_owned(),
        )
    };
    let error = Manifests::parse(vec![wrong("a"), wrong("b")]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(text.contains("a.yaml:") && text.contains("b.yaml:"), "{text}");
}

#[test]
fn lines_are_found_in_lists_and_behind_comments() {
    let text = "# first\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: a\n    namespace: n\n  spec:\n    containers:\n    - name: x\n      command: ['one',\n        'two']\n";
    let key: objects::ObjectKey = objects::ObjectKey::new(objects::Kind::Pod, "n", "a");
    let line = |path: &str| locate::line(text, &key, path);
    assert_eq!(line("spec.containers[0].command[1]"), Some(14));
    assert_eq!(line("spec.containers[0].command[7]"), Some(13));
    assert_eq!(line("metadata.namespace"), Some(9));
    assert_eq!(
        locate::line(
            text,
            &objects::ObjectKey::new(objects::Kind::Pod, "m", "a"),
            "spec"
        ),
        None
    );
}
