//! Judging what is open by what is now in force.
//!
//! Runs after every change of policy or workloads and before the change is acknowledged, and for a pod when it
//! joins. The decision is `mesh::authorize`'s, the same that admits new connections.

use crate::connections::{CloseReason, Connections, InboundSubject, Subject};
use crate::pods::{Pod, Pods};
use crate::state::MeshState;
use crate::unproxied::{self, Ended};
use mesh::authorize::{self, Decision, Verdict};
use mesh::route::Rules;
use mesh::standing;
use mesh::{Snapshot, TunnelProtocol, Workload};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use sys::Namespace;
use sys::diag::{self, SocketInfo};
use telemetry::{Metrics, Reporter};
use tracing::{info, warn};

/// How long an acknowledgement waits for denied connections to have ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// Closes what is no longer allowed.
#[derive(Clone, Debug)]
pub(crate) struct Enforcement {
    /// Name of this node.
    pub(crate) node: Arc<str>,
    /// Mark of the proxy's own sockets. Without one they cannot be told from others, and connections older than
    /// enrolment are not looked for.
    pub(crate) mark: Option<u32>,
    /// What is in force.
    pub(crate) state: MeshState,
    /// What is open.
    pub(crate) connections: Connections,
    /// Who is served.
    pub(crate) pods: Pods,
    /// Settings that decide where connections go.
    pub(crate) rules: Rules,
    /// Where it is counted.
    pub(crate) metrics: Metrics,
}

impl Enforcement {
    /// Judges everything that is open on this node.
    pub(crate) async fn enforce(&self) {
        if !self.state.progress().borrow().is_synced() {
            // Nothing was admitted yet.
            return;
        }
        let snapshot = self.state.snapshot();
        let closed = self.connections.close_where(PATIENCE, |open| {
            let Subject::Inbound(subject) = &open.subject else {
                return None;
            };
            self.judge(&open.pod, subject, &snapshot).map(CloseReason::Policy)
        });
        let closed = closed.await;
        if closed > 0 {
            info!(
                connections = closed,
                revision = snapshot.revision(),
                "closed connections that policy no longer allows"
            );
        }
        let sweeps: Vec<_> = self
            .pods
            .list()
            .into_iter()
            .map(|pod| self.sweep(pod, snapshot.clone()))
            .collect();
        futures_util::future::join_all(sweeps).await;
    }

    /// Judges what this node's pods have opened: its destination may be somebody else's now.
    pub(crate) async fn enforce_outbound(&self) {
        if !self.state.progress().borrow().is_synced() {
            return;
        }
        let snapshot = self.state.snapshot();
        let closed = self.connections.close_where(PATIENCE, |open| {
            let Subject::Outbound(subject) = &open.subject else {
                return None;
            };
            let opened = subject.get()?;
            standing::stale(&opened, &snapshot, &self.rules).map(CloseReason::Stale)
        });
        let closed = closed.await;
        if closed > 0 {
            info!(
                connections = closed,
                revision = snapshot.revision(),
                "closed outbound connections whose destination has changed"
            );
        }
    }

    /// Judges the older connections of a pod that has just joined, as soon as the control plane has told of it.
    pub(crate) fn sweep_when_known(&self, pod: Arc<Pod>) {
        let enforcement = self.clone();
        tokio::spawn(async move {
            let (node, identity) = (enforcement.node.clone(), pod.identity.clone());
            // Not known in time: the change that makes it known sweeps it.
            if let Some((snapshot, _)) = enforcement.state.own_workload(&node, &pod.name, &identity).await {
                enforcement.sweep(pod, snapshot).await;
            }
        });
    }

    /// Ends the connections of `pod` that are older than its enrolment and that policy refuses. Of a pod that has left the
    /// mesh, or is about to, what does not come through this proxy is none of its business.
    pub(crate) async fn sweep(&self, pod: Arc<Pod>, snapshot: Arc<Snapshot>) {
        let (Some(workload), Some(mark)) = (self.workload(&pod, &snapshot), self.mark) else {
            return;
        };
        if !self.is_reached_through_us(&pod, &snapshot) {
            return;
        }
        let (searched, judged, this) = (pod.clone(), snapshot.clone(), self.clone());
        let search = tokio::task::spawn_blocking(move || {
            let denied = denied_directly(&searched, &workload, &judged, mark)?.into_iter();
            // It may have left in the meantime.
            let denied = denied.take_while(|_| this.is_reached_through_us(&searched, &this.state.snapshot()));
            let ended = denied.map(|(socket, decision)| {
                let ended = unproxied::end(&searched.network, &socket);
                (socket, decision, ended)
            });
            Ok::<_, std::io::Error>(ended.collect::<Vec<_>>())
        });
        match search.await {
            Ok(Ok(denied)) => {
                for (socket, decision, ended) in denied {
                    self.note(&pod, &socket, &decision, &ended);
                }
            }
            Ok(Err(error)) => {
                warn!(pod = pod.full_name(), %error, "cannot look for connections older than enrolment");
            }
            Err(error) => {
                warn!(pod = pod.full_name(), %error, "the search for connections older than enrolment failed");
            }
        }
    }

