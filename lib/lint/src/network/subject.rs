//! The pods that a NetworkPolicy is about.

use std::borrow::Cow;

use objects::selector::{Labels, Operator};
use objects::{NetworkPolicy, Protocol, ReadObject};

use super::Direction;
use crate::world::{Mode, Workload, World};

/// Pods that a NetworkPolicy selects: a workload of the manifests, or, in a namespace of which they hold none, pods
/// with just the labels that the policy asks for.
pub(super) struct Subject<'w> {
    pub(super) name: String,
    pub(super) namespace: &'w str,
    pub(super) labels: Cow<'w, Labels>,
    pub(super) mesh: Mode,
    pub(super) workload: Option<&'w Workload>,
}

impl Subject<'_> {
    /// Whether a port's name in a rule means this port. In egress, names are those of the other end, which nobody
    /// knows here: it may be.
    pub(super) fn names_port(&self, direction: Direction, name: &str, protocol: Protocol, port: u16) -> bool {
        match (direction, self.workload) {
            (Direction::Ingress, Some(workload)) => workload.names_port(name, protocol, port),
            _ => !name.is_empty() && name.contains(if port == 53 { "dns" } else { "hbone" }),
        }
    }
}

/// Everything that a policy selects.
pub(super) fn subjects<'w>(
    world: &'w World<'_>,
    read: &'w ReadObject,
    policy: &'w NetworkPolicy,
) -> Vec<Subject<'w>> {
    let namespace = read.object.metadata.namespace.as_str();
    if world.has_workloads(Some(namespace)) {
        let selected = world.workloads.iter().filter(|workload| {
            workload.namespace() == namespace
                && policy.pod_selector.matches(workload.labels())
                // The network of a node is not the plugin's to filter.
                && !workload.pod().spec.host_network
        });
        return selected
            .map(|workload| Subject {
                name: workload.name.clone(),
                namespace,
                labels: Cow::Borrowed(workload.labels()),
                mesh: if workload.in_mesh() {
                    Mode::InMesh
                } else {
                    Mode::Outside
                },
                workload: Some(workload),
            })
            .collect();
    }
    let name = if policy.pod_selector.is_empty() {
        format!("pods of namespace {namespace}")
    } else {
        format!("pods of namespace {namespace} with {}", policy.pod_selector)
    };
    vec![Subject {
        name,
        namespace,
        labels: Cow::Owned(asked_for(policy)),
        mesh: world.mode(namespace),
        workload: None,
    }]
}

/// Labels that fulfil the selector, as few as possible.
fn asked_for(policy: &NetworkPolicy) -> Labels {
    let selector = &policy.pod_selector;
    let mut labels = selector.match_labels.clone();
    for requirement in &selector.expressions {
        let value = match requirement.operator {
            Operator::In => requirement.values.first().cloned(),
            Operator::Exists => Some(String::new()),
            Operator::NotIn | Operator::DoesNotExist => None,
        };
        if let Some(value) = value {
            labels.entry(requirement.key.clone()).or_insert(value);
        }
    }
    labels
}
