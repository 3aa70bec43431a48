use serde_json::{Value, json};

use crate::{Object, Spec, parse};

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap_or_else(|errors| panic!("{errors}"))
}

fn same(object: &Object) {
    let again = parse("again.yaml", &object.to_yaml()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(&again[..], std::slice::from_ref(object), "{}", object.to_yaml());
}

#[test]
fn applying_keeps_what_is_the_systems() {
    let old = object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "demo", "uid": "u1", "resourceVersion": "7", "labels": {"old": "1"},
            "creationTimestamp": "2026-08-01T12:00:00Z", "generateName": "web-",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}],
            "annotations": {"ambient.istio.io/redirection": "enabled", "note": "old"}},
        "spec": {"nodeName": "node-a", "containers": [{"name": "a"}]},
        "status": {"phase": "Running", "podIP": "10.1.0.1"},
    }));
    let new = object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "demo", "labels": {"new": "1"},
            "annotations": {"note": "new", "ambient.istio.io/redirection": "lie"}},
        "spec": {"containers": [{"name": "b"}]},
    }));
    let merged = new.merged_over(&old);
    let metadata = &merged.metadata;
    assert_eq!((metadata.uid.as_str(), metadata.resource_version), ("u1", 7));
    assert_eq!(
        metadata.creation_timestamp.as_deref(),
        Some("2026-08-01T12:00:00Z")
    );
    assert_eq!(
        metadata.owner.as_ref().map(|owner| owner.name.as_str()),
        Some("r")
    );
    assert_eq!(metadata.labels.keys().collect::<Vec<_>>(), ["new"]);
    assert_eq!(metadata.annotations["ambient.istio.io/redirection"], "enabled");
    assert_eq!(metadata.annotations["note"], "new");
    let pod = merged.as_pod().expect("a pod");
    assert_eq!(
        (pod.spec.node_name.as_str(), pod.spec.containers[0].name.as_str()),
        ("node-a", "b")
    );
    assert_eq!(pod.status.pod_ips.len(), 1);
    assert_eq!(object(merged.raw().clone()), merged);
    same(&merged);
    assert_eq!(merged.merged_over(&merged), merged);
}

#[test]
fn applying_keeps_assigned_addresses() {
    let service = |spec: Value| {
        object(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}))
    };
    let old =
        service(json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]}));
    let merged = service(json!({"ports": [{"port": 81}]})).merged_over(&old);
    let Spec::Service(content) = &merged.spec else {
        panic!()
    };
    assert_eq!((content.cluster_ips.len(), content.ports[0].port), (1, 81));
    assert_eq!(object(merged.raw().clone()), merged);
    let headless = service(json!({"clusterIP": "None"})).merged_over(&old);
    assert!(
        headless
            .as_service()
            .is_some_and(|service| service.headless && service.cluster_ips.is_empty())
    );
    assert_eq!(object(headless.raw().clone()), headless);
    let alias = service(json!({"type": "ExternalName", "externalName": "example.org"})).merged_over(&old);
    assert_eq!(object(alias.raw().clone()), alias);

    let node = |spec: Value| {
        object(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": spec}))
    };
    let merged = node(json!(null)).merged_over(&node(json!({"podCIDR": "10.1.0.0/24"})));
    assert_eq!(merged.as_node().map(|node| node.pod_cidrs.len()), Some(1));
    assert_eq!(object(merged.raw().clone()), merged);
}

#[test]
fn single_changes() {
    let pod = object(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "web"}]}, "status": {"phase": "Running", "podIP": "10.1.0.1"},
    }));
    assert_eq!(pod.metadata.namespace, "default");
    let annotated = pod
        .with_annotation("ambient.istio.io/redirection", Some("enabled"))
        .expect("good");
    assert_eq!(annotated.metadata.annotations.len(), 1);
    let back = annotated
        .with_annotation("ambient.istio.io/redirection", None)
        .expect("good");
    assert!(back.metadata.annotations.is_empty());
    assert!(pod.with_annotation("not a key", Some("x")).is_err());
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let ready = pod.with_status(ready).expect("good");
    let content = ready.as_pod().expect("a pod");
    assert!(content.is_ready() && content.status.pod_ips.len() == 1);
    assert!(pod.with_status(json!({"phase": "Dancing"})).is_err());
    let changes = [("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)].into();
    assert_eq!(pod.with_labels(&changes).expect("good").metadata.labels.len(), 1);
    let wrong = [("a".to_owned(), Some("not good".to_owned()))].into();
    assert!(pod.with_labels(&wrong).is_err());
    assert!(pod.patched(&json!({"metadata": {"name": "other"}})).is_err());
    let stored = pod
        .with_uid("u")
        .with_resource_version(3)
        .with_creation_timestamp(std::time::UNIX_EPOCH);
    assert_eq!(object(stored.raw().clone()), stored);
    same(&stored);
}
