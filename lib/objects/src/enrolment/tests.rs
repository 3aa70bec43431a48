use serde_json::{Value, json};

use super::{Enrolment, Reason, wanted};
use crate::{DATAPLANE_MODE_LABEL, Object, warnings};

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap_or_else(|errors| panic!("{errors}"))
}

fn labels(mode: Option<&str>) -> Value {
    mode.map_or(json!({}), |mode| json!({ DATAPLANE_MODE_LABEL: mode }))
}

fn namespace(name: &str, mode: Option<&str>) -> Object {
    object(
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels(mode)}}),
    )
}

fn pod(namespace: &str, mode: Option<&str>, patch: Value) -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": namespace, "labels": labels(mode)},
        "spec": {"containers": [{"name": "web"}]},
    }))
    .patched(&patch)
    .unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_table() {
    let yes = Enrolment::Enrolled;
    let no = Enrolment::No;
    let sidecar = json!({"metadata": {"annotations": {"sidecar.istio.io/status": "{}"}}});
    let host = json!({"spec": {"hostNetwork": true}});
    let phase = |phase: &str| json!({"status": {"phase": phase}});
    let proxy = json!({"spec": {"serviceAccountName": "ztunnel"}});
    let ambient = Some("ambient");
    let cases = [
        ("demo", ambient, None, json!({}), yes),
        ("demo", ambient, Some("none"), json!({}), no(Reason::OptedOut)),
        ("demo", ambient, Some("other"), json!({}), yes),
        ("demo", None, ambient, json!({}), yes),
        ("demo", Some("none"), ambient, json!({}), yes),
        ("demo", Some("other"), ambient, json!({}), yes),
        ("demo", ambient, None, host.clone(), no(Reason::HostNetwork)),
        ("demo", None, ambient, host, no(Reason::HostNetwork)),
        ("demo", ambient, None, sidecar, no(Reason::Sidecar)),
        (
            "kube-system",
            ambient,
            None,
            json!({}),
            no(Reason::ExcludedNamespace),
        ),
        (
            "kube-system",
            ambient,
            ambient,
            json!({}),
            no(Reason::ExcludedNamespace),
        ),
        ("demo", ambient, None, phase("Succeeded"), no(Reason::Finished)),
        ("demo", ambient, None, phase("Failed"), no(Reason::Finished)),
        ("demo", ambient, None, phase("Running"), yes),
        ("demo", ambient, None, phase("Pending"), yes),
        (
            "istio-system",
            ambient,
            None,
            proxy.clone(),
            no(Reason::NodeProxy),
        ),
        ("demo", ambient, None, proxy, yes),
        // Beyond the table: nothing asks.
        ("demo", None, None, json!({}), no(Reason::NotLabelled)),
        ("demo", Some("none"), None, json!({}), no(Reason::NotLabelled)),
        ("demo", Some("other"), None, json!({}), no(Reason::NotLabelled)),
        ("demo", None, Some("other"), json!({}), no(Reason::NotLabelled)),
    ];
    for (name, of_namespace, of_pod, patch, expected) in cases {
        let (pod, namespace) = (pod(name, of_pod, patch.clone()), namespace(name, of_namespace));
        assert_eq!(
            wanted(&pod, Some(&namespace)),
            expected,
            "{name} {of_namespace:?} {of_pod:?} {patch}"
        );
    }
    assert_eq!(wanted(&pod("demo", ambient, json!({})), None), yes);
    assert_eq!(
        wanted(&pod("demo", None, json!({})), None),
        no(Reason::NotLabelled)
    );
    assert_eq!(wanted(&namespace("demo", ambient), None), no(Reason::NotAPod));
}

#[test]
fn unknown_modes_are_warned_about() {
    assert!(warnings(&namespace("demo", Some("ambient"))).is_empty());
    assert!(warnings(&namespace("demo", Some("none"))).is_empty());
    let found = warnings(&namespace("demo", Some("Ambient")));
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string(),
        "Namespace demo: metadata.labels[\"istio.io/dataplane-mode\"]: the mode \"Ambient\" is not known and counts \
         as no label; use ambient or none"
    );
    assert_eq!(warnings(&pod("demo", Some("other"), json!({}))).len(), 1);
}
