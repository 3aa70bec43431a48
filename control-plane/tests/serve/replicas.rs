//! Several control planes over one Kubernetes API: proxies go from one to the other for nothing but what changed, and
//! one of them does what only one must do.

use std::path::Path;

use kube_api::{ApiServer, Key, Options};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use xds_client::Update;

use super::*;

/// Kept in the form of the core group.
const POLICY_EVENTS: &str = "events";

pub(super) struct Replica {
    running: Running,
    shutdown: CancellationToken,
}

impl Replica {
    /// With these options more.
    async fn start(api: &ApiServer, folder: &Path, name: &str, more: &[&str]) -> Replica {
        let path = |name: &str| folder.join(name).display().to_string();
        let url = api.url();
        let socket = path(&format!("debug-{name}"));
        let (keys, mut arguments) = (path("token-keys.pem"), more.to_vec());
        arguments.splice(
            0..0,
            [
                "control-plane",
                "--kubernetes",
                "--kubernetes-url",
                &url,
                "--listen",
                "127.0.0.1:0",
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
                "--pod-name",
                name,
                "--certificate-life",
                "10m",
            ],
        );
        let config = Config::parse_from(arguments);
        let shutdown = CancellationToken::new();
        let store = config.store().unwrap();
        let (source, writer) = (
            store.clone() as Arc<dyn ObjectSource>,
            store as Arc<dyn ObjectWriter>,
        );
        let starting = control_plane::start(config, source, Some(writer), shutdown.clone());
        let running = in_time(starting).await.unwrap();
        Replica { running, shutdown }
    }

    async fn leads(&self) -> bool {
        let metrics = page(self.running.monitoring_address(), "/metrics").await;
        metrics.contains("\nztunnel_control_plane_leader 1\n")
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        in_time(self.running.stopped()).await.unwrap();
    }

