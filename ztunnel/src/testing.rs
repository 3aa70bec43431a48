//! The data path on loopback, for tests: an authority in this process, pods whose network namespace is the test's
//! own, peers that answer as a test wants.
//!
//! Every test has a /24 of 127.0.0.0/8 of its own, so that each pod can have port 15008.

mod dns;
mod peer;
mod resources;

pub(crate) use dns::name_server;
pub(crate) use peer::{Answer, Peer};
pub(crate) use resources::{gateway, pod, service, serving};

use crate::config::{self, Config};
use crate::context::Context;
use crate::handshakes::Handshakes;
use crate::identities::Held;
use crate::inbound::{Inbound, Waiting};
use crate::outbound::Outbound;
use crate::pods::{Pod, PodId};
use crate::state::StateHandler;
use mesh::Identity;
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::{ADDRESS_TYPE_URL, Service, Workload};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use sys::Namespace;
use telemetry::{FilterHandle, LogGuard, LogOutput, LogSettings, Metrics, MetricsSettings};
use tls::{BoxFuture, IssueError, Issuer, KeyAndRequest, WorkloadCertificate};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xds_client::{Handler, Update};

/// The longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the test may go on: sockets are marked, which needs root.
pub(crate) fn require_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    if effective.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0") {
        return true;
    }
    assert!(
        std::env::var("REQUIRE_ROOT").as_deref() != Ok("1"),
        "REQUIRE_ROOT=1, but this is not root"
    );
    println!("skipped: needs root");
    false
}

/// Waits for what a test expects.
pub(crate) async fn in_time<T>(what: &str, expected: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, expected)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    in_time(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Addresses of one test.
#[derive(Clone, Copy)]
pub(crate) struct Net(u8, u8);

impl Net {
    pub(crate) fn new() -> Self {
        let net = Self(rand::random_range(16..=250), rand::random_range(0..=250));
        println!("addresses 127.{}.{}.0/24", net.0, net.1);
        net
    }

    pub(crate) fn ip(self, host: u8) -> IpAddr {
        Ipv4Addr::new(127, self.0, self.1, host).into()
    }

    pub(crate) fn at(self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(host), port)
    }
}

/// An authority that signs for anybody.
pub(crate) struct TestIssuer(ca::Authority);

impl TestIssuer {
    pub(crate) fn new() -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let authority = ca::Authority::load_or_create(directory.path(), SystemTime::now());
        Arc::new(Self(authority.unwrap()))
    }

    /// Its root, in PEM.
    pub(crate) fn root_pem(&self) -> String {
        self.0.root_pem().to_string()
    }

    pub(crate) fn certificate(&self, identity: &Identity) -> WorkloadCertificate {
        let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(identity).unwrap();
        let life = Duration::from_secs(3600);
        let issued = self.0.sign(&request_pem, identity, life, SystemTime::now());
        WorkloadCertificate::from_pem(&issued.unwrap().chain, &key, identity).unwrap()
    }
}

impl Issuer for TestIssuer {
    fn issue<'a>(
        &'a self,
        identity: &'a Identity,
        _: Duration,
    ) -> BoxFuture<'a, Result<WorkloadCertificate, IssueError>> {
        Box::pin(async move { Ok(self.certificate(identity)) })
    }
}

/// The identity of an account in namespace `shop`.
pub(crate) fn shop(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account)
}

/// One node's proxy.
pub(crate) struct Node {
    pub(crate) context: Arc<Context>,
    pub(crate) handler: StateHandler,
}

impl Node {
    /// Node `node-a` with these settings, which knows these workloads and services.
    pub(crate) async fn new(
        issuer: &Arc<TestIssuer>,
        settings: &[(&str, &str)],
        name_servers: Vec<SocketAddr>,
        workloads: Vec<Workload>,
        services: Vec<Service>,
    ) -> Self {
        let metrics = Metrics::new(MetricsSettings::default());
        let context =
            crate::run::assemble(config(settings), issuer.clone(), name_servers, log(), metrics).unwrap();
        let writer = crate::state::Writer::new(context.state.clone(), context.enforcement.clone());
        let context = Arc::new(context);
        let bundles = crate::trust_bundle::TrustBundles::new(context.clone());
        let handler = StateHandler::new(writer, None, crate::readiness::Readiness::default());
        let mut node = Self {
            context,
            handler: handler.with_bundles(bundles),
        };
        node.tell(workloads, services, Vec::new()).await;
        let no_policies = Update {
            type_url: AUTHORIZATION_TYPE_URL.into(),
            resources: Vec::new(),
            ..Update::default()
        };
        assert!(node.handler.apply(no_policies).await.is_empty());
        node
    }

