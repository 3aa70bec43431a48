//! The mesh's own programs: how they are started and whether they are ready.

use std::path::PathBuf;
use std::time::Duration;

use sys::Namespace;

use crate::error::LabError;
use crate::layout::Layout;
use crate::network::{Network, NodeNetwork};
use crate::options::LabOptions;
use crate::plan;
use crate::zone::DOMAIN;

use super::kube;
use super::runner::{Recipe, Restart};

/// The name by which node proxies call the control plane.
pub(crate) const CONTROL_PLANE_HOST: &str = "istiod.istio-system.svc";
/// Who signs the node proxies' tokens.
pub(crate) const TOKEN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The namespace of the mesh's own objects.
pub(crate) const SYSTEM_NAMESPACE: &str = "istio-system";
/// The service accounts by which the mesh's programs call the Kubernetes API.
pub(crate) const CONTROL_PLANE_ACCOUNT: &str = "control-plane";
pub(crate) const NODE_AGENT_ACCOUNT: &str = "node-agent";
/// How long a proxy may take to end, and how long connections of a pod that leaves the mesh are drained.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// Port of the proxy's readiness.
const READINESS_PORT: u16 = 15021;
const LOG_LEVEL: &str = "info";

/// The name of the Pod object that stands for a node's proxy.
pub(crate) fn proxy_pod(node: &str) -> String {
    format!("ztunnel-{node}")
}

/// Writes the resolv.conf and hosts files of the mesh's programs.
pub(crate) fn write_files(layout: &Layout) -> Result<(), LabError> {
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost\n{} {CONTROL_PLANE_HOST} {CONTROL_PLANE_HOST}.{DOMAIN} istiod.istio-system\n",
        plan::CONTROL_PLANE_V4
    );
    let resolv = format!(
        "nameserver {}\nsearch {SYSTEM_NAMESPACE}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\noptions ndots:5\n",
        plan::DNS_ADDRESS
    );
    for (name, text) in [("hosts", hosts), ("resolv.conf", resolv)] {
        let path = layout.etc().join(name);
        std::fs::write(&path, text).map_err(LabError::system(format!("writing {}", path.display())))?;
    }
    Ok(())
}

pub(crate) fn control_plane(layout: &Layout, options: &LabOptions, network: &Network) -> Recipe {
    let mut args = objects(layout, options, CONTROL_PLANE_ACCOUNT);
    args.extend([
        "--listen".to_owned(),
        format!("{}:15012", plan::CONTROL_PLANE_V4),
        "--debug-socket".to_owned(),
        text(layout.control_plane_socket()),
        // Everybody reads the one file of roots.
        "--ca-rotation-pause".to_owned(),
        "2s".to_owned(),
    ]);
    if !options.kubernetes {
        // With a Kubernetes API, the root is in a Secret there, and tokens are reviewed there.
        args.extend([
            "--ca-dir".to_owned(),
            text(layout.ca()),
            "--token-keys".to_owned(),
            text(layout.token_keys()),
            "--token-issuer".to_owned(),
            TOKEN_ISSUER.to_owned(),
        ]);
    }
    for name in [
        CONTROL_PLANE_HOST.to_owned(),
        format!("{CONTROL_PLANE_HOST}.{DOMAIN}"),
    ] {
        args.extend(["--server-name".to_owned(), name]);
    }
    Recipe {
        label: "control-plane".to_owned(),
        program: options.programs.control_plane.clone(),
        args,
        env: control_plane_env(),
        directory: None,
        network: network.control_plane.clone(),
        binds: binds(layout),
        log: layout.log("control-plane"),
        pids: layout.pids(),
        restart: Restart::Always,
    }
}

pub(crate) fn node_agent(layout: &Layout, options: &LabOptions, node: &NodeNetwork) -> Recipe {
    let name = &node.plan.name;
    let mut env = common_env();
    env.push(("NODE_NAME".to_owned(), name.clone()));
    let mut args = vec!["--node".to_owned(), name.clone()];
    args.extend(objects(layout, options, NODE_AGENT_ACCOUNT));
    args.extend([
        "--namespaces".to_owned(),
        text(layout.pod_namespaces()),
        "--zds-socket".to_owned(),
        text(layout.zds_socket(name)),
        "--grace-period".to_owned(),
        GRACE.as_secs().to_string(),
        "--status-socket".to_owned(),
        text(layout.agent_socket(name)),
    ]);
    Recipe {
        label: format!("node-agent-{name}"),
        program: options.programs.node_agent.clone(),
        args,
        env,
        directory: None,
        network: node.namespace.clone(),
        // It stays in the mount namespace in which pods' namespaces are pinned.
        binds: Vec::new(),
        log: layout.log(&format!("node-agent-{name}")),
        pids: layout.pids(),
        restart: Restart::Always,
    }
}

