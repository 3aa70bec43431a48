//! Callers that prove nothing, in numbers: what they cost, and that nobody else notices.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tests::manifests::{join, namespace, sleeper};
use tests::{HBONE_PORT, Lab, Place, Pod, echo_once, eventually, require_root, serve_echo};

const PORT: u16 = 7000;

/// Connections of the flood: many times what one address may have unproven.
const FLOOD: usize = 4_000;

/// What the flood may cost the proxy in memory, in bytes.
const COST: u64 = 64 << 20;

/// `mesh/server` and `mesh/other` on node-b, `mesh/client` on node-a, captured; `outside/visitor` on node-a is not.
fn lab() -> Lab {
    Lab::up(&join([
        namespace("mesh", true),
        namespace("outside", false),
        sleeper("mesh", "client", "client", "node-a"),
        sleeper("mesh", "server", "server", "node-b"),
        sleeper("mesh", "other", "other", "node-b"),
        sleeper("outside", "visitor", "visitor", "node-a"),
    ]))
}

/// Opens connections to `to` and says `greeting` on each, then nothing.
fn flood(from: &Pod, to: SocketAddr, greeting: &[u8]) -> Vec<TcpStream> {
    (0..FLOOD)
        .filter_map(|_| {
            let mut stream = from.connect(to).ok()?;
            // A refused one may be reset already.
            let _ = stream.write_all(greeting);
            Some(stream)
        })
        .collect()
}

#[test]
fn floods_of_connections_that_prove_nothing_are_bounded_and_disturb_nobody() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let (client, server, other) = (
        lab.pod("mesh/client"),
        lab.pod("mesh/server"),
        lab.pod("mesh/other"),
    );
    let visitor = lab.pod("outside/visitor");
    let to_server = serve_echo(&server, PORT);
    let to_other = serve_echo(&other, PORT);
    echo_once(&other, to_server, b"a tunnel before the flood").unwrap();
    let before = lab.resident("node-b");

    let mut held = Vec::new();
    // Silent ones, ones that begin a handshake and stop, and ones that speak something else.
    let half_a_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for greeting in [&b""[..], &half_a_hello, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        held.extend(flood(&visitor, server.at(HBONE_PORT), greeting));
        // The flooded pod still takes new tunnels, old tunnels go on, and so do other pods.
        echo_once(&client, to_server, b"a new tunnel during the flood").unwrap();
        echo_once(&other, to_server, b"an old tunnel during the flood").unwrap();
        echo_once(&client, to_other, b"another pod during the flood").unwrap();
    }
    assert!(
        held.len() > FLOOD,
        "the flood got only {} connections",
        held.len()
    );
    let cost = lab.resident("node-b").saturating_sub(before);
    assert!(
        cost < COST,
        "{} unproven connections cost {cost} bytes",
        held.len()
    );
    // All but a few were refused, and it says why.
    let refused = || {
        let labels = [("reason", "too_many_handshakes")];
        lab.metric("node-b", "ztunnel_handshake_failures_total", &labels)
    };
    eventually("the refusals are counted", Duration::from_secs(10), || {
        refused() > FLOOD as f64 / 2.0
    });
    // The others run into the handshake's deadline.
    eventually("the unproven are let go", Duration::from_secs(30), || {
        held.retain_mut(is_open);
        held.is_empty()
    });
}

/// Whether the other side has not ended it yet.
fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut buffer = [0; 256];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn a_handshake_that_is_fed_byte_by_byte_ends_at_its_deadline() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let (server, visitor) = (lab.pod("mesh/server"), lab.pod("outside/visitor"));
    let mut slow = visitor.connect(server.at(HBONE_PORT)).unwrap();
    // The start of a long record, one byte at a time: never silent, never done.
    let begun = Instant::now();
    let mut bytes = [0x16, 3, 1, 0x3f, 0xff].into_iter().chain(std::iter::repeat(1));
    while is_open(&mut slow) {
        assert!(begun.elapsed() < Duration::from_secs(30), "still open");
        // A pace, not a wait: what is waited for is the end.
        thread::sleep(Duration::from_millis(50));
        let _ = slow.write_all(&[bytes.next().unwrap()]);
    }
    assert!(
        begun.elapsed() > Duration::from_secs(1),
        "it was given time at least"
    );
}
