//! A workload as `config_dump` shows it.

use mesh::{ApplicationTunnelProtocol, GatewayAddress, GatewayDestination, Port, TunnelProtocol, Workload};
use serde_json::{Map, Value, json};
use std::num::NonZeroU16;

pub(super) fn describe(workload: &Workload) -> Value {
    let mut value = json!({
        "uid": &*workload.uid,
        "name": &*workload.name,
        "namespace": &*workload.namespace,
        "workloadIps": workload.addresses,
        "hostname": &*workload.hostname,
        "network": &*workload.network,
        "protocol": match workload.tunnel {
            TunnelProtocol::None => "TCP",
            TunnelProtocol::Hbone => "HBONE",
        },
        "nativeTunnel": workload.native_tunnel,
        "networkMode": if workload.host_network { "HostNetwork" } else { "Standard" },
        "trustDomain": &*workload.trust_domain,
        "serviceAccount": &*workload.service_account,
        "identity": workload.identity().to_string(),
        "node": &*workload.node,
        "workloadName": &*workload.workload_name,
        "workloadType": workload.workload_type.as_str(),
        "canonicalName": &*workload.canonical_name,
        "canonicalRevision": &*workload.canonical_revision,
        "clusterId": &*workload.cluster_id,
        "locality": {
            "region": &*workload.locality.region,
            "zone": &*workload.locality.zone,
            "subzone": &*workload.locality.subzone,
        },
        "status": if workload.healthy { "Healthy" } else { "Unhealthy" },
        "capacity": workload.capacity,
        "services": workload.services.keys().map(|key| &**key).collect::<Vec<_>>(),
        "authorizationPolicies": workload.authorization_policies.iter().map(|name| &**name).collect::<Vec<_>>(),
    });
    // Left out where there is none, as existing tools expect it.
    if let Some(waypoint) = &workload.waypoint {
        value["waypoint"] = gateway(waypoint);
    }
    if let Some(gateway_address) = &workload.network_gateway {
        value["networkGateway"] = gateway(gateway_address);
    }
    if let Some(tunnel) = &workload.application_tunnel {
        value["applicationTunnel"] = json!({
            "protocol": match tunnel.protocol {
                ApplicationTunnelProtocol::None => "NONE",
                ApplicationTunnelProtocol::Proxy => "PROXY",
            },
            "port": tunnel.port,
        });
    }
    value
}

/// A waypoint or gateway: `network/address` or `namespace/hostname`, and a port.
pub(super) fn gateway(address: &GatewayAddress) -> Value {
    let destination = match &address.destination {
        GatewayDestination::Service(key) => key.to_string(),
        GatewayDestination::Address(address) => address.to_string(),
    };
    json!({
        "destination": destination,
        "hboneMtlsPort": address.hbone_port.map_or(DEFAULT_HBONE_PORT, NonZeroU16::get),
    })
}

/// Where a gateway that names no port listens.
const DEFAULT_HBONE_PORT: u16 = 15008;

/// Ports as a map from the service's to the endpoint's; 0 where that is not said.
pub(super) fn ports(ports: &[Port]) -> Map<String, Value> {
    ports
        .iter()
        .map(|port| {
            let target = port.target_port.map_or(0, NonZeroU16::get);
            (port.service_port.to_string(), target.into())
        })
        .collect()
}
