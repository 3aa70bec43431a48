//! The objects that a new lab begins with.

use object_store::{Directory, StoreError};
use objects::Object;
use serde_json::{Value, json};

use super::keeper;
use super::mesh::{self, SYSTEM_NAMESPACE, proxy_pod};
use crate::controllers::MANAGED_ANNOTATION;
use crate::error::{LabError, other};
use crate::network::{Network, NodeNetwork};
use crate::options::LabOptions;

/// Writes the lab's own objects and the user's as one change, controllers' work included.
pub(super) async fn plant(
    store: &Directory,
    network: &Network,
    options: &LabOptions,
    mut manifests: Vec<Value>,
) -> Result<(), LabError> {
    let mut values = first_namespaces();
    if options.kubernetes {
        values.extend(["ztunnel", mesh::CONTROL_PLANE_ACCOUNT, mesh::NODE_AGENT_ACCOUNT].map(account_object));
    }
    for node in &network.nodes {
        values.push(node_object(node, network.ipv6()));
        if options.mesh {
            values.push(proxy_object(node, network.ipv6()));
        }
    }
    values.append(&mut manifests);
    let (store, ipv6) = (store.clone(), network.ipv6());
    let planted = tokio::task::spawn_blocking(move || {
        store.transaction(|txn| {
            for value in values {
                let object =
                    Object::from_value(value).map_err(|errors| StoreError::Refused(errors.to_string()))?;
                let object = match txn.get(&object.key())? {
                    Some(old) => object.merged_over(&old),
                    None => object,
                };
                txn.put(object)?;
            }
            Ok(())
        })?;
        keeper::settle(&store, ipv6, &[])
    });
    planted
        .await
        .map_err(other("writing the first objects"))?
        .map_err(other("writing the first objects"))?;
    Ok(())
}

/// The namespaces of every lab.
pub(crate) fn first_namespaces() -> Vec<Value> {
    ["default", "kube-system", SYSTEM_NAMESPACE]
        .iter()
        .map(|name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
        .collect()
}

/// The service account of one of the mesh's programs. Tokens name its uid.
fn account_object(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": SYSTEM_NAMESPACE },
    })
}

fn node_object(node: &NodeNetwork, ipv6: bool) -> Value {
    let plan = &node.plan;
    let ((v4, v4_length), (v6, v6_length)) = (plan.pod_range_v4(), plan.pod_range_v6());
    let mut ranges = vec![format!("{v4}/{v4_length}")];
    let mut addresses = vec![json!({ "type": "InternalIP", "address": plan.fabric_v4().to_string() })];
    if ipv6 {
        ranges.push(format!("{v6}/{v6_length}"));
        addresses.push(json!({ "type": "InternalIP", "address": plan.fabric_v6().to_string() }));
    }
    addresses.push(json!({ "type": "Hostname", "address": plan.name }));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": plan.name,
            "labels": { "kubernetes.io/hostname": plan.name, "kubernetes.io/os": "linux" },
        },
        "spec": { "podCIDR": ranges[0], "podCIDRs": ranges },
        "status": { "addresses": addresses, "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

/// The Pod that the node's proxy claims to be: its uid is in the proxy's token, its node says whom the proxy may speak
/// for.
fn proxy_object(node: &NodeNetwork, ipv6: bool) -> Value {
    let plan = &node.plan;
    let mut addresses = vec![json!({ "ip": plan.fabric_v4().to_string() })];
    if ipv6 {
        addresses.push(json!({ "ip": plan.fabric_v6().to_string() }));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": proxy_pod(&plan.name),
            "namespace": SYSTEM_NAMESPACE,
            "labels": { "app": "ztunnel", "istio.io/dataplane-mode": "none" },
            "annotations": { MANAGED_ANNOTATION: "ztunnel" },
        },
        "spec": {
            "serviceAccountName": "ztunnel",
            "nodeName": plan.name,
            "hostNetwork": true,
            "containers": [{ "name": "istio-proxy", "image": "ztunnel" }],
        },
        "status": {
            "phase": "Running",
            "podIP": plan.fabric_v4().to_string(),
            "podIPs": addresses,
            "hostIP": plan.fabric_v4().to_string(),
            "conditions": [{ "type": "Ready", "status": "False" }],
        },
    })
}
