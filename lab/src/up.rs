//! Bringing a lab up, seen from the command line and from the supervisor's own process.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;

use tokio::io::AsyncBufReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::{LabError, other};
use crate::layout::Layout;
use crate::lock;
use crate::logs::tail;
use crate::manifests::{Manifests, Place, check};
use crate::options::LabOptions;
use crate::supervisor::{self, Progress};

/// The largest description of a lab that the supervisor reads.
const OPTIONS_MAX: u64 = 256 * 1024 * 1024;

/// Checks everything that can be checked, then brings the lab up: in this process and until it is told to end with
/// `foreground`, else in a process of its own that stays. `step` is told what happens.
///
/// An interrupt (SIGINT, SIGTERM) takes down whatever was made.
pub async fn up(
    mut options: LabOptions,
    manifests: &Manifests,
    foreground: bool,
    step: &(dyn Fn(&str) + Sync),
) -> Result<(), LabError> {
    options.check()?;
    let layout = Layout::new(&options.name)?;
    let nodes = options.node_names();
    check(
        manifests,
        &Place {
            present: &first_objects(),
            nodes: &nodes,
            ztctl: &options.programs.ztctl,
        },
    )?;
    options.objects = manifests.documents();
    need_root()?;
    need_tools(options.ipv6)?;
    if lock::is_held(&layout) {
        return Err(LabError::AlreadyUp(options.name));
    }
    if foreground {
        let stop = stop_on_signals()?;
        let show = |progress: Progress| match progress {
            Progress::Step(text) => step(&text),
            Progress::Ready => step("ready; end it with Ctrl-C"),
            Progress::Failed { .. } => {}
        };
        return supervisor::run(options, stop, &show).await;
    }
    detached(&layout, &options, step).await
}

/// The supervisor's process: reads what the lab is to be from standard input, tells its progress on standard output,
/// and stays until the lab goes down.
pub async fn supervise() -> Result<(), LabError> {
    // Out of the caller's session: its terminal is not ours, and a Ctrl-C there is passed on by the caller.
    nix::unistd::setsid().map_err(LabError::system("leaving the session"))?;
    let mut text = Vec::new();
    std::io::stdin()
        .take(OPTIONS_MAX)
        .read_to_end(&mut text)
        .map_err(LabError::system("reading what the lab is to be"))?;
    let options: LabOptions =
        serde_json::from_slice(&text).map_err(other("reading what the lab is to be"))?;
    let stop = stop_on_signals()?;
    let output = Mutex::new(Some(std::io::stdout()));
    let tell = |progress: Progress| {
        let mut output = output.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(stream) = output.as_mut() {
            // Who called may be gone: the lab comes up all the same.
            let _ = serde_json::to_writer(&mut *stream, &progress).map_err(std::io::Error::from);
            let _ = stream.write_all(b"\n").and_then(|()| stream.flush());
        }
        if matches!(progress, Progress::Ready) {
            *output = None;
        }
    };
    let outcome = supervisor::run(options, stop, &tell).await;
    if let Err(error) = &outcome {
        tell(Progress::Failed {
            text: error.to_string(),
            exit_code: error.exit_code(),
        });
    }
    outcome
}

async fn detached(
    layout: &Layout,
    options: &LabOptions,
    step: &(dyn Fn(&str) + Sync),
) -> Result<(), LabError> {
    // Before there is anything that an interrupt would leave behind.
    let interrupt = stop_on_signals()?;
    Layout::create_root()?;
    let log = layout.supervisor_log();
    let errors = File::create(&log).map_err(LabError::system(format!("making {}", log.display())))?;
    let mut child = tokio::process::Command::new(&options.programs.ztctl)
        .args(["lab", "supervise", "--name", layout.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .current_dir("/")
        .spawn()
        .map_err(LabError::system("starting the supervisor"))?;
    let text = serde_json::to_vec(options).map_err(other("describing the lab"))?;
    if let Some(mut input) = child.stdin.take() {
        use tokio::io::AsyncWriteExt;
        input
            .write_all(&text)
            .await
            .map_err(LabError::system("telling the supervisor what to do"))?;
    }
    let Some(output) = child.stdout.take() else {
        return Err(LabError::Failed("the supervisor has no output".to_owned()));
    };
    let mut lines = tokio::io::BufReader::new(output).lines();
    let mut interrupted = false;
    loop {
        tokio::select! {
            () = interrupt.cancelled(), if !interrupted => {
                interrupted = true;
                step("interrupted: taking everything down");
                if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                    // Our own child, not waited for yet: the id is still its.
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM);
                }
            }
            line = lines.next_line() => {
                let line = line.map_err(LabError::system("hearing from the supervisor"))?;
                let Some(line) = line else { break };
                match serde_json::from_str(&line) {
                    Ok(Progress::Step(text)) => step(&text),
                    Ok(Progress::Ready) if !interrupted => return Ok(()),
                    Ok(Progress::Ready) => {}
                    Ok(Progress::Failed { text, exit_code }) => {
                        let _ = child.wait().await;
                        let _ = std::fs::remove_file(&log);
                        return Err(match exit_code {
                            2 => LabError::Usage(text),
                            3 => LabError::Late(text),
                            _ => LabError::Failed(text),
                        });
                    }
                    Err(error) => step(&format!("the supervisor says what is not understood ({error}): {line}")),
                }
            }
        }
    }
    let status = child
        .wait()
        .await
        .map_err(LabError::system("waiting for the supervisor"))?;
    if interrupted {
        // It was told to end so early that it had made nothing and says nothing.
        let _ = std::fs::remove_file(&log);
        return Err(LabError::Failed("interrupted".to_owned()));
    }
    Err(LabError::Failed(format!(
        "the supervisor ended ({status}) before the lab was ready{}",
        tail(&log)
    )))
}

/// The namespaces that every lab has, for checking manifests before there is a store.
fn first_objects() -> Vec<std::sync::Arc<objects::Object>> {
    supervisor::first_namespaces()
        .into_iter()
        .filter_map(|value| objects::Object::from_value(value).ok())
        .map(std::sync::Arc::new)
        .collect()
}

fn need_root() -> Result<(), LabError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(LabError::Usage(
        "the lab makes network namespaces and needs root: run it with sudo".to_owned(),
    ))
}

fn need_tools(ipv6: bool) -> Result<(), LabError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |tool: &str| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin"].map(Into::into))
            .any(|directory| Path::new(&directory).join(tool).is_file())
    };
    let mut tools = vec!["iptables-restore", "iptables-save"];
    if ipv6 {
        tools.extend(["ip6tables-restore", "ip6tables-save"]);
    }
    match tools.iter().find(|tool| !there(tool)) {
        None => Ok(()),
        Some(tool) => Err(LabError::Usage(format!(
            "the program `{tool}` is missing: install the package `iptables` (on Debian and Ubuntu: apt-get install \
             iptables)"
        ))),
    }
}

/// Cancelled by SIGINT and SIGTERM. SIGHUP is heard and does nothing: closing a terminal does not end a lab.
fn stop_on_signals() -> Result<CancellationToken, LabError> {
    let listen = |kind| signal(kind).map_err(LabError::system("listening for signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hangup = listen(SignalKind::hangup())?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => told.cancel(),
                _ = terminate.recv() => told.cancel(),
                _ = hangup.recv() => {}
            }
        }
    });
    Ok(stop)
}
