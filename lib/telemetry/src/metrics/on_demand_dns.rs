//! Host names that were resolved because a connection went there.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::family::{Folds, encode_counter};
use super::label::Label;
use super::names::IdleNames;
use super::table::Table;
use super::traffic_labels::{Reporter, TrafficLabels, WorkloadLabels};

#[derive(Debug)]
pub(crate) struct OnDemandDns {
    series: Table<(WorkloadLabels, Label), AtomicU64>,
}

impl OnDemandDns {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            series: Table::new(limit),
        }
    }

    pub(crate) fn add(&self, source: &WorkloadLabels, hostname: &str) {
        self.series
            .get(
                // Region and zone are not published here.
                &(source.without_locality(), Label::new(hostname)),
                |_| {
                    let overflow = TrafficLabels::new(Reporter::Source).overflow();
                    (overflow.source, Label::overflow())
                },
                AtomicU64::default,
            )
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn idle(&self, names: &mut IdleNames) {
        for labels in self.series.idle() {
            names.add_workload(&labels.0);
        }
    }

    pub(crate) fn evict(&self, gone: &IdleNames) -> usize {
        self.series.evict(|labels| gone.has_workload(&labels.0))
    }
}

impl Folds for OnDemandDns {
    fn folded(&self) -> u64 {
        self.series.folded()
    }
}

impl Collector for OnDemandDns {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "istio_on_demand_dns",
            "Connections to workloads that are found by their host name, by that name (unstable)",
            None,
            MetricType::Counter,
        )?;
        for (key, count) in self.series.all() {
            let (source, hostname) = &*key;
            let mut labels = source.named_as_source().to_vec();
            labels.push(("hostname", hostname.as_str()));
            encode_counter(&mut metric, &labels, count.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}
