//! Services: names and addresses that stand for workloads.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use proto::workload as wire;

use crate::address::{IpPrefix, NetworkAddress, ip_from_bytes};
use crate::gateway::GatewayAddress;
use crate::identity::Identity;
use crate::port::Port;
use crate::rejected::Rejected;
use crate::workload::unknown;

/// The name of the extension by which our control plane says that connections of one client belong together. Its
/// configuration is a `google.protobuf.StringValue`; the one value there is so far is [`CLIENT_ADDRESS`]. Receivers
/// that do not know it balance as usual.
pub const SESSION_AFFINITY: &str = "ztunnel.dev/session-affinity";
/// The value of [`SESSION_AFFINITY`] for clients told apart by address.
pub const CLIENT_ADDRESS: &str = "client-address";

/// A name (and addresses) that stands for a set of workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The object's name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The host name callers use.
    pub hostname: Arc<str>,
    /// Its addresses: single ones and prefixes.
    pub addresses: Vec<ServiceAddress>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Identities its endpoints may have besides their own.
    pub subject_alt_names: Vec<Identity>,
    /// Waypoints and their weights; several only while one replaces another.
    pub waypoints: Vec<(GatewayAddress, u32)>,
    /// How an endpoint is chosen.
    pub load_balancing: LoadBalancing,
    /// Which of its endpoints' addresses are used.
    pub ip_families: IpFamilies,
    /// It wins conflicts outside its callers' namespace.
    pub canonical: bool,
    /// Only callers of its own namespace see it.
    pub namespace_only: bool,
    /// Connections of one client address go to one endpoint while it can be used ([`SESSION_AFFINITY`]).
    pub client_affinity: bool,
    key: Arc<str>,
}

/// An address of a service on a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceAddress {
    /// The network.
    pub network: Arc<str>,
    /// One address, or a prefix of them.
    pub prefix: IpPrefix,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadBalancing {
    /// Levels of closeness, the first counting most.
    pub scopes: Vec<LocalityScope>,
    /// What the levels mean.
    pub mode: LoadBalancingMode,
    /// Unready endpoints are used too.
    pub allow_unhealthy: bool,
}

/// What the levels of closeness mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LoadBalancingMode {
    /// Nothing: all endpoints are equal.
    #[default]
    Any,
    /// Every level must match.
    Strict,
    /// The closest endpoints are used.
    Failover,
    /// No endpoint is chosen; connections go where they were addressed.
    Passthrough,
}

/// One level of closeness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalityScope {
    /// The same region.
    Region,
    /// The same zone.
    Zone,
    /// The same part of a zone.
    Subzone,
    /// The same node.
    Node,
    /// The same cluster.
    Cluster,
    /// The same network.
    Network,
}

/// Which address families a service offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum IpFamilies {
    /// Not said: both.
    #[default]
    Automatic,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Dual,
}

impl Service {
    /// `namespace/hostname`, under which it is delivered and found.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The port that callers call by this number.
    pub fn port(&self, service_port: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.service_port == service_port)
    }

    /// The length in bits of its longest block around this address.
    pub(crate) fn closest_block(&self, address: &NetworkAddress) -> Option<u8> {
        let around =
            |own: &&ServiceAddress| own.network == address.network && own.prefix.contains(address.ip);
        let around = self.addresses.iter().filter(around);
        around.map(|own| own.prefix.length()).max()
    }

    /// Whether callers of this namespace may address it.
    pub fn visible_from(&self, namespace: &str) -> bool {
        !self.namespace_only || *self.namespace == *namespace
    }

    /// Checks and reads a service. Anything that is not understood rejects the whole, `extensions` and unknown
    /// application protocols excepted. Subject names that are no workload identities can match no certificate
    /// and are left out.
    pub fn from_proto(service: wire::Service) -> Result<Self, Rejected> {
        let name = format!("{}/{}", service.namespace, service.hostname);
        read(service, &name).map_err(|reason| Rejected::new(name, reason))
    }
}

