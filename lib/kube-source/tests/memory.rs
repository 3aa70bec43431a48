//! What a pod costs. In a process of its own, since it looks at the memory of the whole process.

#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use kube_api::{ApiServer, Options};
use kube_source::{KubernetesStore, Wanted};
use object_store::ObjectSource;
use objects::Kind;
use serde_json::{Value, json};

const PODS: usize = 10_000;
/// Measured 5.6 KiB, of which much is what the allocator keeps of the list that came.
const MOST_BYTES_PER_POD: usize = 8 * 1024;

/// A pod of usual size, by what its controllers and its kubelet write.
fn pod(index: usize) -> Value {
    let text = |length| "x".repeat(length);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("web-7c5b4d9f68-{index:05}"), "generateName": "web-7c5b4d9f68-",
            "namespace": format!("shop-{}", index % 100),
            "labels": { "app": "web", "version": "v1", "pod-template-hash": "7c5b4d9f68" },
            "annotations": { "kubectl.kubernetes.io/last-applied-configuration": text(2000),
                "ambient.istio.io/redirection": "enabled" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7c5b4d9f68",
                "uid": "0a", "controller": true }] },
        "spec": { "nodeName": format!("node-{}", index % 500), "serviceAccountName": "web",
            "volumes": [{ "name": "token", "projected": { "sources": [{ "configMap": { "name": text(40) } }] } }],
            "containers": [{ "name": "web", "image": text(80), "args": [text(100)],
                "env": [{ "name": "A", "value": text(100) }, { "name": "B", "value": text(100) }],
                "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }],
                "resources": { "limits": { "cpu": "1" }, "requests": { "cpu": "1" } } }] },
        "status": { "phase": "Running", "podIP": "10.4.17.9", "podIPs": [{ "ip": "10.4.17.9" }],
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-08-01T12:00:09Z" },
                { "type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-08-01T12:00:09Z" }],
            "containerStatuses": [{ "name": "web", "ready": true, "restartCount": 0, "image": text(80),
                "imageID": text(100), "containerID": text(80) }] },
    })
}

/// The memory of this process that is in use, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kibibytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}

#[tokio::test]
async fn a_pod_costs_little() {
    let server = ApiServer::start(Options::default()).await.unwrap();
    for index in 0..PODS {
        server.put(pod(index)).unwrap();
    }
    let api = kube_source::ApiServer::at(&server.url(), None, None).unwrap();
    let store = KubernetesStore::new(api, Wanted::of([Kind::Pod]));
    let before = resident();
    let batch = store.watch().next().await.unwrap().unwrap();
    let per_pod = resident().saturating_sub(before) / PODS;
    assert_eq!(batch.changes.len(), PODS);
    println!("{per_pod} bytes for each pod");
    assert!(per_pod < MOST_BYTES_PER_POD, "{per_pod} bytes for each pod");
}
