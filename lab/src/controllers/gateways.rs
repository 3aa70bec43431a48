//! Waypoints: the Service by which each is reached, and the address in its Gateway's status once somebody answers there.
//!
//! The pods of a waypoint are the user's own: whatever carries the label `gateway.networking.k8s.io/gateway-name`.

use objects::{GATEWAY_NAME_LABEL, Gateway, Object};
use serde_json::{Value, json};

use super::{Cluster, Write, with};
use crate::zone::DOMAIN;

/// The label by which Istio's controller marks what it made for a waypoint.
const MANAGED_LABEL: &str = "gateway.istio.io/managed";
const MANAGED_BY: &str = "istio.io-mesh-controller";

/// Makes the Service of each waypoint that has none, and says in the Gateway's status where it is reached: nowhere
/// while no pod of it is ready.
pub(super) fn reconcile(cluster: &Cluster<'_>) -> Vec<Write> {
    let waypoints = cluster
        .gateways
        .iter()
        .filter(|(_, gateway)| gateway.is_waypoint());
    waypoints
        .filter_map(|(object, gateway)| next(cluster, object, gateway))
        .collect()
}

fn next(cluster: &Cluster<'_>, object: &Object, gateway: &Gateway) -> Option<Write> {
    let metadata = &object.metadata;
    let mut services = cluster.services.iter().filter(|(service, _)| {
        service.metadata.namespace == metadata.namespace && service.metadata.name == metadata.name
    });
    let Some((service, spec)) = services.next() else {
        return Some(Write::Put(service_of(object, gateway)));
    };
    let mut pods = cluster.backing(service, spec).into_iter();
    let is_reached = !spec.cluster_ips.is_empty()
        && pods.any(|(pod, content)| pod.metadata.deletion_timestamp.is_none() && content.is_ready());
    let addresses = if is_reached {
        let name = format!("{}.{}.svc.{DOMAIN}", metadata.name, metadata.namespace);
        json!([{ "type": "Hostname", "value": name }])
    } else {
        json!([])
    };
    let present = object.status().and_then(|status| status.get("addresses"));
    let present = present.cloned().unwrap_or(json!([]));
    (present != addresses).then(|| Write::Put(with(object, &["status", "addresses"], addresses)))
}

fn service_of(object: &Object, gateway: &Gateway) -> Value {
    let metadata = &object.metadata;
    let port = |listener: &objects::Listener| json!({ "name": listener.name, "port": listener.port, "targetPort": listener.port, "appProtocol": "hbone" });
    let ports: Vec<Value> = gateway.listeners.iter().map(port).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "labels": { MANAGED_LABEL: MANAGED_BY, GATEWAY_NAME_LABEL: metadata.name },
            "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "name": metadata.name,
                "uid": metadata.uid,
                "controller": true,
            }],
        },
        "spec": { "selector": { GATEWAY_NAME_LABEL: metadata.name }, "ports": ports },
    })
}
