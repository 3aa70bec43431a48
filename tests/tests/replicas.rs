//! Several control planes behind one Service: whole proxies and pods go on with another replica when theirs is stopped, or
//! dies without a word. What was refused stays refused at every moment, and what was served is served at every moment.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::manifests::{join, namespace, peer_authentication, sleeper};
use tests::{Api, Lab, Node, Place, Pod, echo, echo_once, eventually, http_get, require_root, serve_echo};

/// Port of the application.
const PORT: u16 = 7000;
/// Where proxies call the control plane: the address and port of the Service.
const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 31, 0, 2), 15012);
/// Of a replica: where it serves, and where it tells of itself.
const FIRST: (u16, u16) = (SERVICE.1, 15014);
const SECOND: (u16, u16) = (15112, 15114);
const SOON: Duration = Duration::from_secs(60);
const PODS: &str = "/api/v1/namespaces/shop/pods";
const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";

/// A shop under STRICT: the server on node-b; on node-a its clients, and a visitor from outside of the mesh.
fn shop() -> String {
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

fn denial(account: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": format!("no-{account}"), "namespace": "shop" },
        "spec": {
            "action": "DENY",
            "rules": [{ "from": [{ "source": { "principals": [format!("cluster.local/ns/shop/sa/{account}")] } }] }],
        },
    })
}

fn late_pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "nodeName": "node-a", "serviceAccountName": name,
            "containers": [{ "name": "main", "image": "test", "command": ["sleep", "infinity"] }],
        },
    })
}

/// A control plane beside the lab's own, with its settings, in its network and at other ports; killed with the value.
struct Replica(Child);

