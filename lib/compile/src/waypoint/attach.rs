//! Whether a waypoint takes the traffic of who asks.

use objects::{AllowedNamespaces, Gateway, Kind, Object, WAYPOINT_FOR_LABEL};

use super::{Asks, HBONE_PORT, Traffic};
use crate::condition::{
    ATTACHMENT_DENIED, CROSS_NAMESPACE_WAYPOINT, UNSUPPORTED_TRAFFIC_TYPE, WAYPOINT_IS_NOT_READY,
};
use crate::index::Index;

/// Why a waypoint that is named cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// There is no such waypoint.
    Missing,
    /// It has no address yet.
    NotReady,
    /// It is for this traffic only.
    OtherTraffic(String),
    /// Its listener does not admit the namespace.
    Denied,
    /// Only its own namespace sees who asks.
    Private,
}

impl Obstacle {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Obstacle::Missing | Obstacle::NotReady => WAYPOINT_IS_NOT_READY,
            Obstacle::OtherTraffic(_) => UNSUPPORTED_TRAFFIC_TYPE,
            Obstacle::Denied => ATTACHMENT_DENIED,
            Obstacle::Private => CROSS_NAMESPACE_WAYPOINT,
        }
    }

    pub(super) fn message(&self, name: &str) -> String {
        match self {
            Obstacle::Missing => format!("there is no waypoint {name}"),
            Obstacle::NotReady => format!("the waypoint {name} is not ready: its Gateway has no address"),
            Obstacle::OtherTraffic(only) => format!(
                "the waypoint {name} is for other traffic (label {WAYPOINT_FOR_LABEL}={only} on it or its class)"
            ),
            Obstacle::Denied => format!(
                "the waypoint {name} does not admit this namespace (allowedRoutes of its listener HBONE:{HBONE_PORT})"
            ),
            Obstacle::Private => {
                format!("only its own namespace sees this entry, and the waypoint {name} is in another one")
            }
        }
    }

    /// Whether nobody is told: a Namespace that names a waypoint for Services does not mean its workloads.
    pub(super) fn is_silent(&self, asks: &Asks<'_>, is_inherited: bool) -> bool {
        matches!(self, Obstacle::OtherTraffic(_)) && is_inherited && asks.traffic == Traffic::Workload
    }
}

/// Whether the waypoint takes the traffic of who asks.
pub(super) fn check(
    index: &Index,
    object: &Object,
    gateway: &Gateway,
    asks: &Asks<'_>,
) -> Result<(), Obstacle> {
    let (services, workloads) = match traffic_of(index, object, gateway) {
        "all" => (true, true),
        "workload" => (false, true),
        "none" => (false, false),
        _ => (true, false),
    };
    let takes = match asks.traffic {
        Traffic::Service => services,
        Traffic::Workload => workloads,
    };
    if !takes {
        let only = traffic_of(index, object, gateway).to_owned();
        return Err(Obstacle::OtherTraffic(only));
    }
    let (from, to) = (&asks.metadata.namespace, &object.metadata.namespace);
    if asks.is_private && from != to {
        return Err(Obstacle::Private);
    }
    let listener = gateway.hbone_listener(Some(HBONE_PORT));
    let admits = match listener.map_or(&AllowedNamespaces::Same, |listener| &listener.allowed) {
        AllowedNamespaces::Same => from == to,
        AllowedNamespaces::All => true,
        AllowedNamespaces::None => false,
        AllowedNamespaces::Selector(selector) => {
            let mut labels = index
                .get(Kind::Namespace, "", from)
                .map(|namespace| namespace.metadata.labels.clone())
                .unwrap_or_default();
            // Kubernetes gives every Namespace this label; manifests do not.
            labels.insert("kubernetes.io/metadata.name".to_owned(), from.clone());
            selector.matches(&labels)
        }
    };
    if admits { Ok(()) } else { Err(Obstacle::Denied) }
}

/// What the waypoint is for, as it says itself, or its class, or else `service`.
fn traffic_of<'a>(index: &'a Index, object: &'a Object, gateway: &Gateway) -> &'a str {
    let label = |object: &'a Object| {
        let value = object.metadata.labels.get(WAYPOINT_FOR_LABEL)?;
        let known = ["all", "service", "workload", "none"];
        known.contains(&value.as_str()).then_some(value.as_str())
    };
    let class = index.get(Kind::GatewayClass, "", &gateway.class_name);
    label(object)
        .or_else(|| label(class?.as_ref()))
        .unwrap_or("service")
}
