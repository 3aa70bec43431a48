use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program has to end by itself.
const GRACE: Duration = Duration::from_secs(20);

/// A program that runs until this is dropped, or the test's process ends, however that does. What it says is in a file.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program; its output is added to the file `log`.
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Daemon {
        let open = || File::options().create(true).append(true).open(log);
        let file = open().unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("setpriv {}: {error}", program.display()));
        Daemon {
            child,
            log: log.to_owned(),
        }
    }

    /// Everything that it has said, and what was said before into the same file.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as a kubelet would, and waits. True: it went by itself, with exit code 0.
    pub fn stop(mut self) -> bool {
        self.end(Signal::SIGTERM)
    }

    /// Ends it without a word, and waits.
    pub fn kill(mut self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&mut self, signal: Signal) -> bool {
        if let Ok(id) = i32::try_from(self.child.id())
            && self.is_running()
        {
            let _ = kill(Pid::from_raw(id), signal);
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
