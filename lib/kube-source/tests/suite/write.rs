//! Annotations and status, written and watched.

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube_api::{ApiServer, Key, Options};
use kube_source::{FIELD_MANAGER, KubernetesStore, Wanted};
use object_store::{ObjectWriter, StatusWrite, WriteError};
use objects::Kind;
use serde_json::{Value, json};

use crate::support::{Reader, store};

const REDIRECTION: &str = "ambient.istio.io/redirection";
const POLICIES: &str = "authorizationpolicies.security.istio.io";

fn pod(labels: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "namespace": "demo", "labels": labels },
        "spec": { "containers": [{ "name": "web", "image": "i" }] },
        "status": { "phase": "Running", "podIP": "10.0.0.1" } })
}

#[tokio::test]
async fn an_annotation_is_written_once_and_known_from_its_revision_on() {
    let server = ApiServer::start(Options::default()).await.unwrap();
    server.put(pod(json!({}))).unwrap();
    let store = store(&server.url(), &[Kind::Pod]);
    let mut reader = Reader::new(&store);
    reader.next().await;
    let pod_of = |reader: &Reader| reader.objects.values().next().unwrap().clone();
    let before = pod_of(&reader);
    let (key, uid) = (before.key(), before.metadata.uid.clone());
    let write = |value: Option<&str>| store.patch_annotation(&key, &uid, REDIRECTION, value);

    let revision = write(Some("enabled")).await.unwrap();
    while reader.revision < revision {
        reader.next().await;
    }
    assert_eq!(pod_of(&reader).metadata.annotations[REDIRECTION], "enabled");
    let again = write(Some("enabled")).await.unwrap();
    assert!(again <= reader.revision, "nothing was written");
    let stored = server.store().get(&Key::new("pods", "demo", "web")).unwrap();
    let manager = &stored.value()["metadata"]["managedFields"];
    assert!(manager.to_string().contains(FIELD_MANAGER), "{manager}");
    assert_eq!(stored.value()["status"]["podIP"], "10.0.0.1");
    let patched = |record: &kube_api::Record| record.method == "PATCH";
    let records = server.records();
    let patched: Vec<_> = records.iter().filter(|record| patched(record)).collect();
    assert!(
        patched
            .iter()
            .all(|record| record.uri.contains("/pods/web/status?")),
        "{patched:?}"
    );

    let revision = write(None).await.unwrap();
    while reader.revision < revision {
        reader.next().await;
    }
    assert!(!pod_of(&reader).metadata.annotations.contains_key(REDIRECTION));

    // Another pod of the same name is another pod.
    server.remove(&Key::new("pods", "demo", "web"));
    server.put(pod(json!({ "new": "1" }))).unwrap();
    assert!(matches!(
        write(Some("enabled")).await,
        Err(WriteError::Gone { .. })
    ));
    let stored = server.store().get(&Key::new("pods", "demo", "web")).unwrap();
    assert!(stored.value()["metadata"].get("annotations").is_none());
    server.remove(&Key::new("pods", "demo", "web"));
    assert!(matches!(
        write(Some("enabled")).await,
        Err(WriteError::Gone { .. })
    ));
}

fn status(conditions: Vec<Value>) -> StatusWrite {
    StatusWrite {
        conditions,
        types: &["ZtunnelAccepted", "istio.io/WaypointBound"],
        ..StatusWrite::default()
    }
}

