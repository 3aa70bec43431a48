use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tests::{binary, eventually};

use crate::cluster::{Cluster, MESH};
use crate::daemon::Daemon;
use crate::http;

/// How long the program may take to be ready.
const START: Duration = Duration::from_secs(60);

/// The built `control-plane`, as the chart starts it in the pod of a node.
pub struct ControlPlane {
    /// The process.
    pub daemon: Daemon,
    address: SocketAddr,
    monitoring: SocketAddr,
    debug: PathBuf,
}

impl ControlPlane {
    /// One replica: with the identity of the pod on this node and a token that is bound to it.
    #[track_caller]
    pub fn start(cluster: &Cluster, node: &str) -> ControlPlane {
        let pod = format!("ztunnel-control-plane-{node}");
        let token = cluster.token(MESH, "ztunnel-control-plane", Some(&pod), None);
        let path = |name: &str| cluster.folder().join(format!("{pod}{name}"));
        std::fs::write(path(".token"), token).unwrap();
        let (address, monitoring) = (free_address(), free_address());
        let mut arguments = control_plane_arguments();
        arguments.extend([
            format!("--listen={address}"),
            format!("--monitoring-listen={monitoring}"),
            format!("--debug-socket={}", path(".sock").display()),
            format!("--kubernetes-url={}", cluster.url()),
            format!("--kubernetes-root-ca={}", cluster.root().display()),
            format!("--kubernetes-token={}", path(".token").display()),
        ]);
        let environment = [
            ("POD_NAME", pod.as_str()),
            ("POD_NAMESPACE", MESH),
            ("RUST_LOG", "info"),
        ];
        let daemon = Daemon::start(&binary("control-plane"), arguments, &environment, &path(".log"));
        ControlPlane {
            daemon,
            address,
            monitoring,
            debug: path(".sock"),
        }
    }

    /// Waits until its probe says so.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let began = std::time::Instant::now();
        while self.get("/ready").is_none_or(|(status, _)| status != 200) {
            let waits = began.elapsed() < START && self.daemon.is_running();
            assert!(waits, "the control plane is not ready:\n{}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where proxies call it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket that tells what it knows.
    pub fn debug_socket(&self) -> &std::path::Path {
        &self.debug
    }

    /// Whether this replica is the one that writes.
    pub fn leads(&self) -> bool {
        self.get("/metrics")
            .is_some_and(|(_, text)| text.contains("\nztunnel_control_plane_leader 1\n"))
    }

    /// A page of its monitoring address; none while it does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http::ask(&self.monitoring.to_string(), "GET", path, "")
    }

    /// Waits until it has said this.
    #[track_caller]
    pub fn says(&self, words: &str) {
        eventually(words, START, || self.daemon.log().contains(words));
    }
}

/// What the chart starts the control plane with, but where it listens and writes.
pub fn control_plane_arguments() -> Vec<String> {
    let rendered = charts::rendered("defaults").expect("the rendered chart");
    let deployment = rendered.iter().find(|object| object["kind"] == "Deployment");
    let containers = &deployment.expect("a Deployment")["spec"]["template"]["spec"]["containers"];
    let elsewhere = ["--listen=", "--debug-socket=", "--monitoring-listen="];
    let arguments = containers[0]["args"].as_array().expect("arguments").iter();
    arguments
        .filter_map(Value::as_str)
        .filter(|argument| !elsewhere.iter().any(|flag| argument.starts_with(flag)))
        .map(str::to_owned)
        .collect()
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    listener.local_addr().expect("its address")
}
