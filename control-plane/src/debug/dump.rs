//! What is served, as JSON for people.

use std::net::IpAddr;

use prost::Message;
use proto::discovery::Resource;
use proto::security::{Authorization, Clause, Match, Rule, ServiceAccountMatch, StringMatch, string_match};
use proto::workload::address::Type;
use proto::workload::gateway_address::Destination;
use proto::workload::{Address, GatewayAddress, NetworkAddress, Port, Service, Workload};
use serde_json::{Map, Value, json};

use crate::xds::table::{Table, View};

pub(super) fn workloads(view: &View) -> Value {
    list(&view.addresses, |payload| {
        match Address::decode(payload).ok()?.r#type? {
            Type::Workload(content) => Some(workload(&content)),
            Type::Service(_) => None,
        }
    })
}

pub(super) fn services(view: &View) -> Value {
    list(&view.addresses, |payload| {
        match Address::decode(payload).ok()?.r#type? {
            Type::Service(content) => Some(service(&content)),
            Type::Workload(_) => None,
        }
    })
}

pub(super) fn policies(view: &View) -> Value {
    list(&view.policies, |payload| {
        Some(policy(&Authorization::decode(payload).ok()?))
    })
}

/// Each resource with its version, by name.
fn list(table: &Table, show: impl Fn(&[u8]) -> Option<Map<String, Value>>) -> Value {
    let mut shown: Vec<_> = table
        .iter()
        .filter_map(|resource| {
            let message = Resource::decode(resource.encoded.clone()).ok()?;
            let mut content = show(&message.resource?.value)?;
            content.insert("version".to_owned(), json!(message.version));
            Some((resource.name.clone(), Value::Object(content)))
        })
        .collect();
    shown.sort_by(|(one, _), (other, _)| one.cmp(other));
    shown.into_iter().map(|(_, content)| content).collect()
}

fn workload(workload: &Workload) -> Map<String, Value> {
    let services = workload
        .services
        .iter()
        .map(|(name, list)| (name.clone(), list.ports.iter().map(port).collect()));
    let waypoint = workload.waypoint.as_ref().map(|waypoint| format!("{waypoint:?}"));
    object(json!({
        "uid": workload.uid,
        "name": workload.name,
        "namespace": workload.namespace,
        "serviceAccount": workload.service_account,
        "trustDomain": workload.trust_domain,
        "node": workload.node,
        "network": workload.network,
        "clusterId": workload.cluster_id,
        "addresses": workload.addresses.iter().map(|address| ip(address)).collect::<Vec<_>>(),
        "hostname": workload.hostname,
        "tunnelProtocol": workload.tunnel_protocol().as_str_name(),
        "nativeTunnel": workload.native_tunnel,
        "networkMode": workload.network_mode().as_str_name(),
        "status": workload.status().as_str_name(),
        "workloadName": workload.workload_name,
        "workloadType": workload.workload_type().as_str_name(),
        "canonicalName": workload.canonical_name,
        "canonicalRevision": workload.canonical_revision,
        "services": services.collect::<Map<String, Value>>(),
        "authorizationPolicies": workload.authorization_policies,
        "waypoint": waypoint,
        "capacity": workload.capacity,
        "networkGateway": workload.network_gateway.as_ref().and_then(gateway),
    }))
}

/// Address or name, and port.
fn gateway(gateway: &GatewayAddress) -> Option<String> {
    let port = gateway.hbone_mtls_port;
    Some(match gateway.destination.as_ref()? {
        Destination::Address(at) => format!("{}/{}:{port}", at.network, ip(&at.address)),
        Destination::Hostname(name) => format!("{}/{}:{port}", name.namespace, name.hostname),
    })
}

fn service(service: &Service) -> Map<String, Value> {
    let address =
        |NetworkAddress { network, address, .. }: &NetworkAddress| format!("{network}/{}", ip(address));
    object(json!({
        "name": service.name,
        "namespace": service.namespace,
        "hostname": service.hostname,
        "addresses": service.addresses.iter().map(address).collect::<Vec<_>>(),
        "ports": service.ports.iter().map(port).collect::<Vec<_>>(),
        "subjectAltNames": service.subject_alt_names,
        "loadBalancing": service.load_balancing.as_ref().map(|balancing| format!("{balancing:?}")),
        "ipFamilies": service.ip_families().as_str_name(),
        "canonical": service.canonical,
    }))
}

fn policy(policy: &Authorization) -> Map<String, Value> {
    let clause = |clause: &Clause| clause.matches.iter().map(one_match).collect::<Value>();
    let rule = |rule: &Rule| rule.clauses.iter().map(clause).collect::<Value>();
    object(json!({
        "name": policy.name,
        "namespace": policy.namespace,
        "scope": policy.scope().as_str_name(),
        "action": policy.action().as_str_name(),
        "dryRun": policy.dry_run,
        "rules": policy.rules.iter().map(rule).collect::<Vec<_>>(),
    }))
}

/// Only what the match restricts.
fn one_match(one: &Match) -> Value {
    let texts = |list: &[StringMatch]| list.iter().map(text).collect::<Vec<_>>();
    let accounts = |list: &[ServiceAccountMatch]| {
        list.iter()
            .map(|one| format!("{}/{}", one.namespace, one.service_account))
            .collect::<Vec<_>>()
    };
    let blocks = |list: &[proto::security::Address]| {
        list.iter()
            .map(|block| format!("{}/{}", ip(&block.address), block.length))
            .collect::<Vec<_>>()
    };
    let mut all = object(json!({
        "namespaces": texts(&one.namespaces),
        "notNamespaces": texts(&one.not_namespaces),
        "principals": texts(&one.principals),
        "notPrincipals": texts(&one.not_principals),
        "serviceAccounts": accounts(&one.service_accounts),
        "notServiceAccounts": accounts(&one.not_service_accounts),
        "sourceIps": blocks(&one.source_ips),
        "notSourceIps": blocks(&one.not_source_ips),
        "destinationIps": blocks(&one.destination_ips),
        "notDestinationIps": blocks(&one.not_destination_ips),
        "destinationPorts": one.destination_ports,
        "notDestinationPorts": one.not_destination_ports,
    }));
    all.retain(|_, list| list.as_array().is_some_and(|list| !list.is_empty()));
    Value::Object(all)
}

fn text(text: &StringMatch) -> String {
    match &text.match_type {
        Some(string_match::MatchType::Exact(text)) => text.clone(),
        Some(string_match::MatchType::Prefix(text)) => format!("{text}*"),
        Some(string_match::MatchType::Suffix(text)) => format!("*{text}"),
        Some(string_match::MatchType::Presence(_)) => "*".to_owned(),
        None => "(nothing)".to_owned(),
    }
}

fn port(port: &Port) -> Value {
    json!({
        "servicePort": port.service_port,
        "targetPort": port.target_port,
        "appProtocol": port.app_protocol().as_str_name(),
    })
}

fn ip(bytes: &[u8]) -> String {
    let address = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    address.map_or_else(|| format!("{bytes:?}"), |address| address.to_string())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
