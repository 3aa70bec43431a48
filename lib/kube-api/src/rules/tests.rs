use std::sync::Arc;

use serde_json::{Value, json};

use super::{check_identity, prepare_create, prepare_update};
use crate::kinds::{self, Resource};

fn resource(plural: &str) -> Arc<Resource> {
    let mut resources = kinds::built_in().into_iter();
    resources.find(|resource| resource.plural == plural).unwrap()
}

fn object(extra: Value) -> Value {
    let mut object = json!({ "metadata": { "name": "a", "uid": "u", "resourceVersion": "5" } });
    for (name, value) in extra.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

#[test]
fn only_a_change_of_the_specification_bumps_the_generation() {
    let deployments = resource("deployments");
    let mut old = object(json!({ "spec": { "replicas": 1 }, "status": { "replicas": 1 } }));
    old["metadata"]["generation"] = json!(3);
    let generation = |new: Value, subresource: &str| {
        prepare_update(&deployments, subresource, &old, new, true).unwrap()["metadata"]["generation"].clone()
    };
    assert_eq!(generation(object(json!({ "spec": { "replicas": 2 } })), ""), 4);
    assert_eq!(
        generation(object(json!({ "spec": { "replicas": 1 }, "status": {} })), ""),
        3
    );
    assert_eq!(
        generation(
            object(json!({ "spec": { "replicas": 9 }, "status": {} })),
            "status"
        ),
        3
    );
}

#[test]
fn status_and_specification_are_apart() {
    let pods = resource("pods");
    let old = object(json!({ "spec": { "a": 1 }, "status": { "b": 1 } }));
    let mut new = object(json!({ "spec": { "a": 2 }, "status": { "b": 2 } }));
    new["metadata"]["annotations"] = json!({ "x": "y" });
    let main = prepare_update(&pods, "", &old, new.clone(), true).unwrap();
    assert_eq!((&main["spec"]["a"], &main["status"]["b"]), (&json!(2), &json!(1)));
    let status = prepare_update(&pods, "status", &old, new, true).unwrap();
    assert_eq!(
        (&status["spec"]["a"], &status["status"]["b"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(status["metadata"]["annotations"]["x"], "y");
}

#[test]
fn preconditions() {
    let pods = resource("pods");
    let leases = resource("leases");
    let old = object(json!({}));
    let with = |field: &str, value: &str| {
        let mut new = old.clone();
        new["metadata"][field] = json!(value);
        new
    };
    let code =
        |resource: &Resource, new: Value| prepare_update(resource, "", &old, new, true).map_err(|e| e.code);
    assert!(code(&pods, with("resourceVersion", "")).is_ok());
    assert_eq!(code(&pods, with("resourceVersion", "4")), Err(409));
    assert_eq!(code(&pods, with("uid", "other")), Err(409));
    assert_eq!(code(&pods, with("name", "other")), Err(400));
    assert_eq!(code(&leases, with("resourceVersion", "")), Err(422));
}

#[test]
fn an_object_under_deletion_takes_no_new_finalizers() {
    let pods = resource("pods");
    let mut old = object(json!({}));
    old["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    old["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!(["a/b"]);
    assert!(prepare_update(&pods, "", &old, new.clone(), true).is_ok());
    new["metadata"]["finalizers"] = json!(["e/f"]);
    assert_eq!(prepare_update(&pods, "", &old, new, true).unwrap_err().code, 422);
}

#[test]
fn names_and_identity() {
    for (plural, name, expected) in [
        ("pods", "a.b-c", Ok(())),
        ("pods", "A", Err(422)),
        ("pods", "", Err(422)),
        ("services", "a.b", Err(422)),
        ("namespaces", &"x".repeat(64), Err(422)),
        ("pods", "a..b", Err(422)),
    ] {
        let mut object = json!({ "metadata": { "name": name } });
        let result = prepare_create(&resource(plural), &mut object, "now", "uid").map_err(|error| error.code);
        assert_eq!(result, expected, "{plural} {name}");
    }
    let pods = resource("pods");
    for (object, expected) in [
        (
            json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "namespace": "n" } }),
            Ok(()),
        ),
        (json!({ "kind": "Service" }), Err(400)),
        (json!({ "kind": "Pod", "apiVersion": "v2" }), Err(400)),
        (json!({ "metadata": { "namespace": "m" } }), Err(400)),
        (json!({ "metadata": { "labels": { "a": 1 } } }), Err(400)),
        (json!([]), Err(400)),
    ] {
        let result = check_identity(&pods, "v1", Some("n"), &mut object.clone()).map_err(|error| error.code);
        assert_eq!(result, expected, "{object}");
    }
}
