//! A ServiceEntry to a service for each of its hosts, and to workloads for the endpoints that stand in it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use objects::selector::Labels;
use objects::{
    EntryAddress, Kind, Metadata, Object, Resolution, ServiceEntry, ServiceEntryPort,
    TRAFFIC_DISTRIBUTION_ANNOTATION, TrafficDistribution, WorkloadEntry,
};
use proto::workload::load_balancing::{HealthPolicy, Mode};
use proto::workload::service::Visibility as Seen;
use proto::workload::{self, AppProtocol, LoadBalancing, NetworkAddress, Port, PortList};

use crate::authorization_policy::ip_bytes;
use crate::condition::{ADDRESSES_ACCEPTED, Condition};
use crate::entry::{self, Parts};
use crate::index::Index;
use crate::settings::Settings;
use crate::waypoint::{self, Asks, Traffic};
use crate::{block, claim, network, service, vip};

mod hosts;
mod visibility;

pub use visibility::Visibility;

/// What the resource names of the workloads begin with; the address follows.
pub(crate) fn uid_prefix(settings: &Settings, namespace: &str, name: &str) -> String {
    format!(
        "{}/networking.istio.io/ServiceEntry/{namespace}/{name}/",
        settings.cluster_id
    )
}

/// The service of a host in a namespace, as the oldest of its ServiceEntries there has it.
pub(crate) fn service(
    index: &Index,
    settings: &Settings,
    namespace: &str,
    host: &str,
) -> Option<workload::Service> {
    let in_namespace = index
        .entries_of_host(host)
        .filter(|(object, _)| object.metadata.namespace == namespace);
    let seen = in_namespace
        .filter(|(object, entry)| Visibility::of(settings, &object.metadata, entry) != Visibility::None);
    let (object, entry) = seen.min_by(|(one, _), (other, _)| one.metadata.by_age(&other.metadata))?;
    let metadata = &object.metadata;
    let visibility = match Visibility::of(settings, metadata, entry) {
        // A name or address of another namespace is not the entry's to give to everybody.
        Visibility::Public
            if hosts::is_foreign(settings, &metadata.namespace, host)
                || claim::is_kept_from_others(index, settings, object, entry) =>
        {
            Visibility::Namespace
        }
        visibility => visibility,
    };
    let bound = waypoint::of(index, settings, asks(settings, metadata, entry));
    Some(workload::Service {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        hostname: host.to_owned(),
        addresses: addresses(index, settings, object, entry, host),
        ports: entry.ports.iter().map(port).collect(),
        subject_alt_names: entry.subject_alt_names.clone(),
        waypoint: bound.waypoint,
        weighted_waypoints: bound.weighted,
        load_balancing: load_balancing(index, metadata, entry),
        canonical: is_canonical(index, settings, object, entry, host),
        ingress_use_waypoint: waypoint::ingress(index, metadata),
        visibility: match visibility {
            Visibility::Namespace => Seen::Namespace.into(),
            Visibility::Public | Visibility::None => Seen::Public.into(),
        },
        ..workload::Service::default()
    })
}

