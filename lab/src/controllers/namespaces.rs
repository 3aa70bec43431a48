//! Namespaces: what lives in one that is being deleted is deleted too; every one carries its name as a label.

use objects::{Kind, Object};
use serde_json::Value;

use super::{Cluster, Surroundings, Write, with};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn reconcile(cluster: &Cluster<'_>, around: &Surroundings<'_>) -> Vec<Write> {
    let mut writes = Vec::new();
    for (name, namespace) in &cluster.namespaces {
        if namespace.metadata.deletion_timestamp.is_none() {
            if namespace.metadata.labels.get(NAME_LABEL).map(String::as_str) != Some(name) {
                let label = Value::String((*name).to_owned());
                writes.push(Write::Put(with(
                    namespace,
                    &["metadata", "labels", NAME_LABEL],
                    label,
                )));
            }
            continue;
        }
        let inside: Vec<&Object> = cluster
            .all
            .iter()
            .map(AsRef::as_ref)
            .filter(|object| object.key().kind.is_namespaced() && object.metadata.namespace == **name)
            .collect();
        if inside.is_empty() {
            writes.push(Write::Delete(namespace.key()));
        }
        writes.extend(
            inside
                .into_iter()
                .filter_map(|object| remove(object, &around.now)),
        );
    }
    writes
}

/// What deleting an object means: a pod is first told to end, everything else goes at once.
pub(crate) fn remove(object: &Object, now: &str) -> Option<Write> {
    if object.key().kind != Kind::Pod {
        return Some(Write::Delete(object.key()));
    }
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Write::Put(with(
        object,
        &["metadata", "deletionTimestamp"],
        Value::String(now.to_owned()),
    )))
}
