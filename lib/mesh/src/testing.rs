//! Resources for tests, as the control plane would send them.

use std::net::IpAddr;

use proto::workload as wire;

use crate::{Change, Identity, Service, Snapshot, Workload};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn raw_ip(text: &str) -> Vec<u8> {
    match ip(text) {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

/// A ready pod `namespace/name` in the mesh, with account `default`, on node `node-a`.
pub(crate) fn pod(namespace: &str, name: &str, addresses: &[&str]) -> wire::Workload {
    wire::Workload {
        uid: format!("Kubernetes//Pod/{namespace}/{name}"),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        addresses: addresses.iter().map(|ip| raw_ip(ip).into()).collect(),
        tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
        node: "node-a".to_owned(),
        ..Default::default()
    }
}

/// The pod as an endpoint of a service, with (service port, target port) pairs of its own.
pub(crate) fn serving(mut pod: wire::Workload, service: &str, ports: &[(u32, u32)]) -> wire::Workload {
    pod.services.insert(
        service.to_owned(),
        wire::PortList {
            ports: port_list(ports),
        },
    );
    pod
}

/// Service `namespace/name` with host name `name.namespace.svc`, and (service port, target port) pairs.
pub(crate) fn service(namespace: &str, name: &str, vips: &[&str], ports: &[(u32, u32)]) -> wire::Service {
    wire::Service {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        hostname: format!("{name}.{namespace}.svc"),
        addresses: vips.iter().map(|vip| vip_address(vip)).collect(),
        ports: port_list(ports),
        ..Default::default()
    }
}

/// `10.0.0.1` or `10.0.0.0/8`.
pub(crate) fn vip_address(text: &str) -> wire::NetworkAddress {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse().unwrap())),
        None => (text, None),
    };
    wire::NetworkAddress {
        network: String::new(),
        address: raw_ip(address).into(),
        length,
    }
}

pub(crate) fn gateway(namespace: &str, hostname: &str) -> wire::GatewayAddress {
    let name = wire::NamespacedHostname {
        namespace: namespace.to_owned(),
        hostname: hostname.to_owned(),
    };
    wire::GatewayAddress {
        destination: Some(wire::gateway_address::Destination::Hostname(name)),
        hbone_mtls_port: 15008,
    }
}

/// What asks for affinity by client address.
pub(crate) fn affinity() -> wire::Extension {
    wire::Extension {
        name: crate::SESSION_AFFINITY.to_owned(),
        config: Some(prost_types::Any {
            type_url: "type.googleapis.com/google.protobuf.StringValue".to_owned(),
            value: prost::Message::encode_to_vec(&crate::CLIENT_ADDRESS.to_owned()),
        }),
    }
}

/// The waypoint or gateway at an address, on this HBONE port.
pub(crate) fn gateway_at(network: &str, ip: &str, port: u32) -> wire::GatewayAddress {
    let address = wire::NetworkAddress {
        network: network.to_owned(),
        address: raw_ip(ip).into(),
        length: None,
    };
    wire::GatewayAddress {
        destination: Some(wire::gateway_address::Destination::Address(address)),
        hbone_mtls_port: port,
    }
}

pub(crate) fn read_pod(pod: wire::Workload) -> Workload {
    Workload::from_proto(pod).unwrap()
}

pub(crate) fn read_service(service: wire::Service) -> Service {
    Service::from_proto(service).unwrap()
}

/// A synced snapshot of these.
pub(crate) fn mesh(pods: Vec<wire::Workload>, services: Vec<wire::Service>) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let pods = pods.into_iter().map(|pod| Change::Workload(read_pod(pod)));
    let services = services
        .into_iter()
        .map(|service| Change::Service(read_service(service)));
    snapshot.apply(pods.chain(services).chain([Change::PoliciesSynced]));
    snapshot
}

fn port_list(ports: &[(u32, u32)]) -> Vec<wire::Port> {
    let port = |&(service_port, target_port)| wire::Port {
        service_port,
        target_port,
        app_protocol: 0,
    };
    ports.iter().map(port).collect()
}
