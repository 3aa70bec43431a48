//! A whole mesh: pods are enrolled, speak mutual TLS and are refused, by way of a real API alone. The node is the network
//! namespace that the test is in; its pods are namespaces on a bridge in it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use real_api::{Cluster, ControlPlane, Daemon, MESH, Programs};
use serde_json::{Value, json};
use sys::Namespace;
use tests::{Place, binary, eventually, eventually_some, require_root, run};

use crate::support::{PATIENCE, account, condition, namespace, nothing_was_forbidden, object, pod, roots};

const PORT: u16 = 8080;
/// Where `ip` pins namespaces.
const PINNED: &str = "/run/netns";
const ANNOTATION: &str = "ambient.istio.io/redirection";

#[test]
fn pods_are_enrolled_and_held_to_policy() {
    let Some(programs) = Programs::named() else { return };
    if !require_root() {
        return;
    }
    if std::env::var_os("OWN_NAMESPACE").is_none() {
        println!(
            "skipped: OWN_NAMESPACE does not say that this network namespace is the test's own (scripts/kubernetes)"
        );
        return;
    }
    let cluster = Cluster::start(&programs);
    cluster.install("defaults");
    cluster.put(&namespace("shop", false));
    cluster.put(&namespace("outside", false));
    ip("link add pods type bridge");
    ip("address add 10.1.255.254/16 dev pods");
    ip("link set pods up");
    let [web, db, visitor] = [("shop", "web", 1), ("shop", "db", 2), ("outside", "visitor", 3)]
        .map(|(namespace, name, number)| Pod::make(&cluster, namespace, name, number));
    db.serve();
    web.serve();

    let mut control_plane = ControlPlane::start(&cluster, "node-a");
    control_plane.wait_ready();
    let root = eventually_some("the roots", PATIENCE, || roots(&cluster, MESH));
    let agent = agent(&cluster);
    let proxy = proxy(&cluster, &control_plane, &root);
    assert!(
        web.reaches(&db) && visitor.reaches(&db),
        "nobody is in the mesh yet"
    );

    // Enrolled by a label, and told through the status of pods.
    label(&cluster, json!("ambient"));
    for pod in [&web, &db] {
        eventually("the pod is enrolled", PATIENCE, || {
            pod.annotation(&cluster) == "enabled"
        });
    }
    assert_eq!(visitor.annotation(&cluster), Value::Null);
    eventually("mutual TLS", PATIENCE, || {
        web.reaches(&db) && encrypted(&proxy) > 0
    });
    assert!(visitor.reaches(&db), "PERMISSIVE");

    let strict = json!({ "mtls": { "mode": "STRICT" } });
    cluster.put(&object(
        "security.istio.io/v1",
        "PeerAuthentication",
        "shop",
        "strict",
        strict,
    ));
    let path = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications/strict";
    assert_eq!(condition(&cluster, path, "ZtunnelAccepted")["status"], "True");
    eventually("plaintext is refused", PATIENCE, || !visitor.reaches(&db));
    assert!(web.reaches(&db));

    let denial = json!({ "action": "DENY", "selector": { "matchLabels": { "app": "db" } },
        "rules": [{ "from": [{ "source": { "principals": ["cluster.local/ns/shop/sa/web"] } }] }] });
    cluster.put(&crate::support::policy("shop", "no-web", denial));
    eventually("web is denied", PATIENCE, || !web.reaches(&db));
    assert!(db.reaches(&web), "only web is denied, and only to db");
    cluster
        .api()
        .delete("/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/no-web");
    eventually("web is allowed again", PATIENCE, || web.reaches(&db));

    // Out of the mesh again.
    label(&cluster, Value::Null);
    for pod in [&web, &db] {
        eventually("the pod is as before", PATIENCE, || {
            pod.annotation(&cluster) == Value::Null
        });
    }
    eventually("plaintext again", PATIENCE, || {
        visitor.reaches(&db) && web.reaches(&db)
    });
    assert!(agent.stop() && proxy.stop() && control_plane.daemon.stop());
    nothing_was_forbidden(&cluster);
}

struct Pod {
    network: Namespace,
    address: Ipv4Addr,
    path: String,
}

impl Pod {
    fn make(cluster: &Cluster, namespace: &str, name: &str, number: u8) -> Pod {
        let address = Ipv4Addr::new(10, 1, 0, number);
        cluster.put(&account(namespace, name));
        let stored = cluster.put(&pod(namespace, name, "node-a", &address.to_string()));
        let uid = stored["metadata"]["uid"].as_str().unwrap();
        ip(&format!("netns add {uid}"));
        ip(&format!(
            "link add pod{number} type veth peer name eth0 netns {uid}"
        ));
        ip(&format!("link set pod{number} master pods up"));
        ip(&format!("-n {uid} address add {address}/16 dev eth0"));
        ip(&format!("-n {uid} link set lo up"));
        ip(&format!("-n {uid} link set eth0 up"));
        ip(&format!("-n {uid} route add default via 10.1.255.254"));
        Pod {
            network: Namespace::open(format!("{PINNED}/{uid}")).unwrap(),
            address,
            path: format!("/api/v1/namespaces/{namespace}/pods/{name}"),
        }
    }

