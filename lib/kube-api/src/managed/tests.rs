use std::sync::Arc;

use serde_json::{Value, json};

use super::{Manager, apply, record_update};
use crate::kinds::{self, Resource};

fn resource(plural: &str) -> Arc<Resource> {
    let mut resources = kinds::built_in().into_iter();
    resources.find(|resource| resource.plural == plural).unwrap()
}

fn manager(name: &str) -> Manager<'_> {
    Manager {
        name,
        api_version: "v1",
        subresource: "",
        now: "2026-01-01T00:00:00Z",
    }
}

fn config(data: Value) -> Value {
    json!({ "metadata": { "name": "c", "namespace": "n" }, "data": data })
}

fn managers(object: &Value) -> Vec<(String, String)> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries
        .iter()
        .map(|entry| (text(&entry["manager"]), entry["fieldsV1"].to_string()))
        .collect()
}

#[test]
fn an_applier_owns_what_it_names_and_removes_what_it_no_longer_names() {
    let maps = resource("configmaps");
    let first = apply(
        &maps,
        None,
        &config(json!({ "a": "1", "b": "2" })),
        &manager("one"),
        false,
    )
    .unwrap();
    assert_eq!(
        managers(&first),
        [("one".into(), r#"{"f:data":{"f:a":{},"f:b":{}}}"#.into())]
    );
    let second = apply(
        &maps,
        Some(&first),
        &config(json!({ "c": "3" })),
        &manager("two"),
        false,
    )
    .unwrap();
    assert_eq!(second["data"], json!({ "a": "1", "b": "2", "c": "3" }));
    let third = apply(
        &maps,
        Some(&second),
        &config(json!({ "a": "1" })),
        &manager("one"),
        false,
    )
    .unwrap();
    assert_eq!(third["data"], json!({ "a": "1", "c": "3" }));
}

#[test]
fn a_field_of_another_is_a_conflict_unless_forced_or_equal() {
    let maps = resource("configmaps");
    let first = apply(&maps, None, &config(json!({ "a": "1" })), &manager("one"), false).unwrap();
    let error = apply(
        &maps,
        Some(&first),
        &config(json!({ "a": "2" })),
        &manager("two"),
        false,
    )
    .unwrap_err();
    assert_eq!(error.code, 409);
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"one\" using v1: .data.a"
    );
    let forced = apply(
        &maps,
        Some(&first),
        &config(json!({ "a": "2" })),
        &manager("two"),
        true,
    )
    .unwrap();
    assert_eq!(
        managers(&forced),
        [("two".into(), r#"{"f:data":{"f:a":{}}}"#.into())]
    );
    let shared = apply(
        &maps,
        Some(&first),
        &config(json!({ "a": "1" })),
        &manager("two"),
        false,
    )
    .unwrap();
    assert_eq!(managers(&shared).len(), 2);
    // One of two owners leaves; the field stays.
    let left = apply(&maps, Some(&shared), &config(json!({})), &manager("one"), false).unwrap();
    assert_eq!(left["data"], json!({ "a": "1" }));
}

#[test]
fn an_update_takes_the_fields_that_it_changes() {
    let maps = resource("configmaps");
    let first = apply(
        &maps,
        None,
        &config(json!({ "a": "1", "b": "2" })),
        &manager("one"),
        false,
    )
    .unwrap();
    let mut changed = first.clone();
    changed["data"] = json!({ "a": "9" });
    record_update(&maps, Some(&first), &mut changed, &manager("editor")).unwrap();
    // "a" is the editor's now; "b" is gone.
    assert_eq!(
        managers(&changed),
        [("editor".into(), r#"{"f:data":{"f:a":{}}}"#.into())]
    );
}

#[test]
fn items_of_keyed_lists_have_their_own_owners() {
    let pods = resource("pods");
    let status = |conditions: Value| json!({ "metadata": { "name": "p", "namespace": "n" }, "status": { "conditions": conditions } });
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    let first = apply(&pods, None, &status(ready), &manager("kubelet"), false).unwrap();
    let mine = json!([{ "type": "Mesh", "status": "True" }]);
    let second = apply(&pods, Some(&first), &status(mine), &manager("mesh"), false).unwrap();
    assert_eq!(second["status"]["conditions"].as_array().unwrap().len(), 2);
    let gone = apply(&pods, Some(&second), &status(json!([])), &manager("mesh"), false).unwrap();
    assert_eq!(
        gone["status"]["conditions"],
        json!([{ "type": "Ready", "status": "True" }])
    );
    let keyless = apply(
        &pods,
        None,
        &status(json!([{ "status": "True" }])),
        &manager("mesh"),
        false,
    );
    assert_eq!(keyless.unwrap_err().code, 422);
}

#[test]
fn updaters_beyond_the_bound_are_put_together() {
    let maps = resource("configmaps");
    let mut object = config(json!({}));
    for at in 0..15 {
        let mut next = object.clone();
        next["data"][format!("k{at}")] = json!("v");
        record_update(&maps, Some(&object), &mut next, &manager(&format!("m{at}"))).unwrap();
        object = next;
    }
    let names: Vec<_> = managers(&object).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 11);
    assert!(names.contains(&"ancient-changes".to_owned()));
}
