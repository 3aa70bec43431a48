//! The last step of every inbound connection: may it, and then to the application.

use crate::connections::InboundSubject;
use crate::context::{CONNECT_DEADLINE, Context};
use crate::failure::Failure;
use crate::flow::Flow;
use crate::pods::Pod;
use crate::proxy_header;
use crate::socks5::SOCKS5_PORT;
use mesh::authorize::{Decision, Verdict};
use mesh::inbound::Target;
use mesh::{ApplicationTunnelProtocol, Snapshot, Workload};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use sys::socket;
use telemetry::Reporter;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tracing::{debug, info};

/// Ports of the proxy in a pod's namespace; nothing is ever forwarded to them.
const PROXY_PORTS: [u16; 4] = [15001, 15006, 15008, 15053];

/// Refuses a destination that is a port of the proxy: it would call itself without end.
pub(crate) fn refuse_proxy_port(context: &Context, destination: SocketAddr) -> Result<(), Failure> {
    let port = destination.port();
    if PROXY_PORTS.contains(&port) || (context.config.socks5 && port == SOCKS5_PORT) {
        Err(Failure::ProxyPort(destination))
    } else {
        Ok(())
    }
}

/// What is known of the pod itself, from the newest snapshot.
pub(crate) async fn own_workload(
    context: &Context,
    pod: &Pod,
) -> Result<(Arc<Snapshot>, Arc<Workload>), Failure> {
    let node = &context.config.node_name;
    let found = context.state.own_workload(node, &pod.name, &pod.identity).await;
    found.ok_or_else(|| Failure::OwnWorkloadUnknown(pod.full_name()))
}

/// Asks policy, then connects to the application with the client's own address.
///
/// The flow is registered with `subject` before policy is asked; see [`crate::connections`].
pub(crate) async fn reach(
    context: &Context,
    pod: &Pod,
    flow: &Flow,
    subject: &InboundSubject,
) -> Result<TcpStream, Failure> {
    decide(context, pod, flow, subject)?;
    connect(context, pod, subject.source_ip, subject.destination).await
}

/// The same for a connection that came through a tunnel: where a proxy inside the pod takes such connections, it is
/// dialled on loopback (it need not be reachable from elsewhere) and told who calls. `source` is the caller's address.
pub(crate) async fn reach_in_tunnel(
    context: &Context,
    pod: &Pod,
    flow: &Flow,
    subject: &InboundSubject,
    target: &Target,
    source: SocketAddr,
) -> Result<TcpStream, Failure> {
    refuse_proxy_port(context, target.address)?;
    let (Some(ApplicationTunnelProtocol::Proxy), Some(named)) = (target.tunnel, target.named) else {
        return reach(context, pod, flow, subject).await;
    };
    decide(context, pod, flow, subject)?;
    let mut to = target.address;
    let mut from = subject.source_ip;
    if context.config.localhost_app_tunnel {
        to.set_ip(loopback_like(to.ip()));
        from = to.ip();
    }
    let mut stream = connect(context, pod, from, to).await?;
    let header = proxy_header::header(source, named, subject.peer.as_ref());
    // A socket that has just connected takes a header at once; one that does not is no better than a refusal.
    match tokio::time::timeout(CONNECT_DEADLINE, stream.write_all(&header)).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(error)) => Err(Failure::Connect { to, error }),
        Err(_) => Err(Failure::Connect {
            to,
            error: std::io::ErrorKind::TimedOut.into(),
        }),
    }
}

/// The same in the proxy's own pod, of which `port` alone is served. Nothing there is captured, so that what answers a
/// foreign address would leave for it: the proxy calls itself under its own.
pub(crate) async fn reach_own_port(
    context: &Context,
    pod: &Pod,
    flow: &Flow,
    subject: &InboundSubject,
    port: u16,
) -> Result<TcpStream, Failure> {
    let to = subject.destination;
    if to.port() != port {
        return Err(Failure::BadRequest(format!(
            "{to} was asked for of the node proxy itself, of which only the metrics on port {port} are served"
        )));
    }
    decide(context, pod, flow, subject)?;
    connect(context, pod, to.ip(), to).await
}

fn decide(context: &Context, pod: &Pod, flow: &Flow, subject: &InboundSubject) -> Result<(), Failure> {
    let decision = context
        .enforcement
        .decide_now(pod, subject)
        .ok_or_else(|| Failure::OwnWorkloadUnknown(pod.full_name()))?;
    flow.decided(&decision);
    tell(context, pod, subject, &decision);
    if decision.verdict == Verdict::Deny {
        return Err(Failure::Denied(Box::new(decision)));
    }
    Ok(())
}

async fn connect(context: &Context, pod: &Pod, from: IpAddr, to: SocketAddr) -> Result<TcpStream, Failure> {
    // A pod that calls its own service is its own client; there is nothing to pretend.
    let source = (from != to.ip()).then_some(SocketAddr::new(from, 0));
    let options = context.config.sockets.connect(source, CONNECT_DEADLINE);
    let began = Instant::now();
    let connected = socket::connect(&pod.network, &options, to)
        .await
        .map_err(|error| Failure::Connect { to, error })?;
    context.metrics.connected(Reporter::Destination, began.elapsed());
    Ok(connected)
}

fn loopback_like(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Logs a decision of policy: at the level debug, or info where the settings ask for it.
fn tell(context: &Context, pod: &Pod, subject: &InboundSubject, decision: &Decision) {
    let loud = context.config.log_policy_decisions;
    if !loud && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let (pod, source, destination) = (pod.full_name(), subject.source_ip, subject.destination);
    let peer = subject.peer.as_ref().map(ToString::to_string);
    let verdict = decision.verdict;
    if loud {
        info!(pod, peer, %source, %destination, ?verdict, reason = %decision, "policy decided");
    } else {
        debug!(pod, peer, %source, %destination, ?verdict, reason = %decision, "policy decided");
    }
}
