//! Definitions of the custom kinds that the mesh reads: Istio's and the Gateway API's, by their public names,
//! versions and columns. Their schemas accept every field: what cannot be used is the reader's affair.

use serde_json::{Value, json};

/// The definitions of PeerAuthentication, AuthorizationPolicy, ServiceEntry, WorkloadEntry, WorkloadGroup, Gateway
/// and GatewayClass, as `CustomResourceDefinition` objects.
pub fn mesh_definitions() -> Vec<Value> {
    LINES.iter().map(definition).collect()
}

struct Line {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short_name: &'static str,
    /// The stored one first.
    versions: &'static [&'static str],
    namespaced: bool,
    columns: &'static [(&'static str, &'static str)],
}

const LINES: [Line; 7] = [
    Line {
        group: "security.istio.io",
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        short_name: "pa",
        versions: &["v1", "v1beta1"],
        namespaced: true,
        columns: &[("Mode", ".spec.mtls.mode")],
    },
    Line {
        group: "security.istio.io",
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short_name: "ap",
        versions: &["v1", "v1beta1"],
        namespaced: true,
        columns: &[("Action", ".spec.action")],
    },
    Line {
        group: "networking.istio.io",
        kind: "ServiceEntry",
        plural: "serviceentries",
        short_name: "se",
        versions: &["v1", "v1beta1", "v1alpha3"],
        namespaced: true,
        columns: &[
            ("Hosts", ".spec.hosts"),
            ("Location", ".spec.location"),
            ("Resolution", ".spec.resolution"),
        ],
    },
    Line {
        group: "networking.istio.io",
        kind: "WorkloadEntry",
        plural: "workloadentries",
        short_name: "we",
        versions: &["v1", "v1beta1", "v1alpha3"],
        namespaced: true,
        columns: &[("Address", ".spec.address")],
    },
    Line {
        group: "networking.istio.io",
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        short_name: "wg",
        versions: &["v1", "v1beta1", "v1alpha3"],
        namespaced: true,
        columns: &[],
    },
    Line {
        group: "gateway.networking.k8s.io",
        kind: "Gateway",
        plural: "gateways",
        short_name: "gtw",
        versions: &["v1", "v1beta1"],
        namespaced: true,
        columns: &[
            ("Class", ".spec.gatewayClassName"),
            ("Address", ".status.addresses[*].value"),
            (
                "Programmed",
                ".status.conditions[?(@.type==\"Programmed\")].status",
            ),
        ],
    },
    Line {
        group: "gateway.networking.k8s.io",
        kind: "GatewayClass",
        plural: "gatewayclasses",
        short_name: "gc",
        versions: &["v1", "v1beta1"],
        namespaced: false,
        columns: &[
            ("Controller", ".spec.controllerName"),
            ("Accepted", ".status.conditions[?(@.type==\"Accepted\")].status"),
        ],
    },
];

fn definition(line: &Line) -> Value {
    let mut columns: Vec<Value> = line
        .columns
        .iter()
        .map(|(name, path)| json!({ "name": name, "type": "string", "jsonPath": path }))
        .collect();
    columns.push(json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" }));
    let versions: Vec<Value> = line
        .versions
        .iter()
        .map(|version| {
            json!({
                "name": version,
                "served": true,
                "storage": *version == line.versions[0],
                "schema": { "openAPIV3Schema": schema(line) },
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns,
            })
        })
        .collect();
    let categories = match line.group.split_once(".istio.io") {
        Some((group, "")) => json!(["istio-io", format!("{group}-istio-io")]),
        _ => json!(["gateway-api"]),
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{}", line.plural, line.group) },
        "spec": {
            "group": line.group,
            "names": {
                "kind": line.kind,
                "listKind": format!("{}List", line.kind),
                "plural": line.plural,
                "singular": line.kind.to_ascii_lowercase(),
                "shortNames": [line.short_name],
                "categories": categories,
            },
            "scope": if line.namespaced { "Namespaced" } else { "Cluster" },
            "versions": versions,
        },
    })
}

/// Istio's kinds say nothing of how their lists merge, so each list is one value; the Gateway API's do.
fn schema(line: &Line) -> Value {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let mut schema = json!({ "type": "object", "properties": { "spec": open, "status": open } });
    if line.group == "gateway.networking.k8s.io" {
        let keyed = |key: &str| {
            json!({
                "type": "array",
                "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": [key],
            })
        };
        let properties = &mut schema["properties"];
        properties["status"]["properties"] = json!({ "conditions": keyed("type") });
        if line.kind == "Gateway" {
            let mut listeners = keyed("name");
            listeners["items"]["properties"] = json!({ "conditions": keyed("type") });
            properties["spec"]["properties"] = json!({ "listeners": keyed("name") });
            properties["status"]["properties"]["listeners"] = listeners;
        }
    }
    schema
}
