//! Connections and bytes, counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::family::{Folds, encode_counter, encode_gauge};
use super::table::Table;
use super::traffic_labels::{Reporter, ResponseFlags, TrafficLabels};

/// The counters of one label set, for each way to end.
#[derive(Debug, Default)]
struct Series {
    opened: AtomicU64,
    ends: [End; ResponseFlags::ALL.len()],
}

#[derive(Debug, Default)]
struct End {
    closed: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Traffic {
    series: Table<TrafficLabels, Series>,
    locality: bool,
}

impl Traffic {
    pub(crate) fn new(limit: usize, locality: bool) -> Self {
        Self {
            series: Table::new(limit),
            locality,
        }
    }

    pub(crate) fn opened(&self, labels: &TrafficLabels) {
        self.of(labels).opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self, labels: &TrafficLabels, flags: ResponseFlags, received: u64, sent: u64) {
        let series = self.of(labels);
        let end = &series.ends[flags as usize];
        end.received.fetch_add(received, Ordering::Relaxed);
        end.sent.fetch_add(sent, Ordering::Relaxed);
        if flags != ResponseFlags::None {
            end.failed.fetch_add(1, Ordering::Relaxed);
        }
        end.closed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, labels: &TrafficLabels, flags: ResponseFlags) {
        self.of(labels).ends[flags as usize]
            .failed
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn forget(&self, namespace: &str, workload: &str) {
        self.series.retain(|labels| {
            let own = labels.own();
            own.namespace.as_str() != namespace || own.workload.as_str() != workload
        });
    }

    fn of(&self, labels: &TrafficLabels) -> Arc<Series> {
        self.series.get(labels, TrafficLabels::overflow, Series::default)
    }
}

impl Folds for Traffic {
    fn folded(&self) -> u64 {
        self.series.folded()
    }
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.series.all();
        let mut metric = encoder.encode_descriptor(
            "istio_tcp_connections_opened",
            "The total number of TCP connections opened",
            None,
            MetricType::Counter,
        )?;
        for (labels, series) in &all {
            let opened = series.opened.load(Ordering::Relaxed);
            if opened > 0 {
                encode_counter(
                    &mut metric,
                    &labels.named(ResponseFlags::None, self.locality),
                    opened,
                )?;
            }
        }
        let ends: [(&str, &str, Counter, Counter); 4] = [
            (
                "istio_tcp_connections_closed",
                "The total number of TCP connections closed",
                |end| &end.closed,
                |end| &end.closed,
            ),
            (
                "istio_tcp_received_bytes",
                "The size of total bytes received during request in case of a TCP connection",
                |end| &end.received,
                |end| &end.closed,
            ),
            (
                "istio_tcp_sent_bytes",
                "The size of total bytes sent during response in case of a TCP connection",
                |end| &end.sent,
                |end| &end.closed,
            ),
            (
                "istio_tcp_connections_failed",
                "The total number of TCP connections that failed to establish or ended with an error (unstable)",
                |end| &end.failed,
                |end| &end.failed,
            ),
        ];
        for (name, help, value, present) in ends {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in &all {
                for (flags, end) in ResponseFlags::ALL.into_iter().zip(&series.ends) {
                    if present(end).load(Ordering::Relaxed) > 0 {
                        let value = value(end).load(Ordering::Relaxed);
                        encode_counter(&mut metric, &labels.named(flags, self.locality), value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

type Counter = fn(&End) -> &AtomicU64;

/// Open sockets, by side.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    open: [AtomicI64; Reporter::ALL.len()],
}

impl Sockets {
    pub(crate) fn add(&self, reporter: Reporter, count: i64) {
        self.open[reporter as usize].fetch_add(count, Ordering::Relaxed);
    }
}

impl Collector for Sockets {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "istio_tcp_sockets_open",
            "The current number of open TCP sockets (unstable)",
            None,
            MetricType::Gauge,
        )?;
        for (reporter, open) in Reporter::ALL.into_iter().zip(&self.open) {
            encode_gauge(
                &mut metric,
                &[("reporter", reporter.as_str())],
                open.load(Ordering::Relaxed),
            )?;
        }
        Ok(())
    }
}