    /// Answers every connection with a word.
    fn serve(&self) {
        let listener = self.network.listen(PORT);
        std::thread::spawn(move || {
            loop {
                if let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.write_all(b"hello");
                }
            }
        });
    }

    fn reaches(&self, other: &Pod) -> bool {
        let address = SocketAddr::from((other.address, PORT));
        let Ok(mut stream) = self.network.connect_within(address, Duration::from_secs(5)) else {
            return false;
        };
        let mut text = String::new();
        stream.read_to_string(&mut text).is_ok() && text == "hello"
    }

    fn annotation(&self, cluster: &Cluster) -> Value {
        cluster.api().get(&self.path).unwrap()["metadata"]["annotations"][ANNOTATION].clone()
    }
}

/// The built node agent with the chart's account; namespaces of pods are those that are pinned.
fn agent(cluster: &Cluster) -> Daemon {
    let path = |name: &str| cluster.folder().join(name).display().to_string();
    let token = cluster.token(
        MESH,
        "ztunnel-node-agent",
        Some("ztunnel-node-agent-node-a"),
        None,
    );
    std::fs::write(path("agent.token"), token).unwrap();
    let arguments = [
        "--kubernetes".to_owned(),
        format!("--namespaces={PINNED}"),
        format!("--zds-socket={}", path("zds.sock")),
        format!("--status-socket={}", path("agent.sock")),
        "--grace-period=5".to_owned(),
        format!("--kubernetes-url={}", cluster.url()),
        format!("--kubernetes-root-ca={}", cluster.root().display()),
        format!("--kubernetes-token={}", path("agent.token")),
    ];
    let lock = path("xtables.lock");
    let environment = [("NODE_NAME", "node-a"), ("XTABLES_LOCKFILE", &lock)];
    Daemon::start(
        &binary("node-agent"),
        arguments,
        &environment,
        &cluster.folder().join("agent.log"),
    )
}

/// The built node proxy, in the environment that the chart gives it.
fn proxy(cluster: &Cluster, control_plane: &ControlPlane, root: &str) -> Daemon {
    let path = |name: &str| cluster.folder().join(name).display().to_string();
    let token = cluster.token(MESH, "ztunnel", Some("ztunnel-node-a"), Some("istio-ca"));
    std::fs::write(path("proxy.token"), token).unwrap();
    std::fs::write(path("proxy-root.pem"), root).unwrap();
    std::fs::create_dir_all(path("proxy-state")).unwrap();
    let address = format!("https://{}", control_plane.address());
    let (root, token, socket, state) = (
        path("proxy-root.pem"),
        path("proxy.token"),
        path("zds.sock"),
        path("proxy-state"),
    );
    let environment = [
        ("XDS_ADDRESS", address.as_str()),
        ("CA_ADDRESS", &address),
        ("ALT_XDS_HOSTNAME", "istiod.istio-system.svc"),
        ("ALT_CA_HOSTNAME", "istiod.istio-system.svc"),
        ("XDS_ROOT_CA", &root),
        ("CA_ROOT_CA", &root),
        ("AUTH_TOKEN", &token),
        ("INPOD_ENABLED", "true"),
        ("INPOD_UDS", &socket),
        ("TRUST_DOMAIN", "cluster.local"),
        ("CLUSTER_DOMAIN", "cluster.local"),
        ("ISTIO_META_CLUSTER_ID", "Kubernetes"),
        ("NETWORK", ""),
        ("ZTUNNEL_STATE_DIR", &state),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "5"),
        ("POD_NAME", "ztunnel-node-a"),
        ("POD_NAMESPACE", MESH),
        ("NODE_NAME", "node-a"),
        ("INSTANCE_IP", "10.1.255.254"),
        ("SERVICE_ACCOUNT", "ztunnel"),
        ("RUST_LOG", "info"),
    ];
    Daemon::start(
        &binary("ztunnel"),
        ["proxy", "ztunnel"],
        &environment,
        &cluster.folder().join("ztunnel.log"),
    )
}

/// How many connections of mutual TLS the proxy counts.
fn encrypted(_: &Daemon) -> u64 {
    let here = Namespace::current().unwrap();
    let Ok(page) = tests::http_get(&here, (Ipv4Addr::LOCALHOST, 15020).into(), "/metrics") else {
        return 0;
    };
    let counts = page.body.lines().filter(|line| {
        line.starts_with("istio_tcp_connections_opened_total{")
            && line.contains("connection_security_policy=\"mutual_tls\"")
    });
    counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn label(cluster: &Cluster, value: Value) {
    let patch = json!({ "metadata": { "labels": { "istio.io/dataplane-mode": value } } });
    cluster.api().patch("/api/v1/namespaces/shop", &patch);
}

#[track_caller]
fn ip(arguments: &str) {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    let output = run(command, None, Duration::from_secs(10));
    assert_eq!(output.code, 0, "ip {arguments}: {}", output.stderr);
}
