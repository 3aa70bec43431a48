//! Workloads: what runs in the mesh and how it is reached.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use prost::Message;
use proto::origin::{DRY_RUN_EXTENSION, DRY_RUN_TYPE_URL, DryRunPolicies};
use proto::workload as wire;

use crate::address::{NetworkAddress, ip_from_bytes};
use crate::gateway::GatewayAddress;
use crate::identity::Identity;
use crate::policy::PeerAuthentications;
use crate::port::{Port, port_number};
use crate::rejected::Rejected;

/// The trust domain of a workload that names none.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
/// The service account of a workload that names none.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";
/// The cluster of a workload that names none.
pub const DEFAULT_CLUSTER_ID: &str = "Kubernetes";

/// One addressable process group: a pod, or an endpoint outside Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The key: a re-created pod keeps it.
    pub uid: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its addresses; none when it is reached by `hostname`.
    pub addresses: Vec<IpAddr>,
    /// A name to resolve when there are no addresses.
    pub hostname: Arc<str>,
    /// The network its addresses are on.
    pub network: Arc<str>,
    /// The trust domain of its identity.
    pub trust_domain: Arc<str>,
    /// The service account of its identity.
    pub service_account: Arc<str>,
    /// The node it runs on.
    pub node: Arc<str>,
    /// The name by which metrics group it.
    pub canonical_name: Arc<str>,
    /// The revision by which metrics group it.
    pub canonical_revision: Arc<str>,
    /// The name of what owns it.
    pub workload_name: Arc<str>,
    /// The cluster it runs in.
    pub cluster_id: Arc<str>,
    /// What owns it.
    pub workload_type: WorkloadType,
    /// How it wants to be reached.
    pub tunnel: TunnelProtocol,
    /// It ends and begins tunnels itself (waypoints, gateways).
    pub native_tunnel: bool,
    /// Ready to serve.
    pub healthy: bool,
    /// The waypoint of connections that address it directly.
    pub waypoint: Option<GatewayAddress>,
    /// The gateway of its network, for callers on another.
    pub network_gateway: Option<GatewayAddress>,
    /// How a proxy inside it takes decrypted connections.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// The services it is an endpoint of (`namespace/hostname`), with its ports for each.
    pub services: BTreeMap<Arc<str>, Vec<Port>>,
    /// Policies (`namespace/name`) that select it.
    pub authorization_policies: Vec<Arc<str>>,
    /// Dry-run policies (`namespace/name`) that select it. One that is not known, or not a dry run any more, counts
    /// for nothing here: whether it is enforced is said by `authorization_policies` alone.
    pub dry_run_policies: Vec<Arc<str>>,
    /// The objects that decide whether it takes plaintext, where the control plane tells.
    pub peer_authentication: Option<Arc<PeerAuthentications>>,
    /// Where it runs.
    pub locality: Locality,
    /// It shares its node's addresses, and so is never found by address.
    pub host_network: bool,
    /// Its share when a service is balanced.
    pub capacity: u32,
}

/// What owns a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadType {
    /// A Deployment.
    Deployment,
    /// A CronJob.
    CronJob,
    /// Nothing: a bare pod.
    Pod,
    /// A Job.
    Job,
}

impl WorkloadType {
    /// The lower-case word used in metrics and baggage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::CronJob => "cronjob",
            Self::Pod => "pod",
            Self::Job => "job",
        }
    }
}

/// How a workload wants to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TunnelProtocol {
    /// Plain TCP: it is not in the mesh.
    None,
    /// HTTP/2 CONNECT over mTLS.
    Hbone,
}

/// How a proxy inside a workload takes decrypted connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApplicationTunnel {
    /// What precedes the bytes.
    pub protocol: ApplicationTunnelProtocol,
    /// The port it listens on; 0 is the port of the connection.
    pub port: u16,
}

/// What precedes a connection's bytes when handed to a proxy inside a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApplicationTunnelProtocol {
    /// Nothing.
    None,
    /// A PROXY header, version 2.
    Proxy,
}

/// Where a workload runs; empty where unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone in the region.
    pub zone: Arc<str>,
    /// The part of the zone.
    pub subzone: Arc<str>,
}

impl Workload {
    /// The identity in its certificates.
    pub fn identity(&self) -> Identity {
        Identity::new(&self.trust_domain, &self.namespace, &self.service_account)
    }

    /// Where it is found by address: nowhere when it shares its node's addresses.
    pub fn network_addresses(&self) -> impl Iterator<Item = NetworkAddress> + '_ {
        let addresses: &[IpAddr] = if self.host_network { &[] } else { &self.addresses };
        addresses
            .iter()
            .map(|ip| NetworkAddress::new(self.network.clone(), *ip))
    }

    /// Whether the control plane made it of a pod.
    pub fn is_pod(&self) -> bool {
        self.uid.contains("//Pod/")
    }

    /// Checks and reads a workload. Anything that is not understood rejects the whole; only `extensions`, which
    /// receivers may ignore, and unknown application protocols, which decide nothing, are let pass.
    pub fn from_proto(workload: wire::Workload) -> Result<Self, Rejected> {
        let uid = workload.uid.clone();
        read(workload).map_err(|reason| Rejected::new(uid, reason))
    }
}

