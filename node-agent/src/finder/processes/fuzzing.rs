//! What the kernel says of a process as a function of bytes, for the fuzz target.

use super::{is_plain, pod_of, started};

/// Reads the texts of `/proc/PID/cgroup` and `/proc/PID/stat`, a zero byte between them; returns whether that is a
/// process of a pod.
pub fn process(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let (groups, stat) = text.split_once('\0').unwrap_or((&text, ""));
    let started = started(stat);
    let Some(uid) = pod_of(groups) else {
        return false;
    };
    assert!(is_plain(&uid), "a uid becomes a part of paths");
    assert!(groups.replace('_', "-").contains(&uid));
    started.is_some()
}
