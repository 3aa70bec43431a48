//! Whose address an endpoint is at. Workloads are found by their addresses, by everybody: whoever writes down somebody else's
//! must not stand there for it, with an identity or behind a waypoint of its own.

use std::net::IpAddr;

use objects::Object;

use super::{by_precedence, holder, is_trusted, owners_around, refused};
use crate::block;
use crate::condition::Condition;
use crate::index::Index;
use crate::settings::Settings;

/// Whether an endpoint of an object stands at an address that is somebody else's: what a Service, pod or node of another
/// namespace has, what lies in a block of an older entry, or where an older endpoint is.
pub(crate) fn is_foreign(index: &Index, settings: &Settings, object: &Object, address: IpAddr) -> bool {
    let ours = &object.metadata;
    let own = block::of(address);
    let is_of_nodes = || block::is_of_nodes(&own) && !is_trusted(settings, &ours.namespace);
    let is_older = || {
        let mut others = index.addresses().endpoints(address);
        others.any(|key| {
            let other = index.get_key(key).filter(|_| key.namespace != ours.namespace);
            other.is_some_and(|other| {
                by_precedence(settings, &other.metadata, ours).is_lt()
                    && holder(index, other, address).is_none()
            })
        })
    };
    holder(index, object, address).is_some()
        || is_of_nodes()
        || owners_around(index, settings, ours, own).next().is_some()
        || is_older()
}

/// What the author is told where that costs something.
pub(crate) fn condition(object: &Object, address: IpAddr, is_left_out: bool) -> Condition {
    let message = if is_left_out {
        format!(
            "{address} is somebody else's address, so that no tunnel to it ends at this endpoint's identity: it is left out"
        )
    } else {
        format!(
            "{address} is somebody else's address: connections to it do not go by this endpoint's waypoint, only those to \
             its services use it"
        )
    };
    refused(object, message)
}
