//! Which waypoint stands in front of a Service or workload, and what its author is told about that.
//!
//! A label names the waypoint, on the object or else on its Namespace. One that cannot be used is none, as in Istio:
//! connections go direct. But where a policy counts on it, that would let in what the policy denies: then a waypoint is
//! named that nobody can reach, and node proxies, ours as Istio's, refuse.

use objects::selector::Labels;
use objects::{
    EAST_WEST_CLASS, GATEWAY_NAME_LABEL, Gateway, Kind, Metadata, NO_WAYPOINT, Object, REMOTE_CLASS,
    USE_WAYPOINT_LABEL, USE_WAYPOINT_NAMESPACE_LABEL,
};
use proto::workload::{
    GatewayAddress, NamespacedHostname, NetworkAddress, WeightedWaypoint, gateway_address::Destination,
};

use crate::authorization_policy::ip_bytes;
use crate::condition::{
    CANARY_INVALID_WEIGHT, CANARY_SAME_AS_PRIMARY, Condition, WAYPOINT_ACCEPTED, WAYPOINT_BOUND,
    WAYPOINT_IS_NOT_READY,
};
use crate::index::Index;
use crate::settings::Settings;
use crate::{network, service};

mod attach;
mod policies;
mod public;
pub(crate) mod targets;
mod tunnel;

pub(crate) use public::in_front_of;
pub use public::{InFront, as_ready};
pub(crate) use tunnel::{BINDING_ANNOTATION, application_tunnel};

use attach::Obstacle;

/// The port on which waypoints take HBONE.
pub(crate) const HBONE_PORT: u16 = 15008;
/// The label that names a second waypoint, in the first one's namespace, which takes a share of the connections.
const CANARY_LABEL: &str = "istio.io/use-waypoint-canary";
/// The annotation with its share, in percent. Ours: Istio's documentation does not name its own.
const CANARY_WEIGHT_ANNOTATION: &str = "ztunnel.dev/use-waypoint-canary-weight";
/// The label that sends what comes in through a gateway through the waypoint too.
const INGRESS_LABEL: &str = "istio.io/ingress-use-waypoint";
/// The label on what controllers made for a Gateway.
const MANAGED_LABEL: &str = "gateway.istio.io/managed";
/// The values of [`MANAGED_LABEL`] for waypoints and for gateways between networks.
const MANAGED_BY_MESH: [&str; 2] = ["istio.io-mesh-controller", "istio.io-eastwest-controller"];
/// What a connection is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    Service,
    Workload,
}

/// Who asks for a waypoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asks<'a> {
    pub(crate) kind: Kind,
    pub(crate) metadata: &'a Metadata,
    pub(crate) traffic: Traffic,
    /// Only its own namespace sees it.
    pub(crate) is_private: bool,
}

/// What stands in front of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bound {
    pub(crate) waypoint: Option<GatewayAddress>,
    /// The first and the second waypoint with their shares; empty where there is no second.
    pub(crate) weighted: Vec<WeightedWaypoint>,
    /// The first waypoint by namespace and name, where it can be used.
    pub(crate) named: Option<(String, String)>,
    /// `None` where no waypoint is named.
    pub(crate) condition: Option<Condition>,
}

/// A waypoint as labels name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// By the Namespace, not by the object itself.
    is_inherited: bool,
}

impl Named<'_> {
    fn is_same(&self, other: &Named<'_>) -> bool {
        (self.namespace, self.name) == (other.namespace, other.name)
    }
}

/// The waypoints that an object's labels name, by namespace and name. Objects without such labels name none.
pub(crate) fn names(object: &Object) -> impl Iterator<Item = (String, String)> + use<> {
    let metadata = &object.metadata;
    let namespace = match object.kind() {
        Kind::Namespace => Some(&metadata.name),
        Kind::Service | Kind::Pod | Kind::ServiceEntry | Kind::WorkloadEntry => Some(&metadata.namespace),
        _ => None,
    };
    let primary = namespace.and_then(|namespace| primary(&metadata.labels, namespace, false));
    let canary = primary.and_then(|primary| canary(&metadata.labels, &primary));
    let owned = |named: Named<'_>| (named.namespace.to_owned(), named.name.to_owned());
    primary.map(owned).into_iter().chain(canary.map(owned))
}

