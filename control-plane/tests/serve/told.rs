//! What is written on objects over a Kubernetes API, beside others who write on them too.

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube_api::Key;
use serde_json::Value;

use super::replicas::{Cluster, until};
use super::*;

const POLICIES: &str = "authorizationpolicies.security.istio.io";

/// The reason of an object's condition of a type; `None`: it has none.
fn reason(cluster: &Cluster, (kind, name): (&str, &str), condition: &str) -> Option<String> {
    let stored = cluster.api.store().get(&Key::new(kind, "demo", name))?;
    let conditions = stored.value()["status"]["conditions"].as_array()?.clone();
    let found = conditions.iter().find(|one| one["type"] == condition)?;
    Some(found["reason"].as_str()?.to_owned())
}

async fn becomes(cluster: &Cluster, object: (&str, &str), condition: &str, wanted: Option<&str>) {
    until(async || reason(cluster, object, condition).as_deref() == wanted).await;
}

/// Writes one condition as somebody else.
async fn write_as(cluster: &Cluster, manager: &str, policy: &str, conditions: Value) {
    let policies = GroupVersionKind::gvk("security.istio.io", "v1", "AuthorizationPolicy");
    let policies = ApiResource::from_gvk(&policies);
    let client = kube_source::ApiServer::at(&cluster.api.url(), None, None)
        .unwrap()
        .client();
    let api: Api<DynamicObject> = Api::namespaced_with(client, "demo", &policies);
    let patch = json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "status": { "conditions": conditions } });
    let parameters = PatchParams::apply(manager).force();
    api.patch_status(policy, &parameters, &Patch::Apply(patch))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_policy_with_targets_says_whether_a_waypoint_is_there() {
    const BOUND: &str = "ztunnel.dev/TargetsBound";
    const GUARD: (&str, &str) = (POLICIES, "guard");
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let mut guard = policy("guard");
    guard["spec"]["targetRefs"] = json!([{ "kind": "Service", "name": "web" }]);
    api.put(guard).unwrap();
    let theirs =
        json!([{ "type": "WaypointAccepted", "status": "False", "reason": "TargetNotFound", "message": "" }]);
    write_as(&cluster, "istio-ambient-waypoint-policy", "guard", theirs).await;
    let replica = cluster.replica_with("one", &[]).await;

    becomes(&cluster, GUARD, BOUND, Some("TargetNotFound")).await;
    let service = |labels: Value| {
        json!({ "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "namespace": "demo", "labels": labels },
            "spec": { "ports": [{ "port": 80 }], "clusterIP": "10.8.0.1" } })
    };
    api.put(service(json!({}))).unwrap();
    becomes(&cluster, GUARD, BOUND, Some("AncestorNotBound")).await;
    api.put(service(json!({ "istio.io/use-waypoint": "gate" })))
        .unwrap();
    becomes(&cluster, GUARD, BOUND, Some("WaypointIsNotReady")).await;
    let gate = json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": "gate", "namespace": "demo" },
        "spec": { "gatewayClassName": "istio-waypoint",
            "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] },
        "status": { "addresses": [{ "type": "IPAddress", "value": "10.8.0.2" }] } });
    api.put(gate).unwrap();
    becomes(&cluster, GUARD, BOUND, Some("Bound")).await;
    assert_eq!(
        reason(&cluster, GUARD, "WaypointAccepted").as_deref(),
        Some("TargetNotFound"),
        "what another control plane says is its own"
    );
    assert_eq!(reason(&cluster, GUARD, "ZtunnelAccepted"), None);
    api.remove(&Key::new("gateways.gateway.networking.k8s.io", "demo", "gate"));
    becomes(&cluster, GUARD, BOUND, Some("WaypointIsNotReady")).await;

    // Each reason but the good one is told by an Event too.
    let told = |reason: &str| {
        let events = api.store().all("events");
        let mut events = events.iter().map(|event| event.value());
        events.any(|event| event["involvedObject"]["name"] == "guard" && event["reason"] == reason)
    };
    until(async || told("TargetNotFound") && told("AncestorNotBound") && told("WaypointIsNotReady")).await;
    assert!(!told("Bound"));
    replica.stop().await;
}
