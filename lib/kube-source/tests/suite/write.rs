//! Annotations and status, written and watched.

use kube_api::{ApiServer, Key, Options};
use kube_source::FIELD_MANAGER;
use object_store::{ObjectWriter, WriteError};
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
    let write = |conditions: Vec<Value>| store.patch_status(&key, &uid, json!({ "conditions": conditions }));
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

    let (absent, gone) = (
        objects::ObjectKey::new(key.kind, "demo", "q"),
        json!({ "conditions": [] }),
    );
    let gone = store.patch_status(&absent, &uid, gone).await;
    assert!(matches!(gone, Err(WriteError::Gone { .. })), "{gone:?}");
    let other = store
        .patch_status(&key, "another", json!({ "conditions": [] }))
        .await;
    assert!(matches!(other, Err(WriteError::Gone { .. })), "{other:?}");

    // What is not said any more is taken away.
    write(Vec::new()).await.unwrap();
    let left = &stored()["status"]["conditions"];
    assert!(left.as_array().is_none_or(Vec::is_empty), "{left}");
}
