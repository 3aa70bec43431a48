use serde_json::{Value, json};

use super::{PatchKind, patched};
use crate::kinds;

fn patch(plural: &str, kind: PatchKind, object: &Value, patch: &Value) -> Result<Value, u16> {
    let resources = kinds::built_in();
    let resource = resources
        .iter()
        .find(|resource| resource.plural == plural)
        .unwrap();
    patched(resource, kind, object, patch).map_err(|error| error.code)
}

#[test]
fn strategic_merge() {
    let pod = json!({ "spec": { "containers": [
        { "name": "a", "image": "one", "env": [{ "name": "X", "value": "1" }] },
        { "name": "b", "image": "two" },
    ], "tolerations": [{ "key": "x" }] }, "metadata": { "finalizers": ["f/1", "f/2"] } });
    let cases = [
        (
            json!({ "spec": { "containers": [{ "name": "a", "image": "three" }] } }),
            "/spec/containers/0",
            json!({ "name": "a", "image": "three", "env": [{ "name": "X", "value": "1" }] }),
        ),
        (
            json!({ "spec": { "containers": [{ "name": "a", "env": [{ "name": "Y", "value": "2" }] }] } }),
            "/spec/containers/0/env",
            json!([{ "name": "X", "value": "1" }, { "name": "Y", "value": "2" }]),
        ),
        (
            json!({ "spec": { "containers": [{ "name": "a", "$patch": "delete" }] } }),
            "/spec/containers",
            json!([{ "name": "b", "image": "two" }]),
        ),
        (
            json!({ "spec": { "containers": [{ "name": "c" }, { "$patch": "replace" }] } }),
            "/spec/containers",
            json!([{ "name": "c" }]),
        ),
        (
            json!({ "spec": {
                "$setElementOrder/containers": [{ "name": "b" }, { "name": "a" }],
                "containers": [{ "name": "a", "env": null }],
            } }),
            "/spec/containers",
            json!([{ "name": "b", "image": "two" }, { "name": "a", "image": "one" }]),
        ),
        (
            json!({ "spec": { "tolerations": [{ "key": "y" }] } }),
            "/spec/tolerations",
            json!([{ "key": "y" }]),
        ),
        (
            json!({ "metadata": { "finalizers": ["f/3"] } }),
            "/metadata/finalizers",
            json!(["f/1", "f/2", "f/3"]),
        ),
        (
            json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["f/1"] } }),
            "/metadata/finalizers",
            json!(["f/2"]),
        ),
        (
            json!({ "spec": { "$retainKeys": ["tolerations"] } }),
            "/spec",
            json!({ "tolerations": [{ "key": "x" }] }),
        ),
    ];
    for (change, place, expected) in cases {
        let result = patch("pods", PatchKind::Strategic, &pod, &change).unwrap();
        assert_eq!(result.pointer(place), Some(&expected), "{change}");
    }
    let keyless = json!({ "spec": { "containers": [{ "image": "x" }] } });
    assert_eq!(patch("pods", PatchKind::Strategic, &pod, &keyless), Err(400));
}

#[test]
fn json_and_merge() {
    let object = json!({ "data": { "a": "1", "b": "2" } });
    let merge = json!({ "data": { "a": null, "c": "3" } });
    let result = patch("configmaps", PatchKind::Merge, &object, &merge).unwrap();
    assert_eq!(result, json!({ "data": { "b": "2", "c": "3" } }));
    let operations = json!([
        { "op": "test", "path": "/data/a", "value": "1" },
        { "op": "replace", "path": "/data/a", "value": "9" },
        { "op": "remove", "path": "/data/b" },
    ]);
    let result = patch("configmaps", PatchKind::Json, &object, &operations).unwrap();
    assert_eq!(result, json!({ "data": { "a": "9" } }));
    let wrong = json!([{ "op": "test", "path": "/data/a", "value": "2" }]);
    assert_eq!(patch("configmaps", PatchKind::Json, &object, &wrong), Err(422));
    assert_eq!(
        patch("configmaps", PatchKind::Json, &object, &json!({})),
        Err(400)
    );
    assert_eq!(
        patch("configmaps", PatchKind::Merge, &object, &json!([])),
        Err(400)
    );
}

#[test]
fn kinds_by_definition_take_no_strategic_merge() {
    let resources = kinds::built_in();
    let kind = PatchKind::of("application/strategic-merge-patch+json", &resources[0]).unwrap();
    assert_eq!(kind, PatchKind::Strategic);
    assert_eq!(
        PatchKind::of("application/json", &resources[0]).unwrap_err().code,
        415
    );
}
