//! The text of local state: YAML with the lists `workloads`, `services` and `policies`, whose fields are those of
//! Istio's local configuration. Everything becomes the same messages that discovery sends, so that one decoder and one
//! set of rules apply to both.

use super::{Kind, Resource, policy};
use objects::ParseErrors;
use objects::strict::{self, Field};
use prost::Message;
use proto::workload::{
    Address, ApplicationTunnel, GatewayAddress, IpFamilies, LoadBalancing, Locality, NamespacedHostname,
    NetworkAddress, NetworkMode, Port, PortList, Service, TunnelProtocol, Workload, WorkloadStatus,
    WorkloadType, address, application_tunnel, gateway_address, load_balancing, service,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Reads `text`; `file` is how errors name it.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Resource>, ParseErrors> {
    strict::read_one(file, text, |root| {
        let mut fields = root.fields()?;
        let mut resources = Vec::new();
        let mut list = |name, read: fn(&Field<'_>) -> Option<Resource>| {
            let items = fields.get(name).map(|list| list.items()).unwrap_or_default();
            resources.extend(items.iter().filter_map(read));
        };
        list("workloads", workload);
        list("services", service);
        list("policies", policy::read);
        fields.finish();
        Some(resources)
    })
}

fn workload(field: &Field<'_>) -> Option<Resource> {
    let mut fields = field.fields()?;
    let uid = fields.require("uid", "it names the workload, as in cluster1//Pod/demo/web-1");
    let addresses = fields.get("workloadIps");
    let addresses = addresses.map(|list| list.items()).unwrap_or_default();
    let tunnels = [
        ("HBONE", TunnelProtocol::Hbone),
        ("TCP", TunnelProtocol::None),
        ("NONE", TunnelProtocol::None),
    ];
    let kinds = [
        ("deployment", WorkloadType::Deployment),
        ("cronjob", WorkloadType::Cronjob),
        ("pod", WorkloadType::Pod),
        ("job", WorkloadType::Job),
    ];
    let states = [
        ("Healthy", WorkloadStatus::Healthy),
        ("Unhealthy", WorkloadStatus::Unhealthy),
    ];
    let modes = [
        ("Standard", NetworkMode::Standard),
        ("HostNetwork", NetworkMode::HostNetwork),
    ];
    let mut text = |name| {
        fields
            .get(name)
            .and_then(|field| owned(&field))
            .unwrap_or_default()
    };
    let mut workload = Workload {
        uid: uid.and_then(|uid| owned(&uid)).unwrap_or_default(),
        name: text("name"),
        namespace: text("namespace"),
        hostname: text("hostname"),
        network: text("network"),
        trust_domain: text("trustDomain"),
        service_account: text("serviceAccount"),
        node: text("node"),
        canonical_name: text("canonicalName"),
        canonical_revision: text("canonicalRevision"),
        workload_name: text("workloadName"),
        cluster_id: text("clusterId"),
        addresses: addresses
            .iter()
            .filter_map(|item| item.parsed(ip))
            .map(bytes)
            .collect(),
        ..Workload::default()
    };
    let mut get = |name| fields.get(name);
    let choice = |field: Option<Field<'_>>, choices: &[(&str, i32)]| field?.choice(choices);
    workload.tunnel_protocol = choice(get("protocol"), &numbers(tunnels)).unwrap_or_default();
    workload.workload_type = choice(get("workloadType"), &numbers(kinds)).unwrap_or(WorkloadType::Pod as i32);
    workload.status = choice(get("status"), &numbers(states)).unwrap_or_default();
    workload.network_mode = choice(get("networkMode"), &numbers(modes)).unwrap_or_default();
    workload.waypoint = get("waypoint").and_then(|field| gateway(&field));
    workload.network_gateway = get("networkGateway").and_then(|field| gateway(&field));
    workload.native_tunnel = get("nativeTunnel")
        .and_then(|field| field.boolean())
        .unwrap_or(false);
    workload.application_tunnel = get("applicationTunnel").and_then(|field| application_tunnel(&field));
    workload.authorization_policies = get("authorizationPolicies")
        .map(|field| field.texts())
        .unwrap_or_default();
    workload.locality = get("locality").and_then(|field| locality(&field));
    workload.capacity = get("capacity").and_then(|field| field.integer(0, u32::MAX));
    let services = get("services").map(|field| field.entries()).unwrap_or_default();
    workload.services = services
        .into_iter()
        .map(|(key, field)| (key.to_owned(), PortList { ports: ports(&field) }))
        .collect::<BTreeMap<_, _>>();
    fields.finish();
    let name = workload.uid.clone();
    let address = Address {
        r#type: Some(address::Type::Workload(workload)),
    };
    Some(resource(Kind::Address, name, &address))
}

fn service(field: &Field<'_>) -> Option<Resource> {
    let mut fields = field.fields()?;
    let families = [
        ("IPv4", IpFamilies::Ipv4Only),
        ("IPv6", IpFamilies::Ipv6Only),
        ("Dual", IpFamilies::Dual),
    ];
    let visible = [
        ("Public", service::Visibility::Public),
        ("Namespace", service::Visibility::Namespace),
    ];
    let mut required = |name, what| {
        let field = fields.require(name, what);
        field.and_then(|field| owned(&field)).unwrap_or_default()
    };
    let mut service = Service {
        name: required("name", "it names the service"),
        namespace: required("namespace", "it is half of the service's key"),
        hostname: required("hostname", "it is the other half of the service's key"),
        ..Service::default()
    };
    let mut get = |name| fields.get(name);
    let vips = get("vips").map(|list| list.items()).unwrap_or_default();
    service.addresses = vips
        .iter()
        .filter_map(|item| item.parsed(network_address))
        .collect();
    service.ports = get("ports").map(|field| ports(&field)).unwrap_or_default();
    service.subject_alt_names = get("subjectAltNames")
        .map(|field| field.texts())
        .unwrap_or_default();
    service.waypoint = get("waypoint").and_then(|field| gateway(&field));
    service.load_balancing = get("loadBalancer").and_then(|field| load_balancer(&field));
    service.ip_families = get("ipFamilies")
        .and_then(|field| field.choice(&numbers(families)))
        .unwrap_or_default();
    service.canonical = get("canonical")
        .and_then(|field| field.boolean())
        .unwrap_or(false);
    service.visibility = get("visibility")
        .and_then(|field| field.choice(&numbers(visible)))
        .unwrap_or_default();
    fields.finish();
    let name = format!("{}/{}", service.namespace, service.hostname);
    let address = Address {
        r#type: Some(address::Type::Service(service)),
    };
    Some(resource(Kind::Address, name, &address))
}

/// `{destination: NAMESPACE/HOSTNAME or NETWORK/ADDRESS, hboneMtlsPort: PORT}`.
fn gateway(field: &Field<'_>) -> Option<GatewayAddress> {
    let mut fields = field.fields()?;
    let destination = fields.require("destination", "NAMESPACE/HOSTNAME or NETWORK/ADDRESS");
    let port = fields.get("hboneMtlsPort").and_then(|field| field.port());
    fields.finish();
    let destination = destination?.parsed(|text| {
        let (first, rest) = text
            .split_once('/')
            .ok_or("is neither NAMESPACE/HOSTNAME nor NETWORK/ADDRESS")?;
        Ok(match rest.parse::<IpAddr>() {
            Ok(_) => gateway_address::Destination::Address(network_address(text)?),
            Err(_) => gateway_address::Destination::Hostname(NamespacedHostname {
                namespace: first.to_owned(),
                hostname: rest.to_owned(),
            }),
        })
    })?;
    Some(GatewayAddress {
        hbone_mtls_port: u32::from(port.unwrap_or(mesh::route::HBONE_PORT)),
        destination: Some(destination),
    })
}

fn application_tunnel(field: &Field<'_>) -> Option<ApplicationTunnel> {
    let mut fields = field.fields()?;
    let protocols = [
        ("NONE", application_tunnel::Protocol::None),
        ("PROXY", application_tunnel::Protocol::Proxy),
    ];
    let protocol = fields.get("protocol");
    let protocol = protocol.and_then(|field| field.choice(&numbers(protocols)));
    let port = fields.get("port").and_then(|field| field.port());
    fields.finish();
    Some(ApplicationTunnel {
        protocol: protocol.unwrap_or_default(),
        port: port.map(u32::from).unwrap_or_default(),
    })
}

fn locality(field: &Field<'_>) -> Option<Locality> {
    let mut fields = field.fields()?;
    let mut text = |name| {
        fields
            .get(name)
            .and_then(|field| owned(&field))
            .unwrap_or_default()
    };
    let locality = Locality {
        region: text("region"),
        zone: text("zone"),
        subzone: text("subzone"),
    };
    fields.finish();
    Some(locality)
}

fn load_balancer(field: &Field<'_>) -> Option<LoadBalancing> {
    let mut fields = field.fields()?;
    let modes = [
        ("Standard", load_balancing::Mode::UnspecifiedMode),
        ("Strict", load_balancing::Mode::Strict),
        ("Failover", load_balancing::Mode::Failover),
        ("Passthrough", load_balancing::Mode::Passthrough),
    ];
    let scopes = [
        ("Region", load_balancing::Scope::Region),
        ("Zone", load_balancing::Scope::Zone),
        ("Subzone", load_balancing::Scope::Subzone),
        ("Node", load_balancing::Scope::Node),
        ("Cluster", load_balancing::Scope::Cluster),
        ("Network", load_balancing::Scope::Network),
    ];
    let health = [
        ("OnlyHealthy", load_balancing::HealthPolicy::OnlyHealthy),
        ("AllowAll", load_balancing::HealthPolicy::AllowAll),
    ];
    let mode = fields.get("mode");
    let mode = mode.and_then(|field| field.choice(&numbers(modes)));
    let preferences = fields.get("routingPreferences").map(|list| list.items());
    let scopes = numbers(scopes);
    let preferences = preferences.unwrap_or_default();
    let policy = fields.get("healthPolicy");
    let policy = policy.and_then(|field| field.choice(&numbers(health)));
    fields.finish();
    Some(LoadBalancing {
        routing_preference: preferences
            .iter()
            .filter_map(|item| item.choice(&scopes))
            .collect(),
        mode: mode.unwrap_or_default(),
        health_policy: policy.unwrap_or_default(),
    })
}

/// A mapping from service port to target port; 0 leaves the target to the endpoint.
fn ports(field: &Field<'_>) -> Vec<Port> {
    let port = |(key, field): (&str, Field<'_>)| {
        let Some(service_port) = key.parse::<u16>().ok().filter(|port| *port > 0) else {
            field.error(format!("{key:?} is no port between 1 and 65535"));
            return None;
        };
        Some(Port {
            service_port: u32::from(service_port),
            target_port: field.integer(0, 65535)?,
            app_protocol: 0,
        })
    };
    field.entries().into_iter().filter_map(port).collect()
}

/// `NETWORK/ADDRESS`, or `NETWORK/ADDRESS/LENGTH`; the network may be empty.
fn network_address(text: &str) -> Result<NetworkAddress, String> {
    let mut parts = text.splitn(3, '/');
    let (Some(network), Some(address)) = (parts.next(), parts.next()) else {
        return Err("is not NETWORK/ADDRESS; the network may be empty, as in /10.0.0.1".into());
    };
    let address = ip(address)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match parts.next() {
        None => None,
        Some(length) => Some(
            length
                .parse::<u32>()
                .ok()
                .filter(|length| *length <= longest)
                .ok_or(format!("has a prefix length that is not between 0 and {longest}"))?,
        ),
    };
    Ok(NetworkAddress {
        network: network.to_owned(),
        address: bytes(address),
        length,
    })
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("holds {text:?}, which is no IP address"))
}

pub(super) fn bytes(ip: IpAddr) -> prost::bytes::Bytes {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec().into(),
        IpAddr::V6(ip) => ip.octets().to_vec().into(),
    }
}

pub(super) fn owned(field: &Field<'_>) -> Option<String> {
    field.text().map(str::to_owned)
}

/// The words of an enumeration with the numbers that stand for them on the wire.
pub(super) fn numbers<E: Into<i32>, const N: usize>(words: [(&str, E); N]) -> [(&str, i32); N] {
    words.map(|(word, value)| (word, value.into()))
}

pub(super) fn resource(kind: Kind, name: String, message: &impl Message) -> Resource {
    Resource {
        kind,
        name,
        payload: message.encode_to_vec().into(),
    }
}
