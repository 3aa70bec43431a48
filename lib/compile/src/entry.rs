//! Endpoints that are no pods, as workloads: WorkloadEntries, and those that stand in ServiceEntries.

use std::collections::BTreeMap;

use objects::selector::Labels;
use objects::{
    AUTO_REGISTRATION_GROUP_ANNOTATION, EntryAddress, Kind, Object, Protocol, ServiceType, TargetPort,
    WorkloadEntry,
};
use proto::workload::{self, AppProtocol, Locality, NetworkMode, Port, PortList, TunnelProtocol};

use crate::authorization_policy::ip_bytes;
use crate::condition::Condition;
use crate::index::Index;
use crate::settings::Settings;
use crate::waypoint::{self, Asks, Traffic};
use crate::workload::{Subject, shared};
use crate::{claim, network, service, service_entry};

/// What a workload is made of.
pub(crate) struct Parts<'a> {
    pub(crate) uid: String,
    /// The object that it stands in.
    pub(crate) object: &'a Object,
    pub(crate) entry: &'a WorkloadEntry,
    /// What policies look at.
    pub(crate) labels: &'a Labels,
    pub(crate) workload_name: String,
    pub(crate) services: BTreeMap<String, PortList>,
}

/// The resource name of a WorkloadEntry's workload.
pub(crate) fn uid(settings: &Settings, namespace: &str, name: &str) -> String {
    format!(
        "{}/networking.istio.io/WorkloadEntry/{namespace}/{name}",
        settings.cluster_id
    )
}

/// A WorkloadEntry's workload (`None` for one that node proxies cannot reach, or must not) and what its author is told.
pub(crate) fn convert(
    index: &Index,
    settings: &Settings,
    object: &Object,
    entry: &WorkloadEntry,
) -> (Option<workload::Workload>, Vec<Condition>) {
    if matches!(entry.address, Some(EntryAddress::Socket(_))) {
        return (None, Vec::new());
    }
    let metadata = &object.metadata;
    let labels = labels(object, entry);
    let group = metadata.annotations.get(AUTO_REGISTRATION_GROUP_ANNOTATION);
    let parts = Parts {
        uid: uid(settings, &metadata.namespace, &metadata.name),
        object,
        entry,
        labels: &labels,
        workload_name: group.unwrap_or(&metadata.name).clone(),
        services: services(index, settings, &metadata.namespace, &labels, entry),
    };
    workload(index, settings, parts)
}

/// The workload of an endpoint; `None` for one that is reached by tunnels at an address that is somebody else's.
pub(crate) fn workload(
    index: &Index,
    settings: &Settings,
    parts: Parts<'_>,
) -> (Option<workload::Workload>, Vec<Condition>) {
    let (entry, metadata) = (parts.entry, &parts.object.metadata);
    let network = match entry.network.as_str() {
        "" => network::of_mesh(index, settings),
        own => own,
    };
    let bound = waypoint::of(
        index,
        settings,
        Asks {
            kind: parts.object.kind(),
            metadata,
            traffic: Traffic::Workload,
            is_private: false,
        },
    );
    let subject = Subject {
        namespace: &metadata.namespace,
        labels: parts.labels,
        annotations: &metadata.annotations,
        network,
    };
    let (addresses, hostname) = match &entry.address {
        Some(EntryAddress::Ip(address)) => (vec![ip_bytes(*address)], String::new()),
        Some(EntryAddress::Name(name)) => (Vec::new(), name.clone()),
        Some(EntryAddress::Socket(_)) | None => (Vec::new(), String::new()),
    };
    let mut made = workload::Workload {
        uid: parts.uid,
        name: metadata.name.clone(),
        addresses,
        hostname,
        service_account: entry.service_account.clone(),
        waypoint: bound.waypoint,
        services: parts.services,
        locality: locality(entry),
        capacity: entry.weight,
        ..shared(index, settings, &subject, parts.workload_name)
    };
    let mut conditions = Vec::from_iter(bound.condition);
    let is_elsewhere = network != network::of_mesh(index, settings);
    if is_elsewhere && !claim::is_trusted(settings, &metadata.namespace) {
        // Whose addresses another network's are is not known here, and its gateway is found by one of them. Nobody here
        // dials what is there by its own address, so an endpoint loses nothing.
        made.network_mode = NetworkMode::HostNetwork.into();
    }
    if let Some(EntryAddress::Ip(address)) = &entry.address
        && !is_elsewhere
        && claim::endpoint::is_foreign(index, settings, parts.object, *address)
    {
        let is_tunnelled = made.tunnel_protocol() != TunnelProtocol::None;
        if is_tunnelled || made.waypoint.is_some() {
            conditions.push(claim::endpoint::condition(parts.object, *address, is_tunnelled));
        }
        // Plaintext would be worse than nothing.
        if is_tunnelled {
            return (None, conditions);
        }
        // Nobody finds it by the address.
        made.network_mode = NetworkMode::HostNetwork.into();
    }
    (Some(made), conditions)
}

/// The labels of an endpoint: those of the object that it stands in, and over them its own.
pub(crate) fn labels(object: &Object, entry: &WorkloadEntry) -> Labels {
    let mut labels = object.metadata.labels.clone();
    let own = entry.labels.iter();
    labels.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    labels
}

fn locality(entry: &WorkloadEntry) -> Option<Locality> {
    let [region, zone, subzone] = entry.locality_parts().map(str::to_owned);
    let locality = Locality {
        region,
        zone,
        subzone,
    };
    (locality != Locality::default()).then_some(locality)
}

/// The services whose selectors select the entry, with its ports for each.
fn services(
    index: &Index,
    settings: &Settings,
    namespace: &str,
    labels: &Labels,
    entry: &WorkloadEntry,
) -> BTreeMap<String, PortList> {
    let selecting = index.selecting(Kind::Service, namespace, labels).into_iter();
    let of_services = selecting
        .filter_map(|object| Some((object, object.as_service()?)))
        .filter(|(_, service)| service.service_type != ServiceType::ExternalName)
        .map(|(object, content)| {
            let key = service::key(settings, namespace, &object.metadata.name);
            let ports = content.ports.iter().filter_map(|port| {
                let target = match &port.target_port {
                    TargetPort::Number(number) => entry.ports.get(&port.name).copied().unwrap_or(*number),
                    TargetPort::Name(name) if port.protocol == Protocol::Tcp => *entry.ports.get(name)?,
                    TargetPort::Name(_) => return None,
                };
                Some(Port {
                    service_port: port.port.into(),
                    target_port: target.into(),
                    app_protocol: AppProtocol::Unknown.into(),
                })
            });
            (key, ports.collect())
        });
    let of_entries =
        service_entry::selecting(index, settings, namespace, labels).flat_map(|(content, host)| {
            let ports = service_entry::endpoint_ports(content, entry).collect();
            [(service_entry::service_key(namespace, host), ports)]
        });
    let all = of_entries.chain(of_services);
    all.map(|(key, ports)| (key, PortList { ports })).collect()
}

#[cfg(test)]
mod tests;
