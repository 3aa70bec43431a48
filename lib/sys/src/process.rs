//! Processes in chosen namespaces, and killing processes without hitting a stranger that got the same id.

use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Namespace;

mod between;
mod identity;

use between::{Steps, enter_namespaces};
pub use identity::{is_alive, kill, kill_group, start_time};
pub use nix::sys::signal::Signal;

/// Output kept of a command that is run to its end; more fails it.
pub const MAX_OUTPUT: u64 = 8 * 1024 * 1024;

/// A process to be. Standard input is empty, standard output and error are this process' own unless set.
#[derive(Debug)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    clear_environment: bool,
    directory: Option<PathBuf>,
    network: Option<Namespace>,
    files: Vec<(PathBuf, PathBuf)>,
    stdout: Option<File>,
    stderr: Option<File>,
    process_group: bool,
}

/// A started process. Dropping it leaves the process running.
#[derive(Debug)]
pub struct Child {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: with the id it names this process and no other.
    pub start_time: u64,
    inner: tokio::process::Child,
}

/// What a command that ran to its end left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote, bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Why a process could not be started or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program.
    #[error("program {program} is not found: check the path, or install the package that has it")]
    NotFound {
        /// As it was asked for.
        program: String,
    },
    /// A file to be bound, or the one it is to cover, is missing.
    #[error("cannot bind {path} for {program}: {source}")]
    File {
        /// The program.
        program: String,
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused a step between fork and exec, or exec itself.
    #[error("cannot start {program}: {step}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The step that failed.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Reading or feeding a running command failed.
    #[error("while running {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// The reason.
        source: io::Error,
    },
    /// The command was killed since it took too long.
    #[error("{program} did not end within {limit:?} and was killed")]
    TimedOut {
        /// The program.
        program: String,
        /// The time it had.
        limit: Duration,
    },
}

impl Command {
    /// A command for a program by name (looked up in PATH) or path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            clear_environment: false,
            directory: None,
            network: None,
            files: Vec::new(),
            stdout: None,
            stderr: None,
            process_group: false,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts from an empty environment. What [`Command::env`] sets stays.
    pub fn env_clear(mut self) -> Self {
        self.clear_environment = true;
        self
    }

    /// The working directory.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// The network namespace to run in.
    pub fn network(mut self, namespace: &Namespace) -> Self {
        self.network = Some(namespace.clone());
        self
    }

    /// Covers the file `target` with `source` for this process and its children only. The process gets a mount
    /// namespace of its own that still receives later mounts of ours where they are shared, and passes none back.
    pub fn bind_file(mut self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        self.files
            .push((source.as_ref().to_owned(), target.as_ref().to_owned()));
        self
    }

    /// Where standard output goes.
    pub fn stdout(mut self, file: File) -> Self {
        self.stdout = Some(file);
        self
    }

    /// Where standard error goes.
    pub fn stderr(mut self, file: File) -> Self {
        self.stderr = Some(file);
        self
    }

    /// Makes the process the leader of a new group, so that it and its children can be signalled together with
    /// [`kill_group`], and a Ctrl-C in our terminal does not reach them.
    pub fn process_group(mut self) -> Self {
        self.process_group = true;
        self
    }

    /// Starts the process. Needs a tokio runtime.
    pub fn spawn(self) -> Result<Child, SpawnError> {
        let program = self.name();
        let (command, steps) = self.prepare()?;
        let child = tokio::process::Command::from(command).spawn();
        let inner = child.map_err(|source| steps.explain(program.clone(), source))?;
        let fail = |source| SpawnError::Start {
            program: program.clone(),
            step: "finding its process id",
            source,
        };
        let pid = inner
            .id()
            .ok_or_else(|| fail(io::Error::other("it is gone already")))?;
        // Still there even if it has died: nobody has waited for it yet.
        let start_time = start_time(pid).map_err(fail)?;
        Ok(Child {
            pid,
            start_time,
            inner,
        })
    }

    /// Runs the command to its end with `stdin` as its input. A non-zero exit is not an error here. Takes at most
    /// `limit`, then the process is killed. Where output files were set, [`Output`] has nothing of them.
    pub async fn run(self, stdin: &str, limit: Duration) -> Result<Output, SpawnError> {
        let program = self.name();
        let (mut command, steps) = self.prepare()?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        let child = child.map_err(|source| steps.explain(program.clone(), source))?;
        match tokio::time::timeout(limit, converse(child, stdin)).await {
            Ok(output) => output.map_err(|source| SpawnError::Run { program, source }),
            Err(_) => Err(SpawnError::TimedOut { program, limit }),
        }
    }

    fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    /// Everything that allocates or looks things up, done before the fork.
    fn prepare(self) -> Result<(std::process::Command, Steps), SpawnError> {
        let program = self.name();
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        if self.clear_environment {
            command.env_clear();
        }
        command.envs(self.environment);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if let Some(file) = self.stdout {
            command.stdout(file);
        }
        if let Some(file) = self.stderr {
            command.stderr(file);
        }
        if self.process_group {
            command.process_group(0);
        }
        let system = |source| SpawnError::Start {
            program: program.clone(),
            step: "making a pipe",
            source,
        };
        let (steps, report) = Steps::new().map_err(system)?;
        let network = self.network;
        let files = self
            .files
            .iter()
            .map(|(source, target)| Ok((checked_path(&program, source)?, checked_path(&program, target)?)))
            .collect::<Result<Vec<_>, SpawnError>>()?;
        if network.is_some() || !files.is_empty() {
            let between = move || enter_namespaces(network.as_ref(), &files, &report);
            // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed: it makes
            // plain system calls on values made before, and neither allocates nor locks.
            unsafe { command.pre_exec(between) };
        }
        Ok((command, steps))
    }
}

impl Child {
    /// Waits for the end of the process.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.inner.wait().await
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.inner.try_wait()
    }

    /// Sends a signal to it. `Ok(false)`: it is gone.
    pub fn kill(&self, signal: Signal) -> io::Result<bool> {
        kill(self.pid, self.start_time, signal)
    }
}

fn checked_path(program: &str, path: &Path) -> Result<CString, SpawnError> {
    let fail = |source| SpawnError::File {
        program: program.to_owned(),
        path: path.to_path_buf(),
        source,
    };
    std::fs::metadata(path).map_err(fail)?;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        fail(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path contains a zero byte",
        ))
    })
}

async fn converse(mut child: tokio::process::Child, stdin: &str) -> io::Result<Output> {
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut input) = input {
            match input.write_all(stdin.as_bytes()).await {
                // It did not want to read all; its exit code tells more.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    let ((), stdout, stderr, status) =
        tokio::try_join!(feed, read_bounded(stdout), read_bounded(stderr), child.wait())?;
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

async fn read_bounded(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > MAX_OUTPUT {
        return Err(io::Error::other(format!("it wrote more than {MAX_OUTPUT} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
