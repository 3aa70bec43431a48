//! Durations in buckets, counted without a lock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::traffic_labels::Reporter;

/// Upper ends, in seconds, of the buckets for what a connection waits for: from a loopback round trip to the
/// longest deadline.
const WAIT_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Counts of one label set. Neither counting nor reading takes a lock, so a slow scrape holds nobody up; a scrape
/// may see a count whose duration is not summed yet.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds: the last is for what exceeds them.
    counts: Box<[AtomicU64]>,
    /// In parts of what the bounds are given in.
    sum: AtomicU64,
    /// How many such parts there are in one.
    parts: f64,
}

/// Sums of seconds are kept in microseconds.
const MICROSECONDS: f64 = 1e6;

impl Histogram {
    /// Durations, none counted; `bounds` are seconds and ascend.
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            parts: MICROSECONDS,
        }
    }

    /// Whole numbers, none counted; `bounds` ascend.
    pub(crate) fn of_numbers(bounds: &'static [f64]) -> Self {
        Self {
            parts: 1.0,
            ..Self::new(bounds)
        }
    }

    pub(crate) fn observe(&self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.count(duration.as_secs_f64(), microseconds);
    }

    /// For those [`of_numbers`](Self::of_numbers).
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn observe_number(&self, number: u64) {
        self.count(number as f64, number);
    }

    fn count(&self, value: f64, parts: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(parts, Ordering::Relaxed);
    }

    pub(crate) fn encode(&self, mut metric: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        #[allow(clippy::cast_precision_loss)]
        let sum = self.sum.load(Ordering::Relaxed) as f64 / self.parts;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// What connections wait for, by the side that waits.
#[derive(Debug)]
pub(crate) struct Waits {
    name: &'static str,
    help: &'static str,
    of: [Histogram; Reporter::ALL.len()],
}

impl Waits {
    pub(crate) fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            of: std::array::from_fn(|_| Histogram::new(&WAIT_BUCKETS)),
        }
    }

    pub(crate) fn observe(&self, reporter: Reporter, duration: Duration) {
        self.of[reporter as usize].observe(duration);
    }
}

impl Collector for Waits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Histogram)?;
        for (reporter, histogram) in Reporter::ALL.into_iter().zip(&self.of) {
            histogram.encode(metric.encode_family(&[("reporter", reporter.as_str())])?)?;
        }
        Ok(())
    }
}
