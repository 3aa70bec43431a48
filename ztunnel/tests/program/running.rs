//! The program, running, and its pages.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use sys::Namespace;
use sys::link::Netlink;
use sys::process::{Child, Command, Signal};
use sys::socket::{self, ConnectOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest that a test waits for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const ADMIN: &str = "127.0.0.1:15000";
pub(crate) const METRICS: &str = "127.0.0.1:15020";
pub(crate) const PROBES: &str = "127.0.0.1:15021";

/// A node's proxy without control plane and authority: its state is a file, nobody signs certificates.
pub(crate) struct Running {
    pub(crate) network: Namespace,
    pub(crate) directory: TempDir,
    pub(crate) child: Child,
}

impl Running {
    /// Starts it with these settings besides the usual ones. None: the test needs root.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var("REQUIRE_ROOT").as_deref() != Ok("1"),
                "REQUIRE_ROOT=1, but this is not root"
            );
            println!("skipped: needs root");
            return None;
        }
        Some(Self::start_in(tempfile::tempdir().unwrap(), settings).await)
    }

    /// The same with a directory in which an agent listens already.
    pub(crate) async fn start_in(directory: TempDir, settings: &[(&str, &str)]) -> Self {
        let network = namespace().await;
        let place = |name: &str| directory.path().join(name);
        if !place("mesh.yaml").exists() {
            std::fs::write(place("mesh.yaml"), "workloads: []\n").unwrap();
        }
        let log = File::create(place("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ztunnel"))
            .args(["proxy"])
            .env_clear()
            .env("NODE_NAME", "node-a")
            .env("LOCAL_XDS_PATH", place("mesh.yaml"))
            .env("CA_ADDRESS", "")
            .env("INPOD_UDS", place("agent"))
            .env("ZTUNNEL_WORKER_THREADS", "2");
        for (name, value) in settings {
            command = command.env(name, value);
        }
        let child = command
            .network(&network)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let running = Self {
            network,
            directory,
            child,
        };
        eventually("its pages answer", || async {
            running.get(PROBES, "/healthz/live").await.is_ok()
        })
        .await;
        running
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    pub(crate) async fn get(&self, at: &str, path: &str) -> std::io::Result<Page> {
        self.ask("GET", at, path).await
    }

    /// Asks once.
    pub(crate) async fn ask(&self, method: &str, at: &str, path: &str) -> std::io::Result<Page> {
        let asking = async {
            let mut stream = connect(&self.network, at.parse().unwrap()).await?;
            let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok(answer)
        };
        let answer: std::io::Result<Vec<u8>> = tokio::time::timeout(LIMIT, asking).await?;
        let answer = answer?;
        let broken = || std::io::Error::other("no HTTP");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, body) = answer.split_at(end.ok_or_else(broken)? + 4);
        let head = String::from_utf8_lossy(head);
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Ok(Page {
            status: status.ok_or_else(broken)?,
            body: body.to_vec(),
        })
    }

    /// The value of the only series of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<u64> {
        let text = self.get(METRICS, "/metrics").await.ok()?.text();
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(name))?
            .rsplit(' ')
            .next()?;
        line.parse().ok()
    }

    /// Whether the process runs that was started.
    pub(crate) fn is_alive(&self) -> bool {
        sys::process::is_alive(self.child.pid, self.child.start_time)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill(Signal::SIGKILL).ok();
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Page {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A network namespace with its loopback up.
pub(crate) async fn namespace() -> Namespace {
    let network = Namespace::create().unwrap();
    let link = Netlink::in_namespace(&network).unwrap();
    link.up("lo").await.unwrap();
    network
}

pub(crate) async fn connect(network: &Namespace, to: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    let options = ConnectOptions {
        timeout: Some(LIMIT),
        ..ConnectOptions::default()
    };
    socket::connect(network, &options, to).await
}

pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect(what);
}
