//! Tunnels to the proxy itself: a collector that is in the mesh scrapes the metrics with mutual TLS, like any
//! workload.
//!
//! Where the settings name the proxy's own pod, tunnels are taken in its own network namespace, with the certificate of
//! its own account. They are judged by the policies for its pod, and lead to the port of the metrics alone.

use crate::acceptor::BACKLOG;
use crate::connections::CloseReason;
use crate::context::Context;
use crate::pod_proxy::{INBOUND_PORT, any_address};
use crate::pods::{Pod, PodId};
use crate::serving::Serving;
use mesh::Identity;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use sys::{Namespace, socket};
use tokio::net::TcpListener;
use tracing::{info, warn};

/// Serves tunnels to the proxy's own pod.
pub(crate) struct SelfInbound {
    serving: Serving,
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
    let serving = Serving::new(context.clone(), Arc::new(pod));
    serving.take_tunnels(listener, Some(context.config.metrics_port));
    info!(identity = %serving.pod.identity, "metrics can be scraped through the mesh too");
    SelfInbound { serving }
}

impl SelfInbound {
    /// Takes no more connections, serves what has come within the drain deadline, then closes the rest.
    pub(crate) async fn leave(self) {
        if !self.serving.drain().await {
            self.serving.close_open(&CloseReason::Stopping).await;
        }
        self.serving.end();
    }
}

#[cfg(test)]
mod tests;
