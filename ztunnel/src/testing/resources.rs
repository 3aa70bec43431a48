//! What a control plane sends.

use bytes::Bytes;
use mesh::route::HBONE_PORT;
use prost::Message;
use proto::security::string_match::MatchType;
use proto::security::{Action, Authorization, Clause, Match, Rule, Scope, StringMatch};
use proto::workload::address::Type;
use proto::workload::gateway_address::Destination;
use proto::workload::{
    Address, GatewayAddress, NetworkAddress, Port, PortList, Service, TunnelProtocol, Workload,
};
use std::net::IpAddr;
use xds_client::ResourceUpdate;

/// A ready pod `shop/name` of account `name` on `node-a`, reached by HBONE.
pub(crate) fn pod(name: &str, ip: IpAddr) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/shop/{name}"),
        name: name.into(),
        namespace: "shop".into(),
        service_account: name.into(),
        node: "node-a".into(),
        addresses: vec![raw(ip)],
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        ..Workload::default()
    }
}

/// The pod as an endpoint of service `shop/name.shop.svc`.
pub(crate) fn serving(mut pod: Workload, service: &str) -> Workload {
    pod.services
        .insert(format!("shop/{service}.shop.svc"), PortList::default());
    pod
}

/// Service `shop/name` with host name `name.shop.svc`.
pub(crate) fn service(name: &str, vip: Option<IpAddr>, ports: &[(u16, u16)]) -> Service {
    let port = |&(service_port, target_port): &(u16, u16)| Port {
        service_port: service_port.into(),
        target_port: target_port.into(),
        app_protocol: 0,
    };
    Service {
        name: name.into(),
        namespace: "shop".into(),
        hostname: format!("{name}.shop.svc"),
        addresses: vip.into_iter().map(at).collect(),
        ports: ports.iter().map(port).collect(),
        ..Service::default()
    }
}

/// The gateway or waypoint at an address.
pub(crate) fn gateway(ip: IpAddr) -> GatewayAddress {
    GatewayAddress {
        destination: Some(Destination::Address(at(ip))),
        hbone_mtls_port: HBONE_PORT.into(),
    }
}

pub(super) fn of_workload(workload: Workload) -> ResourceUpdate {
    resource(workload.uid.clone(), Type::Workload(workload))
}

pub(super) fn of_service(service: Service) -> ResourceUpdate {
    resource(
        format!("{}/{}", service.namespace, service.hostname),
        Type::Service(service),
    )
}

/// The policy `shop/only`, for the whole namespace.
pub(super) fn allow_only(account: &str) -> ResourceUpdate {
    let principal = StringMatch {
        match_type: Some(MatchType::Exact(format!("cluster.local/ns/shop/sa/{account}"))),
    };
    let policy = Authorization {
        name: "only".into(),
        namespace: "shop".into(),
        scope: Scope::Namespace.into(),
        action: Action::Allow.into(),
        rules: vec![Rule {
            clauses: vec![Clause {
                matches: vec![Match {
                    principals: vec![principal],
                    ..Match::default()
                }],
            }],
        }],
        ..Authorization::default()
    };
    ResourceUpdate {
        name: "shop/only".into(),
        aliases: Vec::new(),
        version: "1".into(),
        payload: Bytes::from(policy.encode_to_vec()),
    }
}

fn resource(name: String, body: Type) -> ResourceUpdate {
    let address = Address { r#type: Some(body) };
    ResourceUpdate {
        name,
        aliases: Vec::new(),
        version: "1".into(),
        payload: Bytes::from(address.encode_to_vec()),
    }
}

fn at(ip: IpAddr) -> NetworkAddress {
    NetworkAddress {
        network: String::new(),
        address: raw(ip),
        length: None,
    }
}

fn raw(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    }
}
