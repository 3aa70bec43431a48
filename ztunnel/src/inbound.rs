//! Tunnels that other proxies open to a captured pod, and the connections inside them.

use crate::application;
use crate::connections::InboundSubject;
use crate::context::Context;
use crate::failure::Failure;
use crate::flow::{Direction, Flow, Parties};
use crate::handshakes::Handshakes;
use crate::headers;
use crate::pods::Pod;
use crate::trust;
use crate::tunnels::{OpenTunnel, TunnelId};
use hbone::server::{Incoming, Server};
use mesh::inbound::{self, Asked, Target};
use mesh::{Identity, Snapshot};
use relay::TcpEnd;
use std::net::SocketAddr;
use std::sync::Arc;
use sys::socket;
use telemetry::Reporter;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

/// How often something is looked up for one request: what it names, and a waypoint that this names.
const MAX_LOOK_UPS: usize = 3;

/// How many requests in tunnels to one pod may wait for their answer. Each costs a task and a descriptor, and each peer
/// may have hundreds in every tunnel; an application that accepts answers within a moment.
const MAX_WAITING: usize = 4096;

/// Counts requests that wait for their answer.
#[derive(Clone)]
pub(crate) struct Waiting {
    places: Arc<Semaphore>,
    most: usize,
}

impl Waiting {
    /// So many may wait.
    pub(crate) fn at_most(most: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            most,
        }
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self::at_most(MAX_WAITING)
    }
}

/// Serves tunnels to one pod.
pub(crate) struct Inbound {
    /// Everything shared.
    pub(crate) context: Arc<Context>,
    /// The pod.
    pub(crate) pod: Arc<Pod>,
    /// Peers that have not proven who they are yet.
    pub(crate) handshakes: Handshakes,
    /// Requests that wait for their answer.
    pub(crate) waiting: Waiting,
    /// Set when no new connection is wanted any more: tunnels say so and end with their last stream.
    pub(crate) draining: CancellationToken,
    /// Set when tunnels have to end now.
    pub(crate) ended: CancellationToken,
    /// Everything accepted and not yet served to its end.
    pub(crate) open: TaskTracker,
    /// In the proxy's own pod: the one port that may be reached.
    pub(crate) only_port: Option<u16>,
}

/// Who is at the other end of one tunnel.
#[derive(Clone)]
struct Peer {
    identity: Identity,
    tunnel: TunnelId,
    source: SocketAddr,
    /// The address of ours that the peer connected to.
    local: SocketAddr,
}

impl Inbound {
    /// Serves one tunnel to its end.
    pub(crate) async fn serve(self: &Arc<Self>, stream: TcpStream) {
        let (source, local) = match (socket::peer_address(&stream), socket::local_address(&stream)) {
            (Ok(source), Ok(local)) => (source, local),
            // The peer has gone before anything was known of it.
            _ => return,
        };
        if let Err(failure) = self.serve_tunnel(stream, source, local).await {
            match &failure {
                Failure::Tls { error, .. } => {
                    trust::count_failed_handshake(&self.context, Reporter::Destination, error);
                }
                _ => self
                    .context
                    .metrics
                    .handshake_failed(Reporter::Destination, failure.code()),
            }
            info!(pod = self.pod.full_name(), %source, reason = failure.code(), "no tunnel: {failure}");
        }
    }

