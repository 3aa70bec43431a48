//! Connections that a captured pod opens.
//!
//! Where each goes is `mesh::route`'s decision. A tunnel belongs to one source pod: the other end trusts the
//! certificate and the TCP address together, so neither may carry another pod's streams.

use crate::context::{CONNECT_DEADLINE, Context};
use crate::failure::Failure;
use crate::flow::{Direction, Flow, Parties};
use crate::headers;
use crate::pods::Pod;
use crate::trust;
use crate::tunnels::TunnelId;
use hbone::client::{Client, ConnectRequest};
use hbone::pool::state::Limits;
use hbone::pool::{GetError, Lease, Pool};
use hbone::{ConnectError, ConnectionEnd, Tunnel};
use mesh::route::{self, Facts, HboneRoute, NothingResolved, Request, Route, Rules};
use mesh::{Identity, Service, Workload};
use relay::{Ended, TcpEnd};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use sys::socket;
use tls::HandshakeError;
use tokio::net::TcpStream;

/// How many endpoints one connection tries.
const MAX_ATTEMPTS: usize = 3;

/// Time for TCP, TLS and HTTP/2 of a new tunnel together.
const TUNNEL_DEADLINE: Duration = Duration::from_secs(10);

/// Time the other proxy has to connect to the application: its own deadline and a little for the way.
const ANSWER_DEADLINE: Duration = Duration::from_secs(12);

/// What a tunnel may be shared by: the same peer, held to the same identities. The source pod is the owner of
/// the pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TunnelKey {
    peer: SocketAddr,
    accepted: Vec<Identity>,
}

/// Serves what one pod opens.
pub(crate) struct Outbound {
    context: Arc<Context>,
    pod: Arc<Pod>,
    tunnels: Pool<TunnelKey, TunnelId, Failure>,
    health: Mutex<mesh::EndpointHealth>,
}

/// The way to the destination.
enum Upstream {
    Direct(TcpStream),
    Tunnel(Tunnel),
}

/// What a tunnel request needs to know.
struct TunnelRoute {
    peer: SocketAddr,
    authority: String,
    accepted: Vec<Identity>,
    service: Option<Arc<Service>>,
}

impl Outbound {
    /// Serves `pod`.
    pub(crate) fn new(context: Arc<Context>, pod: Arc<Pod>) -> Self {
        let mut limits = Limits::default();
        limits.streams_per_connection = context.config.pool_max_streams;
        limits.idle_after = context.config.pool_idle;
        let tunnels = Pool::new(limits);
        Self {
            context,
            pod,
            tunnels,
            health: Mutex::default(),
        }
    }

    /// Serves one captured connection to its end.
    pub(crate) async fn serve(&self, stream: TcpStream) {
        let (source, destination) = match (
            socket::peer_address(&stream),
            socket::original_destination(&stream),
        ) {
            (Ok(source), Ok(destination)) => (source, destination),
            // The client has gone before anything was known of it.
            _ => return,
        };
        let flow = Flow::open(&self.context, &self.pod, Direction::Outbound, source, destination);
        let outcome = self.carry(&flow, stream, source, destination).await;
        flow.close(outcome);
    }

    /// Lets the tunnels end once their streams have.
    pub(crate) fn drain(&self) {
        self.tunnels.drain();
    }

