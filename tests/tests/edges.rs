//! What lies beside the straight road: pods that call themselves, destinations that refuse or keep silent, names,
//! services, endpoints that come and go, and the same on one node.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::manifests::{join, namespace, pod, server, service, sleeper};
use tests::{
    Capture, Lab, Packet, Place, Pod, Reply, Responder, ask, ask_within, eventually, query, require_root,
};

/// Longer than any deadline of the proxies, shorter than what TCP itself waits.
const FAILS_WITHIN: Duration = Duration::from_secs(16);
/// Where every pod asks for names.
const DNS: &str = "169.254.20.10:53";

#[test]
fn two_pods_of_one_account_on_two_nodes_act_under_their_own_identity() {
    if !require_root() {
        return;
    }
    let guarded = mesh("guarded");
    let responder = Responder::start(&guarded, 7001);
    let twins = ["twin-a", "twin-b"].map(mesh);
    assert_ne!(twins[0].node, twins[1].node);
    for twin in &twins {
        let before = mesh_connections(&guarded, twin);
        let reply = ask(twin, guarded.at(7001)).unwrap_or_else(|error| panic!("{}: {error}", twin.name));
        assert_eq!(
            reply,
            Reply {
                by: "guarded".into(),
                caller: twin.ip
            }
        );
        eventually(
            "the connection is counted under the twin's identity",
            Duration::from_secs(5),
            || mesh_connections(&guarded, twin) == before + 1.0,
        );
        // As destinations, too, each is itself.
        let own = Responder::start(twin, 7002);
        let reply = ask(&mesh("client"), twin.at(7002)).unwrap();
        assert_eq!((reply.by.as_str(), own.answered()), (twin.name.as_str(), 1));
    }
    // Nobody else is let in: it is the account that opens the door, not the path.
    for other in ["client", "server"] {
        let refused = ask(&mesh(other), guarded.at(7001));
        assert!(refused.is_err(), "{other} was let in: {refused:?}");
    }
    assert_eq!(
        responder.accepted(),
        2,
        "connections that reached the application"
    );
}

#[test]
fn a_pod_calls_its_own_address() {
    if !require_root() {
        return;
    }
    for name in ["client", "server"] {
        let own = mesh(name);
        let _responder = Responder::start(&own, 7101);
        assert_eq!(
            ask(&own, own.at(7101)).unwrap(),
            Reply {
                by: name.into(),
                caller: own.ip
            }
        );
    }
}

#[test]
fn a_pod_calls_its_own_service() {
    if !require_root() {
        return;
    }
    let (lab, own) = (&fixture().lab, mesh("alone"));
    let responder = Responder::start(&own, 8080);
    let address = SocketAddr::new(lab.service_address("mesh", "alone"), 80);
    for round in 0..20 {
        let reply = ask(&own, address).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(
            reply,
            Reply {
                by: "alone".into(),
                caller: own.ip
            }
        );
    }
    assert_eq!(responder.answered(), 20);
}

#[test]
fn a_pod_that_is_one_of_several_endpoints_calls_the_service() {
    if !require_root() {
        return;
    }
    let (lab, twins) = (&fixture().lab, ["pair-a", "pair-b"].map(mesh));
    let responders = twins.each_ref().map(|twin| Responder::start(twin, 8080));
    let address = SocketAddr::new(lab.service_address("mesh", "pair"), 80);
    for _ in 0..40 {
        assert_eq!(ask(&twins[0], address).unwrap().caller, twins[0].ip);
    }
    // One chance in 2^39 that this says so wrongly.
    assert!(
        responders.iter().all(|responder| responder.answered() > 0),
        "both have answered"
    );
}

#[test]
fn a_destination_that_refuses_is_an_error_at_once() {
    if !require_root() {
        return;
    }
    let service = SocketAddr::new(fixture().lab.service_address("mesh", "deaf"), 80);
    for (caller, target) in [
        (mesh("client"), mesh("server").at(7999)),
        (mesh("client"), mesh("neighbour").at(7999)),
        (mesh("client"), service),
        (mesh("client"), outside("listener").at(7999)),
        (outside("caller"), mesh("server").at(7999)),
    ] {
        let begun = Instant::now();
        let kind = ask(&caller, target).expect_err("nobody listens").kind();
        assert!(
            matches!(
                kind,
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ),
            "{} to {target}: {kind:?}, which looks like a server without an answer",
            caller.name
        );
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{} to {target}: {:?}",
            caller.name,
            begun.elapsed()
        );
    }
}

