//! The tunnels of one pod: found in its pools or made, and a stream opened on one.

use super::nested::Nested;
use crate::context::{CONNECT_DEADLINE, Context};
use crate::failure::Failure;
use crate::flow::Flow;
use crate::headers;
use crate::pods::Pod;
use crate::trust;
use crate::tunnels::TunnelId;
use hbone::client::{Client, ConnectRequest};
use hbone::pool::state::Limits;
use hbone::pool::{GetError, Lease, Pool};
use hbone::{ConnectError, ConnectionEnd, Header, Tunnel};
use mesh::route::InnerTunnel;
use mesh::{Identity, Workload};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::socket;
use tls::HandshakeError;

/// Time for TCP, TLS and HTTP/2 of a new tunnel together.
pub(super) const TUNNEL_DEADLINE: Duration = Duration::from_secs(10);

/// Time the other proxy has to connect to the application: its own deadline and a little for the way.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(12);

/// How many tunnels that turned out to be gone before the request left are replaced for one connection.
const MAX_REPLACED: usize = 3;

/// What a tunnel may be shared by: the same peer, held to the same identities. The source pod is the owner of
/// the pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TunnelKey {
    pub(super) peer: SocketAddr,
    pub(super) accepted: Vec<Identity>,
}

/// What is known of an open tunnel.
#[derive(Clone, Debug)]
pub(super) struct Proven {
    /// Who is at the other end, as its certificate has proven.
    pub(super) peer: Identity,
    /// Its place in the register.
    pub(super) tunnel: TunnelId,
}

/// Tunnels of one pod.
pub(super) struct Tunnels {
    context: Arc<Context>,
    pod: Arc<Pod>,
    pool: Pool<TunnelKey, Proven, Failure>,
    nested: Nested,
}

/// A stream that is wanted.
pub(super) struct TunnelRequest {
    /// Whom to dial.
    pub(super) peer: SocketAddr,
    /// What to ask for.
    pub(super) authority: String,
    /// Who may answer.
    pub(super) accepted: Vec<Identity>,
    /// The tunnel inside, to another network.
    pub(super) inner: Option<InnerTunnel>,
    /// Host name of the service that was addressed.
    pub(super) service_host: Option<Arc<str>>,
    /// The time for all of it.
    pub(super) limit: Duration,
}

/// A stream that is open.
pub(super) struct Open {
    /// The stream.
    pub(super) tunnel: Tunnel,
    /// Who has answered at the address dialled.
    pub(super) proven: Proven,
}

impl Tunnels {
    pub(super) fn new(context: Arc<Context>, pod: Arc<Pod>) -> Self {
        let mut limits = Limits::default();
        limits.streams_per_connection = context.config.pool_max_streams;
        limits.idle_after = context.config.pool_idle;
        let pool = Pool::new(limits);
        let nested = Nested::new(context.clone(), pod.clone(), pool.clone());
        Self {
            context,
            pod,
            pool,
            nested,
        }
    }

    /// Lets the tunnels end once their streams have.
    pub(super) fn drain(&self) {
        self.nested.drain();
        self.pool.drain();
    }

    /// Opens a stream, on a tunnel that is there or on a new one.
    pub(super) async fn open(
        &self,
        flow: &Flow,
        own: &Workload,
        source: SocketAddr,
        request: TunnelRequest,
    ) -> Result<Open, Failure> {
        let headers = vec![
            (headers::BAGGAGE, headers::baggage(own)),
            (
                headers::FORWARDED,
                headers::forwarded(source, request.service_host.as_deref()),
            ),
            (headers::TRACEPARENT, flow.trace().to_string()),
        ];
        let mut accepted = request.accepted;
        accepted.sort();
        let key = TunnelKey {
            peer: request.peer,
            accepted,
        };
        let end = Instant::now() + request.limit;
        let outer = ConnectRequest {
            authority: request.authority,
            headers,
        };
        let (opened, baggage) = match request.inner {
            None => {
                open_stream(
                    &self.context,
                    &self.pod,
                    &self.pool,
                    &key,
                    &outer,
                    end,
                    Some(flow),
                )
                .await?
            }
            Some(inner) => self.nested.open(flow, key, outer, inner, end).await?,
        };
        if let Some(baggage) = baggage {
            flow.described_by_peer(&opened.proven.peer, headers::parse_baggage(&baggage));
        }
        Ok(opened)
    }
}

/// Opens a stream on a tunnel of the pool, or on a new one; and what the peer says of the workload there.
pub(super) async fn open_stream(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    pool: &Pool<TunnelKey, Proven, Failure>,
    key: &TunnelKey,
    request: &ConnectRequest,
    end: Instant,
    flow: Option<&Flow>,
) -> Result<(Open, Option<String>), Failure> {
    // A tunnel that turns out to be gone before the request left costs one more attempt, not the connection.
    let mut replaced = 0;
    loop {
        let began = Instant::now();
        let (dialling, dialled, to) = (context.clone(), pod.clone(), key.clone());
        let dial = || async move { dial(&dialling, &dialled, &to).await };
        let lease = pool
            .get(key, left(end, TUNNEL_DEADLINE), dial)
            .await
            .map_err(|error| no_lease(error, key.peer))?;
        context
            .metrics
            .tunnel_found(telemetry::Reporter::Source, began.elapsed());
        match ask(context, lease, key.peer, request.clone(), end, flow).await {
            Ok(opened) => return Ok(opened),
            Err(NotOpened::Gone(_)) if replaced < MAX_REPLACED => replaced += 1,
            Err(NotOpened::Gone(failure) | NotOpened::Failed(failure)) => return Err(failure),
        }
    }
}

