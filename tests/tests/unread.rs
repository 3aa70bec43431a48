//! Peers that read nothing: what that may cost, and that nobody else notices.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tests::manifests::{join, namespace, sleeper};
use tests::{Lab, Place, Pod, echo_once, eventually, require_root, serve_echo};

/// An application here accepts everything and reads nothing.
const DEAF: u16 = 7000;
const ECHO: u16 = 7001;

/// What peers of all tunnels of a node may leave unread, bytes.
const BOUND: f64 = 1024.0 * 1024.0;

/// What the whole may cost the proxy in memory, bytes: beside the bound its windows (16 MiB), tunnels and flows.
const COST: f64 = 64.0 * 1024.0 * 1024.0;

/// How many connections may be needed to fill the share of a pod: half of the bound, 16 KiB each, and what the other
/// node takes in before.
const ENOUGH: usize = 1_000;

#[test]
fn a_peer_that_reads_nothing_fills_one_pods_share_and_no_more() {
    if !require_root() {
        return;
    }
    let bound = |node: &str| format!("{node}=ZTUNNEL_MAX_BUFFERED_BYTES={BOUND}");
    let (here, there) = (bound("node-a"), bound("node-b"));
    let args = ["--node-proxy-env", &here, "--node-proxy-env", &there];
    let manifests = join([
        namespace("mesh", true),
        sleeper("mesh", "client", "client", "node-a"),
        sleeper("mesh", "bystander", "bystander", "node-a"),
        sleeper("mesh", "server", "server", "node-b"),
    ]);
    let lab = Lab::up_with(&args, &manifests);
    let [client, bystander, server] =
        ["mesh/client", "mesh/bystander", "mesh/server"].map(|name| lab.pod(name));
    let (deaf, held) = serve_deaf(&server);
    let to_echo = serve_echo(&server, ECHO);
    echo_once(&client, to_echo, b"before").unwrap();
    let resident = || lab.metric("node-a", "process_resident_memory_bytes", &[]);
    let refused = || {
        let labels = [("reason", "buffers_full")];
        lab.metric("node-a", "ztunnel_refusals_total", &labels)
    };
    let before = resident();
    assert!(before > 0.0, "the proxy tells its memory");
    assert_eq!(refused(), 0.0);

    // More and more connections that nobody reads, until the pod may have no more.
    let mut stuck = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    while refused() == 0.0 {
        assert!(
            stuck.len() < ENOUGH,
            "{} connections, and none refused",
            stuck.len()
        );
        assert!(Instant::now() < deadline, "{} connections in time", stuck.len());
        stuck.extend((0..10).filter_map(|_| silent(&client, deaf)));
        stuck.iter_mut().for_each(fill);
        // While it fills, nobody else notices.
        echo_once(&bystander, to_echo, b"a bystander meanwhile").unwrap();
    }
    let waiting = lab.metric("node-a", "ztunnel_buffered_bytes", &[]);
    assert!(
        waiting > 0.0 && waiting <= BOUND,
        "{waiting} bytes wait for peers, of {BOUND}"
    );
    let cost = resident() - before;
    assert!(
        cost < COST,
        "{} unread connections cost {cost} bytes",
        stuck.len()
    );

    // The pod's further connections are refused for that reason; those of the other are served over a new tunnel.
    let count = refused();
    echo_once(&client, to_echo, b"one more").expect_err("a pod without a share left");
    assert!(refused() > count, "the refusal is counted");
    let log = lab.logs("ztunnel/node-a");
    assert!(
        log.lines()
            .any(|line| line.contains("buffers_full") && line.contains("mesh/client")),
        "the log names reason and pod:\n{log}"
    );
    echo_once(&bystander, to_echo, b"a bystander afterwards").unwrap();

    // Once the stuck ones are gone, all is as before.
    drop(stuck);
    held.lock().unwrap().clear();
    eventually("the pod is served again", Duration::from_secs(30), || {
        held.lock().unwrap().clear();
        echo_once(&client, to_echo, b"afterwards").is_ok()
    });
}

/// Accepts everything on this port and reads nothing; what is accepted is held until it is taken out of the list.
fn serve_deaf(pod: &Pod) -> (SocketAddr, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = pod.listen(DEAF);
    let held = Arc::new(Mutex::new(Vec::new()));
    let own = held.clone();
    thread::spawn(move || {
        loop {
            if let Ok((stream, _)) = listener.accept() {
                own.lock().unwrap().push(stream);
            }
        }
    });
    (pod.at(DEAF), held)
}

/// A connection on which nothing waits.
fn silent(from: &Pod, to: SocketAddr) -> Option<TcpStream> {
    let stream = from.connect(to).ok()?;
    stream.set_nonblocking(true).unwrap();
    Some(stream)
}

/// Writes as much as is taken at once, and at most a megabyte.
fn fill(stream: &mut TcpStream) {
    let chunk = [7; 64 * 1024];
    for _ in 0..16 {
        match stream.write(&chunk) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            // A refused one.
            Err(_) => return,
        }
    }
}
