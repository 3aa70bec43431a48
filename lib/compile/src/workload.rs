//! A Pod to a workload.

use std::collections::BTreeMap;

use objects::selector::Labels;
use objects::{
    Kind, Object, Pod, Protocol, REDIRECTION_ANNOTATION, REDIRECTION_ENABLED, Service, ServiceType,
    TargetPort,
};
use proto::workload::{
    self, Locality, NetworkMode, Port, PortList, TunnelProtocol, WorkloadStatus, WorkloadType,
};

use crate::authorization_policy::{self, ip_bytes};
use crate::index::Index;
use crate::settings::Settings;
use crate::waypoint::{self, Asks, Traffic};
use crate::{network, origin, peer_authentication, service, service_entry};

const TUNNEL_LABEL: &str = "networking.istio.io/tunnel";
const WORKLOAD_NAME_LABEL: &str = "service.istio.io/workload-name";
/// The trust domain that is left out of messages.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// The resource name of a pod's workload. The API group between the slashes is the empty one.
pub(crate) fn uid(settings: &Settings, namespace: &str, name: &str) -> String {
    format!("{}//Pod/{namespace}/{name}", settings.cluster_id)
}

/// The workload; `None` while the pod has no address and once it has ended.
pub(crate) fn convert(
    index: &Index,
    settings: &Settings,
    object: &Object,
    pod: &Pod,
) -> Option<workload::Workload> {
    if pod.status.phase.is_terminal() || pod.status.pod_ips.is_empty() {
        return None;
    }
    let metadata = &object.metadata;
    let healthy = pod.is_ready() && metadata.deletion_timestamp.is_none();
    let status = if healthy {
        WorkloadStatus::Healthy
    } else {
        WorkloadStatus::Unhealthy
    };
    let network_mode = if pod.spec.host_network {
        NetworkMode::HostNetwork
    } else {
        NetworkMode::Standard
    };
    let asks = Asks {
        kind: Kind::Pod,
        metadata,
        traffic: Traffic::Workload,
        is_private: false,
    };
    let subject = Subject {
        namespace: &metadata.namespace,
        labels: &metadata.labels,
        annotations: &metadata.annotations,
        network: network::of_mesh(index, settings),
    };
    Some(workload::Workload {
        uid: uid(settings, &metadata.namespace, &metadata.name),
        name: metadata.name.clone(),
        addresses: pod.status.pod_ips.iter().copied().map(ip_bytes).collect(),
        service_account: pod.spec.service_account_name.clone(),
        node: pod.spec.node_name.clone(),
        waypoint: waypoint::of(index, settings, asks).waypoint,
        application_tunnel: waypoint::application_tunnel(index, object),
        services: services(index, settings, object, pod),
        status: status.into(),
        locality: index
            .get(Kind::Node, "", &pod.spec.node_name)
            .and_then(|node| locality(node)),
        network_mode: network_mode.into(),
        ..shared(index, settings, &subject, workload_name(object))
    })
}

/// What is read in the same way of pods and of other endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a Labels,
    pub(crate) annotations: &'a Labels,
    pub(crate) network: &'a str,
}

/// What is the same for pods and other endpoints.
pub(crate) fn shared(
    index: &Index,
    settings: &Settings,
    subject: &Subject<'_>,
    workload_name: String,
) -> workload::Workload {
    let labels = subject.labels;
    let label = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| labels.get(*key).filter(|value| !value.is_empty()))
            .cloned()
    };
    let native_tunnel = labels
        .get(TUNNEL_LABEL)
        .is_some_and(|tunnels| tunnels.contains("http"));
    let redirected = subject
        .annotations
        .get(REDIRECTION_ANNOTATION)
        .is_some_and(|state| state == REDIRECTION_ENABLED);
    let tunnel = if native_tunnel || redirected {
        TunnelProtocol::Hbone
    } else {
        TunnelProtocol::None
    };
    let (authorization_policies, extensions) = policies(index, settings, subject);
    workload::Workload {
        namespace: subject.namespace.to_owned(),
        network: subject.network.to_owned(),
        network_gateway: network::gateway(index, settings, subject.network),
        tunnel_protocol: tunnel.into(),
        native_tunnel,
        trust_domain: trust_domain(settings),
        canonical_name: label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
            .unwrap_or_else(|| workload_name.clone()),
        canonical_revision: label(&[
            "service.istio.io/canonical-revision",
            "app.kubernetes.io/version",
            "version",
        ])
        .unwrap_or_else(|| "latest".to_owned()),
        workload_type: WorkloadType::Pod.into(),
        workload_name,
        authorization_policies,
        cluster_id: settings.cluster_id.clone(),
        extensions,
        ..workload::Workload::default()
    }
}

