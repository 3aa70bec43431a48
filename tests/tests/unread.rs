//! A peer that reads nothing: what that may cost, and that nobody else notices.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use tests::manifests::{join, namespace, sleeper};
use tests::{
    Claims, HBONE_PORT, HboneClient, Lab, Place, Signer, echo_once, eventually, require_root, serve_echo,
};

const SERVER: &str = "spiffe://cluster.local/ns/mesh/sa/server";
const PORT: u16 = 7000;
const ECHO: u16 = 7001;
const SOON: Duration = Duration::from_secs(20);

/// What peers of all tunnels of the node may leave unread, bytes.
const BOUND: u32 = 1 << 20;

/// Streams: each may hold 16 KiB whatever the others do, and half of the bound is one pod's share.
const STREAMS: usize = 60;

/// What is sent on each, bytes: more than the proxy may take, and no more than the kernel can keep.
const SENT: usize = 1 << 20;

/// What all of it may cost the proxy in memory, bytes: half of what is sent.
const COST: u64 = 30 << 20;

#[test]
fn a_peer_that_reads_nothing_fills_one_pods_share_and_no_more() {
    if !require_root() {
        return;
    }
    let bound = format!("node-b=ZTUNNEL_MAX_BUFFERED_BYTES={BOUND}");
    let manifests = join([
        namespace("mesh", true),
        namespace("outside", false),
        sleeper("mesh", "client", "client", "node-a"),
        sleeper("mesh", "server", "server", "node-b"),
        sleeper("mesh", "other", "other", "node-b"),
        sleeper("outside", "caller", "default", "node-a"),
    ]);
    let lab = Lab::up_with(&["--node-proxy-env", &bound], &manifests);
    let [client, server, other, caller] =
        ["mesh/client", "mesh/server", "mesh/other", "outside/caller"].map(|name| lab.pod(name));
    let (to_server, to_other) = (serve_echo(&server, ECHO), serve_echo(&other, ECHO));
    let application = server.listen(PORT);
    let shown = Signer::of_lab(&lab).sign(&Claims::of("mesh", "client"));
    let to = server.at(HBONE_PORT);
    let metric = |name: &str, labels: &[(&str, &str)]| lab.metric("node-b", name, labels);
    let full = |name: &str| metric(name, &[("reason", "buffers_full")]);

    // One peer promises to read whatever comes, and another one has a tunnel open.
    let mut endless = h2::client::Builder::new();
    endless
        .initial_window_size((1 << 31) - 1)
        .initial_connection_window_size((1 << 31) - 1);
    let deaf = HboneClient::open_with(&caller, to, Some(&shown), SERVER, &endless).unwrap();
    let honest = HboneClient::open(&caller, to, Some(&shown), SERVER).unwrap();
    assert_eq!(honest.connect(&to_server.to_string()).status, 200);
    let mut streams = Vec::new();
    let mut applications: Vec<TcpStream> = Vec::new();
    for _ in 0..STREAMS {
        let answer = deaf.connect(&server.at(PORT).to_string());
        assert_eq!(answer.status, 200);
        streams.push(answer);
        applications.push(application.accept().unwrap().0);
    }
    echo_once(&client, to_server, b"before").unwrap();
    let before = lab.resident("node-b");
    assert_eq!(full("ztunnel_refusals_total"), 0.0);

    // It reads nothing any more, and the application sends and sends.
    let still = deaf.stand_still();
    for stream in &applications {
        stream.set_nonblocking(true).unwrap();
    }
    let mut left = [SENT; STREAMS];
    eventually("the pod's share is full", SOON, || {
        for (stream, left) in applications.iter_mut().zip(&mut left) {
            send(stream, left);
        }
        metric("ztunnel_buffered_bytes", &[]) >= f64::from(BOUND / 2)
    });
    let waiting = metric("ztunnel_buffered_bytes", &[]);
    assert!(
        waiting <= f64::from(BOUND),
        "{waiting} bytes wait for peers, of {BOUND}"
    );

    // That pod gets no further tunnels, nor connections in those that are open, and it is said why.
    HboneClient::open(&caller, to, Some(&shown), SERVER)
        .map(drop)
        .expect_err("a pod without a share left");
    assert_eq!(honest.connect(&to_server.to_string()).status, 503);
    assert!(
        full("ztunnel_handshake_failures_total") > 0.0,
        "the tunnel is counted"
    );
    assert!(full("ztunnel_refusals_total") > 0.0, "the connection is counted");
    let log = lab.logs("ztunnel/node-b");
    assert!(
        log.lines()
            .any(|line| line.contains("buffers_full") && line.contains("mesh/server")),
        "the log names reason and pod:\n{log}"
    );
    // Nobody else notices: another pod of the node, called and calling.
    echo_once(&client, to_other, b"another pod, called").unwrap();
    let elsewhere = serve_echo(&client, ECHO);
    echo_once(&other, elsewhere, b"another pod, calling").unwrap();
    let cost = lab.resident("node-b").saturating_sub(before);
    assert!(cost < COST, "{STREAMS} unread streams cost {cost} bytes");

    // Once the peer is gone, all is as before.
    drop((still, streams, deaf));
    eventually("the pod is served again", SOON, || {
        echo_once(&client, to_server, b"afterwards").is_ok()
    });
    assert_eq!(honest.connect(&to_server.to_string()).status, 200);
}

/// Sends as much as is taken at once.
fn send(stream: &mut TcpStream, left: &mut usize) {
    let chunk = [7; 64 << 10];
    while *left > 0 {
        match stream.write(&chunk[..chunk.len().min(*left)]) {
            Ok(count) => *left -= count,
            // Nothing more at once.
            Err(_) => return,
        }
    }
}
