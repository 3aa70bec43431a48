use std::time::Duration;

use sys::process::{Signal, kill};
use tokio::time::Instant;

use crate::cleanup;
use crate::control::{Request, ask};
use crate::error::LabError;
use crate::layout::Layout;
use crate::lock;
use crate::supervisor::runner::read_records;

/// How long a supervisor may take to end the lab before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// What `down` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The lab was up, or had left something; nothing is left now.
    Down,
    /// There was nothing.
    Unknown,
}

/// Ends a lab and removes everything of it, also when its supervisor was killed. Doing it again is no error.
pub async fn down(layout: &Layout) -> Result<Ended, LabError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::Usage(
            "the lab's namespaces belong to root: run it with sudo".to_owned(),
        ));
    }
    let traces = [
        layout.root(),
        &layout.lock(),
        &layout.kept_logs(),
        &layout.supervisor_log(),
    ];
    if !traces.iter().any(|path| path.exists()) {
        return Ok(Ended::Unknown);
    }
    let begun = Instant::now();
    let mut asked = false;
    let lock = loop {
        match lock::take(layout) {
            Ok(lock) => break lock,
            Err(LabError::AlreadyUp(_)) => {}
            Err(error) => return Err(error),
        }
        if !asked {
            asked = ask(layout, &Request::Down).await.is_ok() || signal_supervisor(layout, Signal::SIGTERM);
        }
        if begun.elapsed() > PATIENCE {
            signal_supervisor(layout, Signal::SIGKILL);
        }
        if begun.elapsed() > PATIENCE * 2 {
            return Err(LabError::Failed(format!(
                "the supervisor of the lab `{}` does not end",
                layout.name()
            )));
        }
        tokio::time::sleep(LOOK).await;
    };
    cleanup::clean(layout).await?;
    let _ = std::fs::remove_file(layout.supervisor_log());
    lock.remove(layout);
    Ok(Ended::Down)
}

fn signal_supervisor(layout: &Layout, signal: Signal) -> bool {
    read_records(&layout.pids())
        .into_iter()
        .find(|(label, _, _)| label == cleanup::SUPERVISOR)
        .is_some_and(|(_, pid, start_time)| kill(pid, start_time, signal).unwrap_or(false))
}