impl Replica {
    fn start(lab: &Lab, place: &Node) -> Replica {
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
    fn die(mut self) {
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

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The process of the lab's own control plane, while it runs.
fn first_pid(lab: &Lab) -> Option<i32> {
    i32::try_from(lab.status()["control_plane"]["pid"].as_i64()?).ok()
}

/// A metric of a replica; nothing while it does not answer.
fn metric(place: &Node, replica: (u16, u16), name: &str) -> Option<f64> {
    let page = http_get(place, local(replica.1), "/metrics").ok()?;
    (page.status == 200).then(|| tests::metric(&page.body, name, &[]))
}

/// What kube-proxy does for a Service with one endpoint that is ready: new connections go there; open ones stay.
fn direct(place: &Node, replica: (u16, u16), verb: &[&str]) {
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

const FIRST_RULE: [&str; 2] = ["-A", "PREROUTING"];
const INSTEAD: [&str; 3] = ["-R", "PREROUTING", "1"];

/// What has to be so at every moment, asked over and over.
struct Watch {
    to: SocketAddr,
    /// Who must never be served.
    refused: Mutex<Vec<Pod>>,
    /// How often all were asked.
    rounds: AtomicUsize,
    over: AtomicBool,
}

impl Watch {
    fn new(to: SocketAddr, refused: &[&Pod]) -> Watch {
        Watch {
            to,
            refused: Mutex::new(refused.iter().copied().cloned().collect()),
            rounds: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Until [`Watch::over`], or something is not as it must be, which the panic of the thread says.
    fn run(&self, client: &Pod, mut held: TcpStream) {
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
    fn refuses(&self, pod: &Pod) {
        self.refused.lock().unwrap().push(pod.clone());
    }

    /// All are asked a few times more.
    fn some_rounds(&self) {
        let until = self.rounds.load(Ordering::SeqCst) + 5;
        eventually("all are asked again", SOON, || {
            self.rounds.load(Ordering::SeqCst) >= until || self.over.load(Ordering::SeqCst)
        });
    }
}

/// Ends the watch when it goes, also by a panic, so that the thread that watches ends.
struct OverWhenGone<'a>(&'a Watch);

impl Drop for OverWhenGone<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

#[test]
fn proxies_and_pods_go_on_with_another_replica_and_nobody_is_let_in() {
    if !require_root() {
        return;
    }
    let lab = Lab::up_with(&["--control-plane", "kubernetes"], &shop());
    let (api, place) = (Api::of(&lab), lab.control_plane());
    let [server, client, guest, second, third] =
        ["server", "client", "guest", "second", "third"].map(|name| lab.pod(&format!("shop/{name}")));
    let visitor = lab.pod("outside/visitor");
    let to = serve_echo(&server, PORT);
    let is_served = |pod: &Pod| echo_once(pod, to, b"asked").is_ok();
    api.create(POLICIES, &denial("guest"));
    eventually("the guest is denied", SOON, || !is_served(&guest));
    for pod in [&client, &second, &third] {
        eventually("the others are served", SOON, || is_served(pod));
    }
    let mut held = client.connect(to).unwrap();
    echo(&mut held, b"open").unwrap();

    let proxies_of = |replica| metric(&place, replica, "pilot_xds").unwrap_or_default();
    let signed_by = |replica| {
        metric(
            &place,
            replica,
            "citadel_server_success_cert_issuance_count_total",
        )
        .unwrap_or_default()
    };
    let is_written = |account: &str| {
        let policy = api.get(&format!("{POLICIES}/no-{account}")).unwrap();
        policy["status"]["conditions"][0]["type"] == "ZtunnelAccepted"
    };
    let is_enrolled = |pod: &str| {
        let pod = api.get(&format!("{PODS}/{pod}")).unwrap();
        pod["metadata"]["annotations"]["ambient.istio.io/redirection"] == "enabled"
    };
    direct(&place, FIRST, &FIRST_RULE);
    let replica = Replica::start(&lab, &place);
    assert_eq!((proxies_of(FIRST), proxies_of(SECOND)), (2.0, 0.0));

    let watch = Watch::new(to, &[&visitor, &guest]);
    thread::scope(|scope| {
        let over = OverWhenGone(&watch);
        let watching = scope.spawn(|| {
            let _over = OverWhenGone(&watch);
            watch.run(&client, held);
        });
        watch.some_rounds();

        // Stopped in good order, as when a Deployment is rolled: it is no endpoint any more, then it is told to end.
        let stopped = first_pid(&lab).unwrap();
        direct(&place, SECOND, &INSTEAD);
        kill(Pid::from_raw(stopped), Signal::SIGTERM).unwrap();
        api.create(PODS, &late_pod("late"));
        api.create(POLICIES, &denial("second"));
        eventually("both proxies are with the other replica", SOON, || {
            proxies_of(SECOND) == 2.0
        });
        eventually("a policy made meanwhile is in force", SOON, || {
            !is_served(&second)
        });
        watch.refuses(&second);
        eventually("a pod made meanwhile is enrolled", SOON, || is_enrolled("late"));
        let late = lab.pod("shop/late");
        eventually("and talks", SOON, || is_served(&late));
        assert!(signed_by(SECOND) >= 1.0, "somebody else signed for the new pod");
        eventually("what the leader does is done", SOON, || is_written("second"));
        watch.some_rounds();

        // Another one has taken the place of the first. The second dies, and the Service does not know of it yet.
        eventually("the first is back", SOON, || {
            first_pid(&lab) != Some(stopped) && metric(&place, FIRST, "pilot_xds") == Some(0.0)
        });
        replica.die();
        api.create(POLICIES, &denial("third"));
        api.create(PODS, &late_pod("later"));
        watch.some_rounds();
        assert!(
            is_served(&third),
            "nobody could have told the proxies of the policy"
        );
        assert_eq!(proxies_of(FIRST), 0.0);
        direct(&place, FIRST, &INSTEAD);
        eventually("both proxies are with the first replica", SOON, || {
            proxies_of(FIRST) == 2.0
        });
        eventually("the policy is in force", SOON, || !is_served(&third));
        watch.refuses(&third);
        eventually("the pod is enrolled", SOON, || is_enrolled("later"));
        let later = lab.pod("shop/later");
        eventually("and talks", SOON, || is_served(&later));
        assert!(signed_by(FIRST) >= 1.0, "somebody else signed for the new pod");
        eventually("what the leader does is done", SOON, || is_written("third"));
        assert!(is_served(&late));
        watch.some_rounds();
        drop(over);
        watching.join().unwrap();
    });
}