/// What stands in front of who asks.
pub(crate) fn of(index: &Index, settings: &Settings, asks: Asks<'_>) -> Bound {
    let metadata = asks.metadata;
    if is_gateway(&metadata.labels, asks.traffic) {
        return Bound::default();
    }
    let namespace = index.get(Kind::Namespace, "", &metadata.namespace);
    let (source, is_inherited) = match (metadata.labels.contains_key(USE_WAYPOINT_LABEL), namespace) {
        (true, _) => (metadata, false),
        (false, Some(namespace)) => (&namespace.metadata, true),
        (false, None) => return Bound::default(),
    };
    let Some(named) = primary(&source.labels, &metadata.namespace, is_inherited) else {
        return Bound::default();
    };
    let condition = |status, reason, message| Condition {
        kind: WAYPOINT_BOUND,
        status,
        reason,
        message,
        observed_generation: metadata.generation,
    };
    let name = format!("{}/{}", named.namespace, named.name);
    match address(index, settings, &named, &asks) {
        Ok(address) if is_itself(&address, settings, &asks) => Bound::default(),
        Ok(address) => {
            let (weighted, problem) = canaries(index, settings, source, &named, &asks, &address);
            let ingress = if ingress(index, metadata) {
                ". Ingress traffic will traverse the waypoint"
            } else {
                ""
            };
            let bound = match problem {
                None => condition(
                    true,
                    WAYPOINT_ACCEPTED,
                    format!("Successfully attached to waypoint {name}{ingress}"),
                ),
                Some((reason, problem)) => condition(
                    true,
                    reason,
                    format!("Successfully attached to waypoint {name}{ingress}; {problem}"),
                ),
            };
            Bound {
                waypoint: Some(address),
                weighted,
                named: Some((named.namespace.to_owned(), named.name.to_owned())),
                condition: Some(bound),
            }
        }
        Err(obstacle) if obstacle.is_silent(&asks, is_inherited) => Bound::default(),
        Err(obstacle) => {
            let counting = policies::counting_on(index, settings, &named, &asks, &obstacle);
            let effect = match &counting {
                Some(policy) => {
                    format!(
                        "connections are refused, because the AuthorizationPolicy {policy} counts on it to be enforced"
                    )
                }
                None => "connections do not go through it".to_owned(),
            };
            let message = format!("{}: {effect}", obstacle.message(&name));
            Bound {
                waypoint: counting.map(|_| out_of_reach(settings, &named, &obstacle)),
                weighted: Vec::new(),
                named: None,
                condition: Some(condition(false, obstacle.reason(), message)),
            }
        }
    }
}

/// Whether what comes in through a gateway is to go through the waypoint too.
pub(crate) fn ingress(index: &Index, metadata: &Metadata) -> bool {
    let own = metadata.labels.get(INGRESS_LABEL);
    let namespace = index.get(Kind::Namespace, "", &metadata.namespace);
    let label = own.or_else(|| namespace?.metadata.labels.get(INGRESS_LABEL));
    label.is_some_and(|value| value == "true")
}

/// The waypoint that labels name.
fn primary<'a>(labels: &'a Labels, namespace: &'a str, is_inherited: bool) -> Option<Named<'a>> {
    let name = labels.get(USE_WAYPOINT_LABEL)?;
    if name.is_empty() || name == NO_WAYPOINT {
        return None;
    }
    let other = labels.get(USE_WAYPOINT_NAMESPACE_LABEL);
    Some(Named {
        namespace: other.map_or(namespace, String::as_str),
        name,
        is_inherited,
    })
}

fn canary<'a>(labels: &'a Labels, primary: &Named<'a>) -> Option<Named<'a>> {
    let name = labels.get(CANARY_LABEL).filter(|name| !name.is_empty())?;
    Some(Named { name, ..*primary })
}

/// Gateways stand in front of others; nothing stands in front of them.
fn is_gateway(labels: &Labels, traffic: Traffic) -> bool {
    let managed = labels.get(MANAGED_LABEL);
    match traffic {
        Traffic::Workload => labels.contains_key(GATEWAY_NAME_LABEL),
        Traffic::Service => managed.is_some_and(|by| MANAGED_BY_MESH.contains(&by.as_str())),
    }
}