fn read(workload: wire::Workload) -> Result<Workload, String> {
    if workload.uid.is_empty() {
        return Err("a workload without uid".to_owned());
    }
    let trust_domain = or_default(workload.trust_domain, DEFAULT_TRUST_DOMAIN);
    let service_account = or_default(workload.service_account, DEFAULT_SERVICE_ACCOUNT);
    Identity::try_new(&trust_domain, &workload.namespace, &service_account)
        .map_err(|error| error.to_string())?;
    Ok(Workload {
        addresses: addresses(&workload.addresses)?,
        workload_type: workload_type(workload.workload_type)?,
        tunnel: tunnel(workload.tunnel_protocol)?,
        healthy: match wire::WorkloadStatus::try_from(workload.status) {
            Ok(status) => status == wire::WorkloadStatus::Healthy,
            Err(_) => return Err(unknown("status", workload.status)),
        },
        host_network: match wire::NetworkMode::try_from(workload.network_mode) {
            Ok(mode) => mode == wire::NetworkMode::HostNetwork,
            Err(_) => return Err(unknown("network_mode", workload.network_mode)),
        },
        waypoint: gateway(workload.waypoint, "waypoint")?,
        network_gateway: gateway(workload.network_gateway, "network_gateway")?,
        application_tunnel: workload.application_tunnel.map(application_tunnel).transpose()?,
        services: workload
            .services
            .into_iter()
            .map(endpoint_of)
            .collect::<Result<_, _>>()?,
        authorization_policies: workload
            .authorization_policies
            .into_iter()
            .map(Arc::from)
            .collect(),
        dry_run_policies: dry_run_policies(&workload.extensions),
        peer_authentication: PeerAuthentications::of_workload(&workload.extensions),
        locality: workload.locality.map(locality).unwrap_or_default(),
        capacity: workload.capacity.unwrap_or(1),
        native_tunnel: workload.native_tunnel,
        cluster_id: or_default(workload.cluster_id, DEFAULT_CLUSTER_ID),
        uid: workload.uid.into(),
        name: workload.name.into(),
        namespace: workload.namespace.into(),
        hostname: workload.hostname.into(),
        network: workload.network.into(),
        trust_domain,
        service_account,
        node: workload.node.into(),
        canonical_name: workload.canonical_name.into(),
        canonical_revision: workload.canonical_revision.into(),
        workload_name: workload.workload_name.into(),
    })
}

fn or_default(text: String, default: &str) -> Arc<str> {
    if text.is_empty() {
        default.into()
    } else {
        text.into()
    }
}

/// The sentence for an enum value that this version does not know.
pub(crate) fn unknown(field: &str, value: i32) -> String {
    format!("{field} {value} is not known to this version")
}

fn addresses(raw: &[impl AsRef<[u8]>]) -> Result<Vec<IpAddr>, String> {
    let mut addresses = Vec::with_capacity(raw.len());
    for bytes in raw {
        let ip = ip_from_bytes(bytes.as_ref())
            .map_err(|error| format!("addresses: {error}"))?
            .to_canonical();
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    Ok(addresses)
}

fn workload_type(value: i32) -> Result<WorkloadType, String> {
    match wire::WorkloadType::try_from(value) {
        Ok(wire::WorkloadType::Deployment) => Ok(WorkloadType::Deployment),
        Ok(wire::WorkloadType::Cronjob) => Ok(WorkloadType::CronJob),
        Ok(wire::WorkloadType::Pod) => Ok(WorkloadType::Pod),
        Ok(wire::WorkloadType::Job) => Ok(WorkloadType::Job),
        Err(_) => Err(unknown("workload_type", value)),
    }
}

fn tunnel(value: i32) -> Result<TunnelProtocol, String> {
    match wire::TunnelProtocol::try_from(value) {
        Ok(wire::TunnelProtocol::None) => Ok(TunnelProtocol::None),
        Ok(wire::TunnelProtocol::Hbone) => Ok(TunnelProtocol::Hbone),
        Ok(wire::TunnelProtocol::LegacyIstioMtls) => {
            Err("tunnel_protocol LEGACY_ISTIO_MTLS is not supported".to_owned())
        }
        Err(_) => Err(unknown("tunnel_protocol", value)),
    }
}

fn gateway(address: Option<wire::GatewayAddress>, field: &str) -> Result<Option<GatewayAddress>, String> {
    address
        .map(GatewayAddress::from_proto)
        .transpose()
        .map_err(|reason| format!("{field} {reason}"))
}

fn application_tunnel(tunnel: wire::ApplicationTunnel) -> Result<ApplicationTunnel, String> {
    use wire::application_tunnel::Protocol;
    let protocol = match Protocol::try_from(tunnel.protocol) {
        Ok(Protocol::None) => ApplicationTunnelProtocol::None,
        Ok(Protocol::Proxy) => ApplicationTunnelProtocol::Proxy,
        Err(_) => return Err(unknown("application_tunnel.protocol", tunnel.protocol)),
    };
    let port = port_number(tunnel.port).map_err(|reason| format!("application_tunnel: {reason}"))?;
    Ok(ApplicationTunnel { protocol, port })
}

fn endpoint_of((service, ports): (String, wire::PortList)) -> Result<(Arc<str>, Vec<Port>), String> {
    let ports = ports
        .ports
        .into_iter()
        .map(Port::from_proto)
        .collect::<Result<_, _>>();
    let ports = ports.map_err(|reason| format!("services[{service}]: {reason}"))?;
    Ok((service.into(), ports))
}

/// What our control plane says in an extension; what cannot be read says nothing.
fn dry_run_policies(extensions: &[wire::Extension]) -> Vec<Arc<str>> {
    let ours = extensions
        .iter()
        .filter(|extension| extension.name == DRY_RUN_EXTENSION);
    let configs = ours.filter_map(|extension| extension.config.as_ref());
    configs
        .filter(|config| config.type_url == DRY_RUN_TYPE_URL)
        .filter_map(|config| DryRunPolicies::decode(&*config.value).ok())
        .flat_map(|message| message.policies.into_iter().map(Arc::from))
        .collect()
}

fn locality(locality: wire::Locality) -> Locality {
    Locality {
        region: locality.region.into(),
        zone: locality.zone.into(),
        subzone: locality.subzone.into(),
    }
}
