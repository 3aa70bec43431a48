//! As much of OpenAPI v3 as clients look for before they write: that fields are validated by the server, and for
//! kinds by definition the definition's schema. The fields of built-in kinds are not described.

use serde_json::{Map, Value, json};

use crate::kinds::Resource;
use crate::registry::Served;

/// Where the documents are.
pub(crate) fn index(served: &Served) -> Value {
    let mut paths = Map::new();
    let mut add = |path: String| {
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({ "serverRelativeURL": url }));
    };
    add("api/v1".to_owned());
    for (group, versions) in served.groups() {
        for version in versions {
            add(format!("apis/{group}/{version}"));
        }
    }
    json!({ "paths": paths })
}

/// The document of one version of a group.
pub(crate) fn document(served: &Served, group: &str, version: &str) -> Option<Value> {
    let resources = served.of(group, version);
    if resources.is_empty() {
        return None;
    }
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    let base = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    for resource in resources {
        let kind = json!({ "group": group, "version": version, "kind": resource.kind });
        let name = schema_name(&resource, version);
        let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
        let scope = if resource.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let operation = |action: &str| {
            json!({
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": kind,
                "parameters": parameters(),
                "responses": {
                    "200": {
                        "description": "OK",
                        "content": { "application/json": { "schema": reference } },
                    },
                },
            })
        };
        paths.insert(
            format!("{base}{scope}/{}", resource.plural),
            json!({ "post": operation("post") }),
        );
        paths.insert(
            format!("{base}{scope}/{}/{{name}}", resource.plural),
            json!({ "get": operation("get"), "put": operation("put"), "patch": operation("patch") }),
        );
        schemas.insert(name, schema(&resource, &kind));
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "v1.32.0" },
        "paths": paths,
        "components": { "schemas": schemas },
    }))
}

fn parameters() -> Value {
    let names = ["dryRun", "fieldManager", "fieldValidation"];
    let parameter = |name: &&str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    json!(names.iter().map(parameter).collect::<Vec<_>>())
}

fn schema(resource: &Resource, kind: &Value) -> Value {
    let text = json!({ "type": "string" });
    let mut schema = resource
        .custom
        .as_ref()
        .and_then(|custom| custom.schema.as_deref())
        .filter(|schema| schema.is_object())
        .cloned()
        .unwrap_or_else(|| json!({ "type": "object", "additionalProperties": true }));
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"]["apiVersion"] = text.clone();
    schema["properties"]["kind"] = text;
    schema["properties"]["metadata"] = json!({ "type": "object" });
    schema["x-kubernetes-group-version-kind"] = json!([kind]);
    schema
}

/// `io.k8s.api.core.v1.Pod`, `io.istio.security.v1.PeerAuthentication`.
fn schema_name(resource: &Resource, version: &str) -> String {
    let group = match (resource.custom.is_some(), resource.group.as_str()) {
        (false, "") => "io.k8s.api.core".to_owned(),
        (false, group) => format!("io.k8s.api.{}", group.split('.').next().unwrap_or(group)),
        (true, group) => group.split('.').rev().collect::<Vec<_>>().join("."),
    };
    format!("{group}.{version}.{}", resource.kind)
}