#[test]
fn a_destination_that_never_answers_fails_in_time_and_disturbs_nobody() {
    if !require_root() {
        return;
    }
    // One that listens, but whose queue is full: the kernel answers no SYN any more.
    let full = mesh("full");
    let _listener = full.listen_on(full.at(7201), 0);
    let mut queued = Vec::new();
    while let Ok(stream) = full.connect_within(full.at(7201), Duration::from_millis(500)) {
        queued.push(stream);
        assert!(queued.len() < 10, "the queue does not fill");
    }
    // Ones that let every packet vanish, in the mesh and outside.
    let holes = [mesh("hole"), outside("hole")];
    for hole in &holes {
        hole.run(&["iptables", "-I", "INPUT", "-i", "eth0", "-j", "DROP"])
            .expect_code(0);
    }
    let client = mesh("patient");
    let responder = Responder::start(&mesh("server"), 7202);
    let targets = [full.at(7201), holes[0].at(7203), holes[1].at(7204)];
    thread::scope(|scope| {
        let waiting: Vec<_> = targets
            .iter()
            .map(|target| {
                let client = &client;
                scope.spawn(move || {
                    let begun = Instant::now();
                    (ask_within(client, *target, FAILS_WITHIN * 2), begun.elapsed())
                })
            })
            .collect();
        let mut rounds = 0;
        while waiting.iter().any(|thread| !thread.is_finished()) {
            let begun = Instant::now();
            ask(&client, mesh("server").at(7202)).unwrap_or_else(|error| panic!("round {rounds}: {error}"));
            let took = begun.elapsed();
            assert!(
                took < Duration::from_secs(2),
                "round {rounds} took {took:?} beside destinations that hang"
            );
            rounds += 1;
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(responder.answered(), rounds);
        for (thread, target) in waiting.into_iter().zip(targets) {
            let (outcome, took) = thread.join().unwrap();
            let error = outcome.expect_err("nobody answers");
            assert_ne!(
                error.kind(),
                ErrorKind::UnexpectedEof,
                "{target}: looks like an empty success"
            );
            assert!(took < FAILS_WITHIN, "{target} took {took:?}: {error}");
        }
    });
}

#[test]
fn an_unknown_destination_outside_of_the_mesh_is_plain_tcp() {
    if !require_root() {
        return;
    }
    const SECRET: &[u8] = b"GET /plain-as-day HTTP/1.0";
    let (client, fabric) = (mesh("client"), fixture().lab.fabric());
    let world = SocketAddr::new(fabric.addresses[0], 7301);
    let listener = fabric.listen_on(world, 16);
    let capture = Capture::start(&fabric, "node-a", "tcp port 7301");
    let mut near = client.connect(world).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let mut seen = vec![0; SECRET.len()];
    std::io::Write::write_all(&mut near, SECRET).unwrap();
    std::io::Read::read_exact(&mut far, &mut seen).unwrap();
    assert_eq!(seen, SECRET);
    std::io::Write::write_all(&mut far, b"answer").unwrap();
    let mut answer = [0; 6];
    std::io::Read::read_exact(&mut near, &mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    let packets = capture.stop();
    assert!(
        packets.iter().any(|packet| packet.contains(SECRET)),
        "as plain TCP on the wire"
    );

    // A pod that is not in the mesh is outside as well, and sees who calls.
    let _responder = Responder::start(&outside("listener"), 7302);
    let reply = ask(&client, outside("listener").at(7302)).unwrap();
    assert_eq!(
        reply,
        Reply {
            by: "listener".into(),
            caller: client.ip
        }
    );

    // Where nothing is, the answer comes at once (RFC 5737 addresses are nobody's).
    let begun = Instant::now();
    let nowhere: SocketAddr = "192.0.2.1:80".parse().unwrap();
    assert_ne!(
        ask(&client, nowhere).expect_err("nobody").kind(),
        ErrorKind::UnexpectedEof
    );
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn names_are_resolved_in_and_outside_of_the_mesh() {
    if !require_root() {
        return;
    }
    let lab = &fixture().lab;
    let vip = lab.service_address("mesh", "server");
    for asking in [mesh("asker"), outside("caller")] {
        let namespace = &asking.namespace;
        let found = |name: &str| asking.resolve(name);
        assert_eq!(
            found("server.mesh.svc.cluster.local"),
            Some(vec![vip]),
            "{namespace}"
        );
        assert_eq!(
            found("server.mesh"),
            Some(vec![vip]),
            "{namespace}, by the search path"
        );
        let own = (namespace == "mesh").then(|| vec![vip]);
        assert_eq!(
            found("server"),
            own,
            "{namespace}, a name of the pod's own namespace"
        );
        for name in ["nothing.mesh.svc.cluster.local", "example.com"] {
            assert_eq!(found(name), None, "{namespace}, {name}");
            let answer = query(&asking, DNS.parse().unwrap(), name).unwrap();
            assert_eq!(
                (answer.code, answer.addresses),
                (3, Vec::new()),
                "{namespace}, {name}: no such name"
            );
        }
        let answer = query(&asking, DNS.parse().unwrap(), "server.mesh.svc.cluster.local.").unwrap();
        assert_eq!((answer.code, answer.addresses), (0, vec![vip]), "{namespace}");
    }
}

#[test]
fn questions_of_captured_pods_do_not_leave_the_pod_for_names_of_the_mesh() {
    if !require_root() {
        return;
    }
    let asks = |pod: &Pod, name: &str| -> Vec<Packet> {
        let capture = Capture::start(pod, "eth0", "port 53");
        query(pod, DNS.parse().unwrap(), name).unwrap();
        capture.stop()
    };
    let known = "server.mesh.svc.cluster.local";
    assert_eq!(
        asks(&mesh("quiet"), known).len(),
        0,
        "answered by the node's proxy inside the pod"
    );
    assert!(
        !asks(&mesh("quiet"), "example.com").is_empty(),
        "forwarded to the server that was asked"
    );
    assert!(
        !asks(&outside("caller"), known).is_empty(),
        "a pod that is not captured asks the cluster's server"
    );
}

#[test]
fn uncaptured_pods_reach_services_by_nat() {
    if !require_root() {
        return;
    }
    let (lab, caller) = (&fixture().lab, outside("caller"));
    for (name, port) in [("listener", 8081), ("world", 8082)] {
        let _responder = Responder::start(&outside(name), 8080);
        let address = SocketAddr::new(lab.service_address("outside", name), port);
        let reply = ask(&caller, address).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            reply,
            Reply {
                by: name.into(),
                caller: caller.ip
            }
        );
    }
    // Into the mesh, which is PERMISSIVE, as well.
    let _responder = Responder::start(&mesh("natted"), 8080);
    let reply = ask(
        &caller,
        SocketAddr::new(lab.service_address("mesh", "natted"), 80),
    )
    .unwrap();
    assert_eq!(
        reply,
        Reply {
            by: "natted".into(),
            caller: caller.ip
        }
    );
}

#[test]
fn ports_of_a_service_lead_to_the_ports_of_its_pods() {
    if !require_root() {
        return;
    }
    let (lab, target) = (&fixture().lab, mesh("ported"));
    let _by_name = Responder::start(&target, 9090);
    let _by_number = Responder::start(&target, 9191);
    let vip = lab.service_address("mesh", "ported");
    for caller in [mesh("client"), outside("caller")] {
        for (port, right) in [(80, 9090), (81, 9191), (82, 9090)] {
            let reply =
                ask(&caller, (vip, port)).unwrap_or_else(|error| panic!("{}, {port}: {error}", caller.name));
            assert_eq!(
                reply,
                Reply {
                    by: "ported".into(),
                    caller: caller.ip
                },
                "{port} to {right}"
            );
        }
        // A port that the service has not.
        assert!(ask_within(&caller, (vip, 83), Duration::from_secs(5)).is_err());
        // The port of the pod is not one of the service.
        assert!(ask_within(&caller, (vip, 9191), Duration::from_secs(5)).is_err());
    }
}

#[test]
fn load_goes_to_all_ready_endpoints_and_to_no_other() {
    if !require_root() {
        return;
    }
    const NAMES: [&str; 3] = ["load-a", "load-b", "load-c"];
    let Fixture { lab, gates } = fixture();
    let responders = NAMES.map(|name| Responder::start(&mesh(name), 8080));
    let address = SocketAddr::new(lab.service_address("mesh", "load"), 80);
    let callers = [mesh("client"), outside("caller")];
    let share = |caller: &Pod, questions: usize| -> [usize; 3] {
        let before = responders.each_ref().map(Responder::answered);
        for question in 0..questions {
            ask(caller, address)
                .unwrap_or_else(|error| panic!("{}, question {question}: {error}", caller.name));
        }
        let after = responders.each_ref().map(Responder::answered);
        std::array::from_fn(|at| after[at] - before[at])
    };
    for caller in &callers {
        // That one of three gets none of 60 by chance has a probability of 10^-10.
        let share = share(caller, 60);
        assert!(
            share.iter().all(|answers| *answers > 0),
            "{}: {share:?}",
            caller.name
        );
        assert!(
            share.iter().all(|answers| *answers < 45),
            "{}: {share:?}",
            caller.name
        );
    }
    // The middle one becomes unready: its gate is closed, and the process that stood in it ends. It could still
    // answer, and its connections that are open go on.
    let gate = gates.path().join("load-b");
    std::fs::remove_file(&gate).unwrap();
    kill_container(lab, "load-b", "gate");
    for caller in &callers {
        eventually(
            "the unready endpoint gets nothing",
            Duration::from_secs(15),
            || share(caller, 20)[1] == 0,
        );
        let share = share(caller, 60);
        assert_eq!(share[1], 0, "{}: {share:?}", caller.name);
        assert!(share[0] > 0 && share[2] > 0, "{}: {share:?}", caller.name);
    }
    assert_eq!(
        ask(&callers[0], mesh("load-b").at(8080)).unwrap().by,
        "load-b",
        "by its own address it is there"
    );
    // And ready again.
    open_gate(&gate);
    for caller in &callers {
        eventually("the endpoint is back", Duration::from_secs(30), || {
            share(caller, 20)[1] > 0
        });
    }
}

#[test]
fn a_process_that_dies_is_served_again() {
    if !require_root() {
        return;
    }
    let (lab, client, target) = (&fixture().lab, mesh("client"), mesh("mortal"));
    let asked = || {
        client
            .http_get(target.at(8080), "/")
            .ok()
            .filter(|response| response.status == 200)
    };
    assert!(
        asked().is_some_and(|response| response.body.contains("\"mortal\"")),
        "before"
    );
    for _ in 0..2 {
        let through_tunnels = mesh_connections(&target, &client);
        kill_container(lab, "mortal", "main");
        eventually("the service is back", Duration::from_secs(15), || {
            asked().is_some()
        });
        eventually("and in the mesh as before", Duration::from_secs(5), || {
            mesh_connections(&target, &client) > through_tunnels
        });
    }
    assert_eq!(lab.pod("mesh/mortal").uid, target.uid, "the pod is the same");
    assert_eq!(lab.pod("mesh/mortal").ip, target.ip, "its address too");
}

#[test]
fn traffic_on_one_node_takes_the_tunnel_too() {
    if !require_root() {
        return;
    }
    const SECRET: &[u8] = b"between-neighbours-3b1f";
    let (client, neighbour) = (mesh("client"), mesh("neighbour"));
    assert_eq!(client.node, neighbour.node);
    let listener = neighbour.listen(7401);
    let filter = format!("host {} and host {}", client.ip, neighbour.ip);
    let capture = Capture::start(&fixture().lab.node("node-a"), "any", &filter);
    let mut near = client.connect(neighbour.at(7401)).unwrap();
    let (mut far, caller) = listener.accept().unwrap();
    assert_eq!(caller.ip(), client.ip);
    let mut seen = vec![0; SECRET.len()];
    std::io::Write::write_all(&mut near, SECRET).unwrap();
    std::io::Read::read_exact(&mut far, &mut seen).unwrap();
    std::io::Write::write_all(&mut far, SECRET).unwrap();
    std::io::Read::read_exact(&mut near, &mut seen).unwrap();
    drop((near, far));
    let packets = capture.stop();
    let stray: Vec<_> = packets
        .iter()
        .filter(|packet| !packet.is_tcp() || !packet.has_port(15008))
        .collect();
    assert!(stray.is_empty(), "beside the tunnel: {stray:?}");
    assert!(
        packets.iter().any(|packet| !packet.payload.is_empty()),
        "the tunnel was seen: {} packets",
        packets.len()
    );
    assert!(
        !packets.iter().any(|packet| packet.contains(SECRET)),
        "in the clear"
    );
}

struct Fixture {
    lab: Lab,
    /// A program for each pod that may be ready. A pod without its program cannot start, and so is never ready, not
    /// even for the moment that a program would take to find out that it may not run.
    gates: TempDir,
}

/// Lets a pod become ready.
fn open_gate(gate: &Path) {
    std::os::unix::fs::symlink("/bin/sleep", gate).unwrap();
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let gates = TempDir::new().unwrap();
        let mut objects = vec![namespace("mesh", true), namespace("outside", false)];
        let sleepers = [
            ("client", "client", "node-a"),
            ("server", "server", "node-b"),
            ("neighbour", "neighbour", "node-a"),
            ("twin-a", "twin", "node-a"),
            ("twin-b", "twin", "node-b"),
            ("guarded", "guarded", "node-b"),
            ("alone", "alone", "node-a"),
            ("full", "full", "node-b"),
            ("hole", "hole", "node-b"),
            ("patient", "patient", "node-a"),
            ("asker", "asker", "node-a"),
            ("quiet", "quiet", "node-a"),
            ("natted", "natted", "node-b"),
        ];
        objects.extend(sleepers.map(|(name, account, node)| sleeper("mesh", name, account, node)));
        objects.extend([
            sleeper("outside", "caller", "default", "node-a"),
            sleeper("outside", "listener", "default", "node-b"),
            sleeper("outside", "world", "default", "node-a"),
            sleeper("outside", "hole", "default", "node-b"),
            service("outside", "listener", "listener", 8081, "8080"),
            service("outside", "world", "world", 8082, "8080"),
            server("mesh", "mortal", "mortal", "node-b"),
            service("mesh", "server", "server", 80, "8080"),
            service("mesh", "deaf", "server", 80, "7999"),
            service("mesh", "alone", "alone", 80, "8080"),
            service("mesh", "natted", "natted", 80, "8080"),
            service("mesh", "pair", "pair", 80, "8080"),
            service("mesh", "load", "load", 80, "8080"),
            PORTED.to_owned(),
            TWINS_ONLY.to_owned(),
        ]);
        for (name, node) in [("pair-a", "node-a"), ("pair-b", "node-b")] {
            objects.push(pod(
                "mesh",
                name,
                "pair",
                node,
                "pair",
                "command: [sleep, infinity]",
            ));
        }
        let named = "command: [sleep, infinity]\n    ports: [{name: web, containerPort: 9090}]";
        objects.push(pod("mesh", "ported", "ported", "node-b", "ported", named));
        for (name, node) in [("load-a", "node-a"), ("load-b", "node-b"), ("load-c", "node-b")] {
            let gate = gates.path().join(name);
            open_gate(&gate);
            let containers = format!(
                "command: [sleep, infinity]\n  - name: gate\n    image: test\n    command: [{}, infinity]",
                gate.display()
            );
            objects.push(pod("mesh", name, "load", node, "load", &containers));
        }
        Fixture {
            lab: Lab::up(&join(objects)),
            gates,
        }
    })
}

