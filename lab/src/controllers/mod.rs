//! What Kubernetes' controllers would do with the objects, for the few kinds that the lab runs.
//!
//! Every controller is a function from the objects as they are to the writes that bring them nearer to what they
//! should be. [`settle`] runs them until nothing is left to write. They have no state, no clock and no randomness of
//! their own, so what they do can be tested in tables.

mod cluster;
mod deployments;
mod endpoints;
mod gateways;
mod namespaces;
mod scheduling;
mod services;

use std::sync::Arc;

use objects::{Object, ObjectKey};
use serde_json::{Map, Value};

pub(crate) use cluster::{Cluster, MANAGED_ANNOTATION, is_node_proxy};
pub(crate) use services::clash;

/// One change to the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    /// The object as it should be.
    Put(Value),
    /// The object should not be.
    Delete(ObjectKey),
}

/// What the controllers may not find by themselves.
pub(crate) struct Surroundings<'a> {
    /// Names for new pods are made of these numbers.
    pub(crate) entropy: &'a mut dyn FnMut() -> u64,
    /// Now, as RFC 3339 in UTC.
    pub(crate) now: String,
    /// Whether Services may have IPv6 addresses.
    pub(crate) ipv6: bool,
}

/// The next writes; none when everything is as it should be. Called again after each round, since one controller's
/// work is another's input.
pub(crate) fn reconcile(objects: &[Arc<Object>], around: &mut Surroundings<'_>) -> Vec<Write> {
    let cluster = Cluster::new(objects);
    let mut writes = Vec::new();
    writes.extend(namespaces::reconcile(&cluster, around));
    writes.extend(gateways::reconcile(&cluster));
    writes.extend(services::reconcile(&cluster, around));
    writes.extend(deployments::reconcile(&cluster, around));
    writes.extend(scheduling::reconcile(&cluster));
    writes.extend(endpoints::reconcile(&cluster));
    writes
}

/// Sets a value deep in an object, making the maps on the way. A scalar on the way is replaced.
pub(crate) fn set(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for step in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        // Just made an object above.
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(*step).or_insert(Value::Null);
    }
    *at = value;
}

/// A copy of the document with one value changed.
pub(crate) fn with(object: &Object, path: &[&str], value: Value) -> Value {
    let mut raw = object.raw().clone();
    set(&mut raw, path, value);
    raw
}

#[cfg(test)]
mod tests;
