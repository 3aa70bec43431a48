use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code; 128 and the signal's number for one that was killed.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Panics unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Output {
        assert_eq!(
            self.code, code,
            "unexpected exit code; stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }
}

/// Where the built program of this name is: beside the test's own directory.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let directory = own
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/debug/deps/TEST");
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "{} is not built; run `cargo build --workspace`",
        path.display()
    );
    path
}

/// Runs the built `ztctl` with these arguments.
pub fn ztctl(args: &[&str], limit: Duration) -> Output {
    let mut command = Command::new(binary("ztctl"));
    command.args(args);
    run(command, None, limit)
}

/// Runs a program to its end, with this text as its input. Panics when it takes longer than `limit`, or when it has
/// ended but a process that it left behind still holds its output open (a shell's `$(...)` would hang on that).
pub fn run(mut command: Command, stdin: Option<&str>, limit: Duration) -> Output {
    const END_OF_OUTPUT: Duration = Duration::from_secs(5);
    command.stdin(if stdin.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        let text = text.to_owned();
        // The program may end without reading it all.
        std::thread::spawn(move || drop(std::io::Write::write_all(&mut pipe, text.as_bytes())));
    }
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("waiting for a child") {
            break status;
        }
        if Instant::now() > deadline {
            // Its own end may be what hangs: no second wait.
            let _ = child.kill();
            let said = stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
            panic!("{command:?} did not end within {limit:?}; stderr: {said}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let take = |pipe: mpsc::Receiver<String>| {
        pipe.recv_timeout(END_OF_OUTPUT).unwrap_or_else(|_| {
            panic!("{command:?} has ended, but something it started holds its output open")
        })
    };
    let code = status
        .code()
        .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
    Output {
        code,
        stdout: take(stdout),
        stderr: take(stderr),
    }
}

/// The same program and arguments, with the signals of an interrupt as a terminal gives them: what is started in the
/// background by a shell inherits that they are ignored.
pub fn interruptible(command: &Command) -> Command {
    let mut wrapped = Command::new("env");
    wrapped
        .arg("--default-signal=INT,TERM,HUP,QUIT")
        .arg(command.get_program())
        .args(command.get_args());
    wrapped
}

fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
