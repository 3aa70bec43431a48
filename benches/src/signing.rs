//! Authorities that sign, and a control plane that 1 000 nodes ask at once.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ca::{
    Authority, Caller, GrpcIssuer, KeyAndCertificate, Material, StoredAuthority, TokenSigner, TokenSubject,
};
use clap::Parser;
use grpc_channel::{ChannelConfig, Token};
use mesh::Identity;
use nix::sys::resource::{UsageWho, getrusage};
use object_store::Directory;
use objects::Object;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::json;
use tempfile::TempDir;
use tls::server_auth::RootSource;
use tls::{Issuer, KeyAndRequest};
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

const LIFE: Duration = Duration::from_secs(24 * 3600);
const SERVER: &str = "control-plane.test";

/// An authority with one kind of key, and a request.
pub struct Signing {
    name: &'static str,
    authority: Authority,
    identity: Identity,
    request: String,
}

impl Signing {
    /// Our own root, and intermediates with the other keys that may be plugged in.
    pub fn all() -> Vec<Signing> {
        let own = StoredAuthority::generate(SystemTime::now()).expect("a root");
        let own = Material::of_stored(&own, SystemTime::now()).expect("our own root signs");
        vec![
            Signing::with("ECDSA P-256", own),
            Signing::with("ECDSA P-384", plugged(&rcgen::PKCS_ECDSA_P384_SHA384)),
            Signing::with("RSA 2048", plugged(&rcgen::PKCS_RSA_SHA256)),
        ]
    }

    fn with(name: &'static str, material: Material) -> Signing {
        let identity = Identity::new("cluster.local", "demo", "client");
        Signing {
            name,
            authority: Authority::new(material),
            request: KeyAndRequest::generate(&identity).expect("a request").request_pem,
            identity,
        }
    }

    /// The key that signs.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Checks the request and signs it.
    pub fn sign(&self, now: SystemTime) -> ca::Issued {
        let issued = self.authority.sign(&self.request, &self.identity, LIFE, now);
        issued.expect("it signs")
    }
}

fn plugged(algorithm: &'static rcgen::SignatureAlgorithm) -> Material {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let signing = KeyAndCertificate {
        key: key.serialize_pem().into(),
        certificate: certificate.clone(),
    };
    Material::new(&signing, "", &certificate, SystemTime::now()).expect("it signs")
}

/// A control plane, and a node proxy and a pod for each of many nodes.
pub struct Thousand {
    runtime: tokio::runtime::Runtime,
    folder: TempDir,
    address: SocketAddr,
    tokens: Vec<String>,
    shutdown: CancellationToken,
}

impl Thousand {
    /// Starts the control plane over objects of so many nodes.
    pub fn start(nodes: usize) -> Thousand {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let signer = TokenSigner::load_or_create(&folder.path().join("token-key.pem")).expect("a key");
        fs::write(folder.path().join("token-keys.pem"), signer.public_key_pem()).expect("its public part");
        let objects = Directory::open(folder.path().join("objects")).expect("a directory");
        let mut tokens = Vec::with_capacity(nodes);
        for node in 0..nodes {
            for (namespace, account) in [("istio-system", "ztunnel"), ("demo", "client")] {
                objects.put(pod(namespace, account, node)).expect("a pod");
            }
            let subject = TokenSubject {
                issuer: "bench".to_owned(),
                audience: "istio-ca".to_owned(),
                caller: Caller {
                    namespace: "istio-system".to_owned(),
                    service_account: "ztunnel".to_owned(),
                    pod_name: format!("ztunnel-{node}"),
                    pod_uid: format!("uid-ztunnel-{node}"),
                    node: format!("node-{node}"),
                },
                service_account_uid: String::new(),
                node_uid: String::new(),
                ttl: LIFE,
            };
            tokens.push(signer.sign(&subject, SystemTime::now()).expect("a token"));
        }
        let config = control_plane::Config::parse_from([
            "control-plane",
            "--objects",
            &path("objects"),
            "--ca-dir",
            &path("ca"),
            "--listen",
            "127.0.0.1:0",
            "--monitoring-listen",
            "127.0.0.1:0",
            "--server-name",
            SERVER,
            "--token-keys",
            &path("token-keys.pem"),
            "--token-issuer",
            "bench",
            "--debug-socket",
            &path("debug"),
        ]);
        let shutdown = CancellationToken::new();
        let starting = control_plane::start(config, Arc::new(objects), None, shutdown.clone());
        let running = runtime.block_on(starting).expect("the control plane starts");
        let address = running.address();
        runtime.spawn(running.stopped());
        Thousand {
            runtime,
            folder,
            address,
            tokens,
            shutdown,
        }
    }

    /// All nodes dial and ask at one moment: the time until the last has its certificate, and the processor time of
    /// this process, which is server and clients.
    pub fn all_at_once(&self) -> (Duration, Duration) {
        let roots = fs::read_to_string(self.folder.path().join("ca/root-cert.pem")).expect("the root");
        let before = processor_time();
        let took = self.runtime.block_on(async {
            let start = Arc::new(Barrier::new(self.tokens.len() + 1));
            let asking: Vec<_> = self
                .tokens
                .iter()
                .map(|token| {
                    let mut config = ChannelConfig::new(
                        format!("https://{}", self.address),
                        RootSource::Pem(roots.clone()),
                    );
                    config.alternative_name = Some(SERVER.to_owned());
                    config.token = Token::Inline(token.clone());
                    let start = start.clone();
                    tokio::spawn(async move {
                        let issuer = GrpcIssuer::for_node(config.channel().expect("a channel"));
                        let identity = Identity::new("cluster.local", "demo", "client");
                        start.wait().await;
                        issuer
                            .issue(&identity, LIFE)
                            .await
                            .expect("a certificate")
                            .serial()
                            .to_owned()
                    })
                })
                .collect();
            start.wait().await;
            let began = Instant::now();
            for node in asking {
                node.await.expect("a node that ends");
            }
            began.elapsed()
        });
        (took, processor_time() - before)
    }
}

impl Drop for Thousand {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn pod(namespace: &str, account: &str, node: usize) -> Object {
    let name = format!("{account}-{node}");
    let ip = format!(
        "10.{}.{}.{}",
        if account == "client" { 1 } else { 2 },
        node / 250,
        node % 250 + 1
    );
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{name}") },
        "spec": {
            "serviceAccountName": account, "nodeName": format!("node-{node}"),
            "containers": [{ "name": "c", "image": "x" }],
        },
        "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] },
    });
    Object::from_value(pod).expect("a sound pod")
}

fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the system counts");
    let of = |time: nix::sys::time::TimeVal| {
        Duration::new(
            time.tv_sec().unsigned_abs(),
            time.tv_usec().unsigned_abs() as u32 * 1000,
        )
    };
    of(usage.user_time()) + of(usage.system_time())
}