    async fn carry(
        &self,
        flow: &Flow,
        stream: TcpStream,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<Ended, Failure> {
        let upstream = match flow.unless_closed(self.reach(flow, source, destination)).await {
            Ok(upstream) => upstream,
            Err(failure) => {
                // The client connected to nothing: it shall see a reset, not an empty success.
                let _ = socket::reset_on_close(&stream);
                return Err(failure);
            }
        };
        let client = TcpEnd::new(stream);
        Ok(match upstream {
            Upstream::Direct(server) => flow.relay(client, TcpEnd::new(server)).await,
            Upstream::Tunnel(tunnel) => flow.relay(client, tunnel).await,
        })
    }

    async fn reach(
        &self,
        flow: &Flow,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<Upstream, Failure> {
        let identity = &self.pod.identity;
        let (_, own) = self
            .context
            .state
            .own_workload(&self.context.config.node_name, &self.pod.name, identity)
            .await
            .ok_or_else(|| Failure::OwnWorkloadUnknown(self.pod.full_name()))?;
        let mut tried: Vec<Arc<str>> = Vec::new();
        let mut last = None;
        for _ in 0..MAX_ATTEMPTS {
            match self.route(&own, destination, &tried) {
                Route::Passthrough {
                    destination,
                    workload,
                    service,
                    ..
                } => {
                    flow.opened(Parties::outbound(
                        &own,
                        workload.as_deref(),
                        service.as_deref(),
                        None,
                    ));
                    return self.connect(destination).await.map(Upstream::Direct);
                }
                Route::Hbone(hbone) => {
                    let HboneRoute {
                        peer,
                        authority,
                        accepted,
                        next,
                        workload,
                        service,
                        ..
                    } = *hbone;
                    let uid = next.uid.clone();
                    if tried.contains(&uid) {
                        // A pod's own address: there is no other endpoint behind it, and asking again would only
                        // multiply the wait for one that does not answer.
                        break;
                    }
                    flow.opened(Parties::outbound(
                        &own,
                        workload.as_deref(),
                        service.as_deref(),
                        Some(identity),
                    ));
                    let route = TunnelRoute {
                        peer,
                        authority,
                        accepted,
                        service,
                    };
                    match self.tunnel(flow, &own, source, route).await {
                        Ok(tunnel) => {
                            self.lock_health().record_success(&uid);
                            return Ok(Upstream::Tunnel(tunnel));
                        }
                        Err(failure) if failure.may_try_elsewhere() => {
                            self.lock_health().record_failure(&uid, Instant::now());
                            tried.push(uid);
                            last = Some(failure);
                        }
                        Err(failure) => return Err(failure),
                    }
                }
                Route::Wait(need) => {
                    return Err(Failure::BadRequest(format!(
                        "{need:?} cannot be looked up on demand"
                    )));
                }
                // With every endpoint tried, the failure of the last one says more.
                Route::Refuse(refusal) => return Err(last.unwrap_or(Failure::Route(refusal))),
            }
        }
        Err(last.unwrap_or_else(|| Failure::BadRequest("no endpoint was tried".into())))
    }

    fn route(&self, own: &Workload, destination: SocketAddr, tried: &[Arc<str>]) -> Route {
        let snapshot = self.context.state.snapshot();
        let request = Request {
            source: own,
            destination,
        };
        let facts = Facts {
            snapshot: &snapshot,
            health: &self.lock_health(),
            tried,
            asked: &[],
            now: Instant::now(),
            entropy: rand::random(),
            names: &NothingResolved,
            rules: &Rules::default(),
        };
        route::route(&request, &facts)
    }

    async fn connect(&self, to: SocketAddr) -> Result<TcpStream, Failure> {
        let options = self.context.config.sockets.connect(None, CONNECT_DEADLINE);
        socket::connect(&self.pod.network, &options, to)
            .await
            .map_err(|error| Failure::Connect { to, error })
    }

    async fn tunnel(
        &self,
        flow: &Flow,
        own: &Workload,
        source: SocketAddr,
        route: TunnelRoute,
    ) -> Result<Tunnel, Failure> {
        let TunnelRoute {
            peer,
            authority,
            mut accepted,
            service,
        } = route;
        accepted.sort();
        let key = TunnelKey { peer, accepted };
        let service_host = service.as_ref().map(|service| &*service.hostname);
        let request = ConnectRequest {
            authority,
            headers: vec![
                (headers::BAGGAGE, headers::baggage(own)),
                (headers::FORWARDED, headers::forwarded(source, service_host)),
                (headers::TRACEPARENT, headers::traceparent(rand::random())),
            ],
        };
        // A tunnel that turns out to be gone before the request left costs one more attempt, not the connection.
        let mut fresh_attempts = 0;
        loop {
            let lease = self.lease(&key).await?;
            let client = lease.client().clone();
            flow.carried_by(*lease.info());
            match tokio::time::timeout(ANSWER_DEADLINE, lease.connect(request.clone())).await {
                Ok(Ok((tunnel, response))) => {
                    if let Some(baggage) = response.first(headers::BAGGAGE) {
                        flow.described_by_peer(headers::parse_baggage(baggage));
                    }
                    return Ok(tunnel);
                }
                Ok(Err(ConnectError::Status(status))) => return Err(Failure::PeerStatus { peer, status }),
                Ok(Err(error)) if error.may_be_sent_again() && fresh_attempts < MAX_ATTEMPTS => {
                    if let Some(refused) = self.refused_by_peer(&client, peer).await {
                        return Err(refused);
                    }
                    fresh_attempts += 1;
                }
                Ok(Err(error)) => {
                    let refused = self.refused_by_peer(&client, peer).await;
                    return Err(refused.unwrap_or_else(|| Failure::Tunnel {
                        peer,
                        error: error.to_string(),
                    }));
                }
                Err(_) => {
                    let error = format!("no answer within {} s", ANSWER_DEADLINE.as_secs());
                    return Err(Failure::Tunnel { peer, error });
                }
            }
        }
    }

    async fn lease(&self, key: &TunnelKey) -> Result<Lease<TunnelId>, Failure> {
        let dial = || {
            let (context, pod, key) = (self.context.clone(), self.pod.clone(), key.clone());
            async move { dial(&context, &pod, &key).await }
        };
        self.tunnels
            .get(key, TUNNEL_DEADLINE, dial)
            .await
            .map_err(|error| match error {
                GetError::Dial(failure) => Failure::Shared(failure),
                GetError::Timeout(_) => Failure::Connect {
                    to: key.peer,
                    error: std::io::Error::new(std::io::ErrorKind::TimedOut, error.to_string()),
                },
                other => Failure::Tunnel {
                    peer: key.peer,
                    error: other.to_string(),
                },
            })
    }

    /// Whether the peer refused our certificate. In TLS 1.3 a client hears of that only after its own handshake is
    /// done, so it comes out of a connection that seemed fine.
    async fn refused_by_peer(&self, client: &Client, peer: SocketAddr) -> Option<Failure> {
        const PATIENCE: Duration = Duration::from_millis(200);
        if client.is_usable() {
            return None;
        }
        let Ok(ConnectionEnd::Io(error)) = tokio::time::timeout(PATIENCE, client.closed()).await else {
            return None;
        };
        let error = HandshakeError::from_io(&error)?.clone();
        self.context
            .metrics
            .handshake_failed(telemetry::Reporter::Source, error.code());
        Some(Failure::Tls { peer, error })
    }

    fn lock_health(&self) -> std::sync::MutexGuard<'_, mesh::EndpointHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a tunnel: TCP from the pod's namespace, mutual TLS, HTTP/2.
async fn dial(context: &Arc<Context>, pod: &Pod, key: &TunnelKey) -> Result<(Client, TunnelId), Failure> {
    let certificate = context.identities.certificate(&pod.identity).await?;
    let config = context.tls.client(&certificate, &key.accepted);
    let peer = key.peer;
    let options = context.config.sockets.connect(None, CONNECT_DEADLINE);
    let stream = socket::connect(&pod.network, &options, peer)
        .await
        .map_err(|error| Failure::Connect { to: peer, error })?;
    let refused = |error| {
        trust::count_failed_handshake(context, telemetry::Reporter::Source, &error);
        Failure::Tls { peer, error }
    };
    let (stream, proven) = tls::connect(stream, &config).await.map_err(refused)?;
    let open = context
        .tunnels
        .enter(telemetry::Reporter::Source, proven, context.tls.trust())
        .map_err(refused)?;
    let (client, driver) = hbone::client::handshake(stream, context.config.http2.client())
        .await
        .map_err(|error| Failure::Tunnel {
            peer,
            error: error.to_string(),
        })?;
    let id = open.id();
    tokio::spawn(async move {
        tokio::select! {
            _end = driver => {}
            // Without its driver the connection ends at once, and the pool lends it to nobody.
            _reason = open.untrusted() => {}
        }
    });
    Ok((client, id))
}
