//! An upgrade of the node proxy: the new one beside the old one, and no connection lost between them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tests::manifests::{join, namespace, sleeper};
use tests::{Lab, Place, Pod, echo, echo_once, require_root, serve_echo};

const PORT: u16 = 7000;

/// Hand-overs under the flood: half of them at the client's node, half at the server's.
const HAND_OVERS: usize = 20;

/// Connections opened at once.
const CALLERS: usize = 4;

fn lab() -> Lab {
    Lab::up(&join([
        namespace("mesh", true),
        sleeper("mesh", "client", "client", "node-a"),
        sleeper("mesh", "server", "server", "node-b"),
    ]))
}

fn process(lab: &Lab, node: usize) -> u64 {
    lab.status()["nodes"][node]["ztunnel"]["pid"].as_u64().unwrap()
}

/// What became of the connections of one caller.
#[derive(Debug, Default)]
struct Calls {
    served: usize,
    failed: BTreeMap<String, usize>,
}

/// Opens one connection after the other, each asking once.
fn call_until(over: &AtomicBool, client: &Pod, to: SocketAddr) -> Calls {
    let mut calls = Calls::default();
    while !over.load(Ordering::SeqCst) {
        match echo_once(client, to, b"hello") {
            Ok(()) => calls.served += 1,
            Err(error) => {
                *calls
                    .failed
                    .entry(format!("{:?}: {error}", error.kind()))
                    .or_default() += 1
            }
        }
    }
    calls
}

/// Ends the callers, also when something else fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_flood_of_connections_sees_none_refused_or_reset_over_twenty_hand_overs() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let (client, server) = (lab.pod("mesh/client"), lab.pod("mesh/server"));
    let to = serve_echo(&server, PORT);
    echo_once(&client, to, b"up").unwrap();
    for pod in [&client, &server] {
        let setting = sys::link::read_sysctl(&pod.network, "ipv4.tcp_migrate_req").unwrap();
        assert_eq!(
            setting, "1",
            "what waits for the old proxy is given to the new one"
        );
    }
    let over = AtomicBool::new(false);
    let calls: Vec<Calls> = thread::scope(|scope| {
        let stop = Over(&over);
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| scope.spawn(|| call_until(&over, &client, to)))
            .collect();
        for round in 0..HAND_OVERS {
            let (node, name) = [(0, "node-a"), (1, "node-b")][round % 2];
            let before = process(&lab, node);
            lab.ztctl(&["restart", &format!("ztunnel/{name}"), "--surge"])
                .expect_code(0);
            assert_ne!(process(&lab, node), before, "another process serves now");
        }
        drop(stop);
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    println!("{calls:?}");
    for calls in calls {
        assert!(calls.failed.is_empty(), "{calls:?}");
        assert!(calls.served > HAND_OVERS, "too few to show anything: {calls:?}");
    }
}

#[test]
fn a_connection_of_the_old_proxy_goes_on_beside_those_of_the_new_one() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let (client, server) = (lab.pod("mesh/client"), lab.pod("mesh/server"));
    let to = serve_echo(&server, PORT);
    for name in ["node-a", "node-b"] {
        let mut held = client.connect(to).unwrap();
        echo(&mut held, b"before").unwrap();
        thread::scope(|scope| {
            let upgrade = scope.spawn(|| {
                lab.ztctl(&["restart", &format!("ztunnel/{name}"), "--surge"])
                    .expect_code(0)
            });
            tests::eventually("the old proxy drains", std::time::Duration::from_secs(60), || {
                lab.logs(&format!("ztunnel/{name}"))
                    .contains("open connections have the drain deadline")
            });
            echo(&mut held, b"on the old one").unwrap();
            echo_once(&client, to, b"on the new one").unwrap();
            // With its last connection the old proxy ends.
            drop(held);
            upgrade.join().unwrap();
        });
        echo_once(&client, to, b"after").unwrap();
    }
}
