//! The demo that newcomers run: it shows what it promises, in time, and takes everything away again, also when it is
//! interrupted.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use sys::process::{Signal, kill_group, start_time};
use tempfile::TempDir;
use tests::{Lab, binary, eventually, interruptible, leftovers, processes_naming, require_root};

/// What is promised for a machine on which everything is built.
const A_MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_demo_shows_what_it_promises_and_leaves_nothing() {
    if !require_root() {
        return;
    }
    let mut demo = Demo::start();
    let status = demo.ended_within(A_MINUTE);
    let said = demo.said();
    assert!(status.success(), "{status}: {said}");
    for promised in [
        // A service by its name, and the caller's own address.
        "http://server.hello.svc.cluster.local/",
        "\"peer\":\"10.244.1.",
        // The wire.
        "0 on any other port",
        "neither request nor answer can be found in the captured bytes",
        // PERMISSIVE, and the refusals: who, by which policy.
        "GET / HTTP/1.1",
        "refused outside/visitor",
        "PeerAuthentication requires mTLS",
        "refused hello/intruder",
        "spiffe://cluster.local/ns/hello/sa/intruder",
        "hello/allow-client",
    ] {
        assert!(said.contains(promised), "`{promised}` is not in: {said}");
    }
    demo.left_nothing("at the end");
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    if !require_root() {
        return;
    }
    // At once, while the lab comes up, while a capture runs, and in the middle of applying a policy.
    for (step, pause, signal, code) in [
        ("", 0, Signal::SIGINT, 130),
        ("$ ztctl lab up", 100, Signal::SIGINT, 130),
        ("2. ", 20, Signal::SIGINT, 130),
        ("4. ", 150, Signal::SIGTERM, 143),
        ("$ ztctl lab apply", 10, Signal::SIGINT, 130),
        ("6. ", 0, Signal::SIGHUP, 143),
    ] {
        let mut demo = Demo::start();
        eventually("the demo gets there", A_MINUTE, || {
            demo.said().lines().any(|line| line.starts_with(step))
        });
        thread::sleep(Duration::from_millis(pause));
        // As a terminal does it: everybody in the foreground is told.
        assert!(
            kill_group(demo.child.id(), demo.start_time, signal).unwrap(),
            "{step}: it has ended: {}",
            demo.said()
        );
        let status = demo.ended_within(Duration::from_secs(20));
        assert_eq!(exit_code(status), code, "{step}: {}", demo.said());
        demo.left_nothing(step);
    }
}

struct Demo {
    /// Has only the name, and cleans up after a demo that does not.
    lab: Lab,
    child: Child,
    start_time: u64,
    files: TempDir,
}

impl Demo {
    fn start() -> Demo {
        let (lab, files) = (Lab::reserve(), TempDir::new().unwrap());
        let temporary = files.path().join("tmp");
        std::fs::create_dir(&temporary).unwrap();
        let said = File::create(files.path().join("said")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/demo");
        let child = interruptible(&Command::new(script))
            .env("DEMO_LAB", lab.name())
            .env("BIN", binary("ztctl").parent().unwrap())
            .env("TMPDIR", &temporary)
            .stdin(std::process::Stdio::null())
            .stderr(said.try_clone().unwrap())
            .stdout(said)
            .process_group(0)
            .spawn()
            .unwrap();
        let start_time = start_time(child.id()).unwrap();
        Demo {
            lab,
            child,
            start_time,
            files,
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.files.path().join("said")).unwrap()
    }

    fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "not within {limit:?}: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn left_nothing(&self, when: &str) {
        assert_eq!(leftovers(self.lab.name()), Vec::<String>::new(), "{when}");
        let temporary = self.files.path().join("tmp");
        let files: Vec<_> = std::fs::read_dir(&temporary)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(files.is_empty(), "{when}: {files:?}");
        let processes = processes_naming(temporary.to_str().unwrap());
        assert_eq!(processes, Vec::<String>::new(), "{when}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Only a demo that has failed its test is still there.
        let _ = kill_group(self.child.id(), self.start_time, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    // A shell that dies of a signal and one that tells of it look the same to whoever reads `$?`.
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
