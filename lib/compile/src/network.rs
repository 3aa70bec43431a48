//! Networks: the one that the mesh is on, and the gateways of others.

use std::collections::BTreeMap;

use objects::{EAST_WEST_CLASS, Kind, Metadata, NETWORK_LABEL, Object, REMOTE_CLASS, Warning};
use proto::workload::{
    self, GatewayAddress, NamespacedHostname, NetworkAddress, TunnelProtocol, WorkloadType,
    gateway_address::Destination,
};

use crate::authorization_policy::ip_bytes;
use crate::index::Index;
use crate::settings::Settings;
use crate::workload::trust_domain;

/// The annotations by which a Gateway names the service account of its pods, or what that is made of.
const ACCOUNT_ANNOTATION: &str = "gateway.istio.io/service-account";
const NAME_ANNOTATION: &str = "gateway.istio.io/name-override";

/// The network that pods and Services are on: as a label of the root namespace says, or else the settings.
pub(crate) fn of_mesh<'a>(index: &'a Index, settings: &'a Settings) -> &'a str {
    let root = index.get(Kind::Namespace, "", &settings.root_namespace);
    let label = root.and_then(|namespace| namespace.metadata.labels.get(NETWORK_LABEL));
    label.unwrap_or(&settings.network)
}

/// The network that a Gateway is the gateway of.
pub(crate) fn of_gateway(object: &Object) -> Option<String> {
    let gateway = object.as_gateway()?;
    let network = object
        .metadata
        .labels
        .get(NETWORK_LABEL)
        .filter(|name| !name.is_empty())?;
    let is_gateway = gateway.class_name == REMOTE_CLASS && gateway.hbone_listener(None).is_some();
    is_gateway.then(|| network.clone())
}

/// What a Gateway says of the service account of its pods.
pub(crate) fn account_of_gateway(object: &Object) -> [Option<&String>; 2] {
    [ACCOUNT_ANNOTATION, NAME_ANNOTATION].map(|key| object.metadata.annotations.get(key))
}

/// How workloads on a network are reached from others; `None` where no Gateway tells.
pub(crate) fn gateway(index: &Index, settings: &Settings, network: &str) -> Option<GatewayAddress> {
    let (object, address, port) = first(index, settings, network)?;
    Some(reached_at(network, object, address, port))
}

/// The address of a Gateway, as the way to a network.
pub(crate) fn reached_at(
    network: &str,
    object: &Object,
    address: &objects::GatewayAddress,
    port: u16,
) -> GatewayAddress {
    let destination = match address {
        objects::GatewayAddress::Hostname(name) => Destination::Hostname(NamespacedHostname {
            namespace: object.metadata.namespace.clone(),
            hostname: name.clone(),
        }),
        objects::GatewayAddress::Ip(address) => Destination::Address(NetworkAddress {
            network: network.to_owned(),
            address: ip_bytes(*address),
            length: None,
        }),
    };
    GatewayAddress {
        hbone_mtls_port: port.into(),
        destination: Some(destination),
    }
}

/// What the resource names of a network's gateways begin with.
pub(crate) fn uid_prefix(network: &str) -> String {
    format!("NetworkGateway/{network}/")
}

/// The gateway of a network as a workload, by uid: who connects must know its identity.
pub(crate) fn workloads(
    index: &Index,
    settings: &Settings,
    network: &str,
) -> BTreeMap<String, workload::Workload> {
    let Some((object, address, port)) = first(index, settings, network) else {
        return BTreeMap::new();
    };
    let made = workload_of(settings, network, object, address, port);
    BTreeMap::from([(made.uid.clone(), made)])
}

/// A Gateway as the workload that is dialled on the way to a network.
pub(crate) fn workload_of(
    settings: &Settings,
    network: &str,
    object: &Object,
    address: &objects::GatewayAddress,
    port: u16,
) -> workload::Workload {
    let metadata = &object.metadata;
    let annotation = |key: &str| metadata.annotations.get(key).cloned();
    // Istio names what it runs for a Gateway after the class too, but not for its own classes for waypoints and this one.
    let is_run = object
        .as_gateway()
        .is_some_and(|gateway| gateway.class_name == EAST_WEST_CLASS);
    let name = annotation(NAME_ANNOTATION).unwrap_or_else(|| match is_run {
        true => metadata.name.clone(),
        false => format!("{}-{REMOTE_CLASS}", metadata.name),
    });
    let account = annotation(ACCOUNT_ANNOTATION).unwrap_or(name);
    let (addresses, hostname, text) = match address {
        objects::GatewayAddress::Hostname(name) => (Vec::new(), name.clone(), name.clone()),
        objects::GatewayAddress::Ip(address) => {
            (vec![ip_bytes(*address)], String::new(), address.to_string())
        }
    };
    let uid = format!("{}{text}/{port}", uid_prefix(network));
    workload::Workload {
        uid,
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        addresses,
        hostname,
        network: network.to_owned(),
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        trust_domain: trust_domain(settings),
        service_account: account,
        workload_type: WorkloadType::Pod.into(),
        workload_name: metadata.name.clone(),
        cluster_id: settings.cluster_id.clone(),
        ..workload::Workload::default()
    }
}

/// Whether Gateways of a namespace may be those of a network: whoever may only write in another one must not turn aside
/// what the whole mesh sends there.
pub(crate) fn is_trusted(settings: &Settings, namespace: &str) -> bool {
    let mut others = settings.network_gateway_namespaces.iter();
    namespace == settings.root_namespace || others.any(|other| other == "*" || other == namespace)
}

/// What the author of a Gateway that counts for nothing is told.
pub(crate) fn warning(settings: &Settings, object: &Object) -> Option<Warning> {
    let network = of_gateway(object)?;
    let (namespace, root) = (&object.metadata.namespace, &settings.root_namespace);
    (!is_trusted(settings, namespace)).then(|| Warning {
        object: object.key(),
        field: "metadata.namespace".to_owned(),
        message: format!(
            "this is no gateway of the network {network}: only those of the namespace {root} and of the control plane's \
             --network-gateway-namespace are"
        ),
    })
}

/// The oldest Gateway of a network that has an address, that address, and the port for tunnels; those of the root
/// namespace go before.
pub(crate) fn first<'a>(
    index: &'a Index,
    settings: &Settings,
    network: &str,
) -> Option<(&'a Object, &'a objects::GatewayAddress, u16)> {
    let known = index.gateways_of_network(network).filter_map(|object| {
        if !is_trusted(settings, &object.metadata.namespace) {
            return None;
        }
        let gateway = object.as_gateway()?;
        // Nobody runs such a Gateway, so nobody may have written where it is but its author.
        let address = gateway.addresses.first().or(gateway.wanted_addresses.first())?;
        Some((object.as_ref(), address, gateway.hbone_listener(None)?.port))
    });
    let is_foreign = |metadata: &Metadata| metadata.namespace != settings.root_namespace;
    known.min_by(|(one, ..), (other, ..)| {
        let (one, other) = (&one.metadata, &other.metadata);
        is_foreign(one)
            .cmp(&is_foreign(other))
            .then_with(|| one.by_age(other))
    })
}

#[cfg(test)]
mod tests;
