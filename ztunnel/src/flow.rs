//! The one life that every connection has here: entered, described, decided, relayed, closed.
//!
//! Register, metrics and access log hang on this place for every direction.

use crate::connections::{InboundSubject, OutboundSubject, Registered, Subject};
use crate::context::Context;
use crate::failure::Failure;
use crate::headers::PeerDescription;
use crate::pods::Pod;
use crate::tunnels::TunnelId;
use mesh::authorize::Decision;
use mesh::standing::Opened;
use mesh::{Identity, NetworkAddress, Service, Snapshot, Workload};
use relay::{Counters, End, Ended, Reason, Side};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use telemetry::{
    AccessEndpoint, AccessFailure, AccessLog, Label, OpenSocket, Reporter, ResponseFlags, SecurityPolicy,
    TrafficLabels, WorkloadLabels,
};

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
#[derive(Default)]
struct Described {
    parties: Option<Parties>,
    counted_open: bool,
}

/// Who talks to whom.
pub(crate) struct Parties {
    labels: TrafficLabels,
    source_pod: Option<Arc<str>>,
    destination_pod: Option<Arc<str>>,
}

impl Parties {
    /// Of a connection that `own` opens; `identity` is given where TLS proves both ends.
    pub(crate) fn outbound(
        own: &Workload,
        destination: Option<&Workload>,
        service: Option<&Service>,
        identity: Option<&Identity>,
    ) -> Self {
        let mut labels = TrafficLabels::new(Reporter::Source);
        labels.source = workload_labels(own, identity.is_some());
        if let Some(destination) = destination {
            labels.destination = workload_labels(destination, identity.is_some());
        }
        if let Some(service) = service {
            labels.destination_service = Label::from(&*service.hostname);
            labels.destination_service_namespace = Label::from(&*service.namespace);
            labels.destination_service_name = Label::from(&*service.name);
        }
        if identity.is_some() {
            labels.connection_security_policy = SecurityPolicy::MutualTls;
        }
        Self {
            labels,
            source_pod: Some(own.name.clone()),
            destination_pod: destination.map(|workload| workload.name.clone()),
        }
    }

    /// Of a connection to `own`. The source workload is found by address and believed for labels only, and only
    /// if it fits the identity that TLS has proven.
    pub(crate) fn inbound(
        context: &Context,
        snapshot: &Snapshot,
        subject: &InboundSubject,
        own: &Workload,
    ) -> Self {
        let mut labels = TrafficLabels::new(Reporter::Destination);
        let secured = subject.peer.is_some();
        let address = NetworkAddress {
            network: context.config.network.as_str().into(),
            ip: subject.source_ip,
        };
        let source = snapshot.workload_by_address(&address).filter(|workload| {
            subject
                .peer
                .as_ref()
                .is_none_or(|peer| workload.identity() == *peer)
        });
        if let Some(source) = source {
            labels.source = workload_labels(source, false);
        }
        if let Some(peer) = &subject.peer {
            labels.source.principal = Label::from(peer.to_string().as_str());
            labels.source.namespace = Label::from(peer.namespace());
            labels.connection_security_policy = SecurityPolicy::MutualTls;
        }
        labels.destination = workload_labels(own, secured);
        Self {
            labels,
            source_pod: source.map(|workload| workload.name.clone()),
            destination_pod: Some(own.name.clone()),
        }
    }

