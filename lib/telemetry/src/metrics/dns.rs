//! DNS, by query type, transport and asking workload.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::family::{Folds, encode_counter};
use super::histogram::Histogram;
use super::label::Label;
use super::names::IdleNames;
use super::table::{Entry, Table};

/// Upper ends of the duration histogram, in seconds.
const BUCKETS: [f64; 6] = [0.0005, 0.001, 0.01, 0.1, 1.0, 5.0];

/// Who asked what, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DnsLabels {
    /// The record type asked for.
    pub request_query_type: Label,
    /// `udp` or `tcp`.
    pub request_protocol: Label,
    /// The asking pod's canonical service.
    pub source_canonical_service: Label,
    /// The asking pod's canonical revision.
    pub source_canonical_revision: Label,
}

impl DnsLabels {
    fn overflow(&self) -> Self {
        Self {
            request_query_type: Label::overflow(),
            request_protocol: self.request_protocol.clone(),
            source_canonical_service: Label::overflow(),
            source_canonical_revision: Label::overflow(),
        }
    }

    fn named(&self) -> [(&'static str, &str); 4] {
        [
            ("request_query_type", self.request_query_type.as_str()),
            ("request_protocol", self.request_protocol.as_str()),
            ("source_canonical_service", self.source_canonical_service.as_str()),
            (
                "source_canonical_revision",
                self.source_canonical_revision.as_str(),
            ),
        ]
    }
}

#[derive(Debug)]
struct Series {
    requests: AtomicU64,
    upstream_requests: AtomicU64,
    upstream_failures: AtomicU64,
    upstream_duration: Histogram,
}

impl Series {
    fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            upstream_requests: AtomicU64::new(0),
            upstream_failures: AtomicU64::new(0),
            upstream_duration: Histogram::new(&BUCKETS),
        }
    }
}

/// One of a series' counters.
type Counter = fn(&Series) -> &AtomicU64;

#[derive(Debug)]
pub(crate) struct Dns {
    series: Table<DnsLabels, Series>,
}

impl Dns {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            series: Table::new(limit),
        }
    }

    pub(crate) fn request(&self, labels: &DnsLabels) {
        self.of(labels).requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn upstream_request(&self, labels: &DnsLabels) {
        self.of(labels).upstream_requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn upstream_failure(&self, labels: &DnsLabels) {
        self.of(labels).upstream_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn upstream_answered(&self, labels: &DnsLabels, after: Duration) {
        self.of(labels).upstream_duration.observe(after);
    }

    pub(crate) fn idle(&self, names: &mut IdleNames) {
        for labels in self.series.idle() {
            names.add_service(&labels.source_canonical_service);
        }
    }

    pub(crate) fn evict(&self, gone: &IdleNames) -> usize {
        self.series
            .evict(|labels| gone.has_service(&labels.source_canonical_service))
    }

    fn of(&self, labels: &DnsLabels) -> Arc<Entry<Series>> {
        self.series.get(labels, DnsLabels::overflow, Series::new)
    }
}

impl Folds for Dns {
    fn folded(&self) -> u64 {
        self.series.folded()
    }
}

impl Collector for Dns {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.series.all();
        let counters: [(&str, &str, Counter); 3] = [
            (
                "istio_dns_requests",
                "DNS queries of captured pods (unstable)",
                |series| &series.requests,
            ),
            (
                "istio_dns_upstream_requests",
                "DNS queries forwarded (unstable)",
                |series| &series.upstream_requests,
            ),
            (
                "istio_dns_upstream_failures",
                "Forwarded DNS queries without an answer (unstable)",
                |series| &series.upstream_failures,
            ),
        ];
        for (name, help, counter) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in &all {
                encode_counter(
                    &mut metric,
                    &labels.named(),
                    counter(series).load(Ordering::Relaxed),
                )?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "istio_dns_upstream_request_duration_seconds",
            "Time until a forwarded DNS query was answered (unstable)",
            None,
            MetricType::Histogram,
        )?;
        for (labels, series) in &all {
            series
                .upstream_duration
                .encode(metric.encode_family(&labels.named())?)?;
        }
        Ok(())
    }
}
