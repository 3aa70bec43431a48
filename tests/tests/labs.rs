//! Labs as such: several at once, the host's own network, and what is left after one that was killed.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use sys::process::Signal;
use tests::manifests::{join, namespace, peer_authentication, server, sleeper};
use tests::{Footprint, Lab, eventually, interruptible, leftovers, require_root};

#[test]
fn labs_of_different_names_disturb_neither_each_other_nor_the_host() {
    if !require_root() {
        return;
    }
    let host = host_network();
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(|| Lab::up(&objects()));
        (Lab::up(&objects()), other.join().unwrap())
    });
    assert_eq!(host_network(), host, "while two labs are up");
    let addresses = |lab: &Lab| -> Vec<IpAddr> {
        // Pods of one node get theirs in the order in which they are started.
        let mut all = ["mesh/client", "mesh/server", "outside/caller"].map(|name| lab.pod(name).ip);
        all.sort();
        all.into()
    };
    assert_eq!(
        addresses(&first),
        addresses(&second),
        "the same addresses in both, each its own"
    );
    for lab in [&first, &second] {
        assert!(calls(lab, "mesh/client"), "{}", lab.name());
        assert!(calls(lab, "outside/caller"), "{}", lab.name());
    }
    // A policy of one is none of the other.
    first.apply(&peer_authentication("mesh", "default", "STRICT"));
    assert!(!calls(&first, "outside/caller"), "STRICT, where it was applied");
    assert!(calls(&first, "mesh/client"));
    assert!(calls(&second, "outside/caller"), "still PERMISSIVE");
    // Nor is its end.
    let footprint = Footprint::of(&first);
    drop(first);
    assert_eq!(footprint.remains(), Vec::<String>::new());
    assert!(calls(&second, "mesh/client"));
    assert_eq!(host_network(), host, "after one lab has gone");
    drop(second);
    assert_eq!(host_network(), host, "after both have gone");
}

#[test]
fn a_killed_lab_is_cleaned_up_by_the_next_up_and_by_down() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&objects());
    let first = kill_supervisor(&lab);
    assert!(
        !first.remains().is_empty(),
        "a killed lab leaves things behind, or this test sees nothing"
    );
    lab.try_up(&[], &objects()).expect_code(0);
    assert!(calls(&lab, "mesh/client"));
    let left: Vec<String> = first
        .remains()
        .into_iter()
        .filter(|what| what.starts_with("process"))
        .collect();
    let present = Footprint::of(&lab);
    assert!(
        left.iter().all(|what| present.remains().contains(what)),
        "of the first lab: {left:?}"
    );

    let second = kill_supervisor(&lab);
    assert!(!second.remains().is_empty());
    lab.ztctl(&["down"]).expect_code(0);
    assert_eq!(second.remains(), Vec::<String>::new());
    // Once more is no harm.
    lab.ztctl(&["down"]).expect_code(0);
}

#[test]
fn down_leaves_nothing() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&objects());
    let footprint = Footprint::of(&lab);
    assert!(
        footprint.remains().len() > 8,
        "the footprint sees a lab that is up: {:?}",
        footprint.remains()
    );
    lab.ztctl(&["down"]).expect_code(0);
    assert_eq!(footprint.remains(), Vec::<String>::new());
}

/// Ctrl-C while a lab comes up, at whatever step that meets it: one of its pods never becomes ready, so that it would
/// take a minute.
#[test]
fn an_interrupted_up_leaves_nothing() {
    if !require_root() {
        return;
    }
    // Not one whose process dies: that may be seen in the moment in which it lives.
    let hopeless = sleeper("mesh", "hopeless", "x", "node-b").replace(
        "  containers:",
        "  initContainers: [{name: first, image: test, command: [sleep, infinity]}]\n  containers:",
    );
    for (round, after) in [0, 5, 15, 30, 60, 100, 150, 250, 400, 1000]
        .into_iter()
        .enumerate()
    {
        let lab = Lab::reserve();
        let file = lab.file("lab.yaml", &join([objects(), hopeless.clone()]));
        let mut up = interruptible(&lab.command(&["up", &file]));
        let mut child = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(after));
        let begun = sys::process::start_time(child.id()).unwrap();
        let signal = if round % 2 == 0 {
            Signal::SIGINT
        } else {
            Signal::SIGTERM
        };
        assert!(sys::process::kill(child.id(), begun, signal).unwrap());
        eventually("`up` ends", Duration::from_secs(15), || {
            child.try_wait().unwrap().is_some()
        });
        let status = child.wait().unwrap();
        assert!(!status.success(), "{signal} after {after} ms: {status}");
        assert_eq!(
            leftovers(lab.name()),
            Vec::<String>::new(),
            "{signal} after {after} ms"
        );
    }
}

fn objects() -> String {
    join([
        namespace("mesh", true),
        namespace("outside", false),
        sleeper("mesh", "client", "client", "node-a"),
        server("mesh", "server", "server", "node-b"),
        sleeper("outside", "caller", "default", "node-a"),
    ])
}

/// Whether a pod gets an answer from the server of its own lab.
fn calls(lab: &Lab, caller: &str) -> bool {
    let (caller, server) = (lab.pod(caller), lab.pod("mesh/server"));
    caller
        .http_get(server.at(8080), "/")
        .is_ok_and(|response| response.status == 200)
}

fn kill_supervisor(lab: &Lab) -> Footprint {
    let footprint = Footprint::of(lab);
    let pid = lab.status()["supervisor_pid"].as_u64().unwrap() as u32;
    let begun = sys::process::start_time(pid).unwrap();
    assert!(sys::process::kill(pid, begun, Signal::SIGKILL).unwrap());
    eventually("the supervisor is dead", Duration::from_secs(5), || {
        !sys::process::is_alive(pid, begun)
    });
    footprint
}

/// Links, addresses, routes, rules and packet rules of the namespace that the test runs in.
fn host_network() -> Vec<(String, String)> {
    let commands: [&[&str]; 8] = [
        &["ip", "-br", "link"],
        &["ip", "-br", "address"],
        &["ip", "-4", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["ip", "rule"],
        &["iptables-save"],
        &["ip6tables-save"],
        &["sysctl", "-n", "net.ipv4.ip_forward"],
    ];
    let mut state = Vec::new();
    for command in commands {
        let mut run = Command::new(command[0]);
        run.args(&command[1..]);
        let output = tests::run(run, None, Duration::from_secs(20));
        // Comments carry the time, chains their counters.
        let lines = output.stdout.lines().filter(|line| !line.starts_with('#'));
        let text: Vec<&str> = lines
            .map(|line| line.split(" [").next().unwrap_or_default())
            .collect();
        state.push((command.join(" "), text.join("\n")));
    }
    state
}
