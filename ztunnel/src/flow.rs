//! The one life that every connection has here: entered, described, decided, relayed, closed.
//!
//! Register, metrics and access log hang on this place for every direction.

use crate::connections::{InboundSubject, OutboundSubject, Registered, Subject};
use crate::context::Context;
use crate::failure::Failure;
use crate::headers::{PeerDescription, TraceContext};
use crate::pods::Pod;
use crate::tunnels::TunnelId;
use mesh::Identity;
use mesh::authorize::Decision;
use mesh::standing::Opened;
use relay::{Counters, End, Ended, Reason, Side};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use telemetry::{
    AccessEndpoint, AccessFailure, AccessLog, Label, OpenConnection, OpenSocket, Reporter, ResponseFlags,
    TrafficLabels, WorkloadLabels,
};

mod descriptions;
mod parties;
#[cfg(test)]
mod tests;

pub(crate) use descriptions::Descriptions;
pub(crate) use parties::{Parties, workload_labels};

/// Which way a connection goes.
pub(crate) enum Direction {
    /// From a captured pod.
    Outbound,
    /// To a captured pod, with what its permission rests on.
    Inbound(InboundSubject),
}

/// One connection.
pub(crate) struct Flow {
    context: Arc<Context>,
    registered: Registered,
    outbound: OutboundSubject,
    reporter: Reporter,
    source: SocketAddr,
    destination: SocketAddr,
    since: Instant,
    counters: Counters,
    described: Mutex<Described>,
    _socket: OpenSocket,
}

/// What is found out about a connection on its way.
struct Described {
    parties: Parties,
    /// What the other proxy says of its workload. Metrics have it once the connection is established.
    told: Option<Told>,
    trace: TraceContext,
    /// What dry-run policies would have decided.
    dry_run: Option<String>,
    /// What policies say and nobody enforces.
    not_enforced: Option<String>,
    /// The connection as metrics have it, once it is established.
    open: Option<OpenConnection>,
}

struct Told {
    by: Identity,
    description: PeerDescription,
    /// What we know ourselves, and this where we do not.
    labels: TrafficLabels,
}

impl Flow {
    /// Enters a connection into the register. From here on it is closed exactly once, by [`Flow::close`].
    pub(crate) fn open(
        context: &Arc<Context>,
        pod: &Arc<Pod>,
        direction: Direction,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        let outbound = OutboundSubject::default();
        let (reporter, subject) = match direction {
            Direction::Outbound => (Reporter::Source, Subject::Outbound(outbound.clone())),
            Direction::Inbound(subject) => (Reporter::Destination, Subject::Inbound(subject)),
        };
        Self {
            context: context.clone(),
            registered: context
                .connections
                .enter(pod.clone(), subject, source, destination),
            outbound,
            reporter,
            source,
            destination,
            since: Instant::now(),
            counters: Counters::new(),
            described: Mutex::new(Described {
                parties: Parties::unknown(reporter),
                told: None,
                trace: TraceContext::new(rand::random()),
                dry_run: None,
                not_enforced: None,
                open: None,
            }),
            _socket: context.metrics.open_socket(reporter),
        }
    }

    /// Says which tunnel carries it.
    pub(crate) fn carried_by(&self, tunnel: TunnelId) {
        self.registered.carried_by(tunnel);
    }

    /// Says who talks to whom, as soon as that is known. Said again when another endpoint is tried.
    pub(crate) fn opened(&self, parties: Parties) {
        let mut described = self.described();
        described.parties = parties;
        described.told = None;
    }

    /// Where an outbound connection goes, so that a change of what that rests on can close it.
    pub(crate) fn goes(&self, opened: Opened) {
        self.outbound.set(opened);
    }

    /// What policy decided. A refusal is logged when the connection closes, with everything else about it.
    pub(crate) fn decided(&self, decision: &Decision) {
        tracing::debug!(source = %self.source, destination = %self.destination, reason = %decision, "policy decided");
        for dry_run in &decision.dry_run {
            self.context
                .metrics
                .dry_run_decided(&dry_run.policy.name(), dry_run.verdict.as_str());
        }
        let mut described = self.described();
        described.dry_run = sentence(&decision.dry_run);
        described.not_enforced = sentence(&decision.not_enforced);
    }

    /// What the other proxy, which has proven to be `by`, says of its workload. Fills in what we do not know ourselves:
    /// in the access log, and in metrics where it is let in and has not said too many things already.
    pub(crate) fn described_by_peer(&self, by: &Identity, description: PeerDescription) {
        let mut described = self.described();
        let labels = described.parties.described_by_peer(&description);
        described.told = Some(Told {
            by: by.clone(),
            description,
            labels,
        });
    }

    /// Continues the trace of a peer's `traceparent`. Without one that can be read, the flow's own trace stays.
    pub(crate) fn continue_trace(&self, traceparent: Option<&str>) {
        if let Some(trace) = traceparent.and_then(TraceContext::parse) {
            self.described().trace = trace;
        }
    }

    /// The trace that this connection belongs to. The tunnels that it goes through carry the same one.
    pub(crate) fn trace(&self) -> TraceContext {
        self.described().trace
    }

