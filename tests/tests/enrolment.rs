//! Labels on running pods: joining and leaving the mesh without a restart, and what is left behind.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tests::manifests::{join, namespace, sleeper};
use tests::{Capture, Lab, Place, Pod, echo, eventually, require_root, serve_echo};

const PORT: u16 = 7000;
const AMBIENT: &str = "istio.io/dataplane-mode=ambient";
const UNLABELLED: &str = "istio.io/dataplane-mode-";

/// Two pods on two nodes, not in the mesh.
fn lab() -> Lab {
    Lab::up(&join([
        namespace("shop", false),
        sleeper("shop", "client", "client", "node-a"),
        sleeper("shop", "server", "server", "node-b"),
    ]))
}

/// One call from the client to the server, and whether its bytes could be read on the wire.
fn readable_on_the_wire(lab: &Lab, client: &Pod, to: SocketAddr) -> bool {
    const MARKER: &[u8] = b"MARKER-0123456789-enrolment";
    let capture = Capture::start(&lab.fabric(), "node-a", "tcp");
    echo(&mut client.connect(to).unwrap(), MARKER).unwrap();
    let packets = capture.stop();
    assert!(!packets.is_empty(), "nothing was captured");
    packets.iter().any(|packet| packet.contains(MARKER))
}

/// Everything of a pod's namespace that enrolment changes. Counters of rules are left out.
fn traces(pod: &Pod) -> Vec<String> {
    let commands: [&[&str]; 7] = [
        &["iptables-save"],
        &["ip6tables-save"],
        &["ip", "rule"],
        &["ip", "-6", "rule"],
        &["ip", "route", "show", "table", "100"],
        &["ip", "-6", "route", "show", "table", "100"],
        &["ss", "-Hltun"],
    ];
    let quiet = |line: &&str| !line.starts_with('#') && !line.trim().is_empty();
    commands
        .iter()
        .map(|command| {
            let output = pod.run(command);
            let text = if output.code == 0 {
                output.stdout
            } else {
                String::new()
            };
            let lines: Vec<&str> = text.lines().filter(quiet).collect();
            // Chains carry counters in brackets.
            let lines: Vec<&str> = lines
                .iter()
                .map(|line| line.split(" [").next().unwrap_or_default())
                .collect();
            format!("{command:?}\n{}", lines.join("\n"))
        })
        .collect()
}

/// The chains that iptables itself makes when a table is first looked at do not count.
fn rules(traces: &[String]) -> Vec<String> {
    let meant =
        |line: &&str| !line.starts_with('*') && !line.starts_with("COMMIT") && !line.ends_with("ACCEPT");
    traces
        .iter()
        .map(|text| text.lines().filter(meant).collect::<Vec<_>>().join("\n"))
        .collect()
}

#[test]
fn a_label_takes_a_running_pod_in_and_its_removal_lets_it_go_and_leaves_nothing_behind() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let (client, server) = (lab.pod("shop/client"), lab.pod("shop/server"));
    let to = serve_echo(&server, PORT);
    let process = |name: &str| {
        let status = lab.status();
        let pods = status["pods"].as_array().unwrap().clone();
        pods.iter()
            .find(|pod| pod["name"] == name)
            .unwrap()
            .to_string()
            .contains("\"restarts\":0")
    };
    let before = (traces(&client), traces(&server));
    assert!(readable_on_the_wire(&lab, &client, to), "not in the mesh yet");
    let mut older = client.connect(to).unwrap();
    echo(&mut older, b"older than enrolment").unwrap();

    lab.label(&["namespace/shop", AMBIENT]);
    assert!(!readable_on_the_wire(&lab, &client, to), "in the mesh now");
    echo(&mut older, b"and not disturbed by it").unwrap();
    let mut within = client.connect(to).unwrap();
    echo(&mut within, b"in a tunnel").unwrap();

    let left = Instant::now();
    lab.label(&["namespace/shop", UNLABELLED]);
    assert!(readable_on_the_wire(&lab, &client, to), "direct at once");
    echo(&mut older, b"still not disturbed").unwrap();
    // Open ones have the grace period, then they are closed and named.
    if left.elapsed() < Duration::from_secs(3) {
        echo(&mut within, b"within the grace period").unwrap();
    }
    let error = within.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let log = lab.logs("ztunnel/node-a") + &lab.logs("ztunnel/node-b");
    assert!(log.contains("reason=\"pod_left\""), "named in the log");
    let counted = lab.metric(
        "node-a",
        "ztunnel_connections_closed_early_total",
        &[("reason", "pod_left")],
    ) + lab.metric(
        "node-b",
        "ztunnel_connections_closed_early_total",
        &[("reason", "pod_left")],
    );
    assert!(counted >= 1.0, "counted");

    eventually("nothing is left behind", Duration::from_secs(20), || {
        (rules(&traces(&client)), rules(&traces(&server))) == (rules(&before.0), rules(&before.1))
    });
    echo(&mut older, b"to the end").unwrap();
    assert!(process("client") && process("server"), "nothing was restarted");

    lab.label(&["namespace/shop", AMBIENT]);
    assert!(!readable_on_the_wire(&lab, &client, to), "and in again");
}

#[test]
fn a_pod_joins_or_stays_out_by_its_own_label() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let (client, server) = (lab.pod("shop/client"), lab.pod("shop/server"));
    let to = serve_echo(&server, PORT);
    lab.label(&["pod/client", AMBIENT, "-n", "shop"]);
    assert!(
        readable_on_the_wire(&lab, &client, to),
        "the server is not in the mesh"
    );
    lab.label(&["pod/server", AMBIENT, "-n", "shop"]);
    assert!(!readable_on_the_wire(&lab, &client, to), "both are");
    lab.label(&["namespace/shop", AMBIENT]);
    lab.label(&["pod/server", "istio.io/dataplane-mode=none", "-n", "shop"]);
    assert!(
        readable_on_the_wire(&lab, &client, to),
        "the server has opted out"
    );
}

#[test]
fn a_node_agent_that_dies_disturbs_nothing_and_goes_on_where_it_was() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let (client, server) = (lab.pod("shop/client"), lab.pod("shop/server"));
    let to = serve_echo(&server, PORT);
    lab.label(&["namespace/shop", AMBIENT]);
    let mut held = client.connect(to).unwrap();
    echo(&mut held, b"before").unwrap();
    lab.restart("node-agent/node-a", true);
    lab.restart("node-agent/node-b", true);
    echo(&mut held, b"after").unwrap();
    assert!(
        !readable_on_the_wire(&lab, &client, to),
        "new connections are still captured"
    );
    lab.label(&["pod/client", "istio.io/dataplane-mode=none", "-n", "shop"]);
    lab.label(&["pod/server", "istio.io/dataplane-mode=none", "-n", "shop"]);
    assert!(
        readable_on_the_wire(&lab, &client, to),
        "and the agents still follow labels"
    );
}
