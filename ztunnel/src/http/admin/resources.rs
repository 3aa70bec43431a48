//! What this process uses, and for whom: memory and threads as the kernel counts them, and what each pod holds.

use crate::connections::Subject;
use crate::context::Context;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};

/// The most threads that are listed, the busiest first.
const MAX_THREADS: usize = 64;

/// Writes all of it.
pub(super) fn write(context: &Context, out: &mut impl Write) -> io::Result<()> {
    let runtime = tokio::runtime::Handle::current().metrics();
    let snapshot = context.state.snapshot();
    let page = json!({
        "memory": memory(&fs::read_to_string("/proc/self/status")?),
        "openFiles": fs::read_dir("/proc/self/fd")?.count(),
        "threads": threads(),
        "runtime": {
            "workers": runtime.num_workers(),
            "aliveTasks": runtime.num_alive_tasks(),
            "waitingTasks": runtime.global_queue_depth(),
        },
        "buffers": {
            "queuedBytes": context.buffers.queued(),
            "promisedWindowBytes": context.buffers.promised(),
            "limitBytes": context.buffers.limit(),
        },
        "tunnels": context.tunnels.len(),
        "state": {
            "workloads": snapshot.workloads().count(),
            "services": snapshot.services().count(),
            "policies": snapshot.policies().count(),
        },
        "pods": pods(context),
    });
    #[cfg(feature = "jemalloc")]
    let page = with_heap(page);
    serde_json::to_writer_pretty(&mut *out, &page)?;
    out.write_all(b"\n")
}

/// The kernel's figures about memory, in bytes: what is in RAM now and was at most, and how much of it is the heap's and
/// the stacks' (anonymous) rather than the program's.
fn memory(status: &str) -> Value {
    const FIELDS: [(&str, &str); 4] = [
        ("VmRSS:", "residentBytes"),
        ("VmHWM:", "residentBytesAtMost"),
        ("RssAnon:", "anonymousBytes"),
        ("VmSwap:", "swappedBytes"),
    ];
    let field = |(key, name): (&str, &str)| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some((name.to_owned(), (kilobytes * 1024).into()))
    };
    Value::Object(
        FIELDS
            .into_iter()
            .filter_map(field)
            .collect::<Map<String, Value>>(),
    )
}

/// Adds the allocator's figures, in bytes: what is in use, what is in RAM for that, and addresses kept without any.
/// Memory of C code (cryptography) is not among them.
#[cfg(feature = "jemalloc")]
fn with_heap(mut page: Value) -> Value {
    if let Ok(figures) = sys::heap::figures() {
        page["heap"] = json!({
            "allocatedBytes": figures.allocated,
            "residentBytes": figures.resident,
            "retainedBytes": figures.retained,
        });
    }
    page
}

/// Threads by the processor time that they have taken, most first, and how long each was ready and had to wait for a
/// processor. One that ends meanwhile is left out.
fn threads() -> Vec<Value> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut found: Vec<(u64, Value)> = tasks
        .filter_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let mut times = times
                .split_whitespace()
                .map_while(|time| time.parse::<u64>().ok());
            let (ran, waited) = (times.next()?, times.next()?);
            let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
            let thread = json!({
                "name": name.trim_end(),
                "cpuSeconds": seconds(ran),
                "waitedForCpuSeconds": seconds(waited),
            });
            Some((ran, thread))
        })
        .collect();
    found.sort_by_key(|(ran, _)| std::cmp::Reverse(*ran));
    found
        .into_iter()
        .take(MAX_THREADS)
        .map(|(_, thread)| thread)
        .collect()
}

/// What each pod holds, those first whose peers leave most unread.
fn pods(context: &Context) -> Vec<Value> {
    let mut open: HashMap<String, (usize, usize)> = HashMap::new();
    for connection in context.connections.list() {
        let (inbound, outbound) = open.entry(connection.pod.id.to_string()).or_default();
        *match &connection.subject {
            Subject::Inbound(_) => inbound,
            _ => outbound,
        } += 1;
    }
    let mut pods = context.pods.list();
    pods.sort_by_cached_key(|pod| (std::cmp::Reverse(pod.buffers.queued()), pod.full_name()));
    let described = pods.iter().map(|pod| {
        let (inbound, outbound) = open.remove(&pod.id.to_string()).unwrap_or_default();
        json!({
            "pod": pod.full_name(),
            "uid": pod.id.to_string(),
            "inboundConnections": inbound,
            "outboundConnections": outbound,
            "bufferedBytes": pod.buffers.queued(),
            "buffersFull": pod.buffers.is_exhausted(),
        })
    });
    described.collect()
}
