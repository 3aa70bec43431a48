//! Tunnels inside tunnels: to a workload on another network, through the gateway of that network.
//!
//! The gateway ends the outer tunnel and passes the bytes of one stream on to a workload that it chooses. Inside that
//! stream runs a second session, TLS and HTTP/2, whose other end that workload is. So the gateway sees neither bytes
//! nor headers, and the workload proves who it is to us, not to the gateway.
//!
//! An inner session is shared by connections to the same service port under the same accepted identities, and by
//! nothing else. As it is tied to one workload, sharing works against the gateway's balancing: a session takes new
//! streams for [`SESSION_LIFE`] only, and [`STREAMS_PER_SESSION`] at a time.

use super::tunnels::{self, NotOpened, Open, Proven, TUNNEL_DEADLINE, TunnelKey, inner_headers, left};
use crate::context::Context;
use crate::failure::Failure;
use crate::flow::Flow;
use crate::pods::Pod;
use hbone::client::ConnectRequest;
use hbone::pool::Pool;
use hbone::pool::state::Limits;
use mesh::Identity;
use mesh::route::InnerTunnel;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a session takes new streams.
const SESSION_LIFE: Duration = Duration::from_secs(30);

/// Streams of a session at a time.
const STREAMS_PER_SESSION: usize = 32;

/// How many workloads behind the gateway one connection tries.
const MAX_SESSIONS_TRIED: usize = 3;

/// The inner sessions of one pod.
pub(super) struct Nested {
    context: Arc<Context>,
    pod: Arc<Pod>,
    outer: Pool<TunnelKey, Proven, Failure>,
    sessions: Pool<SessionKey, Session, Failure>,
    since: Instant,
}

/// What a session may be shared by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SessionKey {
    gateway: TunnelKey,
    /// What the gateway was asked for.
    outer_authority: String,
    accepted: Vec<Identity>,
    /// Which stretch of [`SESSION_LIFE`] it was made in.
    period: u64,
    /// How many sessions have failed a connection before this one: a further attempt never meets the workload that
    /// has just failed by way of the same session.
    attempt: usize,
}

/// Who is at the ends of a session.
type Session = Proven;

impl Nested {
    pub(super) fn new(context: Arc<Context>, pod: Arc<Pod>, outer: Pool<TunnelKey, Proven, Failure>) -> Self {
        let mut limits = Limits::default();
        limits.streams_per_connection = STREAMS_PER_SESSION.min(context.config.pool_max_streams);
        limits.idle_after = SESSION_LIFE.min(context.config.pool_idle);
        Self {
            context,
            pod,
            outer,
            sessions: Pool::new(limits),
            since: Instant::now(),
        }
    }

    pub(super) fn drain(&self) {
        self.sessions.drain();
    }

    /// Opens a stream through `gateway`, which is asked by `outer`, and inside by `inner`. The identity
    /// proven is the gateway's.
    pub(super) async fn open(
        &self,
        flow: &Flow,
        gateway: TunnelKey,
        outer: ConnectRequest,
        inner: InnerTunnel,
        end: Instant,
    ) -> Result<(Open, Option<String>), Failure> {
        let mut accepted = inner.accepted;
        accepted.sort();
        let mut key = SessionKey {
            gateway,
            outer_authority: outer.authority.clone(),
            accepted,
            period: self.since.elapsed().as_secs() / SESSION_LIFE.as_secs(),
            attempt: 0,
        };
        let request = ConnectRequest {
            authority: inner.authority,
            headers: inner_headers(&outer.headers, &inner.network),
        };
        loop {
            match self.attempt(flow, &key, &outer, &request, end).await {
                // The gateway chooses again for another session.
                Err(failure) if failure.is_behind_gateway() && key.attempt + 1 < MAX_SESSIONS_TRIED => {
                    key.attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(
        &self,
        flow: &Flow,
        key: &SessionKey,
        outer: &ConnectRequest,
        request: &ConnectRequest,
        end: Instant,
    ) -> Result<(Open, Option<String>), Failure> {
        let peer = key.gateway.peer;
        let mut replaced = false;
        loop {
            let dial = || {
                let (context, pod, pool) = (self.context.clone(), self.pod.clone(), self.outer.clone());
                let (key, outer) = (key.clone(), outer.clone());
                async move { dial(&context, &pod, &pool, &key, &outer, end).await }
            };
            let lease = self
                .sessions
                .get(key, left(end, TUNNEL_DEADLINE), dial)
                .await
                .map_err(|error| tunnels::no_lease(error, peer))?;
            match tunnels::ask(&self.context, lease, peer, request.clone(), end, Some(flow)).await {
                Ok(opened) => return Ok(opened),
                Err(NotOpened::Gone(_)) if !replaced => replaced = true,
                Err(NotOpened::Gone(failure) | NotOpened::Failed(failure)) => {
                    return Err(Failure::Behind {
                        gateway: peer,
                        failure: Box::new(failure),
                    });
                }
            }
        }
    }
}

/// Makes a session inside a stream of the tunnel to the gateway.
async fn dial(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    outer_pool: &Pool<TunnelKey, Proven, Failure>,
    key: &SessionKey,
    outer: &ConnectRequest,
    end: Instant,
) -> Result<(hbone::client::Client, Session), Failure> {
    let gateway = key.gateway.peer;
    let (open, _) = tunnels::open_stream(context, pod, outer_pool, &key.gateway, outer, end, None).await?;
    let (client, inside) = tunnels::secure(context, pod, open.tunnel, gateway, &key.accepted)
        .await
        .map_err(|failure| Failure::Behind {
            gateway,
            failure: Box::new(failure),
        })?;
    // A change of workloads is judged by whom we dialled; one of trust by who is inside, which rests on both.
    let session = Session {
        peer: open.proven.peer,
        tunnel: inside.tunnel,
    };
    Ok((client, session))
}
