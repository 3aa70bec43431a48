//! The names that idle series carry, to find out which of them no longer mean anything.

use std::collections::{HashMap, HashSet};

use super::label::Label;
use super::traffic_labels::WorkloadLabels;

/// Workloads and canonical services that only idle series still name.
#[derive(Debug, Default)]
pub struct IdleNames {
    /// Names of workloads, by namespace.
    workloads: HashMap<Label, HashSet<Label>>,
    services: HashSet<Label>,
}

impl IdleNames {
    /// Whether there is nothing to find out.
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.services.is_empty()
    }

    /// A workload of this name, with this canonical service, is still there.
    pub fn found(&mut self, namespace: &str, workload: &str, canonical_service: &str) {
        if let Some(workloads) = self.workloads.get_mut(namespace) {
            workloads.remove(workload);
            if workloads.is_empty() {
                self.workloads.remove(namespace);
            }
        }
        self.services.remove(canonical_service);
    }

    pub(crate) fn add_workload(&mut self, end: &WorkloadLabels) {
        if end.namespace.is_name() && end.workload.is_name() {
            self.workloads
                .entry(end.namespace.clone())
                .or_default()
                .insert(end.workload.clone());
        }
    }

    pub(crate) fn add_service(&mut self, service: &Label) {
        if service.is_name() {
            self.services.insert(service.clone());
        }
    }

    pub(crate) fn has_workload(&self, end: &WorkloadLabels) -> bool {
        self.workloads
            .get(end.namespace.as_str())
            .is_some_and(|workloads| workloads.contains(end.workload.as_str()))
    }

    pub(crate) fn has_service(&self, service: &Label) -> bool {
        self.services.contains(service.as_str())
    }
}