#[tokio::test]
async fn conditions_are_applied_and_those_of_others_stay_theirs() {
    let server = ApiServer::start(Options::default()).await.unwrap();
    server
        .put(
            json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "p", "namespace": "demo" }, "spec": { "rules": [{}] } }),
        )
        .unwrap();
    let store = store(&server.url(), &[Kind::AuthorizationPolicy]);
    let mut reader = Reader::new(&store);
    reader.next().await;
    let policy = reader.objects.values().next().unwrap().clone();
    let (key, uid) = (policy.key(), policy.metadata.uid.clone());
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "Accepted", "message": "" });
    let write = |conditions: Vec<Value>| store.write_status(&key, &uid, status(conditions));
    let stored = || {
        server
            .store()
            .get(&Key::new(POLICIES, "demo", "p"))
            .unwrap()
            .value()
            .clone()
    };

    let revision = write(vec![condition("ZtunnelAccepted", "True")]).await.unwrap();
    while reader.revision < revision {
        reader.next().await;
    }
    let seen = reader.objects.values().next().unwrap().clone();
    assert_eq!(
        seen.status().unwrap()["conditions"],
        json!([condition("ZtunnelAccepted", "True")])
    );
    assert_eq!(
        stored()["metadata"]["generation"],
        policy.raw()["metadata"]["generation"]
    );
    let version = stored()["metadata"]["resourceVersion"].clone();
    let again = write(vec![condition("ZtunnelAccepted", "True")]).await.unwrap();
    assert!(again <= reader.revision, "nothing was written");
    assert_eq!(stored()["metadata"]["resourceVersion"], version);

    let absent = objects::ObjectKey::new(key.kind, "demo", "q");
    let gone = store.write_status(&absent, &uid, status(Vec::new())).await;
    assert!(matches!(gone, Err(WriteError::Gone { .. })), "{gone:?}");
    let other = store.write_status(&key, "another", status(Vec::new())).await;
    assert!(matches!(other, Err(WriteError::Gone { .. })), "{other:?}");

    // What is not said any more is taken away.
    write(Vec::new()).await.unwrap();
    let left = &stored()["status"]["conditions"];
    assert!(left.as_array().is_none_or(Vec::is_empty), "{left}");
}

/// A list of conditions that is one value, as Istio's definitions have it: who writes one writes all.
#[tokio::test]
async fn who_writes_at_the_same_time_loses_nothing() {
    const ROUNDS: usize = 40;
    let server = ApiServer::start(Options::default()).await.unwrap();
    let policy = json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "p", "namespace": "demo" }, "spec": { "rules": [{}] } });
    server.put(policy).unwrap();
    let store = store(&server.url(), &[Kind::AuthorizationPolicy]);
    let mut reader = Reader::new(&store);
    reader.next().await;
    let policy = reader.objects.values().next().unwrap().clone();
    let write = async |types: &'static [&'static str]| {
        for round in 0..ROUNDS {
            let written = StatusWrite {
                conditions: vec![json!({ "type": types[0], "status": "True", "message": round.to_string() })],
                types,
                ..StatusWrite::default()
            };
            // Overtaken ever again it says so, and its caller comes again.
            while let Err(error) = store
                .write_status(&policy.key(), &policy.metadata.uid, written.clone())
                .await
            {
                assert!(matches!(error, WriteError::Remote { .. }), "{error}");
            }
        }
    };
    tokio::join!(write(&["ZtunnelAccepted"]), write(&["WaypointAccepted"]));
    let stored = server.store().get(&Key::new(POLICIES, "demo", "p")).unwrap();
    let conditions = stored.value()["status"]["conditions"].as_array().unwrap();
    let mut said: Vec<_> = conditions
        .iter()
        .map(|one| (one["type"].as_str().unwrap(), one["message"].as_str().unwrap()))
        .collect();
    said.sort_unstable();
    let last = (ROUNDS - 1).to_string();
    assert_eq!(said, [("WaypointAccepted", &*last), ("ZtunnelAccepted", &*last)]);
}

/// Of a list by type only ours is sent, and one of ours that another control plane has written too goes with ours.
#[tokio::test]
async fn what_another_manager_left_of_ours_is_taken_away_and_nothing_else() {
    let server = ApiServer::start(Options::default()).await.unwrap();
    server
        .put(
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "demo" },
            "spec": { "ports": [{ "port": 80 }] } }),
        )
        .unwrap();
    let store = store(&server.url(), &[Kind::Service]);
    let mut reader = Reader::new(&store);
    reader.next().await;
    let service = reader.objects.values().next().unwrap().clone();
    let condition = |kind: &str| {
        json!({ "type": kind, "status": "True", "reason": "R", "message": "m",
        "lastTransitionTime": "2026-08-01T00:00:00Z" })
    };
    let services = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service"));
    let client = kube_source::ApiServer::at(&server.url(), None, None)
        .unwrap()
        .client();
    let api: Api<DynamicObject> = Api::namespaced_with(client, "demo", &services);
    let other = json!({ "apiVersion": "v1", "kind": "Service",
        "status": { "conditions": [condition("istio.io/WaypointBound"), condition("Other")] } });
    api.patch_status(
        "web",
        &PatchParams::apply("istio-ambient-service"),
        &Patch::Apply(other),
    )
    .await
    .unwrap();
    let types = || {
        let stored = server.store().get(&Key::new("services", "demo", "web")).unwrap();
        let conditions = stored.value()["status"]["conditions"].as_array().cloned();
        let kind = |condition: &Value| condition["type"].as_str().unwrap().to_owned();
        conditions
            .unwrap_or_default()
            .iter()
            .map(kind)
            .collect::<Vec<_>>()
    };
    let write = |conditions: Vec<Value>| {
        store.write_status(&service.key(), &service.metadata.uid, status(conditions))
    };
    write(vec![condition("istio.io/WaypointBound")]).await.unwrap();
    assert_eq!(types(), ["istio.io/WaypointBound", "Other"]);
    // Neither manager's word alone keeps it.
    write(Vec::new()).await.unwrap();
    assert_eq!(types(), ["Other"]);
    let stored = server.store().get(&Key::new("services", "demo", "web")).unwrap();
    let managers = stored.value()["metadata"]["managedFields"].as_array().unwrap();
    let owner = managers
        .iter()
        .find(|entry| entry["fieldsV1"].to_string().contains("Other"))
        .unwrap();
    assert_eq!(owner["manager"], "istio-ambient-service");
}

