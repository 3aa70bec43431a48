//! Service NAT and DNS in every node's namespace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use objects::{Object, Protocol as ObjectProtocol, SERVICE_NAME_LABEL, ServiceType};
use sys::Namespace;
use sys::process::Command;
use tokio::net::{TcpStream, UdpSocket};

use crate::controllers::Cluster;
use crate::error::{LabError, other};
use crate::nat::{self, Protocol, Virtual};
use crate::network::Network;
use crate::plan;
use crate::zone::SharedZone;

const RESTORE_LIMIT: Duration = Duration::from_secs(20);
const BACKLOG: i32 = 128;

/// The Services' ports and what stands behind them, from Services and EndpointSlices.
pub(crate) fn virtuals(objects: &[Arc<Object>]) -> Vec<Virtual> {
    let cluster = Cluster::new(objects);
    let mut virtuals = Vec::new();
    for (object, service) in &cluster.services {
        if service.headless || service.service_type == ServiceType::ExternalName {
            continue;
        }
        let slices: Vec<_> = cluster
            .slices
            .iter()
            .filter(|(slice, _)| {
                slice.metadata.namespace == object.metadata.namespace
                    && slice.metadata.labels.get(SERVICE_NAME_LABEL) == Some(&object.metadata.name)
            })
            .map(|(_, slice)| slice)
            .collect();
        for port in &service.ports {
            let protocol = match port.protocol {
                ObjectProtocol::Tcp => Protocol::Tcp,
                ObjectProtocol::Udp => Protocol::Udp,
                ObjectProtocol::Sctp => continue,
            };
            for address in &service.cluster_ips {
                let mut endpoints: Vec<SocketAddr> = Vec::new();
                for slice in &slices {
                    let number = slice
                        .ports
                        .iter()
                        .find(|candidate| candidate.name == port.name && candidate.protocol == port.protocol)
                        .and_then(|candidate| candidate.port);
                    let Some(number) = number else { continue };
                    let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
                    let addresses = ready.flat_map(|endpoint| &endpoint.addresses);
                    let same = addresses.filter(|endpoint| endpoint.is_ipv6() == address.is_ipv6());
                    endpoints.extend(same.map(|endpoint| SocketAddr::new(*endpoint, number)));
                }
                endpoints.sort();
                endpoints.dedup();
                virtuals.push(Virtual {
                    protocol,
                    address: SocketAddr::new(*address, port.port),
                    endpoints,
                    comment: format!(
                        "{}/{}:{}",
                        object.metadata.namespace, object.metadata.name, port.name
                    ),
                });
            }
        }
    }
    virtuals.sort();
    virtuals
}

/// Makes the chains in every node's namespace.
pub(crate) async fn prepare_nat(network: &Network) -> Result<(), LabError> {
    for node in &network.nodes {
        restore(&node.namespace, false, nat::base_rules()).await?;
        if network.ipv6() {
            restore(&node.namespace, true, nat::base_rules()).await?;
        }
    }
    Ok(())
}

/// Writes the rules for these Services in every node's namespace.
pub(crate) async fn write_nat(network: &Network, virtuals: &[Virtual]) -> Result<(), LabError> {
    for v6 in [false, true] {
        if v6 && !network.ipv6() {
            continue;
        }
        let rules = nat::service_rules(virtuals, v6);
        let writes = network
            .nodes
            .iter()
            .map(|node| restore(&node.namespace, v6, &rules));
        futures_util::future::try_join_all(writes).await?;
    }
    Ok(())
}

/// Gives a text to `iptables-restore --noflush` inside a namespace.
pub(crate) async fn restore(namespace: &Namespace, v6: bool, rules: &str) -> Result<(), LabError> {
    let program = if v6 {
        "ip6tables-restore"
    } else {
        "iptables-restore"
    };
    let output = Command::new(program)
        .args(["--noflush", "--wait"])
        .network(namespace)
        .run(rules, RESTORE_LIMIT)
        .await
        .map_err(other("writing packet rules"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(other("writing packet rules")(format!(
        "{program}: {}: {}",
        output.status,
        output.stderr.trim()
    )))
}

/// Serves DNS in every node's namespace and in the control plane's. Ends when dropped.
pub(crate) fn serve_dns(network: &Network, zone: &SharedZone) -> Result<tokio::task::JoinSet<()>, LabError> {
    let mut tasks = tokio::task::JoinSet::new();
    for namespace in network
        .nodes
        .iter()
        .map(|node| &node.namespace)
        .chain([&network.control_plane])
    {
        let address = SocketAddr::new(plan::DNS_ADDRESS.into(), 53);
        let doing = || format!("listening for DNS on {address}");
        let socket = sys::socket::udp(namespace, address, None).map_err(LabError::system(doing()))?;
        let options = sys::socket::ListenOptions {
            backlog: BACKLOG,
            ..Default::default()
        };
        let listener =
            sys::socket::listen(namespace, address, &options).map_err(LabError::system(doing()))?;
        let forwarder = dns::Forwarder::new(&[], Arc::new(Nowhere));
        let server = dns::Server::new(Arc::new(zone.clone()), forwarder, Arc::new(dns::Silent));
        let streams = server.clone();
        tasks.spawn(async move {
            if let Err(error) = server.serve_udp(socket, std::future::pending()).await {
                tracing::error!(%error, "DNS over UDP ended in one namespace");
            }
        });
        tasks.spawn(async move {
            if let Err(error) = streams.serve_tcp(listener, std::future::pending()).await {
                tracing::error!(%error, "DNS over TCP ended in one namespace");
            }
        });
    }
    Ok(tasks)
}

/// There is nothing outside of a lab to forward to.
struct Nowhere;

impl dns::Upstream for Nowhere {
    fn udp(&self, _: SocketAddr) -> BoxFuture<'_, std::io::Result<UdpSocket>> {
        Box::pin(async { Err(std::io::ErrorKind::NetworkUnreachable.into()) })
    }

    fn tcp(&self, _: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>> {
        Box::pin(async { Err(std::io::ErrorKind::NetworkUnreachable.into()) })
    }
}