    /// Runs `work` unless the connection is closed from outside in the meantime.
    pub(crate) async fn unless_closed<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.registered.closed() => Err(self.closed_from_outside()),
            outcome = work => outcome,
        }
    }

    /// Moves bytes between the initiator and the acceptor until both have closed, one is reset, or the
    /// connection is closed from outside.
    pub(crate) async fn relay(&self, initiator: impl End, acceptor: impl End) -> Ended {
        self.count_open();
        relay::relay_until(initiator, acceptor, &self.counters, self.registered.closed()).await
    }

    fn count_open(&self) {
        let mut described = self.described();
        let ours = &described.parties.labels;
        let labels = match &described.told {
            Some(told) if told.labels != *ours && self.may_be_counted(told) => &told.labels,
            _ => ours,
        };
        described.open = Some(self.context.metrics.opened(labels));
        self.record(&described, None).write_opened();
    }

    fn may_be_counted(&self, told: &Told) -> bool {
        let descriptions = &self.context.descriptions;
        descriptions.admit(&told.by, &told.description, Instant::now())
    }

    /// Ends the life: counts it and writes the access log.
    pub(crate) fn close(self, outcome: Result<Ended, Failure>) {
        let failure = match outcome {
            Ok(ended) => self.failure_of(ended.reason),
            Err(failure) => Some(failure),
        };
        let mut described = self.described();
        let flags = failure.as_ref().map_or(ResponseFlags::None, Failure::flags);
        let metrics = &self.context.metrics;
        let open = described.open.take();
        match &failure {
            Some(Failure::Closed(reason)) => metrics.closed_early(self.reporter, reason.code()),
            Some(failure) if open.is_none() => metrics.refused(self.reporter, failure.code()),
            _ => {}
        }
        match open {
            Some(open) => open.closed(flags, self.counters.a_to_b(), self.counters.b_to_a()),
            None => metrics.failed(&described.parties.labels, flags),
        }
        if let Some(Failure::Denied(decision)) = &failure
            && matches!(decision.reason, mesh::authorize::Reason::PolicyUnknown { .. })
        {
            metrics.denied_by_unknown_policy();
        }
        let error = failure.as_ref().map(ToString::to_string);
        let failure = failure
            .as_ref()
            .zip(error.as_deref())
            .map(|(failure, error)| AccessFailure {
                error,
                reason: failure.code(),
                flags,
            });
        let trace_id = described.trace.trace_id();
        AccessLog {
            trace_id: Some(&trace_id),
            ..self.record(&described, failure)
        }
        .write();
    }

    /// The connection as the access log has it now.
    fn record<'a>(&'a self, described: &'a Described, failure: Option<AccessFailure<'a>>) -> AccessLog<'a> {
        let Parties {
            labels,
            source_pod,
            destination_pod,
            tunnel,
        } = &described.parties;
        let labels = described.told.as_ref().map_or(labels, |told| &told.labels);
        let (received, sent) = (self.counters.a_to_b(), self.counters.b_to_a());
        let (direction, bytes_sent, bytes_recv) = match self.reporter {
            Reporter::Source => (telemetry::Direction::Outbound, received, sent),
            Reporter::Destination => (telemetry::Direction::Inbound, sent, received),
        };
        let destination = tunnel.as_ref().map_or(self.destination, |tunnel| tunnel.address);
        AccessLog {
            source: endpoint(self.source, source_pod.as_deref(), &labels.source),
            destination: AccessEndpoint {
                service: known(&labels.destination_service),
                hbone_addr: tunnel.as_ref().map(|tunnel| tunnel.authority.as_str()),
                ..endpoint(destination, destination_pod.as_deref(), &labels.destination)
            },
            direction,
            bytes_sent,
            bytes_recv,
            duration: self.since.elapsed(),
            trace_id: None,
            dry_run: described.dry_run.as_deref(),
            not_enforced: described.not_enforced.as_deref(),
            failure,
        }
    }

    fn failure_of(&self, reason: Reason) -> Option<Failure> {
        let (initiator, acceptor) = match self.reporter {
            Reporter::Source => ("the client", "the destination"),
            Reporter::Destination => ("the caller", "the application"),
        };
        let name = |side| if side == Side::A { initiator } else { acceptor };
        match reason {
            Reason::Closed => None,
            Reason::ResetBy(side, fault) => Some(Failure::Reset(format!(
                "{} reset the connection: {fault}",
                name(side)
            ))),
            Reason::Failed(side, fault) => Some(Failure::Lost(format!(
                "the connection to {} was lost: {fault}",
                name(side)
            ))),
            Reason::Cancelled => Some(self.closed_from_outside()),
        }
    }

    fn closed_from_outside(&self) -> Failure {
        // A connection is told to close with a reason, always.
        Failure::Closed(
            self.registered
                .reason()
                .unwrap_or(crate::connections::CloseReason::Stopping),
        )
    }

    fn described(&self) -> std::sync::MutexGuard<'_, Described> {
        self.described.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first few in one sentence, and how many more there are.
fn sentence(list: &[impl ToString]) -> Option<String> {
    const MOST: usize = 5;
    let first: Vec<String> = list.iter().take(MOST).map(ToString::to_string).collect();
    let more = match list.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (!first.is_empty()).then(|| first.join("; ") + &more)
}

fn endpoint<'a>(address: SocketAddr, pod: Option<&'a str>, labels: &'a WorkloadLabels) -> AccessEndpoint<'a> {
    AccessEndpoint {
        addr: Some(address),
        workload: pod,
        namespace: known(&labels.namespace),
        identity: known(&labels.principal),
        cluster: known(&labels.cluster),
        ..AccessEndpoint::default()
    }
}

fn known(label: &Label) -> Option<&str> {
    (*label != Label::unknown()).then(|| label.as_str())
}