/// A node proxy, ours or another: the environment is the one that Istio's DaemonSet gives.
pub(crate) fn ztunnel(layout: &Layout, options: &LabOptions, node: &NodeNetwork, root: PathBuf) -> Recipe {
    let name = &node.plan.name;
    let address = format!("https://{CONTROL_PLANE_HOST}:15012");
    let mut env = common_env();
    for (key, value) in [
        ("PROXY_MODE", "shared".to_owned()),
        ("NODE_NAME", name.clone()),
        ("POD_NAME", proxy_pod(name)),
        ("POD_NAMESPACE", SYSTEM_NAMESPACE.to_owned()),
        ("SERVICE_ACCOUNT", "ztunnel".to_owned()),
        ("INSTANCE_IP", node.plan.fabric_v4().to_string()),
        ("ISTIO_META_CLUSTER_ID", "Kubernetes".to_owned()),
        ("CLUSTER_ID", "Kubernetes".to_owned()),
        ("CLUSTER_DOMAIN", DOMAIN.to_owned()),
        ("TRUST_DOMAIN", DOMAIN.to_owned()),
        ("NETWORK", String::new()),
        ("IPV6_ENABLED", options.ipv6.to_string()),
        ("TERMINATION_GRACE_PERIOD_SECONDS", GRACE.as_secs().to_string()),
        ("XDS_ADDRESS", address.clone()),
        ("CA_ADDRESS", address),
        ("XDS_ROOT_CA", text(root.clone())),
        ("CA_ROOT_CA", text(root)),
        ("AUTH_TOKEN", text(layout.token(name))),
        ("INPOD_UDS", text(layout.zds_socket(name))),
        ("ZTUNNEL_STATE_DIR", text(layout.proxy_state(name))),
    ] {
        env.push((key.to_owned(), value));
    }
    for (key, value) in options.node_proxy_env.get(name).into_iter().flatten() {
        env.retain(|(known, _)| known != key);
        env.push((key.clone(), value.clone()));
    }
    Recipe {
        label: format!("ztunnel-{name}"),
        program: options
            .node_proxies
            .get(name)
            .unwrap_or(&options.programs.ztunnel)
            .clone(),
        args: vec!["proxy".to_owned(), "ztunnel".to_owned()],
        env,
        directory: Some(PathBuf::from("/")),
        network: node.namespace.clone(),
        binds: binds(layout),
        log: layout.log(&format!("ztunnel-{name}")),
        pids: layout.pids(),
        restart: Restart::Always,
    }
}

/// Whether the node's proxy says that it is ready: 200 on its readiness port.
pub(crate) async fn proxy_is_ready(node: &NodeNetwork) -> bool {
    readiness(&node.namespace).await.is_some()
}

/// Whether this very process says that it is ready. While there are two, either may answer, and ours says which.
pub(crate) async fn is_ready_as(node: &Namespace, pid: u32) -> bool {
    let line = format!("process {pid}");
    readiness(node)
        .await
        .is_some_and(|page| page.lines().any(|found| found == line))
}

/// What the node's proxy answers on its readiness port, if it is ready.
async fn readiness(node: &Namespace) -> Option<String> {
    let address = (std::net::Ipv4Addr::LOCALHOST, READINESS_PORT).into();
    let options = sys::socket::ConnectOptions {
        timeout: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let connection = sys::socket::connect(node, &options, address).await.ok()?;
    let asked = crate::http::get_on(connection, "localhost", "/healthz/ready", Duration::from_secs(2)).await;
    match asked {
        Ok((200, page)) => Some(String::from_utf8_lossy(&page).into_owned()),
        _ => None,
    }
}

/// Where a program finds the objects.
fn objects(layout: &Layout, options: &LabOptions, account: &str) -> Vec<String> {
    if !options.kubernetes {
        return vec!["--objects".to_owned(), text(layout.objects())];
    }
    vec![
        "--kubernetes".to_owned(),
        "--kubernetes-url".to_owned(),
        kube::url(),
        "--kubernetes-root-ca".to_owned(),
        text(kube::root_certificates(layout)),
        "--kubernetes-token".to_owned(),
        text(layout.kube_token(account)),
    ]
}

fn control_plane_env() -> Vec<(String, String)> {
    let mut env = common_env();
    env.push(("POD_NAME".to_owned(), "control-plane".to_owned()));
    env.push(("POD_NAMESPACE".to_owned(), SYSTEM_NAMESPACE.to_owned()));
    env
}

fn binds(layout: &Layout) -> Vec<(PathBuf, PathBuf)> {
    ["resolv.conf", "hosts"]
        .iter()
        .map(|name| (layout.etc().join(name), PathBuf::from("/etc").join(name)))
        .collect()
}

fn common_env() -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    vec![
        ("PATH".to_owned(), path),
        ("RUST_LOG".to_owned(), LOG_LEVEL.to_owned()),
        ("RUST_BACKTRACE".to_owned(), "1".to_owned()),
    ]
}

fn text(path: PathBuf) -> String {
    path.display().to_string()
}
