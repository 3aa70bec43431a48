use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sys::process::{Signal, kill, start_time};
use tempfile::TempDir;

use crate::pcap::{self, Packet};
use crate::place::Place;
use crate::wait::eventually;

/// A running packet capture. Ends with the value.
pub struct Capture {
    child: Child,
    directory: TempDir,
}

impl Capture {
    /// Captures what passes an interface, whole packets, in both directions. `filter` is tcpdump's, empty for
    /// everything. Returns when it captures.
    pub fn start(at: &impl Place, interface: &str, filter: &str) -> Capture {
        let directory = TempDir::new().expect("a temporary directory");
        let log = fs::File::create(directory.path().join("log")).expect("a file");
        let mut command = Command::new("tcpdump");
        // As root, since the file's directory is root's; a buffer (KiB) for bursts, in slots no larger than the largest packet; `-U` and immediate mode so that
        // nothing waits in memory.
        command
            .args([
                "-Z",
                "root",
                "-n",
                "-U",
                "--immediate-mode",
                "-B",
                "65536",
                "-s",
                "65600",
                "-i",
                interface,
                "-w",
            ])
            .arg(directory.path().join("packets"))
            .args(["--", filter])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // A child is born in the namespace of the thread that makes it.
        let child = at.inside(|| command.spawn()).expect("starting tcpdump");
        let capture = Capture { child, directory };
        eventually("tcpdump captures", Duration::from_secs(10), || {
            capture.log().contains("listening on")
        });
        capture
    }

    /// Ends it and gives the IP packets that were seen. Panics when the kernel had to drop any.
    pub fn stop(mut self) -> Vec<Packet> {
        self.settle();
        let pid = self.child.id();
        let begun =
            start_time(pid).unwrap_or_else(|error| panic!("tcpdump has ended: {error}; {}", self.log()));
        kill(pid, begun, Signal::SIGINT).expect("stopping tcpdump");
        self.child.wait().expect("waiting for tcpdump");
        let log = self.log();
        let dropped = log
            .lines()
            .find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        assert_eq!(dropped, Some("0"), "the capture is not whole: {log}");
        pcap::read(&fs::read(self.directory.path().join("packets")).expect("the captured packets"))
    }

    /// Waits until what has passed the wire is in the file: it has not grown for a moment.
    fn settle(&self) {
        const QUIET: Duration = Duration::from_millis(150);
        const LIMIT: Duration = Duration::from_secs(5);
        let size =
            || fs::metadata(self.directory.path().join("packets")).map_or(0, |metadata| metadata.len());
        let (begun, mut since, mut last) = (Instant::now(), Instant::now(), size());
        while since.elapsed() < QUIET && begun.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(10));
            let now = size();
            if now != last {
                (since, last) = (Instant::now(), now);
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