/// Two control planes with the same types of conditions: who does not have an object any more takes its own from it, and
/// not what the other has written since, be the conditions a list by type (Service) or one value (policy).
#[tokio::test]
async fn what_is_given_back_is_ones_own() {
    let server = ApiServer::start(Options::default()).await.unwrap();
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "p", "namespace": "demo" },
        "spec": { "ports": [{ "port": 80 }] } });
    let policy = json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "p", "namespace": "demo" }, "spec": { "rules": [{}] } });
    let one = store(&server.url(), &[Kind::Service, Kind::AuthorizationPolicy]);
    let other = KubernetesStore::of_manager(
        kube_source::ApiServer::at(&server.url(), None, None).unwrap(),
        Wanted::of([Kind::Service]),
        "ztunnel-control-plane-canary",
    );
    let condition = |reason: &str| {
        json!({ "type": "istio.io/WaypointBound", "status": "True", "reason": reason, "message": "m",
            "lastTransitionTime": "2026-08-01T00:00:00Z" })
    };
    let foreign = json!({ "type": "Other", "status": "True", "reason": "R", "message": "m",
        "lastTransitionTime": "2026-08-01T00:00:00Z" });
    for (object, resource) in [(service, "services"), (policy, POLICIES)] {
        let stored = server.put(object.clone()).unwrap();
        let uid = stored.value()["metadata"]["uid"].as_str().unwrap().to_owned();
        let kind: Kind = object["kind"].as_str().unwrap().parse().unwrap();
        let key = objects::ObjectKey::new(kind, "demo", "p");
        let write = async |store: &KubernetesStore, written: StatusWrite| {
            store.write_status(&key, &uid, written).await.unwrap();
            let stored = server.store().get(&Key::new(resource, "demo", "p")).unwrap();
            let conditions = stored.value()["status"]["conditions"].as_array().cloned();
            let reason = |one: &Value| one["reason"].as_str().unwrap().to_owned();
            let mut reasons: Vec<String> = conditions.unwrap_or_default().iter().map(reason).collect();
            reasons.sort();
            reasons
        };
        let back = || StatusWrite {
            gives_back: true,
            ..status(Vec::new())
        };
        let theirs = StatusWrite {
            types: &["Other"],
            ..status(vec![foreign.clone()])
        };
        let third = KubernetesStore::of_manager(
            kube_source::ApiServer::at(&server.url(), None, None).unwrap(),
            Wanted::of([Kind::Service]),
            "somebody",
        );
        assert_eq!(write(&third, theirs).await, ["R"]);
        assert_eq!(write(&one, status(vec![condition("One")])).await, ["One", "R"]);
        // Nobody has it now.
        assert_eq!(write(&one, back()).await, ["R"], "{resource}");
        assert_eq!(write(&one, back()).await, ["R"]);
        // The other has it, and has written.
        assert_eq!(write(&one, status(vec![condition("One")])).await, ["One", "R"]);
        assert_eq!(
            write(&other, status(vec![condition("Other")])).await,
            ["Other", "R"]
        );
        assert_eq!(write(&one, back()).await, ["Other", "R"], "{resource}");
        assert_eq!(write(&other, back()).await, ["R"], "{resource}");
    }
}
