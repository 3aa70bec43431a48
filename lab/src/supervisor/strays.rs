//! Processes that are still in a namespace which is to go.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use sys::process::{Signal, kill, start_time};
use sys::{Namespace, NamespaceId};

/// How often it is looked again whether all are gone.
const ROUNDS: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Kills every process whose network namespace is one of these, by id and start time, and waits until they are gone.
/// This very process and those in `spared` are left alone: they visit namespaces without living there.
pub(crate) async fn kill_all_in(namespaces: &[Namespace], spared: &BTreeSet<u32>) {
    let wanted: BTreeSet<NamespaceId> = namespaces.iter().map(Namespace::id).collect();
    if wanted.is_empty() {
        return;
    }
    for _ in 0..ROUNDS {
        let mut found = false;
        for pid in living_in(&wanted) {
            if pid == std::process::id() || spared.contains(&pid) {
                continue;
            }
            // It may end by itself between these lines.
            if let Ok(start_time) = start_time(pid) {
                found |= kill(pid, start_time, Signal::SIGKILL).unwrap_or(false);
            }
        }
        if !found {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The processes whose main thread is in one of these namespaces.
fn living_in(wanted: &BTreeSet<NamespaceId>) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|stat| {
                wanted.contains(&NamespaceId {
                    dev: stat.dev(),
                    inode: stat.ino(),
                })
            })
        })
        .collect()
}
