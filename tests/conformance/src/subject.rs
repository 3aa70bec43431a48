use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::{Doing, Failure, Outcome};
use crate::namespace::Namespace;
use crate::page::get;
use crate::wait::{eventually_ok, eventually_some};

/// Port of `/healthz/ready`.
pub const READINESS_PORT: u16 = 15021;
/// Port of `/metrics`.
pub const METRICS_PORT: u16 = 15020;

/// The program under test. It is killed with the value.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    node: Namespace,
    log: PathBuf,
}

/// Which program is held against the suite: `ZTUNNEL_SUBJECT`, else the built one beside the test's own directory.
pub fn subject_path() -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os("ZTUNNEL_SUBJECT") {
        let path = PathBuf::from(path);
        return match path.is_file() {
            true => Ok(path.canonicalize()?),
            false => Err(Failure::new(format!(
                "ZTUNNEL_SUBJECT={}: no such file",
                path.display()
            ))),
        };
    }
    let own = std::env::current_exe()?;
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("ztunnel"));
    let mut built = beside.filter(|path| path.is_file());
    built.next().doing(
        "ztunnel is not built: run `cargo build -p ztunnel`, or name another program in ZTUNNEL_SUBJECT",
    )
}

impl Subject {
    /// Starts it in the node's namespace, as a DaemonSet would, with these variables besides `PATH`.
    pub fn start(node: &Namespace, directory: &Path, environment: &[(String, String)]) -> Outcome<Subject> {
        let program = subject_path()?;
        let log = directory.join("subject.log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Namespace::command(&program);
        command
            .args(["proxy", "ztunnel"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(Subject {
            child: node.start(command)?,
            node: node.clone(),
            log,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) -> Outcome {
        eventually_ok(
            "the subject is ready",
            Duration::from_secs(60),
            async || match self.readiness().await? {
                200 => Ok(()),
                status => Err(Failure::new(format!("/healthz/ready answers {status}"))),
            },
        )
        .await
    }

    /// The status of `/healthz/ready`.
    pub async fn readiness(&self) -> Outcome<u16> {
        Ok(self.get(READINESS_PORT, "/healthz/ready").await?.0)
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Outcome<String> {
        let (status, text) = self.get(METRICS_PORT, "/metrics").await?;
        match status {
            200 => Ok(text),
            _ => Err(Failure::new(format!("/metrics answers {status}"))),
        }
    }

    /// Asks for a page: status and body.
    pub async fn get(&self, port: u16, path: &str) -> Outcome<(u16, String)> {
        get(&self.node, port, path).await
    }

    /// Asks it to end, as a node's supervisor does.
    pub fn terminate(&self) -> Outcome {
        let pid = i32::try_from(self.child.id())?;
        Ok(kill(Pid::from_raw(pid), Signal::SIGTERM)?)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        eventually_some("the subject ends", limit, || self.child.try_wait().ok().flatten()).await
    }

    /// The end of what it has written.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