/// The workloads that stand in the entry, by uid: its endpoints, or its hosts where those are resolved; and what the author
/// is told where one of them is at somebody else's address.
pub(crate) fn workloads(
    index: &Index,
    settings: &Settings,
    object: &Object,
    entry: &ServiceEntry,
) -> (BTreeMap<String, workload::Workload>, Option<Condition>) {
    let mut made = BTreeMap::new();
    let mut told = None;
    let metadata = &object.metadata;
    if Visibility::of(settings, metadata, entry) == Visibility::None {
        return (made, told);
    }
    let prefix = uid_prefix(settings, &metadata.namespace, &metadata.name);
    let mut add = |endpoint: &WorkloadEntry, hosts: &[String]| {
        let suffix = match &endpoint.address {
            Some(EntryAddress::Socket(_)) => return,
            Some(address) => address.to_string(),
            None => endpoint.network.clone(),
        };
        let ports = PortList {
            ports: endpoint_ports(entry, endpoint).collect(),
        };
        let keys = hosts.iter().map(|host| service_key(&metadata.namespace, host));
        let labels = entry::labels(object, endpoint);
        let parts = Parts {
            uid: format!("{prefix}{suffix}"),
            object,
            entry: endpoint,
            labels: &labels,
            workload_name: metadata.name.clone(),
            services: keys.map(|key| (key, ports.clone())).collect(),
        };
        // An endpoint that is listed twice counts once.
        if made.contains_key(&parts.uid) {
            return;
        }
        let (workload, conditions) = entry::workload(index, settings, parts);
        made.extend(workload.map(|workload| (workload.uid.clone(), workload)));
        // Of the waypoint it is told as a whole.
        let mut of_address = conditions
            .into_iter()
            .filter(|one| one.kind == ADDRESSES_ACCEPTED);
        told = told.take().or(of_address.next());
    };
    for endpoint in &entry.endpoints {
        add(endpoint, &entry.hosts);
    }
    let is_implicit =
        entry.resolution.is_dns() && entry.endpoints.is_empty() && entry.workload_selector.is_none();
    let names = entry.hosts.iter().filter(|host| !host.starts_with('*'));
    for host in names.filter(|_| is_implicit) {
        let endpoint = WorkloadEntry {
            address: Some(EntryAddress::Name(host.clone())),
            ..WorkloadEntry::default()
        };
        add(&endpoint, std::slice::from_ref(host));
    }
    (made, told)
}

/// What the author of an entry is told.
pub(crate) fn conditions(
    index: &Index,
    settings: &Settings,
    object: &Object,
    entry: &ServiceEntry,
    of_endpoints: Option<Condition>,
) -> Vec<Condition> {
    let metadata = &object.metadata;
    let bound = waypoint::of(index, settings, asks(settings, metadata, entry));
    let pattern = entry.hosts.iter().find(|host| host.starts_with('*'));
    let missing = pattern.filter(|_| entry.resolution == Resolution::DynamicDns && bound.waypoint.is_none());
    let missing = missing.map(|host| visibility::waypoint_missing(metadata, host));
    let applied = visibility::condition(settings, metadata, entry);
    let disputed = claim::condition(index, settings, object, entry).or(of_endpoints);
    let foreign = hosts::condition(settings, metadata, entry);
    bound
        .condition
        .into_iter()
        .chain(missing)
        .chain(applied)
        .chain(disputed)
        .chain(foreign)
        .collect()
}

/// The hosts of a namespace whose entries select a workload by its labels, each with the oldest of them: that is the
/// service, and what a younger one says of ports is not the service's.
pub(crate) fn selecting<'a>(
    index: &'a Index,
    settings: &Settings,
    namespace: &str,
    labels: &Labels,
) -> impl Iterator<Item = (&'a ServiceEntry, &'a str)> + use<'a> {
    let selecting = index.selecting(Kind::ServiceEntry, namespace, labels);
    let entries = selecting
        .into_iter()
        .filter_map(|object| Some((&object.metadata, object.as_service_entry()?)));
    let seen =
        entries.filter(|(metadata, entry)| Visibility::of(settings, metadata, entry) != Visibility::None);
    let mut oldest: BTreeMap<&str, (&Metadata, &ServiceEntry)> = BTreeMap::new();
    for (metadata, entry) in seen {
        for host in &entry.hosts {
            let of_host = oldest.entry(host).or_insert((metadata, entry));
            if metadata.by_age(of_host.0).is_lt() {
                *of_host = (metadata, entry);
            }
        }
    }
    oldest.into_iter().map(|(host, (_, entry))| (entry, host))
}

/// The resource name of a service: `namespace/hostname`.
pub(crate) fn service_key(namespace: &str, host: &str) -> String {
    format!("{namespace}/{host}")
}

/// Which port an endpoint serves for each of the entry's: its own by name, else the entry's target, else the same.
pub(crate) fn endpoint_ports<'a>(
    entry: &'a ServiceEntry,
    endpoint: &'a WorkloadEntry,
) -> impl Iterator<Item = Port> + 'a {
    entry.ports.iter().map(|port| {
        let own = endpoint.ports.get(&port.name).copied();
        endpoint_port(port, own)
    })
}

/// A port of an endpoint that has `own` for it.
pub(crate) fn endpoint_port(port: &ServiceEntryPort, own: Option<u16>) -> Port {
    Port {
        service_port: port.number.into(),
        target_port: own.or(port.target_port).unwrap_or(port.number).into(),
        app_protocol: AppProtocol::Unknown.into(),
    }
}