/// Why a stream was not opened.
pub(super) enum NotOpened {
    /// The tunnel was gone before the request left, or its peer is silent.
    Gone(Failure),
    /// Anything else.
    Failed(Failure),
}

/// Asks for a stream on a tunnel, which from then on carries `flow`.
pub(super) async fn ask(
    context: &Context,
    lease: Lease<Proven>,
    peer: SocketAddr,
    request: ConnectRequest,
    end: Instant,
    flow: Option<&Flow>,
) -> Result<(Open, Option<String>), NotOpened> {
    let (client, proven) = (lease.client().clone(), lease.info().clone());
    if let Some(flow) = flow {
        flow.carried_by(proven.tunnel);
    }
    let limit = left(end, ANSWER_DEADLINE);
    match tokio::time::timeout(limit, lease.connect(request)).await {
        Ok(Ok((tunnel, response))) => {
            let baggage = response.first(headers::BAGGAGE).map(ToOwned::to_owned);
            Ok((Open { tunnel, proven }, baggage))
        }
        Ok(Err(ConnectError::Status(status))) => Err(NotOpened::Failed(Failure::PeerStatus { peer, status })),
        Ok(Err(error)) => match refused_by_peer(context, &client, peer).await {
            Some(refused) => Err(NotOpened::Failed(refused)),
            None => {
                let failure = Failure::Tunnel {
                    peer,
                    error: error.to_string(),
                };
                Err(if error.may_be_sent_again() {
                    NotOpened::Gone(failure)
                } else {
                    NotOpened::Failed(failure)
                })
            }
        },
        Err(_) => {
            let error = format!("no answer within {:.1} s", limit.as_secs_f32());
            Err(NotOpened::Failed(Failure::Tunnel { peer, error }))
        }
    }
}

/// Why the pool gave nothing.
pub(super) fn no_lease(error: GetError<Failure>, peer: SocketAddr) -> Failure {
    match error {
        GetError::Dial(failure) => Failure::Shared(failure),
        GetError::Timeout(_) => Failure::Connect {
            to: peer,
            error: std::io::Error::new(std::io::ErrorKind::TimedOut, error.to_string()),
        },
        other => Failure::Tunnel {
            peer,
            error: other.to_string(),
        },
    }
}

/// The time until `end`, `most` at most.
pub(super) fn left(end: Instant, most: Duration) -> Duration {
    end.saturating_duration_since(Instant::now()).min(most)
}

/// Mutual TLS and HTTP/2 over a byte stream to `peer`.
pub(super) async fn secure<IO>(
    context: &Context,
    pod: &Pod,
    stream: IO,
    peer: SocketAddr,
    accepted: &[Identity],
) -> Result<(Client, Proven), Failure>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let certificate = context.identities.certificate(&pod.identity).await?;
    let config = context.tls.client(&certificate, accepted);
    let refused = |error| {
        trust::count_failed_handshake(context, telemetry::Reporter::Source, &error);
        Failure::Tls { peer, error }
    };
    let began = Instant::now();
    let (stream, proven) = tls::connect(stream, &config).await.map_err(refused)?;
    context
        .metrics
        .handshake_done(telemetry::Reporter::Source, began.elapsed());
    let identity = proven.identity.clone();
    let open = context
        .tunnels
        .enter(telemetry::Reporter::Source, proven, context.tls.trust())
        .map_err(refused)?;
    let (client, driver) = hbone::client::handshake(stream, context.config.http2.client(pod.buffers.clone()))
        .await
        .map_err(|error| Failure::Tunnel {
            peer,
            error: error.to_string(),
        })?;
    let proven = Proven {
        peer: identity,
        tunnel: open.id(),
    };
    tokio::spawn(async move {
        tokio::select! {
            _end = driver => {}
            // Without its driver the connection ends at once, and the pool lends it to nobody.
            _reason = open.untrusted() => {}
        }
    });
    Ok((client, proven))
}

/// Makes a tunnel: TCP from the pod's namespace, mutual TLS, HTTP/2.
async fn dial(context: &Context, pod: &Pod, key: &TunnelKey) -> Result<(Client, Proven), Failure> {
    // Without a certificate there is nothing to connect for.
    context.identities.certificate(&pod.identity).await?;
    let options = context.config.sockets.connect(None, CONNECT_DEADLINE);
    let began = Instant::now();
    let stream = socket::connect(&pod.network, &options, key.peer)
        .await
        .map_err(|error| Failure::Connect { to: key.peer, error })?;
    context
        .metrics
        .connected(telemetry::Reporter::Source, began.elapsed());
    secure(context, pod, stream, key.peer, &key.accepted).await
}

/// Whether the peer refused our certificate. In TLS 1.3 a client hears of that only after its own handshake is
/// done, so it comes out of a connection that seemed fine.
async fn refused_by_peer(context: &Context, client: &Client, peer: SocketAddr) -> Option<Failure> {
    const PATIENCE: Duration = Duration::from_millis(200);
    if client.is_usable() {
        return None;
    }
    let Ok(ConnectionEnd::Io(error)) = tokio::time::timeout(PATIENCE, client.closed()).await else {
        return None;
    };
    let error = HandshakeError::from_io(&error)?.clone();
    context
        .metrics
        .handshake_failed(telemetry::Reporter::Source, error.code());
    Some(Failure::Tls { peer, error })
}

/// The headers that both tunnels of a pair carry, and the one for the inner.
pub(super) fn inner_headers(outer: &[Header], network: &str) -> Vec<Header> {
    let mut headers = outer.to_vec();
    headers.push((headers::FORWARDED_NETWORK, network.to_owned()));
    headers
}