    async fn connect(&self, root: &Path, token: String) -> Client {
        let mut config = ChannelConfig::new(
            format!("https://{}", self.running.address()),
            RootSource::Path(root.to_owned()),
        );
        config.alternative_name = Some("control-plane.test".to_owned());
        config.token = Token::Inline(token);
        Client::open(config.channel().unwrap(), node("zt-a", "node-a")).await
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it takes too long")
}

pub(super) async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    in_time(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

pub(super) fn namespace(name: &str) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// A Kubernetes API with a small mesh, and what a node proxy needs to call its control planes.
pub(super) struct Cluster {
    folder: TempDir,
    pub(super) api: ApiServer,
    signer: TokenSigner,
    subject: TokenSubject,
}

impl Cluster {
    pub(super) async fn start() -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let signer = TokenSigner::load_or_create(&folder.path().join("token-key.pem")).unwrap();
        std::fs::write(folder.path().join("token-keys.pem"), signer.public_key_pem()).unwrap();
        let api = ApiServer::start(Options::default()).await.unwrap();
        for name in ["istio-system", "demo"] {
            api.put(namespace(name)).unwrap();
        }
        let proxy = api
            .put(pod("istio-system", "zt-a", "ztunnel", "node-a", "10.9.0.1"))
            .unwrap();
        api.put(pod("demo", "a", "web", "node-b", "10.9.1.1")).unwrap();
        api.put(pod("demo", "b", "web", "node-b", "10.9.1.2")).unwrap();
        api.put(policy("allow")).unwrap();
        let subject = TokenSubject {
            issuer: "lab".to_owned(),
            audience: "istio-ca".to_owned(),
            caller: Caller {
                namespace: "istio-system".to_owned(),
                service_account: "ztunnel".to_owned(),
                pod_name: "zt-a".to_owned(),
                pod_uid: proxy.value()["metadata"]["uid"].as_str().unwrap().to_owned(),
                node: "node-a".to_owned(),
            },
            service_account_uid: "sa-uid".to_owned(),
            node_uid: "node-uid".to_owned(),
            ttl: Duration::from_secs(600),
        };
        Cluster {
            folder,
            api,
            signer,
            subject,
        }
    }

    async fn replica(&self, name: &str) -> Replica {
        self.replica_with(name, &[]).await
    }

    pub(super) async fn replica_with(&self, name: &str, more: &[&str]) -> Replica {
        Replica::start(&self.api, self.folder.path(), name, more).await
    }

    fn token(&self) -> String {
        self.signer.sign(&self.subject, SystemTime::now()).unwrap()
    }

    /// The file with the roots that the leader tells every namespace.
    async fn root(&self) -> PathBuf {
        let bundle = Key::new("configmaps", "istio-system", "istio-ca-root-cert");
        until(async || self.api.store().get(&bundle).is_some()).await;
        let bundle = self.api.store().get(&bundle).unwrap();
        let root = self.folder.path().join("root-cert.pem");
        std::fs::write(&root, bundle.value()["data"]["root-cert.pem"].as_str().unwrap()).unwrap();
        root
    }
}

#[tokio::test]
async fn proxies_go_from_one_replica_to_another_for_what_changed_alone() {
    let cluster = Cluster::start().await;
    let (api, token) = (&cluster.api, || cluster.token());

    let one = cluster.replica("one").await;
    until(async || one.leads().await).await;
    let two = cluster.replica("two").await;
    assert!(!two.leads().await, "there is one leader");

    // Both have the same root, which the leader tells every namespace.
    let root = cluster.root().await;

    let mut client = one.connect(&root, token()).await;
    client.subscribe().await;
    let holds = |client: &Client, kind: &str| client.held.get(kind).map_or(0, BTreeMap::len);
    while holds(&client, ADDRESSES) < 3 || holds(&client, POLICIES) < 1 {
        client.next().await;
    }

    // The same content, so nothing is sent again.
    let held = client.held.clone();
    let mut client = two.connect(&root, token()).await;
    client.held.clone_from(&held);
    client.subscribe().await;
    for _ in 0..2 {
        let response = client.next().await;
        assert!(
            response.resources.is_empty() && response.removed_resources.is_empty(),
            "{response:?}"
        );
    }

    // The leader ends, and the other takes over what it did.
    one.stop().await;
    until(async || two.leads().await).await;
    api.remove(&Key::new("pods", "demo", "a"));
    api.put(pod("demo", "c", "web", "node-b", "10.9.1.3")).unwrap();
    let (mut sent, mut removed) = (BTreeSet::new(), BTreeSet::new());
    while !(sent.contains("Kubernetes//Pod/demo/c") && removed.contains("Kubernetes//Pod/demo/a")) {
        let response = client.next().await;
        sent.extend(response.resources.into_iter().map(|resource| resource.name));
        removed.extend(response.removed_resources);
    }
    assert_eq!((sent.len(), removed.len()), (1, 1), "{sent:?} {removed:?}");

    // It writes on a policy what became of it, and tells of one that is not enforced as it is written.
    let mut partly = policy("partly");
    partly["spec"]["rules"][0]["to"] = json!([{ "operation": { "methods": ["GET"] } }]);
    api.put(partly).unwrap();
    let status = || {
        let stored = api.store().get(&Key::new(
            "authorizationpolicies.security.istio.io",
            "demo",
            "partly",
        ));
        stored.map_or_else(
            || json!(null),
            |stored| stored.value()["status"]["conditions"][0].clone(),
        )
    };
    until(async || status()["type"] == "ZtunnelAccepted").await;
    until(async || !api.store().all(POLICY_EVENTS).is_empty()).await;
    let events = api.store().all(POLICY_EVENTS);
    let event = events
        .iter()
        .find(|event| event.value()["involvedObject"]["name"] == "partly")
        .unwrap();
    assert_eq!(event.value()["reason"], status()["reason"]);
    assert_eq!(event.value()["involvedObject"]["kind"], "AuthorizationPolicy");
    assert_eq!(
        event.value()["metadata"]["managedFields"][0]["manager"],
        "ztunnel-control-plane"
    );
    two.stop().await;
}

/// What a Service in front of replicas does: each connection goes to the replica of the moment, until that is gone.
struct Balancer {
    address: SocketAddr,
    /// Where new connections go.
    target: watch::Sender<SocketAddr>,
    accepting: JoinHandle<()>,
}

impl Balancer {
    async fn start(first: SocketAddr) -> Balancer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, current) = watch::channel(first);
        let accepting = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut current = current.clone();
                tokio::spawn(async move {
                    let to = *current.borrow_and_update();
                    let Ok(mut server) = TcpStream::connect(to).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        // The node of that replica is gone, without a word to anybody.
                        _ = current.changed() => {}
                    }
                });
            }
        });
        Balancer {
            address,
            target,
            accepting,
        }
    }
}

/// Takes over what a node proxy does.
struct Holding(mpsc::UnboundedSender<Update>);

impl xds_client::Handler for Holding {
    async fn apply(&mut self, update: Update) -> Vec<xds_client::Rejection> {
        let _ = self.0.send(update);
        Vec::new()
    }
}

