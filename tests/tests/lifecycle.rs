//! Parts of the mesh that die, restart or are away: what goes on, what is refused meanwhile, and what never happens.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::manifests::{join, namespace, peer_authentication, sleeper};
use tests::{Capture, Lab, Place, Pod, echo, echo_once, eventually, require_root, serve_echo};

const PORT: u16 = 7000;

/// `mesh/client` on node-a and `mesh/server` on node-b, captured; `outside/visitor` on node-a is not.
fn lab(args: &[&str]) -> Lab {
    Lab::up_with(
        args,
        &join([
            namespace("mesh", true),
            namespace("outside", false),
            sleeper("mesh", "client", "client", "node-a"),
            sleeper("mesh", "server", "server", "node-b"),
            sleeper("outside", "visitor", "visitor", "node-a"),
        ]),
    )
}

fn control_plane_pid(lab: &Lab) -> Option<i32> {
    i32::try_from(lab.status()["control_plane"]["pid"].as_i64()?).ok()
}

/// Sets a flag when it goes, also by a panic, so that a thread that waits for it ends.
struct SetWhenGone<'a>(&'a AtomicBool);

impl Drop for SetWhenGone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn without_its_control_plane_the_mesh_goes_on_and_follows_it_again_once_it_is_back() {
    if !require_root() {
        return;
    }
    let lab = lab(&[]);
    let (client, server, visitor) = (
        lab.pod("mesh/client"),
        lab.pod("mesh/server"),
        lab.pod("outside/visitor"),
    );
    let to = serve_echo(&server, PORT);
    let mut held = client.connect(to).unwrap();
    echo(&mut held, b"before").unwrap();
    echo_once(&visitor, to, b"plaintext while permissive").unwrap();

    // Killed as often as it is started, so that it is away for the whole of this.
    let stop = AtomicBool::new(false);
    let kills = AtomicUsize::new(0);
    thread::scope(|scope| {
        let stopped = SetWhenGone(&stop);
        let killer = scope.spawn(|| {
            let mut last = None;
            while !stop.load(Ordering::SeqCst) {
                let now = control_plane_pid(&lab);
                if let Some(pid) = now.filter(|_| now != last) {
                    last = now;
                    if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
                        kills.fetch_add(1, Ordering::SeqCst);
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        eventually("the control plane is killed", Duration::from_secs(10), || {
            kills.load(Ordering::SeqCst) > 0
        });
        for round in 0..20 {
            echo(&mut held, b"running connections go on").unwrap();
            echo_once(&client, to, b"new connections go on").unwrap();
            echo_once(&visitor, to, format!("plaintext too {round}").as_bytes()).unwrap();
        }
        let away = lab.ztctl_with_input(
            &["apply", "--timeout", "2s", "-f", "-"],
            &peer_authentication("mesh", "default", "STRICT"),
        );
        assert_eq!(away.code, 3, "nobody can acknowledge now: {}", away.stderr);
        echo_once(&visitor, to, b"the change has reached nobody").unwrap();
        drop(stopped);
        killer.join().unwrap();
    });
    eventually(
        "the change made meanwhile is enforced",
        Duration::from_secs(60),
        || echo_once(&visitor, to, b"plaintext").is_err(),
    );
    echo(&mut held, b"after").unwrap();
    echo_once(&client, to, b"after").unwrap();
}

/// What one client saw while a proxy was away.
#[derive(Debug, Default)]
struct Attempts {
    served: usize,
    refused: usize,
}

/// Connects over and over, each time sending `marker`, while `meanwhile` runs and until one is served after it.
fn attempts_while(client: &Pod, to: SocketAddr, marker: &[u8], meanwhile: impl FnOnce() + Send) -> Attempts {
    let over = AtomicBool::new(false);
    let mut attempts = Attempts::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _over = SetWhenGone(&over);
            meanwhile();
        });
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let was_over = over.load(Ordering::SeqCst);
            match echo_once(client, to, marker) {
                Ok(()) if was_over => break,
                Ok(()) => attempts.served += 1,
                Err(_) => attempts.refused += 1,
            }
            assert!(Instant::now() < limit, "never served again: {attempts:?}");
            thread::sleep(Duration::from_millis(2));
        }
    });
    attempts
}

