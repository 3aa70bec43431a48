//! The node agent asks the API server for what the chart allows, and the chart allows nothing that it does not ask for.

// A test ends where something it needs fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use charts::permissions::{Grants, Permission, needs};
use clap::Parser;
use futures_util::StreamExt;
use kube_api::{ApiServer, Key, Options};
use node_agent::Config;
use object_store::WriteError;
use objects::{Kind, ObjectKey, REDIRECTION_ANNOTATION};
use serde_json::json;

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_is_asked_is_granted_and_nothing_more() {
    let rendered = charts::rendered("defaults").unwrap();
    let grants = Grants::of_account(&rendered, "ztunnel-node-agent");
    let server = ApiServer::start(Options::default()).await.unwrap();
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": "default", "name": "web" },
        "spec": { "nodeName": "node-a", "containers": [{ "name": "a", "image": "a" }] } });
    let stored = server.put(pod.clone()).unwrap();
    let uid = stored.value()["metadata"]["uid"].as_str().unwrap().to_owned();
    let url = server.url();
    let arguments = [
        "--node=node-a",
        "--kubernetes",
        "--kubernetes-url",
        &url,
        "--proc=/proc",
        "--status-socket=/s",
    ];
    let config = Config::parse_from(["node-agent"].into_iter().chain(arguments));
    // What the agent reads and writes goes through these two, of which it is given no more.
    let store = config.store().unwrap();
    let mut objects = store.watch();
    let batch = tokio::time::timeout(PATIENCE, objects.next()).await.unwrap();
    batch.unwrap().unwrap();
    let key = ObjectKey::new(Kind::Pod, "default", "web");
    for value in [Some("enabled"), None] {
        let written = store.patch_annotation(&key, &uid, REDIRECTION_ANNOTATION, value);
        tokio::time::timeout(PATIENCE, written).await.unwrap().unwrap();
    }
    // One that has ended, and then one of the same name, are gone without a look at them, which is not granted.
    let place = Key::new("pods", "default", "web");
    for made_again in [false, true] {
        server.remove(&place);
        if made_again {
            server.put(pod.clone()).unwrap();
        }
        let written = store.patch_annotation(&key, &uid, REDIRECTION_ANNOTATION, Some("enabled"));
        let written = tokio::time::timeout(PATIENCE, written).await.unwrap();
        assert!(matches!(written, Err(WriteError::Gone { .. })), "{written:?}");
    }
    let asked = || -> BTreeSet<Permission> {
        let records = server.records().into_iter();
        records
            .flat_map(|record| needs(&record.method, &record.uri, record.code))
            .map(|need| need.permission)
            .collect()
    };
    let granted = grants.all();
    let waited = tokio::time::timeout(PATIENCE, async {
        while !asked().is_superset(&granted) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(
        waited.await.is_ok(),
        "granted: {granted:?}, asked for: {:?}",
        asked()
    );
    for record in server.records() {
        for need in needs(&record.method, &record.uri, record.code) {
            assert!(grants.allow(&need), "not granted by the chart: {need:?}");
        }
    }
}
