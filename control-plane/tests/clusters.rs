//! The whole control plane beside another cluster: Services of both as one, over two API servers.

// A test ends where something it needs fails.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use clap::Parser;
use control_plane::{Config, Running};
use data_encoding::BASE64;
use kube_api::{ApiServer, Key, Options, Requests, StatusError};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
const FAR: &str = "n2/SplitHorizonWorkload/istio-system/edge/demo/web.demo.svc.cluster.local";
const EDGE: &str = "NetworkGateway/n2/192.0.2.1/15008";
const WEB: &str = "demo/web.demo.svc.cluster.local";

struct World {
    near: ApiServer,
    far: ApiServer,
    folder: TempDir,
    shutdown: CancellationToken,
    running: Option<Running>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    /// A cluster on the network `n1`, and one on `n2` that a Secret names; both have `demo/web`.
    async fn start(kubeconfig: impl Fn(&ApiServer) -> String) -> World {
        let near = cluster("n1").await;
        let far = cluster("n2").await;
        let world = World {
            far,
            near,
            folder: tempfile::tempdir().unwrap(),
            shutdown: CancellationToken::new(),
            running: None,
        };
        for pod in ["a", "b"] {
            world.far.put(far_pod(pod, true)).unwrap();
        }
        world.far.put(edge()).unwrap();
        world.name(&kubeconfig(&world.far));
        world
    }

    fn name(&self, kubeconfig: &str) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "west", "namespace": "istio-system", "labels": { "istio/multiCluster": "true" } },
            "data": { "west": BASE64.encode(kubeconfig.as_bytes()) },
        });
        self.near.put(secret).unwrap();
    }

    async fn boot(&mut self, more: &[&str]) {
        let socket = self.socket();
        let url = self.near.url();
        let arguments = [
            "control-plane",
            "--kubernetes",
            "--kubernetes-url",
            &url,
            "--listen",
            "127.0.0.1:0",
            "--monitoring-listen",
            "127.0.0.1:0",
            "--server-name",
            "istiod.istio-system.svc",
            "--debug-socket",
            &socket,
        ];
        let config = Config::parse_from(arguments.into_iter().chain(more.iter().copied()));
        let store = config.store().unwrap();
        let starting = control_plane::start(config, store.clone(), Some(store), self.shutdown.clone());
        let running = tokio::time::timeout(PATIENCE, starting).await.unwrap();
        self.running = Some(running.unwrap());
    }

    fn socket(&self) -> String {
        self.folder.path().join("debug").display().to_string()
    }

    async fn ask(&self, page: &str) -> Value {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        let request = format!("GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// What is served under a name.
    async fn served(&self, page: &str, name: &str) -> Option<Value> {
        let all = self.ask(page).await;
        let found = all.as_array().unwrap().iter().find(|one| {
            one["uid"] == name || {
                let key = format!(
                    "{}/{}",
                    one["namespace"].as_str().unwrap(),
                    one["hostname"].as_str().unwrap()
                );
                key == name
            }
        });
        found.cloned()
    }

    async fn capacity(&self) -> Option<u64> {
        self.served("/debug/workloads", FAR).await?["capacity"].as_u64()
    }

    async fn until_capacity(&self, what: &str, wanted: Option<u64>) {
        let looking = async {
            while self.capacity().await != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let looked = tokio::time::timeout(PATIENCE, looking).await;
        looked.unwrap_or_else(|_| panic!("never came: {what}"));
    }
}

async fn cluster(network: &str) -> ApiServer {
    let server = ApiServer::start(Options::default()).await.unwrap();
    let labels = json!({ "topology.istio.io/network": network });
    for (name, labels) in [("istio-system", labels), ("demo", json!({}))] {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
        server.put(namespace).unwrap();
    }
    server
        .put(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "namespace": "demo", "labels": { "istio.io/global": "true" } },
            "spec": { "selector": { "app": "web" }, "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
                "ports": [{ "port": 80, "targetPort": 8080 }] },
        }))
        .unwrap();
    server
}

fn far_pod(name: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "demo", "labels": { "app": "web" },
            "annotations": { "ambient.istio.io/redirection": "enabled" } },
        "spec": { "serviceAccountName": "far", "nodeName": "node-a", "containers": [{ "name": "c", "image": "x" }] },
        "status": { "phase": "Running", "podIP": "10.1.0.2", "podIPs": [{ "ip": "10.1.0.2" }],
            "conditions": [{ "type": "Ready", "status": ready }] },
    })
}

fn edge() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": "edge", "namespace": "istio-system", "labels": { "topology.istio.io/network": "n2" } },
        "spec": { "gatewayClassName": "istio-east-west", "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] },
        "status": { "addresses": [{ "type": "IPAddress", "value": "192.0.2.1" }] },
    })
}