    async fn serve_tunnel(
        self: &Arc<Self>,
        stream: TcpStream,
        source: SocketAddr,
        local: SocketAddr,
    ) -> Result<(), Failure> {
        if self.pod.buffers.is_exhausted() {
            // One more tunnel could only make it worse. If a reset cannot be sent, closing will do.
            let _ = socket::reset_on_close(&stream);
            return Err(Failure::BuffersFull(self.pod.full_name()));
        }
        let Some(beginning) = self.handshakes.begin(source.ip()) else {
            // Not worth more of our time than a reset.
            let _ = socket::reset_on_close(&stream);
            return Err(Failure::TooManyHandshakes(source.ip()));
        };
        let certificate = self.context.identities.certificate(&self.pod.identity).await?;
        let config = self.context.tls.server(&certificate);
        let began = std::time::Instant::now();
        let (stream, peer) = tls::accept(stream, &config)
            .await
            .map_err(|error| Failure::Tls { peer: source, error })?;
        self.context
            .metrics
            .handshake_done(Reporter::Destination, began.elapsed());
        let identity = peer.identity.clone();
        let open = self
            .context
            .tunnels
            .enter(Reporter::Destination, peer, self.context.tls.trust())
            .map_err(|error| Failure::Tls { peer: source, error })?;
        let peer = Peer {
            identity,
            tunnel: open.id(),
            source,
            local,
        };
        let server =
            hbone::server::handshake(stream, self.context.config.http2.server(self.pod.buffers.clone()))
                .await
                .map_err(|error| Failure::Tunnel {
                    peer: source,
                    error: error.to_string(),
                })?;
        drop(beginning);
        self.accept_streams(server, peer, &open).await;
        Ok(())
    }

    async fn accept_streams<IO>(self: &Arc<Self>, mut server: Server<IO>, peer: Peer, open: &OpenTunnel)
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let mut told = false;
        let untrusted = open.untrusted();
        tokio::pin!(untrusted);
        loop {
            tokio::select! {
                incoming = server.accept() => match incoming {
                    Some(Ok(incoming)) => {
                        let (inbound, peer) = (self.clone(), peer.clone());
                        self.open.spawn(async move { inbound.serve_stream(incoming, peer).await });
                    }
                    Some(Err(error)) => {
                        debug!(pod = self.pod.full_name(), source = %peer.source, %error, "a tunnel ended");
                        return;
                    }
                    None => return,
                },
                () = self.draining.cancelled(), if !told => {
                    told = true;
                    server.graceful_shutdown();
                }
                () = self.ended.cancelled() => return,
                _reason = &mut untrusted => return,
            }
        }
    }

    async fn serve_stream(self: Arc<Self>, mut incoming: Incoming, peer: Peer) {
        let Some(authority) = headers::parse_authority(incoming.authority()) else {
            debug!(authority = incoming.authority(), source = %peer.source, "refused a CONNECT without host and port");
            self.context.metrics.refused(Reporter::Destination, "bad_request");
            return refuse(incoming, 400);
        };
        if self.pod.buffers.is_exhausted() {
            return self.turn_away(incoming, &peer, &Failure::BuffersFull(self.pod.full_name()));
        }
        let Ok(place) = self.waiting.places.clone().try_acquire_owned() else {
            let failure = Failure::TooManyRequests {
                pod: self.pod.full_name(),
                most: self.waiting.most,
            };
            return self.turn_away(incoming, &peer, &failure);
        };
        let (snapshot, workload) = match application::own_workload(&self.context, &self.pod).await {
            Ok(found) => found,
            Err(failure) => {
                info!(pod = self.pod.full_name(), source = %peer.source, reason = failure.code(), "refused a connection: {failure}");
                self.context
                    .metrics
                    .refused(Reporter::Destination, failure.code());
                return refuse(incoming, failure.status());
            }
        };
        let asked = Asked {
            authority: &authority,
            local: peer.local.ip(),
            workload: &workload,
            preferred_namespace: self.context.rules.preferred_service_namespace.as_deref(),
        };
        let (snapshot, target) = tokio::select! {
            biased;
            () = incoming.abandoned() => return,
            found = self.target(&asked, snapshot) => found,
        };
        let named = target.as_ref().map_or(peer.local, |target| target.address);
        let subject = InboundSubject {
            peer: Some(peer.identity.clone()),
            source_ip: peer.source.ip(),
            destination: named,
        };
        let flow = Flow::open(
            &self.context,
            &self.pod,
            Direction::Inbound(subject.clone()),
            peer.source,
            named,
        );
        flow.carried_by(peer.tunnel);
        let called = incoming.header(headers::FORWARDED).map(headers::parse_forwarded);
        let called = called.and_then(|forwarded| forwarded.host);
        flow.opened(
            Parties::inbound(&self.context, &snapshot, &subject, &workload)
                .serving(&snapshot, &workload, called.as_deref(), named.port())
                .through(peer.local, incoming.authority()),
        );
        flow.continue_trace(incoming.header(headers::TRACEPARENT));
        if let Some(baggage) = incoming.header(headers::BAGGAGE) {
            flow.described_by_peer(&peer.identity, headers::parse_baggage(baggage));
        }
        let reached = match target {
            Ok(target) => {
                let reach = self.reach(&flow, &subject, &target, peer.source);
                tokio::select! {
                    biased;
                    () = incoming.abandoned() => Err(Failure::Lost("the caller gave up before the application was reached".into())),
                    reached = flow.unless_closed(reach) => reached,
                }
            }
            Err(failure) => Err(failure),
        };
        drop(place);
        let outcome = match reached {
            Ok(stream) => {
                let description = self
                    .context
                    .config
                    .response_baggage
                    .then(|| headers::baggage(&workload));
                match incoming.accept(description.map(|baggage| (headers::BAGGAGE, baggage))) {
                    Ok(tunnel) => Ok(flow.relay(tunnel, TcpEnd::new(stream)).await),
                    Err(error) => {
                        let _ = socket::reset_on_close(&stream);
                        Err(Failure::Lost(format!(
                            "the tunnel ended before the connection was made: {error}"
                        )))
                    }
                }
            }
            Err(failure) => {
                refuse(incoming, failure.status());
                Err(failure)
            }
        };
        flow.close(outcome);
    }
}