/// The keys of the policies that a workload lists, and what is said about them in extensions.
fn policies(
    index: &Index,
    settings: &Settings,
    subject: &Subject<'_>,
) -> (Vec<String>, Vec<workload::Extension>) {
    let root = &settings.root_namespace;
    let Subject {
        namespace, labels, ..
    } = *subject;
    let keys = authorization_policy::keys_for(index, root, namespace, labels);
    let mut listed = keys.enforced;
    let mut extensions = Vec::new();
    if settings.list_dry_run {
        listed.extend(keys.dry_run.iter().cloned());
        listed.sort_unstable();
    }
    if let Some((key, origin)) = peer_authentication::listed(index, root, namespace, labels) {
        listed.push(key);
        extensions.push(origin::of_mtls(&origin));
    }
    if !keys.dry_run.is_empty() {
        extensions.push(origin::dry_run(keys.dry_run));
    }
    (listed, extensions)
}

/// The trust domain as messages carry it: empty for the usual one.
pub(crate) fn trust_domain(settings: &Settings) -> String {
    if settings.trust_domain == DEFAULT_TRUST_DOMAIN {
        String::new()
    } else {
        settings.trust_domain.clone()
    }
}

/// Where a node is; `None` when it does not say.
pub(crate) fn locality(node: &Object) -> Option<Locality> {
    let label = |key: &str| node.metadata.labels.get(key).cloned().unwrap_or_default();
    let locality = Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    };
    (locality != Locality::default()).then_some(locality)
}

/// The name of what the pod belongs to. Owners count only for pods whose name was generated.
fn workload_name(object: &Object) -> String {
    let metadata = &object.metadata;
    let label = |key: &str| metadata.labels.get(key).filter(|value| !value.is_empty());
    if let Some(name) = label(WORKLOAD_NAME_LABEL) {
        return name.clone();
    }
    let Some(owner) = metadata
        .owner
        .as_ref()
        .filter(|_| !metadata.generate_name.is_empty())
    else {
        return metadata.name.clone();
    };
    let without_hash =
        |key: &str| label(key).and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    let name = match owner.kind.as_str() {
        "ReplicaSet" => {
            without_hash("rollouts-pod-template-hash").or_else(|| without_hash("pod-template-hash"))
        }
        "ReplicationController" => label("deploymentconfig").map(String::as_str),
        "Job" => cron_job(&owner.name),
        _ => None,
    };
    name.filter(|name| !name.is_empty())
        .unwrap_or(&owner.name)
        .to_owned()
}

/// The CronJob of a Job that ends with a time of 8 to 10 digits.
fn cron_job(job: &str) -> Option<&str> {
    let (name, time) = job.rsplit_once('-')?;
    let digits = time.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (8..=10).contains(&time.len())).then_some(name)
}

/// The services that the pod serves, with its own ports.
fn services(index: &Index, settings: &Settings, object: &Object, pod: &Pod) -> BTreeMap<String, PortList> {
    let metadata = &object.metadata;
    let named = index.services_naming(object);
    let namespace = &metadata.namespace;
    let named = named
        .into_iter()
        .filter_map(|name| index.get(Kind::Service, namespace, name).map(AsRef::as_ref))
        .filter_map(content)
        .filter(|(_, service)| service.selector.is_empty());
    let selecting = index.selecting(Kind::Service, namespace, &metadata.labels);
    let of_services = selecting
        .into_iter()
        .filter_map(content)
        .chain(named)
        .filter(|(_, service)| service.service_type != ServiceType::ExternalName)
        .map(|(service, content)| {
            let ports = content.ports.iter().filter_map(|port| {
                let target_port = match &port.target_port {
                    TargetPort::Number(number) => *number,
                    TargetPort::Name(name) => container_port(pod, name)?,
                };
                let app_protocol = workload::AppProtocol::Unknown.into();
                Some(Port {
                    service_port: u32::from(port.port),
                    target_port: u32::from(target_port),
                    app_protocol,
                })
            });
            let key = service::key(settings, &metadata.namespace, &service.metadata.name);
            (key, ports.collect())
        });
    let of_entries = service_entry::selecting(index, settings, &metadata.namespace, &metadata.labels);
    let of_entries = of_entries.map(|(content, host)| {
        let ports = content
            .ports
            .iter()
            .map(|port| service_entry::endpoint_port(port, container_port(pod, &port.name)));
        let key = service_entry::service_key(&metadata.namespace, host);
        (key, ports.collect())
    });
    // A Service stands before an entry of the same host.
    let all = of_entries.chain(of_services);
    all.map(|(key, ports)| (key, PortList { ports })).collect()
}

fn content(object: &Object) -> Option<(&Object, &Service)> {
    Some((object, object.as_service()?))
}

/// The pod's TCP port of a name.
fn container_port(pod: &Pod, name: &str) -> Option<u16> {
    let mut ports = pod
        .spec
        .containers_and_sidecars()
        .flat_map(|container| &container.ports);
    ports
        .find(|port| port.name == name && port.protocol == Protocol::Tcp)
        .map(|port| port.port)
}

#[cfg(test)]
mod tests;
