use serde_json::{Value, json};

use crate::cluster::{Cluster, MESH};
use crate::stand_ins;

/// What became of the chart's objects.
#[derive(Debug, Default)]
pub struct Installed {
    /// `Kind name` of what the server took.
    pub made: Vec<String>,
    /// Kinds that it does not have, with their versions.
    pub unknown: Vec<String>,
}

/// The definitions, then what is rendered. Objects of kinds that the server does not have are left out, and told.
#[track_caller]
pub(crate) fn install(cluster: &Cluster, values: &str) -> Installed {
    let mut installed = Installed::default();
    for definition in charts::definitions().expect("the definitions") {
        cluster.define(&definition);
        installed.made.push(title(&definition));
    }
    for object in charts::rendered(values).expect("the rendered chart") {
        if cluster.collection(&object).is_none() {
            let kind = format!("{} {}", text(&object["apiVersion"]), text(&object["kind"]));
            if !installed.unknown.contains(&kind) {
                installed.unknown.push(kind);
            }
            continue;
        }
        cluster.put(&stand_ins::aged(cluster.version(), object.clone()));
        installed.made.push(title(&object));
    }
    nodes(cluster);
    installed
}

/// Two nodes, with a pod each of the accounts of the mesh: no scheduler is here to choose.
#[track_caller]
pub(crate) fn nodes(cluster: &Cluster) {
    for node in ["node-a", "node-b"] {
        cluster.put(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node } }));
        for account in ["ztunnel-control-plane", "ztunnel-node-agent", "ztunnel"] {
            cluster.put(&json!({ "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": format!("{account}-{node}"), "namespace": MESH },
                "spec": { "nodeName": node, "serviceAccountName": account, "automountServiceAccountToken": false,
                    "containers": [{ "name": "main", "image": "none" }] } }));
        }
    }
}

fn title(object: &Value) -> String {
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
