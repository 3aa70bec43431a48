//! What others ask about waypoints: the same answers that are sent to node proxies.

use std::sync::Arc;

use objects::{Kind, Object, ObjectKey};
use serde_json::json;

use super::{Asks, Bound, Traffic, of};
use crate::index::Index;
use crate::service;
use crate::settings::Settings;

/// What stands in front of a Service or workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InFront {
    /// Nothing: connections go direct.
    Nothing,
    /// This waypoint, which connections go through.
    Waypoint {
        /// The namespace of its Gateway.
        namespace: String,
        /// The name of its Gateway.
        name: String,
    },
    /// A waypoint that cannot be used and that a policy counts on: connections are refused, for this reason.
    Closed(String),
}

/// What stands in front of a Pod, Service, ServiceEntry or WorkloadEntry that is known.
pub(crate) fn in_front_of(index: &Index, settings: &Settings, key: &ObjectKey) -> InFront {
    let Some(object) = index.get_key(key) else {
        return InFront::Nothing;
    };
    let asks = match key.kind {
        Kind::Service => service::asks(&object.metadata),
        Kind::ServiceEntry => {
            let Some(entry) = object.as_service_entry() else {
                return InFront::Nothing;
            };
            crate::service_entry::asks(settings, &object.metadata, entry)
        }
        _ => Asks {
            kind: key.kind,
            metadata: &object.metadata,
            traffic: Traffic::Workload,
            is_private: false,
        },
    };
    match of(index, settings, asks) {
        Bound {
            named: Some((namespace, name)),
            ..
        } => InFront::Waypoint { namespace, name },
        Bound {
            waypoint: Some(_),
            condition,
            ..
        } => InFront::Closed(condition.map(|condition| condition.message).unwrap_or_default()),
        _ => InFront::Nothing,
    }
}

/// A Gateway as it will be once its controller has made it ready: where nobody has written its status yet, it has the
/// address of the Service of its name. Others are as they are.
pub fn as_ready(object: &Arc<Object>, settings: &Settings) -> Arc<Object> {
    if object.as_gateway().is_none() || object.status().is_some() {
        return Arc::clone(object);
    }
    let metadata = &object.metadata;
    let hostname = service::hostname(settings, &metadata.namespace, &metadata.name);
    let status = json!({ "addresses": [{ "type": "Hostname", "value": hostname }] });
    // Refused only where a name is too long to be a host's, and then it never is ready.
    object
        .with_status(status)
        .map_or_else(|_| Arc::clone(object), Arc::new)
}
