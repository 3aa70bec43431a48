//! The program itself: it becomes ready, and ends in good order when it is told to.

// A test ends where something it needs fails.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ca::TokenSigner;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Killed when the test ends, however it ends.
struct Program(Child);

impl Program {
    fn start(folder: &Path) -> Program {
        let signer = TokenSigner::load_or_create(&folder.join("token-key.pem")).unwrap();
        std::fs::write(folder.join("token-keys.pem"), signer.public_key_pem()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_control-plane"))
            .current_dir(folder)
            .args([
                "--objects",
                "objects",
                "--ca-dir",
                "ca",
                "--listen",
                "127.0.0.1:0",
                "--server-name",
                "x",
            ])
            .args([
                "--token-keys",
                "token-keys.pem",
                "--token-issuer",
                "lab",
                "--monitoring-listen",
                "127.0.0.1:0",
                "--debug-socket",
                "debug",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Program(child.unwrap())
    }

    fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the program does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_healthy(socket: &Path) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.starts_with("HTTP/1.1 200 "))
}

#[test]
fn it_starts_and_stops() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path());
        let began = Instant::now();
        while !is_healthy(&folder.path().join("debug")) {
            assert!(
                program.0.try_wait().unwrap().is_none(),
                "the program ended by itself"
            );
            assert!(began.elapsed() < PATIENCE, "the program does not become ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(folder.path().join("ca/root-cert.pem").exists());
        let pid = i32::try_from(program.0.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
        assert_eq!(program.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn wrong_use_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .arg("--listen=nowhere")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("--listen"), "{words}");
}
