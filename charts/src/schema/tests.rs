use serde_json::{Value, json};

use super::*;

/// What is wrong with a `spec` by its schema, each as `field: message`.
fn problems(spec_schema: Value, spec: Value) -> Vec<String> {
    let definition = json!({ "spec": { "versions": [{
        "name": "v1",
        "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": spec_schema } } },
    }]}});
    let object = json!({ "apiVersion": "a/v1", "kind": "A", "metadata": { "x": 1 }, "spec": spec });
    let found = check(&definition, "v1", &object);
    let text = |problem: Problem| format!("{}: {}", problem.field, problem.message);
    found.into_iter().map(text).collect()
}

#[test]
fn types_and_bounds_are_held() {
    let schema = || {
        json!({ "type": "object", "required": ["name"], "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 3, "pattern": "^[a-z]*$" },
            "count": { "type": "integer", "minimum": 1, "maximum": 9 },
            "mode": { "type": "string", "enum": ["A", "B"] },
            "list": { "type": "array", "maxItems": 2, "items": { "type": "integer" } },
            "map": { "type": "object", "minProperties": 1, "additionalProperties": { "type": "string" } },
            "either": { "anyOf": [{ "type": "integer" }, { "type": "string" }], "x-kubernetes-int-or-string": true },
            "open": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        }})
    };
    let good = json!({ "name": "a", "count": 9, "mode": "B", "list": [1, 2], "map": { "x": "y" }, "either": "1", "open": { "z": 1 } });
    assert_eq!(problems(schema(), good), [""; 0]);
    for (spec, expected) in [
        (json!([]), "spec: must be of type object, not array"),
        (json!({}), "spec: needs name"),
        (
            json!({ "name": "" }),
            "spec.name: has 0 characters; at least 1 are needed",
        ),
        (
            json!({ "name": "abcd" }),
            "spec.name: has 4 characters; at most 3 are allowed",
        ),
        (
            json!({ "name": "A" }),
            "spec.name: is \"A\", which does not match ^[a-z]*$",
        ),
        (
            json!({ "name": "a", "count": 0 }),
            "spec.count: must be 1 or more",
        ),
        (
            json!({ "name": "a", "count": 10 }),
            "spec.count: must be 9 or less",
        ),
        (
            json!({ "name": "a", "count": "1" }),
            "spec.count: must be of type integer, not string",
        ),
        (
            json!({ "name": "a", "mode": "C" }),
            "spec.mode: is \"C\"; supported values are \"A\", \"B\"",
        ),
        (
            json!({ "name": "a", "list": [1, 2, 3] }),
            "spec.list: has 3 items; at most 2 are allowed",
        ),
        (
            json!({ "name": "a", "list": [1, "2"] }),
            "spec.list[1]: must be of type integer, not string",
        ),
        (
            json!({ "name": "a", "map": {} }),
            "spec.map: has 0 entries; at least 1 are needed",
        ),
        (
            json!({ "name": "a", "map": { "x": 1 } }),
            "spec.map.x: must be of type string, not number",
        ),
        (
            json!({ "name": "a", "either": true }),
            "spec.either: must be an integer or a string, not boolean",
        ),
        (
            json!({ "name": "a", "names": 1 }),
            "spec.names: is no field of this kind",
        ),
    ] {
        assert_eq!(problems(schema(), spec), [expected]);
    }
}

#[test]
fn of_alternatives_there_is_one_at_most() {
    let schema = || {
        json!({ "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } }, "oneOf": [
            { "not": { "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] } },
            { "required": ["a"] },
            { "required": ["b"] },
        ]})
    };
    for good in [json!({}), json!({ "a": "" }), json!({ "b": "" })] {
        assert_eq!(problems(schema(), good), [""; 0]);
    }
    assert_eq!(
        problems(schema(), json!({ "a": "", "b": "" })),
        ["spec: names several of which only one may be there"]
    );
}

#[test]
fn a_list_that_is_a_map_has_each_key_once() {
    let schema = json!({ "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": { "type": "object", "properties": { "name": { "type": "string" } } } });
    let twice = json!([{ "name": "a" }, { "name": "b" }, { "name": "a" }]);
    assert_eq!(
        problems(schema, twice),
        ["spec: has two items with the same [\"name\"]"]
    );
}

#[test]
fn depth_is_bounded() {
    let (mut schema, mut value) = (json!({}), json!({}));
    for _ in 0..100 {
        schema = json!({ "properties": { "a": schema } });
        value = json!({ "a": value });
    }
    assert_eq!(problems(schema, value).len(), 1);
}
