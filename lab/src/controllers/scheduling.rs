//! Which node a pod runs on.

use std::collections::BTreeMap;

use objects::{Object, Pod};
use serde_json::{Value, json};

use super::{Cluster, Write, with};

/// Places every pod that has no node: among the nodes that carry the labels it asks for, on the one with the fewest
/// pods, the first by name where several have as few. A pod that no node suits gets a condition that says so, and one
/// that is deleted before it was placed goes at once.
pub(super) fn reconcile(cluster: &Cluster<'_>) -> Vec<Write> {
    let mut load: BTreeMap<&str, usize> = cluster
        .nodes
        .iter()
        .map(|(node, _)| (node.metadata.name.as_str(), 0))
        .collect();
    for (_, pod) in &cluster.pods {
        if let Some(count) = load.get_mut(pod.spec.node_name.as_str()) {
            *count += 1;
        }
    }
    let mut writes = Vec::new();
    for (object, pod) in &cluster.pods {
        if !pod.spec.node_name.is_empty() || pod.status.phase.is_terminal() {
            continue;
        }
        if object.metadata.deletion_timestamp.is_some() {
            writes.push(Write::Delete(object.key()));
            continue;
        }
        let suitable = cluster
            .nodes
            .iter()
            .filter(|(node, spec)| !spec.unschedulable && suits(node, pod));
        let least = suitable
            .map(|(node, _)| node.metadata.name.as_str())
            .min_by_key(|name| (load.get(name).copied().unwrap_or(0), *name));
        match least {
            Some(name) => {
                *load.entry(name).or_default() += 1;
                writes.push(Write::Put(with(
                    object,
                    &["spec", "nodeName"],
                    Value::String(name.to_owned()),
                )));
            }
            None => writes.extend(unschedulable(object, pod)),
        }
    }
    writes
}

fn suits(node: &Object, pod: &Pod) -> bool {
    pod.spec
        .node_selector
        .iter()
        .all(|(key, value)| node.metadata.labels.get(key) == Some(value))
}

fn unschedulable(object: &Object, pod: &Pod) -> Option<Write> {
    if pod
        .status
        .conditions
        .iter()
        .any(|condition| condition.kind == "PodScheduled")
    {
        return None;
    }
    let asked: Vec<String> = pod
        .spec
        .node_selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let condition = json!([{
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": format!("no node of the lab carries {}", asked.join(",")),
    }]);
    Some(Write::Put(with(object, &["status", "conditions"], condition)))
}
