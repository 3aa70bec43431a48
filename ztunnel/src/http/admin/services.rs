//! A service as `config_dump` shows it.

use super::workloads::{gateway, ports};
use mesh::{IpFamilies, LoadBalancingMode, LocalityScope, Service, Snapshot};
use serde_json::{Map, Value, json};

pub(super) fn describe(service: &Service, snapshot: &Snapshot) -> Value {
    let endpoints: Map<String, Value> = snapshot
        .endpoints(service.key())
        .map(|workload| {
            let own = workload.services.get(service.key());
            let endpoint = json!({
                "workloadUid": &*workload.uid,
                "service": &**service.key(),
                "port": ports(own.map_or(&[], Vec::as_slice)),
                "status": if workload.healthy { "Healthy" } else { "Unhealthy" },
            });
            (workload.uid.to_string(), endpoint)
        })
        .collect();
    let vips = service
        .addresses
        .iter()
        .map(|address| format!("{}/{}", address.network, vip(&address.prefix.to_string())));
    let mut value = json!({
        "name": &*service.name,
        "namespace": &*service.namespace,
        "hostname": &*service.hostname,
        "vips": vips.collect::<Vec<_>>(),
        "ports": ports(&service.ports),
        "endpoints": endpoints,
        "subjectAltNames": service.subject_alt_names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ipFamilies": match service.ip_families {
            IpFamilies::Automatic => None,
            IpFamilies::V4 => Some("IPv4"),
            IpFamilies::V6 => Some("IPv6"),
            IpFamilies::Dual => Some("Dual"),
        },
        "canonical": service.canonical,
        "visibility": if service.namespace_only { "Namespace" } else { "Public" },
    });
    let balancing = &service.load_balancing;
    if balancing.mode != LoadBalancingMode::Any || balancing.allow_unhealthy {
        value["loadBalancer"] = json!({
            "mode": match balancing.mode {
                LoadBalancingMode::Any => "Standard",
                LoadBalancingMode::Strict => "Strict",
                LoadBalancingMode::Failover => "Failover",
                LoadBalancingMode::Passthrough => "Passthrough",
            },
            "routingPreferences": balancing.scopes.iter().map(|scope| scope_name(*scope)).collect::<Vec<_>>(),
            "healthPolicy": if balancing.allow_unhealthy { "AllowAll" } else { "OnlyHealthy" },
        });
    }
    let mut waypoints = service.waypoints.iter();
    if let Some((waypoint, _)) = waypoints.next() {
        value["waypoint"] = gateway(waypoint);
        if waypoints.next().is_some() {
            let weighted = service.waypoints.iter().map(|(waypoint, weight)| {
                let mut one = gateway(waypoint);
                one["weight"] = (*weight).into();
                one
            });
            value["weightedWaypoints"] = weighted.collect();
        }
    }
    value
}

/// One address without its length, as existing tools know it; a prefix with it.
fn vip(prefix: &str) -> &str {
    match prefix.split_once('/') {
        Some((address, "32")) if address.contains('.') => address,
        Some((address, "128")) => address,
        _ => prefix,
    }
}

fn scope_name(scope: LocalityScope) -> &'static str {
    match scope {
        LocalityScope::Region => "Region",
        LocalityScope::Zone => "Zone",
        LocalityScope::Subzone => "Subzone",
        LocalityScope::Node => "Node",
        LocalityScope::Cluster => "Cluster",
        LocalityScope::Network => "Network",
    }
}
