//! Pieces of what a control plane says: workloads, services and policies.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use proto::security::string_match::MatchType;
use proto::security::{Action, Authorization, Clause, Match, Rule, Scope, StringMatch};
use proto::workload::gateway_address::Destination;
use proto::workload::{
    GatewayAddress, NetworkAddress, Port, PortList, Service, TunnelProtocol, Workload, WorkloadType,
};

/// The name of the node.
pub const NODE: &str = "node-1";
/// The cluster's id.
pub const CLUSTER: &str = "Kubernetes";

/// An address in the form of the messages.
pub fn bytes_of(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    }
}

/// The reverse of [`bytes_of`].
pub fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A workload that speaks HBONE, as the control plane describes a pod of a deployment.
pub fn workload(namespace: &str, name: &str, account: &str, node: &str, ips: &[IpAddr]) -> Workload {
    Workload {
        uid: uid(namespace, name),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        addresses: ips.iter().map(|ip| bytes_of(*ip)).collect(),
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        trust_domain: "cluster.local".to_owned(),
        service_account: account.to_owned(),
        node: node.to_owned(),
        canonical_name: name.to_owned(),
        canonical_revision: "v1".to_owned(),
        workload_type: WorkloadType::Deployment.into(),
        workload_name: name.to_owned(),
        cluster_id: CLUSTER.to_owned(),
        ..Workload::default()
    }
}

/// The key of a pod's workload.
pub fn uid(namespace: &str, name: &str) -> String {
    format!("{CLUSTER}//Pod/{namespace}/{name}")
}

/// A service of one address and one port.
pub fn service(namespace: &str, name: &str, vip: IpAddr, port: u16, target: u16) -> Service {
    Service {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        hostname: hostname(namespace, name),
        addresses: vec![network_address(vip)],
        ports: vec![service_port(port, target)],
        ..Service::default()
    }
}

/// The name of a service.
pub fn hostname(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

/// A port of a service.
pub fn service_port(port: u16, target: u16) -> Port {
    Port {
        service_port: port.into(),
        target_port: target.into(),
        ..Port::default()
    }
}

/// Makes the workload an endpoint of the service.
pub fn joins(mut workload: Workload, service: &Service) -> Workload {
    let key = format!("{}/{}", service.namespace, service.hostname);
    let ports = PortList {
        ports: service.ports.clone(),
    };
    workload.services.insert(key, ports);
    workload
}

/// An address in the network that has no name.
pub fn network_address(ip: IpAddr) -> NetworkAddress {
    NetworkAddress {
        address: bytes_of(ip),
        ..NetworkAddress::default()
    }
}

/// A waypoint or gateway known by its address.
pub fn gateway(address: SocketAddr) -> GatewayAddress {
    GatewayAddress {
        destination: Some(Destination::Address(network_address(address.ip()))),
        hbone_mtls_port: address.port().into(),
    }
}

/// A policy of one rule with one clause.
pub fn policy(
    namespace: &str,
    name: &str,
    scope: Scope,
    action: Action,
    matches: Vec<Match>,
) -> Authorization {
    Authorization {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        scope: scope.into(),
        action: action.into(),
        rules: vec![Rule {
            clauses: vec![Clause { matches }],
        }],
        ..Authorization::default()
    }
}

/// Exactly this string.
pub fn exact(text: &str) -> StringMatch {
    StringMatch {
        match_type: Some(MatchType::Exact(text.to_owned())),
    }
}

/// Any string at all.
pub fn presence() -> StringMatch {
    StringMatch {
        match_type: Some(MatchType::Presence(())),
    }
}
