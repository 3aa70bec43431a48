//! Source ports: the proxy calls the application under its caller's address, and the kernel chooses a port for that
//! without knowing which ports the caller itself uses.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Instant;

use tests::manifests::{join, namespace, sleeper};
use tests::stamps::{Application, exchange_from};
use tests::{Lab, Place, require_root};

/// Where both choose the same port, the two connections differ in nothing that the kernel's connection tracking looks
/// at, unless it is told to. With few ports to choose from, that happens within the first connections; of 100 it is left
/// out less than once in a hundred runs. In the wild it is one connection in some ten thousand.
#[test]
fn a_caller_and_the_proxy_may_use_the_same_port() {
    const PORTS: std::ops::RangeInclusive<u16> = 40_000..=40_015;
    const ROUNDS: usize = 8;
    if !require_root() {
        return;
    }
    let lab = Lab::up(&join([
        namespace("shop", true),
        namespace("outside", false),
        sleeper("shop", "server", "server", "node-b"),
        sleeper("outside", "far", "default", "node-a"),
        sleeper("outside", "near", "default", "node-b"),
    ]));
    let server = lab.pod("shop/server");
    let range = format!("{} {}", PORTS.start(), PORTS.end());
    server
        .inside(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", range))
        .unwrap();
    let application = Application::start(&server, &[7001]);
    let clock = Instant::now();
    for caller in ["outside/far", "outside/near"].map(|name| lab.pod(name)) {
        for round in 0..ROUNDS {
            for port in PORTS {
                exchange_from(&caller, port, server.at(7001), clock).unwrap_or_else(|error| {
                    panic!("{}, round {round}, from port {port}: {error}", caller.name)
                });
            }
        }
    }
    assert_eq!(application.accepted(), 2 * ROUNDS * PORTS.len());
}
