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

fn policies(cluster: &Cluster) -> Api<DynamicObject> {
    let policies = GroupVersionKind::gvk("security.istio.io", "v1", "AuthorizationPolicy");
    let policies = ApiResource::from_gvk(&policies);
    let server = kube_source::ApiServer::at(&cluster.api.url(), None, None).unwrap();
    Api::namespaced_with(server.client(), "demo", &policies)
}

/// Writes these conditions of a policy as somebody else.
async fn write_as(cluster: &Cluster, manager: &str, policy: &str, conditions: Value) {
    let patch = json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "status": { "conditions": conditions } });
    let parameters = PatchParams::apply(manager).force();
    let policies = policies(cluster);
    policies
        .patch_status(policy, &parameters, &Patch::Apply(patch))
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

/// Makes a policy a revision's; its status stays.
async fn give(cluster: &Cluster, name: &str, revision: &str) {
    let patch = json!({ "metadata": { "labels": { "istio.io/rev": revision } } });
    let parameters = PatchParams::default();
    let policies = policies(cluster);
    policies
        .patch(name, &parameters, &Patch::Merge(patch))
        .await
        .unwrap();
}

/// Who has written a policy's conditions, as the API server has it.
fn writers(cluster: &Cluster, name: &str) -> Vec<String> {
    let stored = cluster
        .api
        .store()
        .get(&Key::new(POLICIES, "demo", name))
        .unwrap();
    let entries = stored.value()["metadata"]["managedFields"].as_array().cloned();
    let entries = entries.unwrap_or_default();
    let wrote = entries
        .iter()
        .filter(|entry| entry.pointer("/fieldsV1/f:status/f:conditions").is_some());
    wrote
        .map(|entry| entry["manager"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_moved_to_another_revision_while_nobody_looked_keeps_nothing_of_ours() {
    const ACCEPTED: &str = "ZtunnelAccepted";
    let cluster = Cluster::start().await;
    let replica = async |name: &str, revision: &str| {
        let more = ["--revision", revision, "--leader-election", "false"];
        cluster.replica_with(name, &more).await
    };
    let names = ["stays", "moves", "abandoned", "beside"];
    for name in names {
        cluster.api.put(policy(name)).unwrap();
        give(&cluster, name, "old").await;
    }
    let old = replica("old", "old").await;
    for name in names {
        becomes(&cluster, (POLICIES, name), ACCEPTED, Some("Accepted")).await;
    }
    // Somebody else's condition must outlive all that.
    let other = json!([{ "type": "Other", "status": "True", "reason": "R" }]);
    write_as(&cluster, "somebody", "beside", other).await;
    becomes(&cluster, (POLICIES, "beside"), ACCEPTED, Some("Accepted")).await;
    old.stop().await;

    give(&cluster, "moves", "new").await;
    give(&cluster, "abandoned", "nobodys").await;
    give(&cluster, "beside", "nobodys").await;
    let new = replica("new", "new").await;
    let old = replica("old", "old").await;
    becomes(&cluster, (POLICIES, "abandoned"), ACCEPTED, None).await;
    becomes(&cluster, (POLICIES, "beside"), ACCEPTED, None).await;
    assert_eq!(
        reason(&cluster, (POLICIES, "beside"), "Other").as_deref(),
        Some("R")
    );
    // The new one says again what the old one took with it, if it was quicker.
    until(async || {
        reason(&cluster, (POLICIES, "moves"), ACCEPTED).is_some()
            && writers(&cluster, "moves") == ["ztunnel-control-plane-new"]
    })
    .await;
    assert_eq!(
        reason(&cluster, (POLICIES, "stays"), ACCEPTED).as_deref(),
        Some("Accepted")
    );

    // Another start of the old one touches nothing of the new one's.
    old.stop().await;
    let version = || {
        let stored = cluster.api.store().get(&Key::new(POLICIES, "demo", "moves"));
        stored.unwrap().value()["metadata"]["resourceVersion"].clone()
    };
    let before = version();
    give(&cluster, "stays", "nobodys").await;
    let old = replica("old", "old").await;
    becomes(&cluster, (POLICIES, "stays"), ACCEPTED, None).await;
    assert_eq!(
        version(),
        before,
        "all that was left is taken away in the order of names"
    );

    // While both run, either way.
    give(&cluster, "stays", "new").await;
    until(async || writers(&cluster, "stays") == ["ztunnel-control-plane-new"]).await;
    give(&cluster, "stays", "old").await;
    until(async || {
        reason(&cluster, (POLICIES, "stays"), ACCEPTED).is_some()
            && writers(&cluster, "stays") == ["ztunnel-control-plane-old"]
    })
    .await;
    old.stop().await;
    new.stop().await;
}

#[tokio::test]
async fn what_is_left_by_its_namespace_keeps_nothing_of_ours() {
    const ACCEPTED: &str = "ZtunnelAccepted";
    let cluster = Cluster::start().await;
    let label = |name: &str, value: &str| {
        let mut object = super::replicas::namespace(name);
        object["metadata"]["labels"] = json!({ "mesh": value });
        cluster.api.put(object).unwrap();
    };
    let settings = json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "istio", "namespace": "istio-system" },
        "data": { "mesh": "discoverySelectors: [{ matchLabels: { mesh: ours } }]" } });
    cluster.api.put(settings).unwrap();
    let object = (POLICIES, "allow");
    label("demo", "ours");
    let replica = cluster.replica_with("one", &[]).await;
    becomes(&cluster, object, ACCEPTED, Some("Accepted")).await;
    label("demo", "theirs");
    becomes(&cluster, object, ACCEPTED, None).await;
    label("demo", "ours");
    becomes(&cluster, object, ACCEPTED, Some("Accepted")).await;
    replica.stop().await;
    label("demo", "theirs");
    let replica = cluster.replica_with("two", &[]).await;
    becomes(&cluster, object, ACCEPTED, None).await;
    label("demo", "ours");
    becomes(&cluster, object, ACCEPTED, Some("Accepted")).await;
    replica.stop().await;
}