    /// Whether everything that reaches `pod` is to come through this proxy.
    ///
    /// A pod that leaves takes no tunnels first, then its redirection ends, and only then the proxy is told. One that joins
    /// takes them last, and that change judges what it has open (see `Writer::write`).
    fn is_reached_through_us(&self, pod: &Arc<Pod>, snapshot: &Snapshot) -> bool {
        let workload = self.workload(pod, snapshot);
        let takes_tunnels = workload.is_some_and(|workload| workload.tunnel == TunnelProtocol::Hbone);
        takes_tunnels && self.pods.is_in_mesh(pod)
    }

    fn note(&self, pod: &Pod, socket: &SocketInfo, decision: &Decision, ended: &std::io::Result<Ended>) {
        let (source, destination) = (socket.remote, socket.local);
        let pod_name = pod.full_name();
        match ended {
            Ok(Ended::DroppedBefore) => {}
            Ok(how) => {
                self.metrics
                    .closed_early(Reporter::Destination, "unproxied_connection");
                info!(pod = pod_name, %source, %destination, ?how, reason = %decision, "ended a plaintext connection that is older than enrolment");
            }
            Err(error) => {
                warn!(pod = pod_name, %source, %destination, %error, reason = %decision, "cannot end a plaintext connection that policy refuses");
            }
        }
    }

    /// What is in force now for `subject`, which reaches for `pod`. None: the control plane does not know the pod.
    ///
    /// Policies and the pod that they are for come from one snapshot. A pod looked up earlier may be one from before
    /// a policy was made for it, and the walk over what is open may have passed already.
    pub(crate) fn decide_now(&self, pod: &Pod, subject: &InboundSubject) -> Option<Decision> {
        self.decide_by(pod, subject, &self.state.snapshot())
    }

    fn decide_by(&self, pod: &Pod, subject: &InboundSubject, snapshot: &Snapshot) -> Option<Decision> {
        let workload = self.workload(pod, snapshot)?;
        Some(decide(subject, &workload, snapshot))
    }

    /// The reason to close, if `subject` is not allowed.
    fn judge(&self, pod: &Pod, subject: &InboundSubject, snapshot: &Snapshot) -> Option<String> {
        let Some(decision) = self.decide_by(pod, subject, snapshot) else {
            return Some("the control plane no longer knows this pod".into());
        };
        (decision.verdict == Verdict::Deny).then(|| decision.to_string())
    }

    fn workload(&self, pod: &Pod, snapshot: &Snapshot) -> Option<Arc<Workload>> {
        let identity = &pod.identity;
        snapshot
            .local_workload(
                &self.node,
                identity.namespace(),
                &pod.name,
                identity.service_account(),
            )
            .cloned()
    }
}

/// Whether `subject` may reach `workload`.
fn decide(subject: &InboundSubject, workload: &Workload, snapshot: &Snapshot) -> Decision {
    let connection = authorize::Connection {
        peer: subject.peer.as_ref(),
        source_ip: subject.source_ip,
        workload,
        destination: subject.destination,
    };
    authorize::authorize(&connection, snapshot)
}

/// The pod's connections past this proxy that policy refuses. Blocks while the kernel lists sockets.
fn denied_directly(
    pod: &Pod,
    workload: &Workload,
    snapshot: &Snapshot,
    mark: u32,
) -> std::io::Result<Vec<(SocketInfo, Decision)>> {
    let ephemeral = ephemeral_ports(&pod.network);
    let look = || -> std::io::Result<(Vec<SocketInfo>, Vec<unproxied::View>)> {
        let sockets = diag::sockets(&pod.network)?;
        let views = sockets
            .iter()
            .map(|socket| unproxied::View::of(socket, mark))
            .collect();
        Ok((sockets, views))
    };
    let (_, first) = look()?;
    if unproxied::accepted_directly(&first, &ephemeral).is_empty() {
        return Ok(Vec::new());
    }
    let (sockets, second) = look()?;
    let mut denied = Vec::new();
    for position in unproxied::accepted_directly_for_sure(&first, &second, &ephemeral) {
        let socket = &sockets[position];
        let subject = InboundSubject {
            peer: None,
            source_ip: socket.remote.ip(),
            destination: socket.local,
        };
        let decision = decide(&subject, workload, snapshot);
        if decision.verdict == Verdict::Deny {
            denied.push((socket.clone(), decision));
        }
    }
    Ok(denied)
}

/// The namespace's range of automatic local ports; Linux' default when it cannot be read.
fn ephemeral_ports(namespace: &Namespace) -> RangeInclusive<u16> {
    const PATH: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = namespace
        .enter(|| std::fs::read_to_string(PATH))
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default();
    let mut bounds = text.split_whitespace().filter_map(|bound| bound.parse().ok());
    match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => 32768..=60999,
    }
}

#[cfg(test)]
mod tests;