    /// A message from the control plane.
    pub(crate) async fn tell(
        &mut self,
        workloads: Vec<Workload>,
        services: Vec<Service>,
        removed: Vec<String>,
    ) {
        let resources = workloads.into_iter().map(resources::of_workload);
        let update = Update {
            type_url: ADDRESS_TYPE_URL.into(),
            resources: resources
                .chain(services.into_iter().map(resources::of_service))
                .collect(),
            removed,
            ..Update::default()
        };
        let rejected = self.handler.apply(update).await;
        assert!(rejected.is_empty(), "{rejected:?}");
    }

    /// A policy: nobody but account `shop/account` may reach anything in namespace `shop`.
    pub(crate) async fn allow_only(&mut self, account: &str) {
        let update = Update {
            type_url: AUTHORIZATION_TYPE_URL.into(),
            resources: vec![resources::allow_only(account)],
            ..Update::default()
        };
        assert!(self.handler.apply(update).await.is_empty());
    }

    /// The pod `shop/account`, held by this node.
    pub(crate) fn pod(&self, account: &str) -> (Arc<Pod>, Held) {
        let pod = Pod {
            buffers: self.context.buffers.account(),
            id: PodId::from(account),
            name: account.into(),
            identity: shop(account),
            network: Namespace::current().unwrap(),
        };
        let held = self.context.identities.hold(&pod.identity);
        (Arc::new(pod), held)
    }

    /// What connections that the pod opens go through.
    pub(crate) fn client(&self, account: &str) -> Client {
        let (pod, held) = self.pod(account);
        Client {
            outbound: Arc::new(Outbound::new(self.context.clone(), pod)),
            _held: held,
        }
    }

    /// Takes tunnels to the pod at `address`; returns how many there were.
    pub(crate) async fn serve(
        &self,
        account: &str,
        address: SocketAddr,
    ) -> Arc<std::sync::atomic::AtomicUsize> {
        self.serve_with(account, address, Waiting::default()).await
    }

    /// The same, with another bound for requests that wait.
    pub(crate) async fn serve_with(
        &self,
        account: &str,
        address: SocketAddr,
        waiting: Waiting,
    ) -> Arc<std::sync::atomic::AtomicUsize> {
        let (pod, held) = self.pod(account);
        let inbound = Arc::new(Inbound {
            context: self.context.clone(),
            pod,
            handshakes: Handshakes::default(),
            waiting,
            draining: CancellationToken::new(),
            ended: CancellationToken::new(),
            open: TaskTracker::new(),
            only_port: None,
        });
        let listener = TcpListener::bind(address).await.unwrap();
        let tunnels = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = tunnels.clone();
        tokio::spawn(async move {
            let _held = held;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let inbound = inbound.clone();
                tokio::spawn(async move { inbound.serve(stream).await });
            }
        });
        tunnels
    }
}

/// A pod's application as client.
pub(crate) struct Client {
    outbound: Arc<Outbound>,
    _held: Held,
}

impl Client {
    /// Connects, as if redirection had taken a connection to `to`.
    pub(crate) async fn connect(&self, to: SocketAddr) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let outbound = self.outbound.clone();
        let (stream, source) = accepted.unwrap();
        tokio::spawn(async move { outbound.serve_to(stream, source, to).await });
        client.unwrap()
    }
}

/// An application that sends back what it gets, on a port of the kernel's choice.
pub(crate) async fn echo_application(ip: IpAddr) -> u16 {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                // The test looks at the bytes; how the connection ends is its business.
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

fn config(settings: &[(&str, &str)]) -> Config {
    let mut all: Vec<(String, String)> = vec![("NODE_NAME".into(), "node-a".into())];
    all.extend(
        settings
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string())),
    );
    config::from_environment(all, None).unwrap()
}

/// The log is one for the process.
pub(crate) fn log() -> FilterHandle {
    static LOG: OnceLock<(LogGuard, FilterHandle)> = OnceLock::new();
    let start = || {
        telemetry::init(&LogSettings {
            filter: "info".into(),
            format: telemetry::Format::Text,
            output: LogOutput::Stderr,
        })
        .unwrap()
    };
    LOG.get_or_init(start).1.clone()
}
