//! The whole control plane in this process, and real clients over TLS on loopback.

// A test ends where something it needs fails.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ca::{Caller, GrpcIssuer, TokenSigner, TokenSubject};
use clap::Parser;
use control_plane::{Config, Running};
use grpc_channel::{ChannelConfig, Token};
use mesh::Identity;
use object_store::{Directory, ObjectSource, ObjectWriter};
use objects::{Object, ObjectKey};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use proto::security::AUTHORIZATION_TYPE_URL as POLICIES;
use proto::workload::ADDRESS_TYPE_URL as ADDRESSES;
use serde_json::json;
use tempfile::TempDir;
use tls::server_auth::RootSource;
use tls::{IssueError, Issuer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use xds_client::ClientConfig;

#[path = "serve/callers.rs"]
mod callers;
#[path = "serve/large.rs"]
mod large;
#[path = "serve/replicas.rs"]
mod replicas;
#[path = "serve/told.rs"]
mod told;

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A control plane over a directory, and what is needed to call it.
struct World {
    folder: TempDir,
    objects: Directory,
    signer: TokenSigner,
    /// What is watched in place of the directory.
    source: Option<Arc<dyn ObjectSource>>,
    /// Further arguments.
    more: Vec<String>,
    running: Option<Running>,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl World {
    async fn start() -> World {
        let folder = tempfile::tempdir().unwrap();
        let objects = Directory::open(folder.path().join("objects")).unwrap();
        let signer = TokenSigner::load_or_create(&folder.path().join("token-key.pem")).unwrap();
        std::fs::write(folder.path().join("token-keys.pem"), signer.public_key_pem()).unwrap();
        put(
            &objects,
            pod("istio-system", "zt-a", "ztunnel", "node-a", "10.9.0.1"),
        );
        let shutdown = CancellationToken::new();
        let address = "127.0.0.1:0".parse().unwrap();
        let mut world = World {
            folder,
            objects,
            signer,
            source: None,
            more: Vec::new(),
            running: None,
            address,
            shutdown,
        };
        world.boot().await;
        world
    }

    async fn boot(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (objects, ca, keys, socket) =
            (path("objects"), path("ca"), path("token-keys.pem"), path("debug"));
        let listen = self.address.to_string();
        let arguments = [
            "control-plane",
            "--objects",
            &objects,
            "--ca-dir",
            &ca,
            "--listen",
            &listen,
            "--server-name",
            "control-plane.test",
            "--token-keys",
            &keys,
            "--token-issuer",
            "lab",
            "--monitoring-listen",
            "127.0.0.1:0",
            "--debug-socket",
            &socket,
            "--certificate-life",
            "10m",
        ];
        let more = self.more.iter().map(String::as_str);
        let config = Config::parse_from(arguments.into_iter().chain(more));
        self.shutdown = CancellationToken::new();
        let objects = Arc::new(self.objects.clone());
        let source = self.source.clone().unwrap_or_else(|| objects.clone());
        let running = control_plane::start(config, source, Some(objects), self.shutdown.clone());
        let running = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
        self.address = running.address();
        self.running = Some(running);
    }

    async fn stop(&mut self) {
        self.shutdown.cancel();
        let running = self.running.take().unwrap();
        tokio::time::timeout(PATIENCE, running.stopped())
            .await
            .unwrap()
            .unwrap();
    }

    fn caller(&self) -> Caller {
        let key = ObjectKey::new(objects::Kind::Pod, "istio-system", "zt-a");
        Caller {
            namespace: "istio-system".to_owned(),
            service_account: "ztunnel".to_owned(),
            pod_name: "zt-a".to_owned(),
            pod_uid: self.objects.get(&key).unwrap().unwrap().metadata.uid.clone(),
            node: "node-a".to_owned(),
        }
    }

    fn token(&self, caller: Caller) -> String {
        let subject = TokenSubject {
            issuer: "lab".to_owned(),
            audience: "istio-ca".to_owned(),
            caller,
            service_account_uid: "sa-uid".to_owned(),
            node_uid: "node-uid".to_owned(),
            ttl: Duration::from_secs(600),
        };
        self.signer.sign(&subject, SystemTime::now()).unwrap()
    }

    fn channel(&self, token: Token) -> grpc_channel::Channel {
        let root = self.folder.path().join("ca/root-cert.pem");
        let mut config = ChannelConfig::new(format!("https://{}", self.address), RootSource::Path(root));
        config.alternative_name = Some("control-plane.test".to_owned());
        config.token = token;
        config.channel().unwrap()
    }

    async fn connect(&self) -> Client {
        Client::open(
            self.channel(Token::Inline(self.token(self.caller()))),
            node("zt-a", "node-a"),
        )
        .await
    }

    /// What the debug socket says.
    async fn ask(&self, page: &str) -> serde_json::Value {
        let mut stream = UnixStream::connect(self.folder.path().join("debug"))
            .await
            .unwrap();
        let request = format!("GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// What is answered over HTTP on the monitoring address.
    async fn monitoring(&self, name: &str) -> String {
        page(self.running.as_ref().unwrap().monitoring_address(), name).await
    }

    /// Asks until the first proxy is as expected.
    async fn proxy(&self, expected: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let asking = async {
            loop {
                let sync = self.ask("/debug/sync").await;
                if expected(&sync["proxies"][0]) {
                    return sync;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .expect("the proxy becomes as expected")
    }
}

async fn page(address: SocketAddr, name: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {name} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn put(objects: &Directory, object: serde_json::Value) -> u64 {
    objects.put(Object::from_value(object).unwrap()).unwrap().1
}

fn pod(namespace: &str, name: &str, account: &str, node: &str, ip: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": namespace },
        "spec": { "serviceAccountName": account, "nodeName": node, "containers": [{ "name": "c", "image": "x" }] },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

fn policy(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": "demo" },
        "spec": { "rules": [{ "from": [{ "source": { "namespaces": ["demo"] } }] }] },
    })
}

/// The node proxy's own client, which asks for everything.
fn node_proxy_on(channel: ChannelConfig) -> ClientConfig {
    ClientConfig {
        types: vec![ADDRESSES.to_owned(), POLICIES.to_owned()],
        offered_types: Vec::new(),
        on_demand: None,
        held: Vec::new(),
        node: node("zt-a", "node-a"),
        channel,
        observer: None,
    }
}

fn node(pod: &str, node: &str) -> Node {
    let value = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = BTreeMap::from([
        ("NAME".to_owned(), value(pod)),
        ("NAMESPACE".to_owned(), value("istio-system")),
        ("NODE_NAME".to_owned(), value(node)),
    ]);
    Node {
        id: format!("ztunnel~10.9.0.1~{pod}.istio-system~istio-system.svc.cluster.local"),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}

/// A node proxy, as far as it speaks xDS.
struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Result<Streaming<DeltaDiscoveryResponse>, Status>,
    /// Versions by name, by type.
    held: BTreeMap<String, BTreeMap<String, String>>,
    node: Node,
}

impl Client {
    async fn open(channel: grpc_channel::Channel, node: Node) -> Client {
        let (requests, outgoing) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let opening = client.delta_aggregated_resources(ReceiverStream::new(outgoing));
        let responses = tokio::time::timeout(PATIENCE, opening).await.unwrap();
        Client {
            requests,
            responses: responses.map(tonic::Response::into_inner),
            held: BTreeMap::new(),
            node,
        }
    }

    /// A server that has gone is noticed when its answer is read.
    async fn send(&self, request: DeltaDiscoveryRequest) {
        let _ = self.requests.send(request).await;
    }

    /// Asks for everything of both types, in the order of a foreign proxy.
    async fn subscribe(&self) {
        for type_url in [ADDRESSES, POLICIES] {
            self.send(DeltaDiscoveryRequest {
                node: Some(self.node.clone()),
                type_url: type_url.to_owned(),
                initial_resource_versions: self.held.get(type_url).cloned().unwrap_or_default(),
                ..DeltaDiscoveryRequest::default()
            })
            .await;
        }
    }

    async fn receive(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        let responses = self.responses.as_mut().map_err(|status| status.clone())?;
        let response = tokio::time::timeout(PATIENCE, responses.message())
            .await
            .expect("a response in time")?;
        if let Some(response) = &response {
            let held = self.held.entry(response.type_url.clone()).or_default();
            for resource in &response.resources {
                held.insert(resource.name.clone(), resource.version.clone());
            }
            for name in &response.removed_resources {
                held.remove(name);
            }
        }
        Ok(response)
    }

    async fn acknowledge(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| proto::discovery::Status {
                code: 3,
                message: message.to_owned(),
                ..proto::discovery::Status::default()
            }),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// The next response, acknowledged.
    async fn next(&mut self) -> DeltaDiscoveryResponse {
        let response = self.receive().await.unwrap().expect("a response");
        self.acknowledge(&response, None).await;
        response
    }

    /// Why the stream was refused.
    async fn refusal(mut self) -> Status {
        if self.responses.is_ok() {
            self.subscribe().await;
        }
        self.receive().await.expect_err("the stream is refused")
    }
}

fn names(response: &DeltaDiscoveryResponse) -> BTreeSet<&str> {
    response
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect()
}

#[tokio::test]
async fn objects_reach_a_proxy_in_order_and_its_answers_are_counted() {
    let world = World::start().await;
    let revision = put(&world.objects, policy("allow"));
    let mut client = world.connect().await;
    client.subscribe().await;
    let first = client.next().await;
    assert_eq!(first.type_url, POLICIES);
    let second = client.next().await;
    assert_eq!(second.type_url, ADDRESSES);
    assert_eq!(
        names(&second),
        BTreeSet::from(["Kubernetes//Pod/istio-system/zt-a"])
    );
    // The policy may have come with the first answer or after it.
    while !client.held[POLICIES].contains_key("demo/allow") {
        client.next().await;
    }
    // What became of the policy may have been written on it already, which is a revision of its own.
    let sync = world
        .proxy(|proxy| proxy["acknowledged"].as_u64() >= Some(revision))
        .await;
    assert!(sync["revision"].as_u64() >= Some(revision), "{sync}");
    let proxy = &sync["proxies"][0];
    assert_eq!(
        (&proxy["node"], &proxy["pod"]),
        (&json!("node-a"), &json!("zt-a"))
    );
    assert_eq!(proxy["connected"], true);

    // A change that is not answered is seen as lag.
    let later = put(&world.objects, pod("demo", "web", "web", "node-b", "10.9.1.1"));
    let response = client.receive().await.unwrap().unwrap();
    assert_eq!(names(&response), BTreeSet::from(["Kubernetes//Pod/demo/web"]));
    let sync = world.ask("/debug/sync").await;
    assert_eq!(sync["revision"], later);
    let acknowledged = sync["proxies"][0]["acknowledged"].as_u64().unwrap();
    // What became of the policy may have been written on it meanwhile, which concerns no proxy.
    assert!((revision..later).contains(&acknowledged), "{sync}");
    // A rejection is an answer, and remembered.
    client
        .acknowledge(&response, Some("Kubernetes//Pod/demo/web: no such thing"))
        .await;
    let sync = world.proxy(|proxy| proxy["acknowledged"] == later).await;
    let rejected =
        json!([{ "type": "Address", "name": "Kubernetes//Pod/demo/web", "reason": "no such thing" }]);
    assert_eq!(sync["proxies"][0]["rejected"], rejected);

    // What changes nothing for proxies counts at once.
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "x", "namespace": "demo" },
    });
    let nothing = put(&world.objects, account);
    world.proxy(|proxy| proxy["acknowledged"] == nothing).await;

    let workloads = world.ask("/debug/workloads").await;
    let uids: Vec<_> = workloads
        .as_array()
        .unwrap()
        .iter()
        .map(|workload| workload["uid"].as_str().unwrap())
        .collect();
    assert_eq!(
        uids,
        ["Kubernetes//Pod/demo/web", "Kubernetes//Pod/istio-system/zt-a"]
    );
    assert_eq!(world.ask("/healthz").await["status"], "ok");
    drop(client);
    world.proxy(|proxy| proxy["connected"] == false).await;
}

#[tokio::test]
async fn the_node_agents_word_makes_a_workload_hbone() {
    let world = World::start().await;
    let mut client = world.connect().await;
    client.subscribe().await;
    client.next().await;
    client.next().await;
    put(&world.objects, pod("demo", "web", "web", "node-b", "10.9.1.1"));
    client.next().await;
    let key = ObjectKey::new(objects::Kind::Pod, "demo", "web");
    let uid = world.objects.get(&key).unwrap().unwrap().metadata.uid.clone();
    let (annotation, value) = (objects::REDIRECTION_ANNOTATION, objects::REDIRECTION_ENABLED);
    world
        .objects
        .patch_annotation(&key, &uid, annotation, Some(value))
        .await
        .unwrap();
    assert_eq!(
        names(&client.next().await),
        BTreeSet::from(["Kubernetes//Pod/demo/web"])
    );
    let workloads = world.ask("/debug/workloads").await;
    assert_eq!(workloads[0]["tunnelProtocol"], "HBONE");
    world.objects.delete(&key).unwrap();
    assert_eq!(
        client.next().await.removed_resources,
        ["Kubernetes//Pod/demo/web"]
    );
}

#[tokio::test]
async fn a_restart_costs_a_client_nothing_but_the_difference() {
    let mut world = World::start().await;
    put(&world.objects, pod("demo", "a", "web", "node-b", "10.9.1.1"));
    put(&world.objects, pod("demo", "b", "web", "node-b", "10.9.1.2"));
    put(&world.objects, policy("allow"));
    let mut client = world.connect().await;
    client.subscribe().await;
    let complete = |client: &Client| {
        client.held.get(ADDRESSES).is_some_and(|held| held.len() == 3)
            && client.held.get(POLICIES).is_some_and(|held| held.len() == 1)
    };
    while !complete(&client) {
        client.next().await;
    }
    let held = client.held.clone();
    world.stop().await;
    let ended = loop {
        match client.receive().await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    assert_eq!(ended.map(|status| status.code()), Some(Code::Unavailable));
    world
        .objects
        .delete(&ObjectKey::new(objects::Kind::Pod, "demo", "a"))
        .unwrap();
    put(&world.objects, pod("demo", "c", "web", "node-b", "10.9.1.3"));
    // The same root after the restart: the client trusts it still.
    world.boot().await;
    let mut client = world.connect().await;
    client.held = held;
    client.subscribe().await;
    let policies = client.next().await;
    assert_eq!(
        (policies.type_url.as_str(), policies.resources.len()),
        (POLICIES, 0)
    );
    let addresses = client.next().await;
    assert_eq!(names(&addresses), BTreeSet::from(["Kubernetes//Pod/demo/c"]));
    assert_eq!(addresses.removed_resources, ["Kubernetes//Pod/demo/a"]);
}

#[tokio::test]
async fn a_cluster_sees_how_it_is() {
    let world = World::start().await;
    assert!(
        world
            .monitoring("/ready")
            .await
            .starts_with("{\"status\":\"ready\"")
    );
    assert!(
        world
            .monitoring("/live")
            .await
            .starts_with("{\"status\":\"alive\"")
    );
    assert!(
        world
            .monitoring("/version")
            .await
            .contains(env!("CARGO_PKG_VERSION"))
    );
    assert!(
        world.monitoring("/debug/sync").await.contains("no such page"),
        "that is for its owner"
    );
    put(&world.objects, policy("allow"));
    let mut client = world.connect().await;
    client.subscribe().await;
    client.next().await;
    let second = client.receive().await.unwrap().unwrap();
    client
        .acknowledge(&second, Some("Kubernetes//Pod/istio-system/zt-a: too long"))
        .await;
    let sync = world.proxy(|proxy| proxy["rejections"] == 1).await;
    let proxy = &sync["proxies"][0];
    assert_eq!(proxy["lastRejection"]["type"], "Address");
    assert!(
        proxy["lastRejection"]["text"]
            .as_str()
            .unwrap()
            .contains("too long")
    );
    let addresses = &proxy["types"]["Address"];
    assert_eq!(addresses["acknowledged"], 0, "{sync}");
    assert!(addresses["responses"].as_u64() >= Some(1), "{sync}");
    assert!(
        proxy["types"]["Authorization"]["acknowledged"].as_u64() >= Some(1),
        "{sync}"
    );

    let metrics = world.monitoring("/metrics").await;
    let value = |name: &str| {
        let rest = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = rest.unwrap_or_else(|| panic!("{name} is missing in\n{metrics}"));
        value.parse::<f64>().unwrap()
    };
    for name in [
        "pilot_xds_pushes_total{type=\"Address\"}",
        "pilot_xds_config_size_bytes_count{type=\"Authorization\"}",
        "ztunnel_control_plane_compile_time_count",
    ] {
        assert!(value(name) >= 1.0, "{name}");
    }
    for name in [
        "pilot_xds{version=\"unknown\"}",
        "pilot_total_xds_rejects_total{type=\"Address\"}",
        "ztunnel_control_plane_objects{kind=\"Pod\"}",
        "ztunnel_control_plane_served_resources{resource=\"workload\"}",
        "ztunnel_control_plane_leader",
    ] {
        assert!((value(name) - 1.0).abs() < 0.1, "{name}");
    }
    assert!(value("pilot_worker_queue_depth") >= 0.0);
    let expiry = metrics
        .lines()
        .find_map(|line| line.strip_prefix("citadel_server_root_cert_expiry_timestamp "));
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(expiry.unwrap().parse::<u64>().unwrap() > now);
}

#[tokio::test]
async fn certificates_are_for_identities_on_the_callers_node() {
    let world = World::start().await;
    put(&world.objects, pod("demo", "web", "web", "node-a", "10.9.0.2"));
    let revision = put(&world.objects, pod("demo", "db", "db", "node-b", "10.9.1.2"));
    // The pods are known once their revision is compiled.
    let known = async {
        while world.ask("/debug/sync").await["revision"] != revision {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap();
    let issuer = GrpcIssuer::for_node(world.channel(Token::Inline(world.token(world.caller()))));
    let web = Identity::new("cluster.local", "demo", "web");
    let certificate = issuer.issue(&web, Duration::from_secs(60)).await.unwrap();
    assert_eq!(certificate.identity(), &web);
    // Without a life of its own it gets the configured one.
    let certificate = issuer.issue(&web, Duration::ZERO).await.unwrap();
    let life = certificate.not_after().duration_since(SystemTime::now()).unwrap();
    assert!(
        life <= Duration::from_secs(600) && life > Duration::from_secs(500),
        "{life:?}"
    );
    let db = Identity::new("cluster.local", "demo", "db");
    assert!(matches!(
        issuer.issue(&db, Duration::ZERO).await,
        Err(IssueError::Denied { .. })
    ));
    let elsewhere = Identity::new("other.domain", "demo", "web");
    assert!(matches!(
        issuer.issue(&elsewhere, Duration::ZERO).await,
        Err(IssueError::Denied { .. })
    ));
    let stranger = GrpcIssuer::for_node(world.channel(Token::None));
    assert!(matches!(
        stranger.issue(&web, Duration::ZERO).await,
        Err(IssueError::Unauthenticated(_))
    ));
    let replaced = Caller {
        pod_uid: "an-earlier-pod".to_owned(),
        ..world.caller()
    };
    let replaced = GrpcIssuer::for_node(world.channel(Token::Inline(world.token(replaced))));
    assert!(matches!(
        replaced.issue(&web, Duration::ZERO).await,
        Err(IssueError::Denied { .. })
    ));
}

#[tokio::test]
async fn the_server_proves_its_name_and_only_that() {
    let world = World::start().await;
    let root: PathBuf = world.folder.path().join("ca/root-cert.pem");
    let mut config = ChannelConfig::new(format!("https://{}", world.address), RootSource::Path(root));
    config.alternative_name = Some("somebody.else".to_owned());
    config.token = Token::Inline(world.token(world.caller()));
    let client = Client::open(config.channel().unwrap(), node("zt-a", "node-a")).await;
    let words = grpc_channel::describe(&client.responses.expect_err("no stream"));
    assert!(words.contains("not for somebody.else"), "{words}");
}

#[tokio::test]
async fn what_is_missing_at_the_start_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let config = Config::parse_from([
        "control-plane",
        "--objects",
        &path("objects"),
        "--ca-dir",
        &path("ca"),
        "--listen",
        "127.0.0.1:0",
        "--server-name",
        "x",
        "--token-keys",
        &path("missing.pem"),
        "--token-issuer",
        "lab",
        "--debug-socket",
        &path("debug"),
    ]);
    let objects = Arc::new(Directory::open(folder.path().join("objects")).unwrap());
    let error = control_plane::start(config, objects, None, CancellationToken::new())
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("missing.pem"), "{error}");
}