/// The node proxy's own client, whose replica vanishes: it goes on with the other one, and hears what changed meanwhile.
#[tokio::test]
async fn the_node_proxys_client_goes_on_with_the_other_replica() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.replica("one").await, cluster.replica("two").await);
    let root = cluster.root().await;
    let balancer = Balancer::start(one.running.address()).await;
    let mut channel = ChannelConfig::new(format!("https://{}", balancer.address), RootSource::Path(root));
    channel.alternative_name = Some("control-plane.test".to_owned());
    channel.token = Token::Inline(cluster.token());
    let config = node_proxy_on(channel);
    let (updates, mut told) = mpsc::unbounded_channel();
    let (status, _status) = watch::channel(xds_client::Status::default());
    let client = tokio::spawn(async move { xds_client::run(config, Holding(updates), status).await });
    let (mut held, mut heard) = (BTreeSet::new(), Vec::new());
    while held.len() < 4 {
        let update = in_time(told.recv()).await.unwrap();
        held.extend(update.resources.into_iter().map(|resource| resource.name));
    }

    balancer.target.send_replace(two.running.address());
    one.stop().await;
    cluster.api.remove(&Key::new("pods", "demo", "a"));
    cluster
        .api
        .put(pod("demo", "c", "web", "node-b", "10.9.1.3"))
        .unwrap();
    let (new, gone) = ("Kubernetes//Pod/demo/c", "Kubernetes//Pod/demo/a");
    while !held.contains(new) || held.contains(gone) {
        let update = in_time(told.recv()).await.unwrap();
        heard.extend(update.resources.iter().map(|resource| resource.name.clone()));
        held.extend(update.resources.into_iter().map(|resource| resource.name));
        for name in &update.removed {
            held.remove(name);
        }
    }
    assert_eq!(heard, [new], "what it has is not sent again");
    client.abort();
    balancer.accepting.abort();
    two.stop().await;
}

#[tokio::test]
async fn namespaces_take_part_by_the_settings_of_the_mesh() {
    let mut world = World::start().await;
    let labelled = |name: &str, team: &str| {
        let mut object = namespace(name);
        object["metadata"]["labels"] = json!({ "team": team });
        object
    };
    let settings = |text: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "istio", "namespace": "istio-system" },
            "data": { "mesh": text } })
    };
    put(&world.objects, labelled("demo", "a"));
    put(&world.objects, labelled("other", "b"));
    put(&world.objects, pod("demo", "web", "web", "node-a", "10.9.1.1"));
    put(&world.objects, pod("other", "web", "web", "node-a", "10.9.1.2"));
    world.stop().await;
    put(
        &world.objects,
        settings("trustDomain: example.org\ndiscoverySelectors:\n- matchLabels: {team: a}\n"),
    );
    world.boot().await;
    let served = async || {
        let workloads = world.ask("/debug/workloads").await;
        let names = workloads.as_array().unwrap().iter();
        names
            .map(|one| {
                format!(
                    "{}/{}",
                    one["namespace"].as_str().unwrap(),
                    one["name"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(served().await, ["demo/web", "istio-system/zt-a"]);
    assert_eq!(
        world.ask("/debug/workloads").await[0]["trustDomain"],
        "example.org"
    );
    // Labels come and go, and so do the selectors.
    put(&world.objects, labelled("other", "a"));
    until(async || served().await.len() == 3).await;
    put(&world.objects, labelled("demo", "b"));
    until(async || served().await == ["istio-system/zt-a", "other/web"]).await;
    put(&world.objects, settings("trustDomain: example.org\n"));
    until(async || served().await.len() == 3).await;
}

/// What can be read later is read then; until then a new control plane would not know what policies mean.
#[tokio::test]
async fn nobody_is_served_by_settings_that_cannot_be_read() {
    let cluster = Cluster::start().await;
    let settings = |text: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "istio", "namespace": "istio-system" },
            "data": { "mesh": text } })
    };
    cluster.api.put(settings("trustDomain: [")).unwrap();
    let starting = cluster.replica("one");
    tokio::pin!(starting);
    let told = until(async || {
        let events = cluster.api.store().all(POLICY_EVENTS);
        events
            .iter()
            .any(|event| event.value()["reason"] == "SettingsUnreadable")
    });
    tokio::select! {
        _ = &mut starting => panic!("it serves"),
        () = told => {}
    }
    cluster.api.put(settings("trustDomain: example.org")).unwrap();
    let one = starting.await;
    let metrics = page(one.running.monitoring_address(), "/metrics").await;
    let served = "ztunnel_control_plane_served_resources{resource=\"workload\"} 3";
    assert!(metrics.contains(served), "{metrics}");
    one.stop().await;
}
