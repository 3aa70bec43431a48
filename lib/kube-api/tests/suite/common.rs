//! What the tests share.

mod client;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use kube_api::ApiServer;

pub(crate) use client::Client;

/// The real kubectl, set up for one server.
pub(crate) struct Kubectl {
    directory: tempfile::TempDir,
}

/// Kubectl for this server; nothing where it is not installed: Debian has none that is recent enough to ask for.
pub(crate) fn kubectl(server: &ApiServer) -> Option<Kubectl> {
    let found = Command::new("kubectl").arg("version").arg("--client").output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: kubectl is not installed");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config"), server.kubeconfig()).unwrap();
    Some(Kubectl { directory })
}

impl Kubectl {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(arguments)
            .arg("--cache-dir")
            .arg(self.directory.path().join("cache"))
            .env("KUBECONFIG", self.directory.path().join("config"))
            .env("HOME", self.directory.path())
            .env("KUBECTL_EXTERNAL_DIFF", "diff -u")
            .env_remove("HTTP_PROXY")
            .env_remove("http_proxy");
        command
    }

    /// What it prints; it must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.with_input(arguments, "")
    }

    /// The same with this text on standard input. `diff` says by exit code 1 that there is a difference.
    pub(crate) fn with_input(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        let (out, error) = texts(&output);
        let differs = arguments[0] == "diff" && output.status.code() == Some(1);
        assert!(
            output.status.success() || differs,
            "kubectl {arguments:?}: {out}{error}"
        );
        out
    }

    /// What it prints and says on standard error; it must succeed.
    pub(crate) fn says_with_input(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        let (out, error) = texts(&output);
        assert!(output.status.success(), "kubectl {arguments:?}: {out}{error}");
        out + &error
    }

    /// What it says on standard error; it must fail.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        self.fails_with_input(arguments, "")
    }

    pub(crate) fn fails_with_input(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        let (out, error) = texts(&output);
        assert!(
            !output.status.success(),
            "kubectl {arguments:?} should fail: {out}{error}"
        );
        error
    }

    fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
