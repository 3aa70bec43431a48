//! Taking away what a lab left behind, however it ended.

use std::fs;
use std::time::Duration;

use sys::process::{Signal, is_alive, kill, kill_group};

use crate::error::LabError;
use crate::layout::Layout;
use crate::network;
use crate::supervisor::{runner, strays};

/// The record of the supervisor's own process.
pub(crate) const SUPERVISOR: &str = "supervisor";

const PAUSE: Duration = Duration::from_millis(20);
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// [`remove`], and also the logs that were kept of a lab that could not come up.
pub(crate) async fn clean(layout: &Layout) -> Result<(), LabError> {
    let _ = fs::remove_dir_all(layout.kept_logs());
    remove(layout).await
}

/// Kills what is left of a lab's processes, each known by id and start time or by the namespace it lives in, and
/// removes namespaces and files. The caller holds the lab's lock, so its supervisor does not live any more (or is the
/// caller). Nothing to do is no error.
pub(crate) async fn remove(layout: &Layout) -> Result<(), LabError> {
    if !layout.root().exists() {
        return Ok(());
    }
    let own = std::process::id();
    let recorded: Vec<_> = runner::read_records(&layout.pids())
        .into_iter()
        .filter(|(_, pid, _)| *pid != own)
        .collect();
    for (label, pid, start_time) in &recorded {
        if label == SUPERVISOR {
            let _ = kill(*pid, *start_time, Signal::SIGKILL);
        } else {
            let _ = kill_group(*pid, *start_time, Signal::SIGKILL);
        }
    }
    let deadline = tokio::time::Instant::now() + GONE_WITHIN;
    while recorded
        .iter()
        .any(|(_, pid, start_time)| is_alive(*pid, *start_time))
    {
        if tokio::time::Instant::now() > deadline {
            return Err(LabError::Failed(format!(
                "processes of the lab `{}` do not end; see {}",
                layout.name(),
                layout.pids().display()
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
    strays::kill_all_in(&network::pinned(layout), &Default::default()).await;
    network::unpin_all(layout)?;
    match fs::remove_dir_all(layout.root()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(LabError::system(format!(
            "removing {}",
            layout.root().display()
        ))(error)),
        _ => Ok(()),
    }
}
