//! The endpoints of an EndpointSlice that are no pods, as workloads.

use std::collections::BTreeMap;

use objects::{AddressType, EndpointSlice, Kind, Object, Protocol, ServiceType};
use proto::workload::{
    self, AppProtocol, NetworkMode, Port, PortList, TunnelProtocol, WorkloadStatus, WorkloadType,
};

use crate::authorization_policy::ip_bytes;
use crate::index::{Index, slice_of_service};
use crate::network;
use crate::service;
use crate::settings::Settings;
use crate::workload::trust_domain;

/// What the resource names of a slice's workloads begin with; the first address follows.
pub(crate) fn uid_prefix(settings: &Settings, namespace: &str, slice: &str) -> String {
    format!(
        "{}/discovery.k8s.io/EndpointSlice/{namespace}/{slice}/",
        settings.cluster_id
    )
}

/// The workloads by uid. They have no identity, place or policy; their addresses may be shared, so receivers must
/// not find them by address.
pub(crate) fn convert(
    index: &Index,
    settings: &Settings,
    object: &Object,
) -> BTreeMap<String, workload::Workload> {
    let Some((slice, service)) = slice_of_service(object) else {
        return BTreeMap::new();
    };
    let metadata = &object.metadata;
    let ports = ports(index, slice, &metadata.namespace, service);
    let Some(ports) = ports.filter(|_| slice.address_type != AddressType::Fqdn) else {
        return BTreeMap::new();
    };
    let key = service::key(settings, &metadata.namespace, service);
    let prefix = uid_prefix(settings, &metadata.namespace, &metadata.name);
    let mut workloads = BTreeMap::new();
    for endpoint in &slice.endpoints {
        if endpoint
            .target
            .as_ref()
            .is_some_and(|target| target.kind == "Pod")
        {
            continue;
        }
        let Some(first) = endpoint.addresses.first() else {
            continue;
        };
        let status = if endpoint.ready {
            WorkloadStatus::Healthy
        } else {
            WorkloadStatus::Unhealthy
        };
        let uid = format!("{prefix}{first}");
        let made = workload::Workload {
            uid: uid.clone(),
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            addresses: endpoint.addresses.iter().copied().map(ip_bytes).collect(),
            network: network::of_mesh(index, settings).to_owned(),
            tunnel_protocol: TunnelProtocol::None.into(),
            trust_domain: trust_domain(settings),
            workload_type: WorkloadType::Pod.into(),
            workload_name: metadata.name.clone(),
            services: BTreeMap::from([(key.clone(), PortList { ports: ports.clone() })]),
            status: status.into(),
            cluster_id: settings.cluster_id.clone(),
            network_mode: NetworkMode::HostNetwork.into(),
            ..workload::Workload::default()
        };
        // An address that is listed twice counts once.
        workloads.entry(uid).or_insert(made);
    }
    workloads
}

/// The TCP ports of the slice, joined to those of its Service by name.
fn ports(index: &Index, slice: &EndpointSlice, namespace: &str, service: &str) -> Option<Vec<Port>> {
    let service = index.get(Kind::Service, namespace, service)?.as_service()?;
    if service.service_type == ServiceType::ExternalName {
        return None;
    }
    let joined = service
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp)
        .filter_map(|port| {
            let same =
                |other: &&objects::EndpointPort| other.name == port.name && other.protocol == Protocol::Tcp;
            let target = slice.ports.iter().find(same)?.port?;
            let app_protocol = AppProtocol::Unknown.into();
            Some(Port {
                service_port: u32::from(port.port),
                target_port: u32::from(target),
                app_protocol,
            })
        });
    Some(joined.collect())
}
