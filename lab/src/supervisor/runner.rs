//! One process that is kept running: started, watched, started again when it dies, and ended when asked.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sys::Namespace;
use sys::process::{Child, Command, Signal, kill_group};
use tokio::sync::{mpsc, oneshot, watch};

use super::backoff::Backoff;
use crate::error::LabError;

/// How a process is started.
#[derive(Clone)]
pub(crate) struct Recipe {
    /// Names the file that records the process, for those who clean up after a killed supervisor.
    pub(crate) label: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) network: Namespace,
    /// Files to cover: source, target.
    pub(crate) binds: Vec<(PathBuf, PathBuf)>,
    pub(crate) log: PathBuf,
    pub(crate) pids: PathBuf,
    pub(crate) restart: Restart,
}

/// When a process that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    OnFailure,
    Never,
}

/// How a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Not started yet, or waiting to be started again.
    Waiting {
        /// Why: the last end, or that it could not be started.
        last: Option<Ended>,
    },
    Running {
        pid: u32,
        start_time: u64,
    },
    /// It ended and stays so.
    Ended(Ended),
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The exit code, or 128 and the signal's number.
    pub(crate) code: i32,
    pub(crate) text: String,
}

/// A process's state and how often it was started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) state: RunState,
    pub(crate) restarts: u32,
}

