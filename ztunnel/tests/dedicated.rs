//! The program as the proxy of one workload: no node agent, no discovery, its state from a file, its certificate from
//! an authority that lets nobody ask for others.

#![allow(clippy::unwrap_used)]

mod support;

use hbone::ConnectError;
use hbone::client::ConnectRequest;
use mesh::Identity;
use std::net::SocketAddr;
use std::time::Duration;
use support::Authority;
use sys::Namespace;
use sys::link::Netlink;
use sys::process::{Child, Command};
use sys::socket::{self, ConnectOptions, ListenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WORKLOAD: &str = "10.9.0.1";
const PORT: u16 = 8080;
const LIMIT: Duration = Duration::from_secs(30);

/// The workload, and a policy that lets `caller` in.
fn mesh(caller: &str) -> String {
    format!(
        r#"
workloads:
- uid: Kubernetes//Pod/demo/server-1
  name: server-1
  namespace: demo
  serviceAccount: server
  workloadIps: [{WORKLOAD}]
  protocol: HBONE
policies:
- name: caller
  namespace: demo
  scope: Namespace
  action: Allow
  rules: [[[{{principals: [{{exact: cluster.local/ns/demo/sa/{caller}}}]}}]]]
"#
    )
}

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.kill(nix::sys::signal::Signal::SIGKILL).ok();
    }
}

async fn get(network: &Namespace, path: &str) -> Option<String> {
    let at: SocketAddr = "127.0.0.1:15021".parse().unwrap();
    let options = ConnectOptions {
        timeout: Some(LIMIT),
        ..ConnectOptions::default()
    };
    let mut stream = socket::connect(network, &options, at).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_workload_is_served_without_node_agent_and_discovery() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let network = Namespace::create().unwrap();
    let link = Netlink::in_namespace(&network).unwrap();
    link.up("lo").await.unwrap();
    link.address("lo", WORKLOAD.parse().unwrap(), 32).await.unwrap();
    let authority = Authority::serve(&network).await;
    let at = SocketAddr::new(WORKLOAD.parse().unwrap(), PORT);
    let application = socket::listen(&network, at, &ListenOptions::default()).unwrap();

    let file = authority.directory.path().join("mesh.yaml");
    std::fs::write(&file, mesh("client")).unwrap();
    let token = authority.directory.path().join("token");
    std::fs::write(&token, authority.token("server-1", "uid-s", "server")).unwrap();
    let log = std::fs::File::create(authority.directory.path().join("log")).unwrap();
    let text = |path: &std::path::Path| path.display().to_string();
    let proxy = Command::new(env!("CARGO_BIN_EXE_ztunnel"))
        .args(["proxy"])
        .env_clear()
        .env("PROXY_MODE", "dedicated")
        .env("PROXY_WORKLOAD_INFO", "demo/server-1/server")
        .env("LOCAL_XDS_PATH", text(&file))
        .env("CA_ADDRESS", authority.address.to_string())
        .env("CA_ROOT_CA", text(&authority.root_file()))
        .env("ALT_CA_HOSTNAME", support::NAME)
        .env("AUTH_TOKEN", text(&token))
        .env("ISTIO_META_DNS_CAPTURE", "false")
        .env("AUTHZ_POLICY_INFO_LOGGING", "true")
        .network(&network)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    let _proxy = Proxy(proxy.unwrap());
    eventually("the proxy is ready", || async {
        let page = get(&network, "/healthz/ready").await;
        page.is_some_and(|page| page.starts_with("HTTP/1.1 200"))
    })
    .await;

    let call = async |account: &str| {
        let certificate = authority.certificate(account);
        let server = Identity::new("cluster.local", "demo", "server");
        let config = tls::ConfigCache::new().client(&certificate, &[server]);
        let tunnel_port = SocketAddr::new(at.ip(), 15008);
        let options = ConnectOptions::default();
        let stream = socket::connect(&network, &options, tunnel_port).await.unwrap();
        let (stream, _) = tls::connect(stream, &config).await.unwrap();
        let handshake = hbone::client::handshake(stream, hbone::Settings::client());
        let (client, driver) = handshake.await.unwrap();
        let driver = tokio::spawn(driver);
        let request = ConnectRequest {
            authority: at.to_string(),
            headers: Vec::new(),
        };
        let outcome = client.connect(request).await.map(|_| ());
        driver.abort();
        outcome
    };
    call("client").await.unwrap();
    // Success is told only once the application is connected.
    let accepted = tokio::time::timeout(LIMIT, application.accept()).await;
    accepted.expect("a connection in time").unwrap();
    let denied = call("stranger").await;
    assert!(matches!(denied, Err(ConnectError::Status(401))), "{denied:?}");

    // Both decisions are told, since that was asked for.
    let lines = std::fs::read_to_string(authority.directory.path().join("log")).unwrap();
    let told = |verdict: &str, caller: &str| {
        lines
            .lines()
            .any(|line| line.contains("policy decided") && line.contains(verdict) && line.contains(caller))
    };
    assert!(
        told("Allow", "sa/client") && told("Deny", "sa/stranger"),
        "{lines}"
    );

    // The file is followed: now it is the other way round.
    std::fs::write(&file, "workloads: 7").unwrap();
    std::fs::write(&file, mesh("stranger")).unwrap();
    eventually("the new policy holds", || async {
        call("stranger").await.is_ok()
    })
    .await;
    let denied = call("client").await;
    assert!(matches!(denied, Err(ConnectError::Status(401))), "{denied:?}");
}
