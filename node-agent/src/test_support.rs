//! What the tests of this crate share.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use sys::{Namespace, link::Netlink, process::Command, seqpacket};
use zds::{
    MAX_RECORD,
    proxy::{Connection, Event, Received},
};

/// Whether a test must be skipped, saying so.
pub(crate) fn needs_root() -> bool {
    let skipped = !nix::unistd::geteuid().is_root();
    if skipped {
        println!("skipped: needs root");
    }
    skipped
}

/// Waits until a condition holds; fails after ten seconds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// A pod at 10.1.0.2 and fd00::2, and its neighbour at 10.1.0.1 and fd00::1, which is also its default route.
pub(crate) async fn neighbours() -> (Namespace, Namespace) {
    let near = Namespace::create().unwrap();
    let pod = Namespace::create().unwrap();
    let link = Netlink::in_namespace(&near).unwrap();
    let pod_link = Netlink::in_namespace(&pod).unwrap();
    link.veth("eth0", "eth0", &pod).await.unwrap();
    for (link, v4, v6) in [(&link, "10.1.0.1", "fd00::1"), (&pod_link, "10.1.0.2", "fd00::2")] {
        link.address("eth0", v4.parse::<IpAddr>().unwrap(), 24)
            .await
            .unwrap();
        link.address("eth0", v6.parse::<IpAddr>().unwrap(), 64)
            .await
            .unwrap();
        link.up("eth0").await.unwrap();
    }
    pod_link
        .route(
            ("0.0.0.0".parse().unwrap(), 0),
            Some("10.1.0.1".parse().unwrap()),
            None,
            false,
        )
        .await
        .unwrap();
    pod_link
        .route(
            ("::".parse().unwrap(), 0),
            Some("fd00::1".parse().unwrap()),
            None,
            false,
        )
        .await
        .unwrap();
    (near, pod)
}

/// Runs a program in a namespace and returns what it wrote; it must succeed.
pub(crate) async fn run_in(namespace: &Namespace, program: &str, arguments: &[&str]) -> String {
    let command = Command::new(program).args(arguments).network(namespace);
    let output = command.run("", Duration::from_secs(20)).await.unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        output.stderr
    );
    output.stdout
}

/// Everything in a namespace that redirection could leave behind: rules of both families, policy routing.
pub(crate) async fn traces(namespace: &Namespace) -> String {
    let commands: [(&str, &[&str]); 6] = [
        ("iptables-save", &[]),
        ("ip6tables-save", &[]),
        ("ip", &["-4", "rule"]),
        ("ip", &["-6", "rule"]),
        ("ip", &["-4", "route", "show", "table", "all"]),
        ("ip", &["-6", "route", "show", "table", "all"]),
    ];
    let mut all = String::new();
    for (program, arguments) in commands {
        let text = run_in(namespace, program, arguments).await;
        all.extend(
            text.lines()
                // The kernel's own link-local addresses come when it has found that nobody else has them.
                .filter(|line| !line.starts_with('#') && !line.starts_with("local fe80:"))
                .map(|line| format!("{line}\n")),
        );
    }
    all
}

/// A node proxy that notes what it is told, and refuses what it is told to refuse.
pub(crate) struct FakeProxy {
    heard: Arc<Mutex<Heard>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct Heard {
    /// In order: "add UID", "keep UID", "del UID", "snapshot".
    pub(crate) log: Vec<String>,
    /// The namespaces that came with additions.
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    /// Additions of these are refused.
    pub(crate) refuse: Vec<String>,
}

impl FakeProxy {
    /// Connects, as soon as the socket is there.
    pub(crate) async fn connect(path: &Path) -> Self {
        Self::refusing(path, &[]).await
    }

    pub(crate) async fn refusing(path: &Path, refuse: &[&str]) -> Self {
        let refuse = refuse.iter().map(|uid| (*uid).to_owned()).collect();
        let heard = Arc::new(Mutex::new(Heard {
            refuse,
            ..Heard::default()
        }));
        let task = tokio::spawn(Self::serve(path.to_path_buf(), heard.clone()));
        Self { heard, task }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.heard.lock().unwrap().log.clone()
    }

    pub(crate) fn heard<R>(&self, look: impl FnOnce(&mut Heard) -> R) -> R {
        look(&mut self.heard.lock().unwrap())
    }

    pub(crate) async fn until_heard(&self, line: &str) {
        eventually(line, async || self.log().iter().any(|heard| heard == line)).await;
    }

    /// Goes away as if killed.
    pub(crate) async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    async fn serve(path: PathBuf, heard: Arc<Mutex<Heard>>) {
        let socket = loop {
            match seqpacket::Connection::connect(&path).await {
                Ok(socket) => break socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let (mut machine, hello) = Connection::new();
        socket.send(&hello, None).await.unwrap();
        while let Ok((record, descriptors)) = socket.recv(MAX_RECORD).await {
            let Received::Event(event) = machine.received(&record, descriptors.len()).unwrap() else {
                panic!("the agent broke the protocol");
            };
            let answer = Self::hear(&mut heard.lock().unwrap(), event, descriptors);
            let answer = machine.answer(answer).unwrap();
            socket.send(&answer, None).await.unwrap();
        }
    }

    fn hear(heard: &mut Heard, event: Event, descriptors: Vec<OwnedFd>) -> Result<(), &'static str> {
        match event {
            Event::Add { uid, .. } => {
                let descriptor = descriptors.into_iter().next().unwrap();
                heard
                    .namespaces
                    .insert(uid.clone(), Namespace::from_fd(descriptor).unwrap());
                heard.log.push(format!("add {uid}"));
                if heard.refuse.contains(&uid) {
                    Err("no listener")
                } else {
                    Ok(())
                }
            }
            Event::Keep { uid } => {
                heard.log.push(format!("keep {uid}"));
                Ok(())
            }
            Event::Del { uid } => {
                heard.log.push(format!("del {uid}"));
                Ok(())
            }
            Event::SnapshotSent { .. } => {
                heard.log.push("snapshot".into());
                Ok(())
            }
        }
    }
}

impl Drop for FakeProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