const PORTED: &str = "
apiVersion: v1
kind: Service
metadata:
  name: ported
  namespace: mesh
spec:
  selector: {app: ported}
  ports:
  - {name: by-name, port: 80, targetPort: web}
  - {name: by-number, port: 81, targetPort: 9191}
  - {name: also-by-name, port: 82, targetPort: web}
";

const TWINS_ONLY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: twins-only
  namespace: mesh
spec:
  selector:
    matchLabels: {app: guarded}
  action: ALLOW
  rules:
  - from:
    - source:
        principals: [cluster.local/ns/mesh/sa/twin]
";

fn mesh(name: &str) -> Pod {
    fixture().lab.pod(&format!("mesh/{name}"))
}

fn outside(name: &str) -> Pod {
    fixture().lab.pod(&format!("outside/{name}"))
}

/// How many connections from one pod to another the destination's proxy has seen come through tunnels, under the
/// caller's identity.
fn mesh_connections(target: &Pod, caller: &Pod) -> f64 {
    let objects = fixture().lab.get(&["pod", &caller.name, "-n", &caller.namespace]);
    let account = objects["spec"]["serviceAccountName"]
        .as_str()
        .expect("an account");
    let principal = format!("spiffe://cluster.local/ns/{}/sa/{account}", caller.namespace);
    let labels = [
        ("reporter", "destination"),
        ("source_principal", principal.as_str()),
        ("source_workload", caller.name.as_str()),
        ("destination_workload", target.name.as_str()),
        ("connection_security_policy", "mutual_tls"),
    ];
    fixture()
        .lab
        .metric(&target.node, "istio_tcp_connections_opened_total", &labels)
}

/// Kills the process of a container of a pod in the mesh.
fn kill_container(lab: &Lab, pod: &str, container: &str) {
    let status = lab.status();
    let list = |value: &serde_json::Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    let named = |list: Vec<serde_json::Value>, name: &str| {
        list.into_iter().find(|item| item["name"] == name).unwrap()
    };
    let pod = named(list(&status, "pods"), pod);
    let container = named(list(&pod, "containers"), container);
    let pid = container["pid"]
        .as_u64()
        .unwrap_or_else(|| panic!("no process: {container}")) as u32;
    let begun = sys::process::start_time(pid).unwrap();
    assert!(sys::process::kill(pid, begun, sys::process::Signal::SIGKILL).unwrap());
}

#[test]
fn the_fixture_gives_every_pod_an_address_of_its_own() {
    if !require_root() {
        return;
    }
    let status = fixture().lab.status();
    let mut addresses: Vec<IpAddr> = status["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["addresses"][0].as_str().unwrap().parse().unwrap())
        .collect();
    let all = addresses.len();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), all);
}