/// The address of a waypoint, if who asks may use it.
fn address(
    index: &Index,
    settings: &Settings,
    named: &Named<'_>,
    asks: &Asks<'_>,
) -> Result<GatewayAddress, Obstacle> {
    let object = index.get(Kind::Gateway, named.namespace, named.name);
    let gateway = object
        .and_then(|object| object.as_gateway())
        .filter(|gateway| is_waypoint(gateway));
    let (Some(object), Some(gateway)) = (object, gateway) else {
        return Err(Obstacle::Missing);
    };
    attach::check(index, object, gateway, asks)?;
    let is_name =
        |address: &&objects::GatewayAddress| matches!(address, objects::GatewayAddress::Hostname(_));
    let preferred = gateway
        .addresses
        .iter()
        .find(is_name)
        .or(gateway.addresses.first());
    let destination = match preferred {
        None => return Err(Obstacle::NotReady),
        Some(objects::GatewayAddress::Hostname(name)) => hostname(named.namespace.to_owned(), name.clone()),
        Some(objects::GatewayAddress::Ip(address)) => Destination::Address(NetworkAddress {
            network: network::of_mesh(index, settings).to_owned(),
            address: ip_bytes(*address),
            length: None,
        }),
    };
    Ok(gateway_address(destination))
}

/// Any class may bring waypoints, but for those of gateways between networks.
fn is_waypoint(gateway: &Gateway) -> bool {
    ![REMOTE_CLASS, EAST_WEST_CLASS].contains(&gateway.class_name.as_str())
}

/// Whether a Service is the one by which the waypoint itself is reached.
fn is_itself(address: &GatewayAddress, settings: &Settings, asks: &Asks<'_>) -> bool {
    let Some(Destination::Hostname(name)) = &address.destination else {
        return false;
    };
    let metadata = asks.metadata;
    asks.kind == Kind::Service
        && name.namespace == metadata.namespace
        && name.hostname == service::hostname(settings, &metadata.namespace, &metadata.name)
}

/// A waypoint that takes no connection of who asks: where it may still become ready, the name that it will have; else
/// one that never will be (RFC 2606, section 2).
fn out_of_reach(settings: &Settings, named: &Named<'_>, obstacle: &Obstacle) -> GatewayAddress {
    let Named { namespace, name, .. } = *named;
    let host = match obstacle {
        Obstacle::Missing | Obstacle::NotReady => service::hostname(settings, namespace, name),
        _ => format!("{name}.{namespace}.not-usable.invalid"),
    };
    gateway_address(hostname(namespace.to_owned(), host))
}

fn hostname(namespace: String, hostname: String) -> Destination {
    Destination::Hostname(NamespacedHostname { namespace, hostname })
}

fn gateway_address(destination: Destination) -> GatewayAddress {
    GatewayAddress {
        hbone_mtls_port: HBONE_PORT.into(),
        destination: Some(destination),
    }
}

type Problem = (&'static str, String);

/// The two waypoints with their shares, or why there is no second.
fn canaries(
    index: &Index,
    settings: &Settings,
    source: &Metadata,
    primary: &Named<'_>,
    asks: &Asks<'_>,
    address_of_primary: &GatewayAddress,
) -> (Vec<WeightedWaypoint>, Option<Problem>) {
    let second = canary(&source.labels, primary).filter(|_| asks.traffic == Traffic::Service);
    let Some(second) = second else {
        return (Vec::new(), None);
    };
    let name = format!("{}/{}", second.namespace, second.name);
    let none = |reason, problem: String| (Vec::new(), Some((reason, problem)));
    if second.is_same(primary) {
        return none(
            CANARY_SAME_AS_PRIMARY,
            format!("{CANARY_LABEL} names the same waypoint"),
        );
    }
    let written = source.annotations.get(CANARY_WEIGHT_ANNOTATION);
    let weight = written.and_then(|text| text.parse::<u32>().ok());
    let Some(weight) = weight.filter(|weight| *weight <= 100) else {
        let what = written.map_or("is missing".to_owned(), |text| format!("is {text:?}"));
        return none(
            CANARY_INVALID_WEIGHT,
            format!(
                "the waypoint {name} gets nothing: the annotation {CANARY_WEIGHT_ANNOTATION} {what}, but must be a \
                 number from 0 to 100"
            ),
        );
    };
    match address(index, settings, &second, asks) {
        Ok(address) => {
            let share = |destination: &GatewayAddress, weight| WeightedWaypoint {
                destination: Some(destination.clone()),
                weight,
            };
            (
                vec![share(address_of_primary, 100 - weight), share(&address, weight)],
                None,
            )
        }
        Err(Obstacle::Missing | Obstacle::NotReady) => none(
            WAYPOINT_IS_NOT_READY,
            format!("the waypoint {name} gets nothing: it is not ready"),
        ),
        Err(obstacle) => none(
            obstacle.reason(),
            format!("it is the only one: {}", obstacle.message(&name)),
        ),
    }
}

#[cfg(test)]
mod tests;
