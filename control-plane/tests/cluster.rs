//! The whole control plane over a Kubernetes API: two replicas, tokens that the API reviews, the CA in a Secret.

// A test ends where something it needs fails.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ca::{GrpcIssuer, KeyAndCertificate, ROOT_LIFE};
use clap::Parser;
use control_plane::{Config, Running};
use data_encoding::BASE64;
use grpc_channel::{ChannelConfig, Token};
use kube_api::{ApiServer, Key, Options, Requests, StatusError, TokenSubject, Verb};
use mesh::Identity;
use serde_json::{Value, json};
use tempfile::TempDir;
use tls::server_auth::RootSource;
use tls::{IssueError, Issuer};
use tokio_util::sync::CancellationToken;

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "istiod.istio-system.svc";
const HOUR: Duration = Duration::from_secs(3600);

struct World {
    server: ApiServer,
    folder: TempDir,
    replicas: Vec<Running>,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    /// A cluster with two nodes, and so many replicas.
    async fn start(replicas: usize) -> World {
        let server = ApiServer::start(Options::default()).await.unwrap();
        for namespace in ["istio-system", "demo"] {
            server
                .put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))
                .unwrap();
        }
        for (namespace, account) in [("istio-system", "ztunnel"), ("demo", "web"), ("demo", "db")] {
            server
                .put(json!({ "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": { "name": account, "namespace": namespace, "uid": format!("uid-sa-{account}") } }))
                .unwrap();
        }
        for node in ["node-a", "node-b"] {
            server
                .put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node, "uid": node } }))
                .unwrap();
        }
        server
            .put(pod("istio-system", "zt-a", "ztunnel", "node-a"))
            .unwrap();
        server.put(pod("demo", "web", "web", "node-a")).unwrap();
        server.put(pod("demo", "db", "db", "node-b")).unwrap();
        let mut world = World {
            server,
            folder: tempfile::tempdir().unwrap(),
            replicas: Vec::new(),
            shutdown: CancellationToken::new(),
        };
        for _ in 0..replicas {
            world.boot().await;
        }
        world
    }

    async fn boot(&mut self) {
        let socket = self.folder.path().join(format!("debug-{}", self.replicas.len()));
        let config = Config::parse_from([
            "control-plane",
            "--kubernetes",
            "--kubernetes-url",
            &self.server.url(),
            "--listen",
            "127.0.0.1:0",
            "--monitoring-listen",
            "127.0.0.1:0",
            "--server-name",
            NAME,
            "--debug-socket",
            &socket.display().to_string(),
        ]);
        let store = config.store().unwrap();
        let starting = control_plane::start(config, store.clone(), Some(store), self.shutdown.clone());
        let running = tokio::time::timeout(PATIENCE, starting).await.unwrap().unwrap();
        self.replicas.push(running);
    }

    fn token(&self, change: impl FnOnce(&mut TokenSubject)) -> String {
        let mut subject = TokenSubject {
            namespace: "istio-system".to_owned(),
            service_account: "ztunnel".to_owned(),
            service_account_uid: "uid-sa-ztunnel".to_owned(),
            audiences: vec!["istio-ca".to_owned()],
            pod: Some(("zt-a".to_owned(), "uid-zt-a".to_owned())),
            node: Some(("node-a".to_owned(), "node-a".to_owned())),
        };
        change(&mut subject);
        self.server.sign_token(&subject, SystemTime::now(), HOUR).unwrap()
    }

    /// The roots as the node proxy's pod mounts them.
    async fn roots(&self, is_wanted: impl Fn(&str) -> bool) -> PathBuf {
        let key = Key::new("configmaps", "istio-system", "istio-ca-root-cert");
        let text = until("the roots are in the namespace", || {
            let found = self.server.store().get(&key)?;
            let text = found.value()["data"]["root-cert.pem"].as_str()?.to_owned();
            is_wanted(&text).then_some(text)
        })
        .await;
        let path = self.folder.path().join("root-cert.pem");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn issuer(&self, replica: usize, token: String, roots: PathBuf) -> GrpcIssuer {
        let address = self.replicas[replica].address();
        let mut config = ChannelConfig::new(format!("https://{address}"), RootSource::Path(roots));
        config.alternative_name = Some(NAME.to_owned());
        config.token = Token::Inline(token);
        GrpcIssuer::for_node(config.channel().unwrap())
    }

    fn secret(&self) -> Value {
        let found = self
            .server
            .store()
            .get(&Key::new("secrets", "istio-system", "istio-ca-secret"));
        let mut secret = found.unwrap().value().clone();
        secret["apiVersion"] = json!("v1");
        secret["kind"] = json!("Secret");
        secret
    }
}

fn pod(namespace: &str, name: &str, account: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{name}") },
        "spec": { "serviceAccountName": account, "nodeName": node, "containers": [{ "name": "c", "image": "x" }] },
        "status": { "phase": "Running" },
    })
}

fn id(account: &str) -> Identity {
    Identity::new("cluster.local", "demo", account)
}

/// Waits for something that is seen by looking.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    looked.unwrap_or_else(|_| panic!("never came: {what}"))
}

