//! The last step of every inbound connection: may it, and then to the application.

use crate::connections::InboundSubject;
use crate::context::{CONNECT_DEADLINE, Context};
use crate::failure::Failure;
use crate::flow::Flow;
use crate::pods::Pod;
use mesh::authorize::Verdict;
use mesh::{Snapshot, Workload};
use std::net::SocketAddr;
use std::sync::Arc;
use sys::socket;
use tokio::net::TcpStream;

/// Ports of the proxy in a pod's namespace; nothing is ever forwarded to them.
const PROXY_PORTS: [u16; 4] = [15001, 15006, 15008, 15053];

/// Refuses a destination that is a port of the proxy: it would call itself without end.
pub(crate) fn refuse_proxy_port(destination: SocketAddr) -> Result<(), Failure> {
    if PROXY_PORTS.contains(&destination.port()) {
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
    let decision = context
        .enforcement
        .decide_now(pod, subject)
        .ok_or_else(|| Failure::OwnWorkloadUnknown(pod.full_name()))?;
    flow.decided(&decision);
    if decision.verdict == Verdict::Deny {
        return Err(Failure::Denied(Box::new(decision)));
    }
    let to = subject.destination;
    let spoofed = SocketAddr::new(subject.source_ip, 0);
    // A pod that calls its own service is its own client; there is nothing to pretend.
    let source = (subject.source_ip != to.ip()).then_some(spoofed);
    let options = context.config.sockets.connect(source, CONNECT_DEADLINE);
    socket::connect(&pod.network, &options, to)
        .await
        .map_err(|error| Failure::Connect { to, error })
}