impl Run {
    pub(crate) fn pid(&self) -> Option<u32> {
        match self.state {
            RunState::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

enum Order {
    /// End it for good: SIGTERM, and SIGKILL after so long.
    Stop(Duration),
    /// End it and start it again at once; answered with the id of the process that ran before.
    Restart {
        kill: bool,
        grace: Duration,
        done: oneshot::Sender<Option<u32>>,
    },
    /// Start another beside it, and end this one once the other is ready.
    Replace {
        ready: ReadyCheck,
        grace: Duration,
        done: oneshot::Sender<Result<(), String>>,
    },
}

/// Given a process id, completes when that process is ready; `false` if it has not become so in time.
pub(crate) type ReadyCheck = Box<dyn FnOnce(u32) -> BoxFuture<'static, bool> + Send>;

/// The handle of a process that is kept running. Dropped without [`Runner::stop`], the process is ended at once.
pub(crate) struct Runner {
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<Run>,
    task: tokio::task::JoinHandle<()>,
}

impl Runner {
    /// Starts the process.
    pub(crate) fn start(recipe: Recipe) -> Runner {
        let (orders, inbox) = mpsc::channel(8);
        let (report, state) = watch::channel(Run {
            state: RunState::Waiting { last: None },
            restarts: 0,
        });
        let task = tokio::spawn(keep(recipe, inbox, report));
        Runner { orders, state, task }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Run> {
        self.state.clone()
    }

    pub(crate) fn now(&self) -> Run {
        self.state.borrow().clone()
    }

    /// Ends the process and waits until it is gone.
    pub(crate) async fn stop(self, grace: Duration) {
        // Both fail only when the keeper is gone, and then so is the process.
        let _ = self.orders.send(Order::Stop(grace)).await;
        let _ = self.task.await;
    }

    /// Ends the process, starts another, and gives the id of the old one.
    pub(crate) async fn restart(&self, kill: bool, grace: Duration) -> Option<u32> {
        let (done, answer) = oneshot::channel();
        self.orders
            .send(Order::Restart { kill, grace, done })
            .await
            .ok()?;
        answer.await.ok().flatten()
    }

    /// Starts another process beside the running one, waits until `ready`, and then ends the old one with SIGTERM and
    /// `grace`: an upgrade without a gap. On failure the old one stays.
    pub(crate) async fn replace(&self, ready: ReadyCheck, grace: Duration) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        let order = Order::Replace { ready, grace, done };
        let gone = || "its keeper has ended".to_owned();
        self.orders.send(order).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The life of one process after the other.
async fn keep(recipe: Recipe, mut orders: mpsc::Receiver<Order>, report: watch::Sender<Run>) {
    let mut backoff = Backoff::default();
    let mut restarts: u32 = 0;
    loop {
        let begun = Instant::now();
        let ended = match spawn(&recipe) {
            Err(text) => {
                note(&recipe.log, &format!("cannot be started: {text}"));
                Ended { code: 127, text }
            }
            Ok(mut child) => {
                let mut record = Record::new(&recipe, &child);
                report.send_replace(running(&child, restarts));
                let (ended, order) = loop {
                    let order = tokio::select! {
                        ended = end_of(&mut child) => break (ended, None),
                        order = orders.recv() => order.unwrap_or(Order::Stop(Duration::ZERO)),
                    };
                    match order {
                        Order::Stop(grace) => break (end(&mut child, false, grace).await, Some(order)),
                        Order::Restart { kill, grace, .. } => {
                            break (end(&mut child, kill, grace).await, Some(order));
                        }
                        Order::Replace { ready, grace, done } => {
                            let outcome = match successor(&recipe, ready).await {
                                Ok((next, next_record)) => {
                                    restarts = restarts.saturating_add(1);
                                    report.send_replace(running(&next, restarts));
                                    let mut old = std::mem::replace(&mut child, next);
                                    let old_record = std::mem::replace(&mut record, next_record);
                                    end(&mut old, false, grace).await;
                                    let _ = kill_group(old.pid, old.start_time, Signal::SIGKILL);
                                    drop(old_record);
                                    Ok(())
                                }
                                Err(error) => Err(error),
                            };
                            let _ = done.send(outcome);
                        }
                    }
                };
                // Children that it left behind.
                let _ = kill_group(child.pid, child.start_time, Signal::SIGKILL);
                drop(record);
                match order {
                    Some(Order::Stop(_)) => {
                        report.send_replace(Run {
                            state: RunState::Ended(ended),
                            restarts,
                        });
                        return;
                    }
                    Some(Order::Restart { done, .. }) => {
                        backoff.forgive();
                        restarts = restarts.saturating_add(1);
                        report.send_replace(Run {
                            state: RunState::Waiting { last: Some(ended) },
                            restarts,
                        });
                        let _ = done.send(Some(child.pid));
                        continue;
                    }
                    // A replacement is done before this point.
                    Some(Order::Replace { .. }) | None => ended,
                }
            }
        };
        let again = match recipe.restart {
            Restart::Always => true,
            Restart::OnFailure => ended.code != 0,
            Restart::Never => false,
        };
        if !again {
            report.send_replace(Run {
                state: RunState::Ended(ended),
                restarts,
            });
            // Nothing is left to do, but a restart may still be asked for.
            match orders.recv().await {
                Some(Order::Restart { done, .. }) => {
                    let _ = done.send(None);
                    continue;
                }
                Some(Order::Replace { done, .. }) => {
                    let _ = done.send(Ok(()));
                    continue;
                }
                Some(Order::Stop(_)) | None => return,
            }
        }
        let wait = backoff.after(begun.elapsed());
        report.send_replace(Run {
            state: RunState::Waiting { last: Some(ended) },
            restarts,
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            order = orders.recv() => match order {
                Some(Order::Restart { done, .. }) => {
                    backoff.forgive();
                    let _ = done.send(None);
                }
                Some(Order::Replace { done, .. }) => {
                    backoff.forgive();
                    let _ = done.send(Ok(()));
                }
                Some(Order::Stop(_)) | None => return,
            },
        }
        restarts = restarts.saturating_add(1);
    }
}

fn running(child: &Child, restarts: u32) -> Run {
    Run {
        state: RunState::Running {
            pid: child.pid,
            start_time: child.start_time,
        },
        restarts,
    }
}

/// Starts a process beside the one that runs, and waits until it is ready.
async fn successor(recipe: &Recipe, ready: ReadyCheck) -> Result<(Child, Record), String> {
    let mut next = spawn(recipe)?;
    let record = Record::beside(recipe, &next);
    let failure = tokio::select! {
        is_ready = ready(next.pid) => if is_ready {
            return Ok((next, record));
        } else {
            "it was not ready in time".to_owned()
        },
        ended = end_of(&mut next) => format!("it ended before it was ready: {}", ended.text),
    };
    end(&mut next, true, Duration::ZERO).await;
    Err(failure)
}

fn spawn(recipe: &Recipe) -> Result<Child, String> {
    let log = open_log(&recipe.log).map_err(|error| error.to_string())?;
    let errors = log.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(&recipe.program)
        .args(&recipe.args)
        .env_clear()
        .network(&recipe.network)
        .stdout(log)
        .stderr(errors)
        .process_group();
    for (name, value) in &recipe.env {
        command = command.env(name, value);
    }
    for (source, target) in &recipe.binds {
        command = command.bind_file(source, target);
    }
    if let Some(directory) = &recipe.directory {
        command = command.current_dir(directory);
    }
    command.spawn().map_err(|error| error.to_string())
}

async fn end_of(child: &mut Child) -> Ended {
    match child.wait().await {
        Ok(status) => {
            use std::os::unix::process::ExitStatusExt;
            let code = status
                .code()
                .or_else(|| status.signal().map(|signal| 128 + signal))
                .unwrap_or(255);
            Ended {
                code,
                text: status.to_string(),
            }
        }
        Err(error) => Ended {
            code: 255,
            text: format!("cannot be waited for: {error}"),
        },
    }
}

async fn end(child: &mut Child, kill: bool, grace: Duration) -> Ended {
    if !kill && grace > Duration::ZERO {
        let _ = kill_group(child.pid, child.start_time, Signal::SIGTERM);
        if let Ok(ended) = tokio::time::timeout(grace, end_of(child)).await {
            return ended;
        }
    }
    let _ = kill_group(child.pid, child.start_time, Signal::SIGKILL);
    end_of(child).await
}

/// Opens a log for appending, so that it can be emptied while it is written.
pub(crate) fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// A line of the lab's own in a process's log.
fn note(path: &Path, text: &str) {
    if let Ok(mut log) = open_log(path) {
        let _ = writeln!(log, "ztctl lab: {text}");
    }
}

/// The file that says which process runs. It is there from start to end.
struct Record(PathBuf);

impl Record {
    fn new(recipe: &Recipe, child: &Child) -> Record {
        Self::at(recipe.pids.join(&recipe.label), recipe, child)
    }

    /// For a process beside the one that has the label's own record.
    fn beside(recipe: &Recipe, child: &Child) -> Record {
        let name = format!("{}.{}", recipe.label, child.pid);
        Self::at(recipe.pids.join(name), recipe, child)
    }

    fn at(path: PathBuf, recipe: &Recipe, child: &Child) -> Record {
        if let Err(error) = write_record(&path, child.pid, child.start_time) {
            tracing::warn!(%error, label = recipe.label, "cannot record a process; a killed lab would leave it behind");
        }
        Record(path)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Records a process: its id and when it started.
pub(crate) fn write_record(path: &Path, pid: u32, start_time: u64) -> Result<(), LabError> {
    fs::write(path, format!("{pid} {start_time}\n"))
        .map_err(LabError::system(format!("writing {}", path.display())))
}

/// The recorded processes of a lab.
pub(crate) fn read_records(directory: &Path) -> Vec<(String, u32, u64)> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let (pid, start_time) = text.trim().split_once(' ')?;
            Some((
                entry.file_name().into_string().ok()?,
                pid.parse().ok()?,
                start_time.parse().ok()?,
            ))
        })
        .collect()
}
