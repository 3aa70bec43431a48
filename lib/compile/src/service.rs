//! A Service object to a service.

use mesh::{CLIENT_ADDRESS, SESSION_AFFINITY};
use objects::{
    IpFamily, Kind, Metadata, Object, Protocol, Service, ServicePort, ServiceType,
    TRAFFIC_DISTRIBUTION_ANNOTATION, TargetPort, TrafficDistribution, TrafficPolicy,
};
use proto::workload::load_balancing::{HealthPolicy, Mode, Scope};
use proto::workload::{self, AppProtocol, Extension, IpFamilies, LoadBalancing, NetworkAddress, Port};

use crate::authorization_policy::ip_bytes;
use crate::condition::{Condition, UNSUPPORTED_VALUE, VISIBILITY_APPLIED};
use crate::index::Index;
use crate::network;
use crate::settings::Settings;
use crate::waypoint::{self, Asks, Traffic};

/// The DNS name of a Service.
pub(crate) fn hostname(settings: &Settings, namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc.{}", settings.cluster_domain)
}

/// The resource name of a Service: `namespace/hostname`.
pub(crate) fn key(settings: &Settings, namespace: &str, name: &str) -> String {
    format!("{namespace}/{}", hostname(settings, namespace, name))
}

/// The service; `None` for a mere alias of a DNS name.
pub(crate) fn convert(
    index: &Index,
    settings: &Settings,
    object: &Object,
    service: &Service,
) -> Option<workload::Service> {
    if service.service_type == ServiceType::ExternalName {
        return None;
    }
    let metadata = &object.metadata;
    let network = network::of_mesh(index, settings);
    let address = |ip| NetworkAddress {
        network: network.to_owned(),
        address: ip_bytes(ip),
        length: None,
    };
    let bound = waypoint::of(index, settings, asks(metadata));
    Some(workload::Service {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        hostname: hostname(settings, &metadata.namespace, &metadata.name),
        addresses: service.cluster_ips.iter().copied().map(address).collect(),
        ports: service.ports.iter().map(port).collect(),
        load_balancing: load_balancing(index, object, service),
        ip_families: ip_families(&service.ip_families).into(),
        waypoint: bound.waypoint,
        weighted_waypoints: bound.weighted,
        canonical: true,
        ingress_use_waypoint: waypoint::ingress(index, metadata),
        extensions: service
            .client_ip_affinity
            .then(client_affinity)
            .into_iter()
            .collect(),
        ..workload::Service::default()
    })
}

/// What the author of a Service is told.
pub(crate) fn conditions(
    index: &Index,
    settings: &Settings,
    object: &Object,
    service: &Service,
) -> Vec<Condition> {
    if service.service_type == ServiceType::ExternalName {
        return Vec::new();
    }
    let bound = waypoint::of(index, settings, asks(&object.metadata));
    let exported = exported(&object.metadata);
    bound.condition.into_iter().chain(exported).collect()
}

/// Who is to see a Service, as Istio's sidecars heed it.
const EXPORT_ANNOTATION: &str = "networking.istio.io/exportTo";

/// That a Service is seen by everybody, where its author wants it otherwise. To hide it from some would not keep them
/// away: they would reach its address without the mesh.
fn exported(metadata: &Metadata) -> Option<Condition> {
    let wanted = metadata.annotations.get(EXPORT_ANNOTATION)?;
    let mut names = wanted.split(',').map(str::trim);
    if wanted.trim().is_empty() || names.any(|name| name == "*") {
        return None;
    }
    Some(Condition {
        kind: VISIBILITY_APPLIED,
        status: false,
        reason: UNSUPPORTED_VALUE,
        message: format!(
            "node proxies know every Service, so all namespaces see it and not only {wanted:?} ({EXPORT_ANNOTATION}); an \
             AuthorizationPolicy says who may connect"
        ),
        observed_generation: metadata.generation,
    })
}

/// The Service that has a host name.
pub(crate) fn of_hostname<'a>(
    index: &'a Index,
    settings: &Settings,
    hostname: &str,
) -> Option<(&'a Object, &'a Service)> {
    let rest = hostname
        .strip_suffix(settings.cluster_domain.as_str())?
        .strip_suffix(".svc.")?;
    let (name, namespace) = rest.split_once('.')?;
    let object = index.get(Kind::Service, namespace, name)?;
    let service = object.as_service()?;
    (service.service_type != ServiceType::ExternalName).then_some((object.as_ref(), service))
}

/// Who asks for the waypoint of a Service.
pub(crate) fn asks(metadata: &Metadata) -> Asks<'_> {
    Asks {
        kind: Kind::Service,
        metadata,
        traffic: Traffic::Service,
        is_private: false,
    }
}