fn read(service: wire::Service, key: &str) -> Result<Service, String> {
    if service.namespace.is_empty() || service.hostname.is_empty() {
        return Err("a service without namespace or hostname".to_owned());
    }
    if service.namespace.contains('/') {
        return Err("namespace contains '/'".to_owned());
    }
    let mut addresses = Vec::with_capacity(service.addresses.len());
    for address in service.addresses {
        let address = service_address(address).map_err(|reason| format!("addresses: {reason}"))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(Service {
        addresses,
        ports: service
            .ports
            .into_iter()
            .map(|port| Port::from_proto(port).map_err(|reason| format!("ports: {reason}")))
            .collect::<Result<_, _>>()?,
        subject_alt_names: service
            .subject_alt_names
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
        waypoints: waypoints(service.waypoint, service.weighted_waypoints)?,
        load_balancing: service
            .load_balancing
            .map(load_balancing)
            .transpose()?
            .unwrap_or_default(),
        ip_families: match wire::IpFamilies::try_from(service.ip_families) {
            Ok(wire::IpFamilies::Automatic) => IpFamilies::Automatic,
            Ok(wire::IpFamilies::Ipv4Only) => IpFamilies::V4,
            Ok(wire::IpFamilies::Ipv6Only) => IpFamilies::V6,
            Ok(wire::IpFamilies::Dual) => IpFamilies::Dual,
            Err(_) => return Err(unknown("ip_families", service.ip_families)),
        },
        canonical: service.canonical,
        namespace_only: match wire::service::Visibility::try_from(service.visibility) {
            Ok(visibility) => visibility == wire::service::Visibility::Namespace,
            Err(_) => return Err(unknown("visibility", service.visibility)),
        },
        client_affinity: service.extensions.iter().any(is_client_affinity),
        name: service.name.into(),
        namespace: service.namespace.into(),
        hostname: service.hostname.into(),
        key: key.into(),
    })
}

fn service_address(address: wire::NetworkAddress) -> Result<ServiceAddress, String> {
    let ip = ip_from_bytes(&address.address).map_err(|error| error.to_string())?;
    let prefix = match address.length {
        Some(length) => IpPrefix::new(ip, length).map_err(|error| error.to_string())?,
        None => IpPrefix::host(ip),
    };
    Ok(ServiceAddress {
        network: address.network.into(),
        prefix,
    })
}

/// Whether an extension asks for affinity by client address. One that cannot be read asks for nothing: where
/// connections are balanced to is a preference, not a promise.
fn is_client_affinity(extension: &wire::Extension) -> bool {
    extension.name == SESSION_AFFINITY
        && extension.config.as_ref().is_some_and(|config| {
            // `google.protobuf.StringValue` is what prost reads as a string.
            let value: Result<String, _> = prost::Message::decode(&*config.value);
            config.type_url.ends_with("/google.protobuf.StringValue")
                && value.is_ok_and(|value| value == CLIENT_ADDRESS)
        })
}

/// The weighted list replaces the single waypoint when it has entries.
fn waypoints(
    single: Option<wire::GatewayAddress>,
    weighted: Vec<wire::WeightedWaypoint>,
) -> Result<Vec<(GatewayAddress, u32)>, String> {
    let single = single.map(GatewayAddress::from_proto).transpose();
    let single = single.map_err(|reason| format!("waypoint {reason}"))?;
    let mut all = Vec::with_capacity(weighted.len());
    for waypoint in weighted {
        let destination = waypoint
            .destination
            .ok_or("weighted_waypoints has an entry without destination")?;
        let gateway = GatewayAddress::from_proto(destination);
        all.push((
            gateway.map_err(|reason| format!("weighted_waypoints {reason}"))?,
            waypoint.weight,
        ));
    }
    if all.is_empty() {
        all.extend(single.map(|gateway| (gateway, 1)));
    }
    Ok(all)
}

fn load_balancing(raw: wire::LoadBalancing) -> Result<LoadBalancing, String> {
    use wire::load_balancing::{HealthPolicy, Mode};
    Ok(LoadBalancing {
        scopes: raw
            .routing_preference
            .into_iter()
            .map(scope)
            .collect::<Result<_, _>>()?,
        mode: match Mode::try_from(raw.mode) {
            Ok(Mode::UnspecifiedMode) => LoadBalancingMode::Any,
            Ok(Mode::Strict) => LoadBalancingMode::Strict,
            Ok(Mode::Failover) => LoadBalancingMode::Failover,
            Ok(Mode::Passthrough) => LoadBalancingMode::Passthrough,
            Err(_) => return Err(unknown("load_balancing.mode", raw.mode)),
        },
        allow_unhealthy: match HealthPolicy::try_from(raw.health_policy) {
            Ok(policy) => policy == HealthPolicy::AllowAll,
            Err(_) => return Err(unknown("load_balancing.health_policy", raw.health_policy)),
        },
    })
}

fn scope(value: i32) -> Result<LocalityScope, String> {
    use wire::load_balancing::Scope;
    match Scope::try_from(value) {
        Ok(Scope::Region) => Ok(LocalityScope::Region),
        Ok(Scope::Zone) => Ok(LocalityScope::Zone),
        Ok(Scope::Subzone) => Ok(LocalityScope::Subzone),
        Ok(Scope::Node) => Ok(LocalityScope::Node),
        Ok(Scope::Cluster) => Ok(LocalityScope::Cluster),
        Ok(Scope::Network) => Ok(LocalityScope::Network),
        Ok(Scope::UnspecifiedScope) | Err(_) => Err(unknown("load_balancing.routing_preference", value)),
    }
}
