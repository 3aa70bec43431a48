//! What serves one pod: listeners in its network namespace, and the tasks behind them.

use crate::connections::CloseReason;
use crate::context::Context;
use crate::handshakes::Handshakes;
use crate::identities::Held;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::pods::Pod;
use crate::{dns, inbound_plaintext};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use sys::socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Port of captured outbound connections.
pub(crate) const OUTBOUND_PORT: u16 = 15001;
/// Port of captured inbound plaintext.
pub(crate) const INBOUND_PLAINTEXT_PORT: u16 = 15006;
/// Port of tunnels.
pub(crate) const INBOUND_PORT: u16 = 15008;

/// Connections in one direction that a pod may have open at once; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 16_384;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1024;

/// Serves one pod until it leaves.
pub(crate) struct PodProxy {
    context: Arc<Context>,
    pod: Arc<Pod>,
    outbound: Arc<Outbound>,
    /// Ends the acceptance of connections.
    draining: CancellationToken,
    /// Ends tunnels.
    ended: CancellationToken,
    _identity: Held,
}

struct Listeners {
    outbound: TcpListener,
    plaintext: TcpListener,
    inbound: TcpListener,
}

impl PodProxy {
    /// Binds the listeners and starts serving. The pod's older connections are judged before this returns.
    pub(crate) async fn start(context: Arc<Context>, pod: Arc<Pod>) -> io::Result<Self> {
        let listeners = bind(&context, &pod)?;
        let dns = if context.config.dns_capture {
            Some(dns::bind(&context, &pod)?)
        } else {
            None
        };
        let identity = context.identities.hold(&pod.identity);
        let (draining, ended) = (CancellationToken::new(), CancellationToken::new());
        let outbound = Arc::new(Outbound::new(context.clone(), pod.clone()));
        let inbound = Arc::new(Inbound {
            context: context.clone(),
            pod: pod.clone(),
            handshakes: Handshakes::default(),
            draining: draining.clone(),
            ended: ended.clone(),
        });

        let server = outbound.clone();
        accept(listeners.outbound, draining.clone(), move |stream| {
            let server = server.clone();
            async move { server.serve(stream).await }
        });
        let (shared, own) = (context.clone(), pod.clone());
        accept(listeners.plaintext, draining.clone(), move |stream| {
            let (context, pod) = (shared.clone(), own.clone());
            async move { inbound_plaintext::serve(&context, &pod, stream).await }
        });
        accept(listeners.inbound, draining.clone(), move |stream| {
            let inbound = inbound.clone();
            async move { inbound.serve(stream).await }
        });
        if let Some(dns) = dns {
            dns.serve(context.clone(), pod.clone(), draining.clone());
        }

        context.pods.insert(pod.clone());
        context.enforcement.sweep_when_known(pod.clone());
        Ok(Self {
            context,
            pod,
            outbound,
            draining,
            ended,
            _identity: identity,
        })
    }

    /// The pod.
    pub(crate) fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// Takes no more connections, gives open ones the drain deadline, then closes them with `reason`.
    pub(crate) async fn leave(self, reason: CloseReason) {
        self.draining.cancel();
        self.outbound.drain();
        let deadline = self.context.config.drain_deadline;
        let in_time = tokio::time::timeout(deadline, self.context.connections.idle(&self.pod))
            .await
            .is_ok();
        if !in_time {
            let closed = self
                .context
                .connections
                .close_where(Duration::from_secs(1), |open| {
                    Arc::ptr_eq(&open.pod, &self.pod).then(|| reason.clone())
                });
            let closed = closed.await;
            info!(
                pod = self.pod.full_name(),
                connections = closed,
                reason = reason.code(),
                "closed what was still open after the grace period"
            );
        }
        self.ended.cancel();
        self.context.pods.remove_exactly(&self.pod);
        info!(pod = self.pod.full_name(), "no longer serving a pod");
    }
}

fn bind(context: &Context, pod: &Pod) -> io::Result<Listeners> {
    let any: IpAddr = if context.config.ipv6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let listen = |port, transparent| {
        let settings = &context.config.sockets;
        let options = settings.listen(transparent, context.config.port_reuse, BACKLOG);
        socket::listen(&pod.network, SocketAddr::new(any, port), &options).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen on port {port} in its namespace: {error}"),
            )
        })
    };
    Ok(Listeners {
        outbound: listen(OUTBOUND_PORT, false)?,
        plaintext: listen(INBOUND_PLAINTEXT_PORT, true)?,
        inbound: listen(INBOUND_PORT, true)?,
    })
}

/// Accepts until `stop` and serves each connection in a task of its own.
fn accept<F, S>(listener: TcpListener, stop: CancellationToken, serve: F)
where
    F: Fn(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = accept_one(&listener, &slots) => match accepted {
                    Some((stream, slot)) => {
                        let served = serve(stream);
                        tokio::spawn(async move {
                            served.await;
                            drop(slot);
                        });
                    }
                    None => return,
                },
            }
        }
    });
}

async fn accept_one(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = slots.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, slot)),
            Err(error) => {
                // Out of descriptors, or a connection that is gone already: not worth a hot loop.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Loopback addresses on which a pod's DNS is captured.
pub(crate) fn loopback(ipv6: bool) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
    if ipv6 {
        addresses.push(Ipv6Addr::LOCALHOST.into());
    }
    addresses
}