fn a_killed_proxy_never_lets_plaintext_through(which: &str) {
    if !require_root() {
        return;
    }
    const MARKER: &[u8] = b"MARKER-that-must-never-be-on-the-wire-0123456789";
    let lab = lab(&[]);
    let (client, server) = (lab.pod("mesh/client"), lab.pod("mesh/server"));
    let to = serve_echo(&server, PORT);
    echo_once(&client, to, b"up").unwrap();
    let capture = Capture::start(&lab.fabric(), "node-a", "tcp");
    let attempts = attempts_while(&client, to, MARKER, || lab.restart(which, true));
    let packets = capture.stop();

    println!("{attempts:?}, {} packets", packets.len());
    assert!(
        attempts.refused > 0,
        "the proxy was never away, so this shows nothing"
    );
    let between_pods: Vec<_> = packets
        .iter()
        .filter(|packet| packet.has_address(client.ip) && packet.has_address(server.ip))
        .collect();
    assert!(
        between_pods.iter().any(|packet| !packet.payload.is_empty()),
        "nothing was captured"
    );
    for packet in between_pods {
        assert!(!packet.contains(MARKER), "plaintext on the wire: {packet:?}");
        assert!(packet.has_port(15008), "not a tunnel: {packet:?}");
    }
}

#[test]
fn a_killed_proxy_of_the_client_never_lets_plaintext_through() {
    a_killed_proxy_never_lets_plaintext_through("ztunnel/node-a");
}

#[test]
fn a_killed_proxy_of_the_server_never_lets_plaintext_through() {
    a_killed_proxy_never_lets_plaintext_through("ztunnel/node-b");
}

#[test]
fn a_proxy_told_to_stop_lets_open_connections_go_on_until_its_deadline_and_names_those_it_closes() {
    if !require_root() {
        return;
    }
    let lab = lab(&[]);
    let (client, server) = (lab.pod("mesh/client"), lab.pod("mesh/server"));
    let to = serve_echo(&server, PORT);
    let mut short = client.connect(to).unwrap();
    let mut long = client.connect(to).unwrap();
    echo(&mut short, b"open").unwrap();
    echo(&mut long, b"open").unwrap();
    thread::scope(|scope| {
        let restart = scope.spawn(|| lab.restart("ztunnel/node-b", false));
        eventually("the proxy says that it drains", Duration::from_secs(10), || {
            lab.logs("ztunnel/node-b")
                .contains("open connections have the drain deadline")
        });
        echo(&mut short, b"still served while draining").unwrap();
        short.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(short.read(&mut [0; 16]).unwrap(), 0, "ends in good order");
        echo(&mut long, b"this one too").unwrap();
        let error = long.read(&mut [0; 16]).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionReset,
            "closed at the deadline, visibly"
        );
        restart.join().unwrap();
    });
    assert!(lab.logs("ztunnel/node-b").contains("reason=\"proxy_stopping\""));
    eventually("served again", Duration::from_secs(20), || {
        echo_once(&client, to, b"again").is_ok()
    });
}

#[test]
fn certificates_that_live_ten_seconds_are_renewed_under_traffic() {
    if !require_root() {
        return;
    }
    let lab = lab(&[
        "--node-proxy-env",
        "node-a=SECRET_TTL=10s",
        "--node-proxy-env",
        "node-b=SECRET_TTL=10s",
    ]);
    let (client, server) = (lab.pod("mesh/client"), lab.pod("mesh/server"));
    let to = serve_echo(&server, PORT);
    let mut held = client.connect(to).unwrap();
    let begun = Instant::now();
    // Two and a half lives.
    while begun.elapsed() < Duration::from_secs(25) {
        echo(&mut held, b"one connection for several lives").unwrap();
        echo_once(&client, to, b"and new ones at any time").unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    for (node, account) in [("node-a", "client"), ("node-b", "server")] {
        let received = format!("certificate received\tidentity=spiffe://cluster.local/ns/mesh/sa/{account} ");
        let count = lab.logs(&format!("ztunnel/{node}")).matches(&received).count();
        assert!(
            (4..=12).contains(&count),
            "{count} certificates for {account} in 25 s; half life is 5 s"
        );
    }
}
