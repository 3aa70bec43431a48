//! The process, its runtime and its log.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use tokio::runtime::{Handle, RuntimeMetrics};

use super::family::{encode_counter, encode_gauge};
use crate::DroppedLines;

/// File descriptors, read when asked for.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(open) = open_descriptors() {
            let mut metric = encoder.encode_descriptor(
                "process_open_fds",
                "Number of open file descriptors (unstable)",
                None,
                MetricType::Gauge,
            )?;
            encode_gauge(&mut metric, &[], open)?;
        }
        if let Some(max) = fs::read_to_string("/proc/self/limits")
            .ok()
            .as_deref()
            .and_then(max_descriptors)
        {
            let mut metric = encoder.encode_descriptor(
                "process_max_fds",
                "Maximum number of file descriptors (unstable)",
                None,
                MetricType::Gauge,
            )?;
            encode_gauge(&mut metric, &[], max)?;
        }
        Ok(())
    }
}

fn open_descriptors() -> Option<i64> {
    // The descriptor that reads the directory is one of the entries.
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(entries.saturating_sub(1)).ok()
}

/// The soft limit in the text of `/proc/self/limits`.
pub(crate) fn max_descriptors(limits: &str) -> Option<i64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Lines that the log's queue had no room for.
#[derive(Debug, Default)]
pub(crate) struct LogLines {
    dropped: OnceLock<DroppedLines>,
}

impl LogLines {
    pub(crate) fn observe(&self, dropped: DroppedLines) {
        // The process has one log; a second one is not there to be observed.
        let _ = self.dropped.set(dropped);
    }
}

impl Collector for LogLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let dropped = self.dropped.get().map_or(0, DroppedLines::count);
        let mut metric = encoder.encode_descriptor(
            "ztunnel_log_lines_dropped",
            "Log lines dropped because whoever reads the log is too slow (unstable)",
            None,
            MetricType::Counter,
        )?;
        encode_counter(&mut metric, &[], dropped)
    }
}

/// A figure of one worker.
type OfWorker = fn(&RuntimeMetrics, usize) -> u64;

/// The runtime that moves connections.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    handle: OnceLock<RuntimeMetrics>,
}

impl Runtime {
    pub(crate) fn observe(&self, runtime: &Handle) {
        // The first one observed stays: there is one runtime that moves connections.
        let _ = self.handle.set(runtime.metrics());
    }
}

impl Collector for Runtime {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(runtime) = self.handle.get() else {
            return Ok(());
        };
        let totals = [
            (
                "tokio_num_workers",
                "Worker threads of the runtime (unstable)",
                runtime.num_workers(),
            ),
            (
                "tokio_num_alive_tasks",
                "Tasks alive in the runtime (unstable)",
                runtime.num_alive_tasks(),
            ),
            (
                "tokio_global_queue_depth",
                "Tasks in the global queue (unstable)",
                runtime.global_queue_depth(),
            ),
        ];
        for (name, help, value) in totals {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            encode_gauge(&mut metric, &[], i64::try_from(value).unwrap_or(i64::MAX))?;
        }
        let workers: Vec<(usize, String)> = (0..runtime.num_workers())
            .map(|worker| (worker, worker.to_string()))
            .collect();
        let mut busy = encoder.encode_descriptor(
            "tokio_worker_total_busy_duration_seconds",
            "Time the worker was busy (unstable)",
            None,
            MetricType::Gauge,
        )?;
        for (worker, name) in &workers {
            let labels = [("worker", name.as_str())];
            let seconds = runtime.worker_total_busy_duration(*worker).as_secs_f64();
            busy.encode_family(&labels)?.encode_gauge(&seconds)?;
        }
        let counts: [(&str, &str, OfWorker); 2] = [
            (
                "tokio_worker_park_count",
                "Times the worker went to sleep (unstable)",
                RuntimeMetrics::worker_park_count,
            ),
            (
                "tokio_worker_park_unpark_count",
                "Times the worker went to sleep and woke up (unstable)",
                RuntimeMetrics::worker_park_unpark_count,
            ),
        ];
        for (name, help, count) in counts {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (worker, label) in &workers {
                let value = i64::try_from(count(runtime, *worker)).unwrap_or(i64::MAX);
                encode_gauge(&mut metric, &[("worker", label)], value)?;
            }
        }
        Ok(())
    }
}