#[tokio::test]
async fn a_service_of_two_clusters_is_served_as_one_and_follows_the_other() {
    let mut world = World::start(ApiServer::kubeconfig).await;
    world.boot(&["--multi-network", "true"]).await;
    // With the first answer that a proxy gets: what was there before a restart is not lost for a moment.
    assert_eq!(world.capacity().await, Some(2));
    let far = world.served("/debug/workloads", FAR).await.unwrap();
    assert_eq!(
        (&far["network"], &far["networkGateway"]),
        (&json!("n2"), &json!("n2/192.0.2.1:15008"))
    );
    let edge = world.served("/debug/workloads", EDGE).await.unwrap();
    assert_eq!(edge["serviceAccount"], "edge");
    let web = world.served("/debug/services", WEB).await.unwrap();
    assert_eq!(
        web["subjectAltNames"],
        json!(["spiffe://cluster.local/ns/demo/sa/far"])
    );
    let west = world.ask("/debug/clusters").await["clusters"]["west"].clone();
    let expected = json!({ "secret": "istio-system/west", "state": "followed", "network": "n2",
        "gateway": "istio-system/edge", "services": 1, "joinedServices": 1, "hindrance": null });
    assert_eq!(west, expected);

    world.far.put(far_pod("b", false)).unwrap();
    world.until_capacity("one is not ready", Some(1)).await;
    world.far.put(far_pod("c", true)).unwrap();
    world.until_capacity("one more", Some(2)).await;

    // The other API is away, and with it pods that nobody is told of; nothing is taken for gone.
    world
        .far
        .faults()
        .fail(Requests::any(), StatusError::unavailable(), None);
    world.far.faults().cut_watches();
    assert!(world.far.remove(&Key::new("pods", "demo", "c")));
    let looking = async {
        while world.ask("/debug/clusters").await["clusters"]["west"]["state"] != "behind" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap();
    assert_eq!(world.capacity().await, Some(2));
    world.far.faults().clear();
    world.until_capacity("it is back", Some(1)).await;

    // Without a way there nothing is told, and it is said.
    assert!(world.far.remove(&Key::new(
        "gateways.gateway.networking.k8s.io",
        "istio-system",
        "edge"
    )));
    world.until_capacity("there is no gateway", None).await;
    assert!(world.served("/debug/workloads", EDGE).await.is_none());
    let west = world.ask("/debug/clusters").await["clusters"]["west"].clone();
    assert_eq!(
        (&west["hindrance"], &west["joinedServices"]),
        (&json!("no_gateway"), &json!(0))
    );
    let web = world.served("/debug/services", WEB).await.unwrap();
    assert_eq!(web["subjectAltNames"], json!([]));
    world.far.put(self::edge()).unwrap();
    world.until_capacity("the gateway is back", Some(1)).await;

    // Here it is for this cluster alone, by the settings of the mesh.
    let settings = |scope: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "istio", "namespace": "istio-system" },
            "data": { "mesh": format!("serviceScopeConfigs: [{{scope: {scope}}}]") } })
    };
    world.near.put(settings("LOCAL")).unwrap();
    world.until_capacity("it is local", None).await;
    world.near.put(settings("GLOBAL")).unwrap();
    world.until_capacity("it is global", Some(1)).await;

    assert!(world.near.remove(&Key::new("secrets", "istio-system", "west")));
    world.until_capacity("the cluster is none any more", None).await;
    assert_eq!(world.ask("/debug/clusters").await, json!({ "clusters": {} }));
    assert!(world.served("/debug/services", WEB).await.is_some());
}

#[tokio::test]
async fn a_cluster_that_is_away_at_the_start_holds_nobody_up() {
    let mut world = World::start(|far| far.kubeconfig().replace(&far.url(), "http://127.0.0.1:1")).await;
    world.boot(&["--multi-network", "true"]).await;
    assert_eq!(world.capacity().await, None);
    assert!(world.served("/debug/services", WEB).await.is_some());
    assert_eq!(
        world.ask("/debug/clusters").await["clusters"]["west"]["state"],
        "waiting"
    );
    // It comes.
    world.name(&world.far.kubeconfig());
    world.until_capacity("it is back", Some(2)).await;
}

#[tokio::test]
async fn a_kubeconfig_that_would_run_a_program_is_told_to_its_author() {
    let exec = |far: &ApiServer| {
        far.kubeconfig()
            .replace("\"token\":", "\"exec\":{\"command\":\"/bin/sh\"},\"token\":")
    };
    let mut world = World::start(exec).await;
    world.boot(&["--multi-network", "true"]).await;
    let looking = async {
        loop {
            let events = world.near.store().all("events");
            let found = events
                .iter()
                .find(|event| event.value()["involvedObject"]["kind"] == "Secret");
            if let Some(event) = found {
                return event.value().clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let event = tokio::time::timeout(PATIENCE, looking).await.unwrap();
    assert_eq!(
        (&event["involvedObject"]["name"], &event["reason"]),
        (&json!("west"), &json!("ClusterNotFollowed"))
    );
    let note = event["message"].as_str().unwrap();
    assert!(
        note.contains("exec is not taken: no program is run") && !note.contains("/bin/sh"),
        "{note}"
    );
    assert_eq!(
        world.ask("/debug/clusters").await["clusters"]["west"]["state"],
        "refused"
    );
    assert!(world.far.records().is_empty(), "it was never asked");
}

#[tokio::test]
async fn unless_it_is_wanted_no_secret_is_read() {
    let mut world = World::start(ApiServer::kubeconfig).await;
    world.boot(&[]).await;
    assert_eq!(world.capacity().await, None);
    assert!(world.ask("/debug/clusters").await["error"].is_string());
    let listed = |record: &kube_api::Record| record.uri.contains("multiCluster");
    assert!(!world.near.records().iter().any(listed));
    assert!(world.far.records().is_empty());
}
