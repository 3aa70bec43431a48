//! A part of the measurement in a process of its own: commands in, answers out, each a line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::Value;

use super::Outcome;

/// A running part. Dropped, it is ended.
pub(super) struct Part {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Part {
    /// Starts this same program with these arguments.
    pub(super) fn start(name: &'static str, arguments: &[String]) -> Outcome<Part> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(name)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err(format!("{name} has no pipes").into());
        };
        Ok(Part {
            name,
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// The next answer.
    pub(super) fn answer(&mut self) -> Outcome<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(format!("{} has ended; its last words are above", self.name).into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Says something and waits for the answer.
    pub(super) fn ask(&mut self, command: &str) -> Outcome<Value> {
        writeln!(self.input, "{command}")?;
        self.input.flush()?;
        self.answer()
    }

    /// How much processor time it has used.
    pub(super) fn processor_time(&self) -> Outcome<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name in parentheses, which may hold anything.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks: u64 = [11, 12]
            .iter()
            .filter_map(|index| fields.get(*index)?.parse::<u64>().ok())
            .sum();
        let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100).max(1);
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// The memory that it uses at present, in bytes.
    pub(super) fn memory(&self) -> Outcome<u64> {
        resident(&self.child.id().to_string())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Our own child, and nothing of it is to be kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The memory of a process (`self`, or its id) that is in use, in bytes.
pub(super) fn resident(process: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(kibibytes.ok_or("the kernel tells no VmRSS")? * 1024)
}

/// Says something to who started this process.
pub(super) fn tell(answer: &Value) -> Outcome<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{answer}")?;
    output.flush()?;
    Ok(())
}

/// The commands of who started this process, read by a thread of their own. At most one is under way.
pub(super) fn commands() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let (ready, started) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody waits for it when it is too late.
        let _ = ready.send(());
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let _ = started.recv();
    receiver
}

/// Lets this process and its parts open as many files as the system allows: a stream needs one at each end.
pub(super) fn open_many_files() -> Outcome<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}