    fn unknown(reporter: Reporter) -> Self {
        Self {
            labels: TrafficLabels::new(reporter),
            source_pod: None,
            destination_pod: None,
        }
    }
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
            described: Mutex::default(),
            _socket: context.metrics.open_socket(reporter),
        }
    }

    /// Says which tunnel carries it.
    pub(crate) fn carried_by(&self, tunnel: TunnelId) {
        self.registered.carried_by(tunnel);
    }

    /// Says who talks to whom, as soon as that is known. Said again when another endpoint is tried.
    pub(crate) fn opened(&self, parties: Parties) {
        self.described().parties = Some(parties);
    }

    /// Where an outbound connection goes, so that a change of what that rests on can close it.
    pub(crate) fn goes(&self, opened: Opened) {
        self.outbound.set(opened);
    }

    /// What policy decided. A refusal is logged when the connection closes, with everything else about it.
    pub(crate) fn decided(&self, decision: &Decision) {
        tracing::debug!(source = %self.source, destination = %self.destination, reason = %decision.reason, "policy decided");
        for dry_run in &decision.dry_run {
            tracing::debug!(source = %self.source, policy = &*dry_run.policy, verdict = ?dry_run.verdict, "a dry-run policy would have decided");
        }
    }

    /// What the other proxy says of its workload. Fills in what we do not know ourselves.
    pub(crate) fn described_by_peer(&self, peer: PeerDescription) {
        let mut described = self.described();
        let Some(Parties { labels, .. }) = &mut described.parties else {
            return;
        };
        let end = match self.reporter {
            Reporter::Source => &mut labels.destination,
            Reporter::Destination => &mut labels.source,
        };
        for (label, value) in [
            (&mut end.workload, peer.workload),
            (&mut end.canonical_service, peer.service),
            (&mut end.canonical_revision, peer.revision),
            (&mut end.cluster, peer.cluster),
        ] {
            if let Some(value) = value.filter(|_| *label == Label::unknown()) {
                *label = Label::from(value.as_str());
            }
        }
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
        described.counted_open = true;
        let parties = described
            .parties
            .get_or_insert_with(|| Parties::unknown(self.reporter));
        self.context.metrics.opened(&parties.labels);
    }

    /// Ends the life: counts it and writes the access log.
    pub(crate) fn close(self, outcome: Result<Ended, Failure>) {
        let failure = match outcome {
            Ok(ended) => self.failure_of(ended.reason),
            Err(failure) => Some(failure),
        };
        let described = std::mem::take(&mut *self.described());
        let parties = described
            .parties
            .unwrap_or_else(|| Parties::unknown(self.reporter));
        let labels = &parties.labels;
        let flags = failure.as_ref().map_or(ResponseFlags::None, Failure::flags);
        let (received, sent) = (self.counters.a_to_b(), self.counters.b_to_a());
        let metrics = &self.context.metrics;
        if described.counted_open {
            metrics.closed(labels, flags, received, sent);
        } else {
            metrics.failed(labels, flags);
        }
        match &failure {
            Some(Failure::Closed(reason)) => metrics.closed_early(self.reporter, reason.code()),
            Some(failure) if !described.counted_open => metrics.refused(self.reporter, failure.code()),
            _ => {}
        }
        if let Some(Failure::Denied(decision)) = &failure
            && matches!(decision.reason, mesh::authorize::Reason::PolicyUnknown { .. })
        {
            metrics.denied_by_unknown_policy();
        }
        let (direction, bytes_sent, bytes_recv) = match self.reporter {
            Reporter::Source => (telemetry::Direction::Outbound, received, sent),
            Reporter::Destination => (telemetry::Direction::Inbound, sent, received),
        };
        let error = failure.as_ref().map(ToString::to_string);
        AccessLog {
            source: endpoint(self.source, parties.source_pod.as_deref(), &labels.source),
            destination: AccessEndpoint {
                service: known(&labels.destination_service),
                ..endpoint(
                    self.destination,
                    parties.destination_pod.as_deref(),
                    &labels.destination,
                )
            },
            direction,
            bytes_sent,
            bytes_recv,
            duration: self.since.elapsed(),
            failure: failure
                .as_ref()
                .zip(error.as_deref())
                .map(|(failure, error)| AccessFailure {
                    error,
                    reason: failure.code(),
                    flags,
                }),
        }
        .write();
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

fn workload_labels(workload: &Workload, proven: bool) -> WorkloadLabels {
    let principal = if proven {
        Label::from(workload.identity().to_string().as_str())
    } else {
        Label::unknown()
    };
    WorkloadLabels {
        workload: Label::from(&*workload.workload_name),
        namespace: Label::from(&*workload.namespace),
        principal,
        canonical_service: Label::from(&*workload.canonical_name),
        canonical_revision: Label::from(&*workload.canonical_revision),
        app: Label::from(&*workload.canonical_name),
        version: Label::from(&*workload.canonical_revision),
        cluster: Label::from(&*workload.cluster_id),
        region: Label::from(&*workload.locality.region),
        zone: Label::from(&*workload.locality.zone),
    }
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