/// Who asks for the waypoint of an entry.
pub(crate) fn asks<'a>(settings: &Settings, metadata: &'a Metadata, entry: &ServiceEntry) -> Asks<'a> {
    Asks {
        kind: Kind::ServiceEntry,
        metadata,
        traffic: Traffic::Service,
        is_private: Visibility::of(settings, metadata, entry) == Visibility::Namespace,
    }
}

/// The addresses that the author chose, but for those of others, else those that were chosen for the host.
fn addresses(
    index: &Index,
    settings: &Settings,
    object: &Object,
    entry: &ServiceEntry,
    host: &str,
) -> Vec<NetworkAddress> {
    let network = network::of_mesh(index, settings);
    let address = |address: IpAddr, length: Option<u32>| NetworkAddress {
        network: network.to_owned(),
        address: ip_bytes(address),
        length,
    };
    let own = entry.addresses.iter().filter(|block| {
        let address = block::single(block);
        address.is_none_or(|address| claim::holder(index, object, address).is_none())
    });
    let given = own.map(|block| {
        let length = block::single(block).is_none().then_some(u32::from(block.length));
        address(block::first(block), length)
    });
    let chosen = vip::held(index, object, entry).into_iter();
    let chosen = chosen.filter(|one| one.host == host);
    given
        .chain(chosen.map(|one| address(one.address, None)))
        .collect()
}

fn port(port: &ServiceEntryPort) -> Port {
    let app_protocol = match port.protocol.as_str() {
        "HTTP" | "HTTP_PROXY" => AppProtocol::Http11,
        "HTTP2" => AppProtocol::Http2,
        "GRPC" | "GRPC-WEB" => AppProtocol::Grpc,
        "HTTPS" | "TLS" => AppProtocol::Tls,
        "TCP" | "MONGO" | "MYSQL" | "REDIS" => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    };
    Port {
        app_protocol: app_protocol.into(),
        ..endpoint_port(port, None)
    }
}

fn load_balancing(index: &Index, metadata: &Metadata, entry: &ServiceEntry) -> Option<LoadBalancing> {
    if entry.resolution == Resolution::None {
        return Some(LoadBalancing {
            mode: Mode::Passthrough.into(),
            health_policy: HealthPolicy::AllowAll.into(),
            ..LoadBalancing::default()
        });
    }
    let namespace = index.get(Kind::Namespace, "", &metadata.namespace);
    let own = metadata.annotations.get(TRAFFIC_DISTRIBUTION_ANNOTATION);
    let name = own.or_else(|| {
        namespace?
            .metadata
            .annotations
            .get(TRAFFIC_DISTRIBUTION_ANNOTATION)
    });
    let (scopes, mode) = service::scopes(TrafficDistribution::from_name(name?)?);
    Some(LoadBalancing {
        routing_preference: scopes.iter().map(|scope| i32::from(*scope)).collect(),
        mode: mode.into(),
        health_policy: HealthPolicy::OnlyHealthy.into(),
    })
}

/// Whether this entry speaks for the host outside of its namespace: no Service does, it is the oldest of those that
/// all may see, and none of its addresses is an older entry's.
fn is_canonical(
    index: &Index,
    settings: &Settings,
    object: &Object,
    entry: &ServiceEntry,
    host: &str,
) -> bool {
    if service::of_hostname(index, settings, host).is_some()
        || hosts::is_foreign(settings, &object.metadata.namespace, host)
        || claim::disputed(index, settings, object, entry).next().is_some()
    {
        return false;
    }
    let mut public: Vec<(&Object, &ServiceEntry)> = index
        .entries_of_host(host)
        .filter(|(object, entry)| Visibility::of(settings, &object.metadata, entry) == Visibility::Public)
        .filter(|(object, _)| !hosts::is_foreign(settings, &object.metadata.namespace, host))
        .collect();
    public.sort_by(|(one, _), (other, _)| one.metadata.by_age(&other.metadata));
    let mut public = public.into_iter();
    let oldest = public.find(|(object, entry)| !claim::is_kept_from_others(index, settings, object, entry));
    oldest.is_some_and(|(oldest, _)| std::ptr::eq(oldest, object))
}

#[cfg(test)]
mod tests;
