//! The figures as a table: a column for each size, and how they relate.

use std::fmt;
use std::time::Duration;

use super::mesh::Size;

/// What was measured of one mesh.
pub(super) struct Figures {
    size: Size,
    streams: u32,
    /// From nothing to serving, over objects in memory.
    pub(super) compile: Duration,
    /// The same over a Kubernetes API, zero where that was not measured.
    pub(super) kubernetes_start: Duration,
    /// What the control plane took of memory for that, in bytes.
    pub(super) memory: u64,
    /// From dialling until one client knows everything.
    pub(super) first_answer: Duration,
    /// The same for all clients at once.
    pub(super) all_connected: Duration,
    pub(super) all_connected_bytes: u64,
    pub(super) all_connected_cpu: Duration,
    /// The control plane's memory with all of them, in bytes.
    pub(super) memory_connected: u64,
    /// From a change of one pod until all clients were told.
    pub(super) times: Vec<Duration>,
    /// What was sent to all of them for it.
    pub(super) change_bytes: Vec<u64>,
    /// The control plane's processor time for one change.
    pub(super) change_cpu: Duration,
    /// Its processors at a hundred changes a second.
    pub(super) busy_cpu: f64,
    /// From the last of those until all who check were right.
    pub(super) catch_up: Duration,
}

impl Figures {
    pub(super) fn new(size: Size, streams: u32) -> Figures {
        Figures {
            size,
            streams,
            compile: Duration::ZERO,
            kubernetes_start: Duration::ZERO,
            memory: 0,
            first_answer: Duration::ZERO,
            all_connected: Duration::ZERO,
            all_connected_bytes: 0,
            all_connected_cpu: Duration::ZERO,
            memory_connected: 0,
            times: Vec::new(),
            change_bytes: Vec::new(),
            change_cpu: Duration::ZERO,
            busy_cpu: 0.0,
            catch_up: Duration::ZERO,
        }
    }

    /// The value that this part of them does not exceed.
    fn at<T: Copy + Ord>(values: &[T], part: f64) -> Option<T> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let index = (part * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(index).copied()
    }

    fn milliseconds(&self, part: f64) -> f64 {
        Self::at(&self.times, part).unwrap_or_default().as_secs_f64() * 1000.0
    }
}

/// A column for each mesh, and the last beside the first.
pub(super) struct Report<'a>(pub(super) &'a [Figures]);

type Line = (&'static str, fn(&Figures) -> f64);

const LINES: [Line; 14] = [
    ("compiled and serving, s", |figures| figures.compile.as_secs_f64()),
    ("the same over a Kubernetes API, s", |figures| {
        figures.kubernetes_start.as_secs_f64()
    }),
    ("memory for that, KiB a pod", |figures| {
        per_pod(figures, figures.memory)
    }),
    ("first complete answer, one client, s", |figures| {
        figures.first_answer.as_secs_f64()
    }),
    ("all clients at once know everything, s", |figures| {
        figures.all_connected.as_secs_f64()
    }),
    ("bytes for that, MiB", |figures| {
        figures.all_connected_bytes as f64 / f64::from(1 << 20)
    }),
    ("processor time for that, s", |figures| {
        figures.all_connected_cpu.as_secs_f64()
    }),
    ("memory with all clients, MiB", |figures| {
        figures.memory_connected as f64 / f64::from(1 << 20)
    }),
    ("one pod changes: all clients told, median ms", |figures| {
        figures.milliseconds(0.5)
    }),
    ("one pod changes: all clients told, 99 % ms", |figures| {
        figures.milliseconds(0.99)
    }),
    ("one pod changes: bytes to all clients", |figures| {
        Figures::at(&figures.change_bytes, 0.5).unwrap_or_default() as f64
    }),
    ("one pod changes: processor time, ms", |figures| {
        figures.change_cpu.as_secs_f64() * 1000.0
    }),
    ("100 changes a second: processors busy", |figures| {
        figures.busy_cpu
    }),
    ("after them: all who check are right, s", |figures| {
        figures.catch_up.as_secs_f64()
    }),
];

fn per_pod(figures: &Figures, bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / f64::from(figures.size.pods.max(1))
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else {
            return Ok(());
        };
        let name = |figures: &Figures| format!("{} pods, {} clients", figures.size.pods, figures.streams);
        writeln!(out, "| | {} | {} | ratio |", name(first), name(last))?;
        writeln!(out, "|---|---|---|---|")?;
        for (what, of) in LINES {
            let (one, other) = (of(first), of(last));
            let ratio = if one > 0.0 {
                format!("{:.2}", other / one)
            } else {
                "-".to_owned()
            };
            writeln!(out, "| {what} | {one:.3} | {other:.3} | {ratio} |")?;
        }
        Ok(())
    }
}
