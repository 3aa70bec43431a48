//! What servers older than those that the chart asks for do not have, and what stands in for it.

use serde_json::{Value, json};

/// Since when there is `discovery.k8s.io/v1`.
const ENDPOINT_SLICES: (u32, u32) = (1, 21);
/// Since when DaemonSets have `maxSurge`.
const MAX_SURGE: (u32, u32) = (1, 22);

/// Flags by which the kinds of an older server make room.
pub(crate) fn flags(version: (u32, u32)) -> Vec<String> {
    if version >= ENDPOINT_SLICES {
        return Vec::new();
    }
    // While it serves a version of the group, it takes all requests for the group for itself.
    vec!["--runtime-config=discovery.k8s.io/v1beta1=false,discovery.k8s.io/v1alpha1=false".to_owned()]
}

/// The object as an older server can take it.
pub(crate) fn aged(version: (u32, u32), mut object: Value) -> Value {
    if version < MAX_SURGE && object["kind"] == "DaemonSet" {
        // It reads no `maxSurge`, and `maxUnavailable: 0` without it is refused.
        object["spec"]["updateStrategy"] = json!({ "type": "RollingUpdate" });
    }
    object
}

/// Definitions of kinds that an older server does not have.
pub(crate) fn definitions(version: (u32, u32)) -> Vec<Value> {
    if version >= ENDPOINT_SLICES {
        return Vec::new();
    }
    vec![json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "endpointslices.discovery.k8s.io",
            "annotations": { "api-approved.kubernetes.io": "unapproved, a stand-in of a test" },
        },
        "spec": {
            "group": "discovery.k8s.io",
            "names": { "plural": "endpointslices", "singular": "endpointslice", "kind": "EndpointSlice" },
            "scope": "Namespaced",
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    })]
}