impl Inbound {
    /// Refuses a request before there is a connection. A flood of them is a line of level debug each.
    fn turn_away(&self, incoming: Incoming, peer: &Peer, failure: &Failure) {
        debug!(source = %peer.source, reason = failure.code(), "refused a connection: {failure}");
        self.context
            .metrics
            .refused(Reporter::Destination, failure.code());
        refuse(incoming, failure.status());
    }

    async fn reach(
        &self,
        flow: &Flow,
        subject: &InboundSubject,
        target: &Target,
        source: SocketAddr,
    ) -> Result<TcpStream, Failure> {
        let (context, pod) = (&self.context, &self.pod);
        match self.only_port {
            Some(port) => application::reach_own_port(context, pod, flow, subject, port).await,
            None => application::reach_in_tunnel(context, pod, flow, subject, target, source).await,
        }
    }

    /// Where a request leads, with what is looked up for it where the snapshot holds only what was asked for.
    async fn target(
        &self,
        asked: &Asked<'_>,
        mut snapshot: Arc<Snapshot>,
    ) -> (Arc<Snapshot>, Result<Target, Failure>) {
        let on_demand = self.context.state.on_demand();
        let domain = &self.context.config.cluster_domain;
        let mut looked_up = Vec::new();
        loop {
            let refusal = match inbound::target(asked, &snapshot) {
                Ok(target) => return (snapshot, Ok(target)),
                Err(refusal) => Failure::Target(refusal),
            };
            let may_ask = on_demand.is_on() && looked_up.len() < MAX_LOOK_UPS;
            let missing = inbound::missing(asked, &snapshot).filter(|_| may_ask);
            let Some(missing) = missing.filter(|missing| !looked_up.contains(missing)) else {
                return (snapshot, Err(refusal));
            };
            match on_demand.look_up_inbound(&missing, domain).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    let failure = Failure::LookUp(format!("{missing:?} is not known: {error}"));
                    return (snapshot, Err(failure));
                }
                None => return (snapshot, Err(refusal)),
            }
            looked_up.push(missing);
            snapshot = self.context.state.snapshot();
        }
    }
}

/// Answers with an error status. A peer that has gone meanwhile needs no answer.
fn refuse(incoming: Incoming, status: u16) {
    if let Err(error) = incoming.refuse(status, []) {
        debug!(%error, status, "the refusal could not be sent");
    }
}

#[cfg(test)]
mod tests;
