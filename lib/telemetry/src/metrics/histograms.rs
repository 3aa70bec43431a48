//! Histograms with one label of few, known values.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::histogram::Histogram;

/// A histogram for each value of a label.
#[derive(Debug)]
pub(crate) struct Histograms<const N: usize> {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    of: [(&'static str, Histogram); N],
}

impl<const N: usize> Histograms<N> {
    pub(crate) fn new(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
        make: impl Fn() -> Histogram,
    ) -> Self {
        Self {
            name,
            help,
            label,
            of: values.map(|value| (value, make())),
        }
    }

    /// The histogram of a value; of none that is not known.
    pub(crate) fn of(&self, value: &str) -> Option<&Histogram> {
        let found = self.of.iter().find(|(known, _)| *known == value);
        found.map(|(_, histogram)| histogram)
    }
}

impl<const N: usize> Collector for Histograms<N> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Histogram)?;
        for (value, histogram) in &self.of {
            histogram.encode(metric.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }
}

/// A histogram without labels.
#[derive(Debug)]
pub(crate) struct PlainHistogram {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) histogram: Histogram,
}

impl Collector for PlainHistogram {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Histogram)?;
        self.histogram.encode(metric)
    }
}