#[tokio::test]
async fn replicas_sign_under_one_root_for_whom_the_api_knows() {
    let world = World::start(2).await;
    let roots = world.roots(|_| true).await;
    let proxy = world.token(|_| ());
    for replica in 0..2 {
        let issuer = world.issuer(replica, proxy.clone(), roots.clone());
        let certificate = issuer.issue(&id("web"), HOUR).await.unwrap();
        assert_eq!(
            certificate.roots_pem(),
            [std::fs::read_to_string(&roots).unwrap()]
        );
        assert!(matches!(
            issuer.issue(&id("db"), HOUR).await,
            Err(IssueError::Denied { .. })
        ));
        let elsewhere = Identity::new("other.domain", "demo", "web");
        assert!(matches!(
            issuer.issue(&elsewhere, HOUR).await,
            Err(IssueError::Denied { .. })
        ));
    }
    let ask = async |token: String| {
        let issuer = world.issuer(0, token, roots.clone());
        issuer.issue(&id("web"), HOUR).await.err().unwrap()
    };
    let strangers = [
        world.token(|subject| subject.audiences = vec!["vault".to_owned()]),
        world.token(|subject| subject.pod = Some(("zt-a".to_owned(), "an-earlier-one".to_owned()))),
        world.token(|subject| {
            subject.pod = None;
            subject.node = None;
        }),
        "rubbish".to_owned(),
    ];
    for stranger in strangers {
        let error = ask(stranger).await;
        assert!(matches!(error, IssueError::Unauthenticated(_)), "{error:?}");
    }
    // A token that names another node is held against the pod.
    let moved =
        ask(world.token(|subject| subject.node = Some(("node-b".to_owned(), "node-b".to_owned())))).await;
    assert!(matches!(moved, IssueError::Denied { .. }), "{moved:?}");
    // The API server is away: that is no judgement.
    let fresh = world.token(|_| ());
    let reviews = Requests::with_verb(Verb::Create).of("tokenreviews.authentication.k8s.io");
    world
        .server
        .faults()
        .fail(reviews, StatusError::unavailable(), Some(1));
    let away = ask(fresh.clone()).await;
    assert!(matches!(away, IssueError::Unavailable(_)), "{away:?}");
    world
        .issuer(0, fresh, roots.clone())
        .issue(&id("web"), HOUR)
        .await
        .unwrap();
}

#[tokio::test]
async fn every_replica_and_its_own_certificate_follow_the_secret() {
    let world = World::start(2).await;
    let old = world.roots(|_| true).await;
    let old_text = std::fs::read_to_string(&old).unwrap();
    world
        .issuer(1, world.token(|_| ()), old)
        .issue(&id("web"), HOUR)
        .await
        .unwrap();
    // Restored from elsewhere: another root altogether.
    let other = KeyAndCertificate::generate_root(SystemTime::now(), ROOT_LIFE).unwrap();
    let mut secret = world.secret();
    secret["data"]["ca-cert.pem"] = json!(BASE64.encode(other.certificate.as_bytes()));
    secret["data"]["ca-key.pem"] = json!(BASE64.encode(other.key.as_bytes()));
    world.server.put(secret).unwrap();
    let roots = world.roots(|text| text != old_text).await;
    for replica in 0..2 {
        let following = async {
            loop {
                // A channel of its own each time: a connection that is open stays as it is.
                let issuer = world.issuer(replica, world.token(|_| ()), roots.clone());
                if let Ok(certificate) = issuer.issue(&id("web"), HOUR).await {
                    return certificate.roots_pem();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let under = tokio::time::timeout(PATIENCE, following).await.unwrap();
        assert_eq!(under, std::slice::from_ref(&other.certificate));
    }
}

#[tokio::test]
async fn a_half_written_secret_ends_the_start_with_what_to_do() {
    let mut world = World::start(1).await;
    let mut secret = world.secret();
    secret["data"].as_object_mut().unwrap().remove("ca-key.pem");
    world.server.put(secret).unwrap();
    let socket = world.folder.path().join("another").display().to_string();
    let config = Config::parse_from([
        "control-plane",
        "--kubernetes",
        "--kubernetes-url",
        &world.server.url(),
        "--listen",
        "127.0.0.1:0",
        "--monitoring-listen",
        "127.0.0.1:0",
        "--server-name",
        NAME,
        "--debug-socket",
        &socket,
    ]);
    let store: Arc<dyn control_plane::Store> = config.store().unwrap();
    let starting = control_plane::start(config, store, None, CancellationToken::new());
    let error = tokio::time::timeout(PATIENCE, starting)
        .await
        .unwrap()
        .err()
        .unwrap();
    let words = error.to_string();
    assert!(words.contains("istio-system/istio-ca-secret"), "{words}");
    assert!(
        words.contains("ca-key.pem") && words.contains("restore"),
        "{words}"
    );
    // The replica that runs goes on.
    let roots = world.roots(|_| true).await;
    world
        .issuer(0, world.token(|_| ()), roots)
        .issue(&id("web"), HOUR)
        .await
        .unwrap();
    let running = world.replicas.pop().unwrap();
    world.shutdown.cancel();
    tokio::time::timeout(PATIENCE, running.stopped())
        .await
        .unwrap()
        .unwrap();
}
