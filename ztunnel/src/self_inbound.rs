//! Tunnels to the proxy itself: a collector that is in the mesh scrapes the metrics with mutual TLS, like any
//! workload.
//!
//! Where the settings name the proxy's own pod, tunnels are taken in its own network namespace, with the certificate of
//! its own account. They are judged by the policies for its pod, and lead to the port of the metrics alone.

use crate::acceptor::{Acceptor, BACKLOG};
use crate::connections::CloseReason;
use crate::context::Context;
use crate::handshakes::Handshakes;
use crate::identities::Held;
use crate::inbound::{Inbound, Waiting};
use crate::pod_proxy::{INBOUND_PORT, any_address};
use crate::pods::{Pod, PodId};
use mesh::Identity;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use sys::{Namespace, socket};
use telemetry::Reporter;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Serves tunnels to the proxy's own pod.
pub(crate) struct SelfInbound {
    context: Arc<Context>,
    pod: Arc<Pod>,
    draining: CancellationToken,
    ended: CancellationToken,
    open: TaskTracker,
    _identity: Held,
}

/// Begins to serve, if the settings name the proxy's own pod. Without the port the metrics can still be scraped
/// directly, and pods are served all the same.
pub(crate) fn start(context: &Arc<Context>) -> Option<SelfInbound> {
    if !context.config.self_inbound || !context.config.enable_proxy {
        return None;
    }
    let address = SocketAddr::new(any_address(context.config.ipv6), INBOUND_PORT);
    match listen(context, address) {
        Ok((pod, listener)) => Some(serve(context, pod, listener)),
        Err(error) => {
            warn!(%error, %address, "cannot take tunnels to the proxy itself: its metrics can be scraped without the mesh only");
            None
        }
    }
}

fn listen(context: &Context, address: SocketAddr) -> io::Result<(Pod, TcpListener)> {
    let config = &context.config;
    let own = &config.own_pod;
    let pod = Pod {
        buffers: context.buffers.account(),
        id: PodId::from(own.name.as_str()),
        name: own.name.as_str().into(),
        identity: Identity::new(&config.trust_domain, &own.namespace, &own.service_account),
        network: Namespace::current().map_err(io::Error::other)?,
    };
    let options = config.sockets.listen(false, config.port_reuse, BACKLOG);
    let listener = socket::listen(&pod.network, address, &options)?;
    Ok((pod, listener))
}

fn serve(context: &Arc<Context>, pod: Pod, listener: TcpListener) -> SelfInbound {
    let pod = Arc::new(pod);
    let (draining, ended) = (CancellationToken::new(), CancellationToken::new());
    let acceptor = Acceptor {
        stop: draining.clone(),
        open: TaskTracker::new(),
        reserve: context.reserve.clone(),
        metrics: context.metrics.clone(),
    };
    let inbound = Arc::new(Inbound {
        context: context.clone(),
        pod: pod.clone(),
        handshakes: Handshakes::default(),
        waiting: Waiting::default(),
        draining: draining.clone(),
        ended: ended.clone(),
        open: acceptor.open.clone(),
        only_port: Some(context.config.metrics_port),
    });
    let identity = context.identities.hold(&pod.identity);
    acceptor.serve(listener, Reporter::Destination, move |stream| {
        let inbound = inbound.clone();
        async move { inbound.serve(stream).await }
    });
    info!(identity = %pod.identity, "metrics can be scraped through the mesh too");
    SelfInbound {
        context: context.clone(),
        pod,
        draining,
        ended,
        open: acceptor.open,
        _identity: identity,
    }
}

impl SelfInbound {
    /// Takes no more connections, serves what has come within the drain deadline, then closes the rest.
    pub(crate) async fn leave(self) {
        self.draining.cancel();
        self.open.close();
        let deadline = self.context.config.drain_deadline;
        if tokio::time::timeout(deadline, self.open.wait()).await.is_err() {
            let closed = self
                .context
                .connections
                .close_where(Duration::from_secs(1), |open| {
                    Arc::ptr_eq(&open.pod, &self.pod).then_some(CloseReason::Stopping)
                });
            closed.await;
        }
        self.ended.cancel();
    }
}

#[cfg(test)]
mod tests;
