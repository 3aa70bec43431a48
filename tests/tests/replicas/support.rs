//! Replicas beside the lab's own control plane, who is sent to which, and what has to be so all the while.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tests::manifests::{join, namespace, peer_authentication, sleeper};
use tests::{Lab, Node, Place, Pod, echo, echo_once, eventually, http_get};

/// Port of the application.
pub(super) const PORT: u16 = 7000;
/// Where proxies call the control plane: the address and port of the Service.
pub(super) const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 31, 0, 2), 15012);
/// Of a replica: where it serves, and where it tells of itself.
pub(super) const FIRST: (u16, u16) = (SERVICE.1, 15014);
pub(super) const SECOND: (u16, u16) = (15112, 15114);
pub(super) const SOON: Duration = Duration::from_secs(60);
pub(super) const PODS: &str = "/api/v1/namespaces/shop/pods";
pub(super) const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";

/// A shop under STRICT: the server on node-b; on node-a its clients, and a visitor from outside of the mesh.
pub(super) fn shop() -> String {
    let clients = ["client", "guest", "second", "third"];
    let clients = clients.map(|name| sleeper("shop", name, name, "node-a"));
    let others = [
        namespace("shop", true),
        namespace("outside", false),
        peer_authentication("shop", "default", "STRICT"),
        sleeper("shop", "server", "server", "node-b"),
        sleeper("outside", "visitor", "default", "node-a"),
    ];
    join(others.into_iter().chain(clients))
}

pub(super) fn denial(account: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": format!("no-{account}"), "namespace": "shop" },
        "spec": {
            "action": "DENY",
            "rules": [{ "from": [{ "source": { "principals": [format!("cluster.local/ns/shop/sa/{account}")] } }] }],
        },
    })
}

pub(super) fn late_pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "nodeName": "node-a", "serviceAccountName": name,
            "containers": [{ "name": "main", "image": "test", "command": ["sleep", "infinity"] }],
        },
    })
}

/// A control plane beside the lab's own, with its settings, in its network and at other ports; killed with the value.
pub(super) struct Replica(Child);

impl Replica {
    pub(super) fn start(lab: &Lab, place: &Node) -> Replica {
        let own = fs::read(format!("/proc/{}/cmdline", first_pid(lab).unwrap())).unwrap();
        let own = String::from_utf8(own).unwrap();
        let mut arguments: Vec<&str> = own.trim_end_matches('\0').split('\0').skip(1).collect();
        let socket = format!("{}.socket", lab.file("second", ""));
        let listen = format!("{}:{}", SERVICE.0, SECOND.0);
        for (name, value) in [("--listen", &listen), ("--debug-socket", &socket)] {
            let at = arguments.iter().position(|argument| *argument == name);
            arguments[at.unwrap() + 1] = value;
        }
        let monitoring = format!("127.0.0.1:{}", SECOND.1);
        arguments.extend([
            "--monitoring-listen",
            &monitoring,
            "--pod-name",
            "control-plane-second",
        ]);
        // It must not outlive the test, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(tests::binary("control-plane"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let replica = Replica(place.inside(|| command.spawn()).unwrap());
        eventually("the second control plane serves", SOON, || {
            let ready = http_get(place, local(SECOND.1), "/ready");
            ready.is_ok_and(|response| response.status == 200)
        });
        replica
    }

    /// Without a word to anybody.
    pub(super) fn die(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The process of the lab's own control plane, while it runs.
pub(super) fn first_pid(lab: &Lab) -> Option<i32> {
    i32::try_from(lab.status()["control_plane"]["pid"].as_i64()?).ok()
}

/// A metric of a replica; nothing while it does not answer.
pub(super) fn metric(place: &Node, replica: (u16, u16), name: &str) -> Option<f64> {
    let page = http_get(place, local(replica.1), "/metrics").ok()?;
    (page.status == 200).then(|| tests::metric(&page.body, name, &[]))
}

/// What kube-proxy does for a Service with one endpoint that is ready: new connections go there; open ones stay.
pub(super) fn direct(place: &Node, replica: (u16, u16), verb: &[&str]) {
    let (address, port) = SERVICE;
    let mut command = Command::new("iptables");
    command.args(["-w", "-t", "nat"]).args(verb);
    command.args([
        "-d",
        &address.to_string(),
        "-p",
        "tcp",
        "--dport",
        &port.to_string(),
        "--syn",
    ]);
    command.args([
        "-j",
        "DNAT",
        "--to-destination",
        &format!("{address}:{}", replica.0),
    ]);
    let status = place.inside(|| command.status()).unwrap();
    assert!(status.success(), "{command:?}");
}

pub(super) const FIRST_RULE: [&str; 2] = ["-A", "PREROUTING"];
pub(super) const INSTEAD: [&str; 3] = ["-R", "PREROUTING", "1"];

/// What has to be so at every moment, asked over and over.
pub(super) struct Watch {
    to: SocketAddr,
    /// Who must never be served.
    refused: Mutex<Vec<Pod>>,
    /// How often all were asked.
    rounds: AtomicUsize,
    over: AtomicBool,
}

impl Watch {
    pub(super) fn new(to: SocketAddr, refused: &[&Pod]) -> Watch {
        Watch {
            to,
            refused: Mutex::new(refused.iter().copied().cloned().collect()),
            rounds: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Until [`Watch::over`], or something is not as it must be, which the panic of the thread says.
    pub(super) fn run(&self, client: &Pod, mut held: TcpStream) {
        while !self.over.load(Ordering::SeqCst) {
            echo(&mut held, b"the open connection").expect("an open connection goes on");
            echo_once(client, self.to, b"a new connection").expect("new connections are served");
            for pod in &*self.refused.lock().unwrap() {
                let served = echo_once(pod, self.to, b"refused").is_ok();
                assert!(!served, "{}/{} is served", pod.namespace, pod.name);
            }
            self.rounds.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Also this pod must not be served from now on.
    pub(super) fn refuses(&self, pod: &Pod) {
        self.refused.lock().unwrap().push(pod.clone());
    }

    /// All are asked a few times more.
    pub(super) fn some_rounds(&self) {
        let until = self.rounds.load(Ordering::SeqCst) + 5;
        eventually("all are asked again", SOON, || {
            self.rounds.load(Ordering::SeqCst) >= until || self.over.load(Ordering::SeqCst)
        });
    }
}

/// Ends the watch when it goes, also by a panic, so that the thread that watches ends.
pub(super) struct OverWhenGone<'a>(pub(super) &'a Watch);

impl Drop for OverWhenGone<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}
