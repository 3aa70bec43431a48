//! Counters and gauges with a few labels, and the registry they are collected in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::label::Label;
use super::table::Table;

/// How many label sets a metric with few labels (reasons, states) keeps.
pub(crate) const SMALL_SERIES_LIMIT: usize = 200;

/// Something that folds what exceeds its cap.
pub(crate) trait Folds: fmt::Debug + Send + Sync + 'static {
    /// How many times it did.
    fn folded(&self) -> u64;
}

/// Builds the registry.
#[derive(Default)]
pub(crate) struct Families {
    registry: Registry,
    folding: Vec<(&'static str, Arc<dyn Folds>)>,
}

impl Families {
    pub(crate) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Arc<CounterFamily<N>> {
        let family = self.collect(CounterFamily {
            name,
            help,
            labels,
            series: Table::new(SMALL_SERIES_LIMIT),
        });
        self.publish_folded(name, family.clone());
        family
    }

    pub(crate) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Arc<GaugeFamily<N>> {
        let family = self.collect(GaugeFamily {
            name,
            help,
            labels,
            series: Table::new(SMALL_SERIES_LIMIT),
        });
        self.publish_folded(name, family.clone());
        family
    }

    pub(crate) fn collect<C: Collector>(&mut self, collector: C) -> Arc<C> {
        let collector = Arc::new(collector);
        self.registry.register_collector(Box::new(collector.clone()));
        collector
    }

    pub(crate) fn publish_folded(&mut self, metric: &'static str, folding: Arc<dyn Folds>) {
        self.folding.push((metric, folding));
    }

    pub(crate) fn into_registry(mut self) -> Registry {
        self.registry
            .register_collector(Box::new(FoldedSeries(self.folding)));
        self.registry
            .register_collector(Box::new(super::process::Process));
        self.registry
    }
}

/// A counter for each set of `N` labels.
#[derive(Debug)]
pub(crate) struct CounterFamily<const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    series: Table<[Label; N], AtomicU64>,
}

impl<const N: usize> CounterFamily<N> {
    pub(crate) fn add(&self, values: [&str; N], count: u64) {
        let key = values.map(Label::new);
        self.series
            .get(&key, |_| overflow(), AtomicU64::default)
            .fetch_add(count, Ordering::Relaxed);
    }
}

impl<const N: usize> Folds for CounterFamily<N> {
    fn folded(&self) -> u64 {
        self.series.folded()
    }
}

impl<const N: usize> Collector for CounterFamily<N> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Counter)?;
        if N == 0 {
            let total: u64 = self
                .series
                .all()
                .iter()
                .map(|(_, count)| count.load(Ordering::Relaxed))
                .sum();
            return encode_counter(&mut metric, &[], total);
        }
        for (values, count) in self.series.all() {
            encode_counter(
                &mut metric,
                &named(&self.labels, &values),
                count.load(Ordering::Relaxed),
            )?;
        }
        Ok(())
    }
}

/// A gauge for each set of `N` labels.
#[derive(Debug)]
pub(crate) struct GaugeFamily<const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    series: Table<[Label; N], AtomicI64>,
}

impl<const N: usize> GaugeFamily<N> {
    pub(crate) fn set(&self, values: [&str; N], value: i64) {
        let key = values.map(Label::new);
        self.series
            .get(&key, |_| overflow(), AtomicI64::default)
            .store(value, Ordering::Relaxed);
    }

    /// Sets these and drops all others.
    pub(crate) fn replace<'a>(&self, all: impl Iterator<Item = ([&'a str; N], i64)>) {
        self.series.clear();
        for (values, value) in all {
            self.set(values, value);
        }
    }
}

impl<const N: usize> Folds for GaugeFamily<N> {
    fn folded(&self) -> u64 {
        self.series.folded()
    }
}

impl<const N: usize> Collector for GaugeFamily<N> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?;
        if N == 0 {
            let sum: i64 = self
                .series
                .all()
                .iter()
                .map(|(_, value)| value.load(Ordering::Relaxed))
                .sum();
            return encode_gauge(&mut metric, &[], sum);
        }
        for (values, value) in self.series.all() {
            encode_gauge(
                &mut metric,
                &named(&self.labels, &values),
                value.load(Ordering::Relaxed),
            )?;
        }
        Ok(())
    }
}

/// How often each metric's cap was hit.
#[derive(Debug)]
struct FoldedSeries(Vec<(&'static str, Arc<dyn Folds>)>);

impl Collector for FoldedSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "ztunnel_metric_series_folded",
            "Times a label set beyond a metric's cap was counted as overflow instead (unstable)",
            None,
            MetricType::Counter,
        )?;
        for (name, folding) in &self.0 {
            encode_counter(&mut metric, &[("metric", name)], folding.folded())?;
        }
        Ok(())
    }
}

/// Writes one counter with its labels.
pub(crate) fn encode_counter(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&'static str, &str)],
    value: u64,
) -> fmt::Result {
    if labels.is_empty() {
        return metric.encode_counter::<NoLabelSet, u64, u64>(&value, None);
    }
    metric
        .encode_family(&labels)?
        .encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

/// Writes one gauge with its labels.
pub(crate) fn encode_gauge(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&'static str, &str)],
    value: i64,
) -> fmt::Result {
    if labels.is_empty() {
        return metric.encode_gauge(&value);
    }
    metric.encode_family(&labels)?.encode_gauge(&value)
}

fn named<'v, const N: usize>(
    names: &[&'static str; N],
    values: &'v [Label; N],
) -> Vec<(&'static str, &'v str)> {
    names
        .iter()
        .copied()
        .zip(values.iter().map(Label::as_str))
        .collect()
}

fn overflow<const N: usize>() -> [Label; N] {
    std::array::from_fn(|_| Label::overflow())
}