/// Connections of one client address belong together. Proxies that do not know this balance as usual.
fn client_affinity() -> Extension {
    let value = prost::Message::encode_to_vec(&CLIENT_ADDRESS.to_owned());
    Extension {
        name: SESSION_AFFINITY.to_owned(),
        config: Some(prost_types::Any {
            type_url: "type.googleapis.com/google.protobuf.StringValue".to_owned(),
            value,
        }),
    }
}

fn port(port: &ServicePort) -> Port {
    let target_port = match port.target_port {
        TargetPort::Number(number) => u32::from(number),
        // It may differ from pod to pod; every workload carries its own.
        TargetPort::Name(_) => 0,
    };
    Port {
        service_port: u32::from(port.port),
        target_port,
        app_protocol: app_protocol(port).into(),
    }
}

fn ip_families(families: &[IpFamily]) -> IpFamilies {
    match families {
        [] => IpFamilies::Automatic,
        [IpFamily::V4] => IpFamilies::Ipv4Only,
        [IpFamily::V6] => IpFamilies::Ipv6Only,
        _ => IpFamilies::Dual,
    }
}

fn load_balancing(index: &Index, object: &Object, service: &Service) -> Option<LoadBalancing> {
    let (scopes, mode): (&[Scope], Mode) = if service.internal_traffic_policy == TrafficPolicy::Local {
        (&[Scope::Node], Mode::Strict)
    } else {
        match distribution(index, object, service) {
            Some(distribution) => scopes(distribution),
            None => (&[], Mode::UnspecifiedMode),
        }
    };
    let health = if service.publish_not_ready_addresses {
        HealthPolicy::AllowAll
    } else {
        HealthPolicy::OnlyHealthy
    };
    if scopes.is_empty() && health == HealthPolicy::OnlyHealthy {
        return None;
    }
    Some(LoadBalancing {
        routing_preference: scopes.iter().map(|scope| i32::from(*scope)).collect(),
        mode: mode.into(),
        health_policy: health.into(),
    })
}

/// What is preferred, the most important first, and how.
pub(crate) fn scopes(distribution: TrafficDistribution) -> (&'static [Scope], Mode) {
    const ZONE: &[Scope] = &[Scope::Network, Scope::Region, Scope::Zone];
    const NODE: &[Scope] = &[
        Scope::Network,
        Scope::Region,
        Scope::Zone,
        Scope::Subzone,
        Scope::Node,
    ];
    let scopes = match distribution {
        TrafficDistribution::PreferClose | TrafficDistribution::PreferSameZone => ZONE,
        TrafficDistribution::PreferSameNode => NODE,
    };
    (scopes, Mode::Failover)
}

/// The field, else the Service's annotation, else its namespace's. An annotation with an unknown value says "none".
fn distribution(index: &Index, object: &Object, service: &Service) -> Option<TrafficDistribution> {
    if service.traffic_distribution.is_some() {
        return service.traffic_distribution;
    }
    let namespace = index.get(Kind::Namespace, "", &object.metadata.namespace);
    let own = object.metadata.annotations.get(TRAFFIC_DISTRIBUTION_ANNOTATION);
    let inherited =
        || namespace.and_then(|object| object.metadata.annotations.get(TRAFFIC_DISTRIBUTION_ANNOTATION));
    own.or_else(inherited)
        .and_then(|name| TrafficDistribution::from_name(name))
}

/// What is spoken: as declared, else by the first part of the port's name, else by well-known number.
fn app_protocol(port: &ServicePort) -> AppProtocol {
    if port.protocol != Protocol::Tcp {
        return AppProtocol::Unknown;
    }
    let by_name = |name: &str| {
        Some(match name {
            "http" | "kubernetes.io/ws" => AppProtocol::Http11,
            "http2" | "h2c" | "kubernetes.io/h2c" => AppProtocol::Http2,
            "grpc" | "grpc-web" => AppProtocol::Grpc,
            "https" | "tls" | "kubernetes.io/wss" => AppProtocol::Tls,
            "tcp" => AppProtocol::Tcp,
            _ => return None,
        })
    };
    let declared = port.app_protocol.to_ascii_lowercase();
    if !declared.is_empty() {
        return by_name(&declared).unwrap_or(AppProtocol::Unknown);
    }
    let prefix = port.name.split('-').next().unwrap_or_default();
    by_name(&port.name)
        .or_else(|| by_name(prefix))
        .unwrap_or(match port.port {
            25 | 53 | 3306 | 27017 => AppProtocol::Tcp,
            _ => AppProtocol::Unknown,
        })
}

#[cfg(test)]
mod tests;
