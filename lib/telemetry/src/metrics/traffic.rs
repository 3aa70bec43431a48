//! Connections and bytes, counted.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::family::{Folds, encode_counter, encode_gauge};
use super::names::IdleNames;
use super::table::{Entry, Table};
use super::traffic_labels::{Reporter, ResponseFlags, TrafficLabels};

/// The counters of one label set.
#[derive(Debug, Default)]
struct Series {
    opened: AtomicU64,
    closed: AtomicU64,
    /// For each way to end.
    ends: [End; ResponseFlags::ALL.len()],
}

#[derive(Debug, Default)]
struct End {
    /// Established connections that ended so; tells whether the byte counters are published.
    ended: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Traffic {
    series: Table<TrafficLabels, Series>,
    locality: bool,
}

/// One established connection, counted as open until it is said to be closed, or dropped.
#[derive(Debug)]
pub struct OpenConnection {
    traffic: Arc<Traffic>,
    series: Arc<Entry<Series>>,
}

impl OpenConnection {
    /// It ended. `received` is what went from initiator to acceptor in bytes, `sent` the reverse, whichever side
    /// reports. With flags other than [`ResponseFlags::None`] it also counts as failed.
    ///
    /// It is counted as closed in the same series in which it was counted as opened, whatever the flags, so that
    /// opened less closed is what is open; bytes and the failure carry the flags.
    pub fn closed(self, flags: ResponseFlags, received: u64, sent: u64) {
        let end = &self.series.ends[flags as usize];
        end.received.fetch_add(received, Ordering::Relaxed);
        end.sent.fetch_add(sent, Ordering::Relaxed);
        if flags != ResponseFlags::None {
            end.failed.fetch_add(1, Ordering::Relaxed);
        }
        end.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.traffic.series.touch(&self.series);
        self.series.closed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Traffic {
    pub(crate) fn new(limit: usize, locality: bool) -> Self {
        Self {
            series: Table::new(limit),
            locality,
        }
    }

    pub(crate) fn opened(self: &Arc<Self>, labels: &TrafficLabels) -> OpenConnection {
        let series = self.of(labels);
        series.opened.fetch_add(1, Ordering::Relaxed);
        OpenConnection {
            traffic: self.clone(),
            series,
        }
    }

    pub(crate) fn failed(&self, labels: &TrafficLabels, flags: ResponseFlags) {
        self.of(labels).ends[flags as usize]
            .failed
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn idle(&self, names: &mut IdleNames) {
        for labels in self.series.idle() {
            names.add_workload(&labels.source);
            names.add_workload(&labels.destination);
        }
    }

    pub(crate) fn evict(&self, gone: &IdleNames) -> usize {
        self.series
            .evict(|labels| gone.has_workload(&labels.source) || gone.has_workload(&labels.destination))
    }

    fn of(&self, labels: &TrafficLabels) -> Arc<Entry<Series>> {
        // What is not published must not tell two series apart: a scrape would have both under one name.
        let published = if self.locality {
            Cow::Borrowed(labels)
        } else {
            Cow::Owned(labels.without_locality())
        };
        self.series
            .get(&published, TrafficLabels::overflow, Series::default)
    }
}

impl Folds for Traffic {
    fn folded(&self) -> u64 {
        self.series.folded()
    }
}

/// A figure of one way to end; none is not published.
type Figure = fn(&End) -> Option<u64>;

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Name, help and value of one counter of a series.
type Reading = (&'static str, &'static str, fn(&Series) -> u64);

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.series.all();
        // What has opened has a series to close in, at zero first: rates of both begin at the same time.
        let connections: [Reading; 2] = [
            (
                "istio_tcp_connections_opened",
                "The total number of TCP connections opened",
                |series| read(&series.opened),
            ),
            (
                "istio_tcp_connections_closed",
                "The total number of TCP connections closed",
                |series| read(&series.closed),
            ),
        ];
        for (name, help, value) in connections {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in &all {
                if read(&series.opened) > 0 {
                    let labels = labels.named(ResponseFlags::None, self.locality);
                    encode_counter(&mut metric, &labels, value(series))?;
                }
            }
        }
        let ends: [(&str, &str, Figure); 3] = [
            (
                "istio_tcp_received_bytes",
                "The size of total bytes received during request in case of a TCP connection",
                |end| (read(&end.ended) > 0).then(|| read(&end.received)),
            ),
            (
                "istio_tcp_sent_bytes",
                "The size of total bytes sent during response in case of a TCP connection",
                |end| (read(&end.ended) > 0).then(|| read(&end.sent)),
            ),
            (
                "istio_tcp_connections_failed",
                "The total number of TCP connections that failed to establish or ended with an error (unstable)",
                |end| Some(read(&end.failed)).filter(|failed| *failed > 0),
            ),
        ];
        for (name, help, value) in ends {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in &all {
                for (flags, end) in ResponseFlags::ALL.into_iter().zip(&series.ends) {
                    if let Some(value) = value(end) {
                        encode_counter(&mut metric, &labels.named(flags, self.locality), value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

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
