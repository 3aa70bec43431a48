//! What serves one pod: listeners in its network namespace, and the tasks behind them.

use crate::acceptor::BACKLOG;
use crate::connections::CloseReason;
use crate::context::Context;
use crate::outbound::Outbound;
use crate::pods::Pod;
use crate::serving::Serving;
use crate::socks5::{self, Socks5};
use crate::{dns, inbound_plaintext};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use sys::socket;
use telemetry::Reporter;
use tokio::net::TcpListener;
use tracing::{debug, info};

/// Port of captured outbound connections.
pub(crate) const OUTBOUND_PORT: u16 = 15001;
/// Port of captured inbound plaintext.
pub(crate) const INBOUND_PLAINTEXT_PORT: u16 = 15006;
/// Port of tunnels.
pub(crate) const INBOUND_PORT: u16 = 15008;

/// Serves one pod until it leaves.
pub(crate) struct PodProxy {
    serving: Serving,
    outbound: Arc<Outbound>,
}

struct Listeners {
    outbound: TcpListener,
    plaintext: TcpListener,
    inbound: TcpListener,
}

impl PodProxy {
    /// Binds the listeners and starts serving. The pod's older connections are judged as soon as the control plane has
    /// told of the pod; this does not wait for it.
    pub(crate) async fn start(context: Arc<Context>, pod: Arc<Pod>) -> io::Result<Self> {
        let listeners = bind(&context, &pod)?;
        let dns = if context.config.dns_capture {
            Some(dns::bind(&context, &pod)?)
        } else {
            None
        };
        let socks5 = socks5::bind(&context, &pod, BACKLOG)?;
        let outbound = Arc::new(Outbound::new(context.clone(), pod.clone()));
        let serving = Serving::new(context.clone(), pod.clone());
        serving.take_tunnels(listeners.inbound, None);
        let acceptor = &serving.acceptor;

        let server = outbound.clone();
        acceptor.serve(listeners.outbound, Reporter::Source, move |stream| {
            let server = server.clone();
            async move { server.serve(stream).await }
        });
        let (shared, own) = (context.clone(), pod.clone());
        acceptor.serve(listeners.plaintext, Reporter::Destination, move |stream| {
            let (context, pod) = (shared.clone(), own.clone());
            async move { inbound_plaintext::serve(&context, &pod, stream).await }
        });
        if let Some(listener) = socks5 {
            let socks5 = Arc::new(Socks5::new(&context, &pod, &outbound));
            acceptor.serve(listener, Reporter::Source, move |stream| {
                let socks5 = socks5.clone();
                async move { socks5.serve(stream).await }
            });
        }
        if let Some(dns) = dns {
            dns.serve(&context, &pod, &acceptor.stop, &acceptor.open);
        }

        context.pods.insert(pod.clone());
        context.enforcement.sweep_when_known(pod);
        Ok(Self { serving, outbound })
    }

    /// The pod.
    pub(crate) fn pod(&self) -> &Arc<Pod> {
        &self.serving.pod
    }

    /// Takes no more connections, serves what has come, within the drain deadline, then closes the rest with `reason`.
    ///
    /// Our own tunnels are needed until the last captured connection has been served.
    pub(crate) async fn leave(self, reason: CloseReason) {
        let Self { serving, outbound } = self;
        if reason == CloseReason::PodLeft {
            serving.context.pods.has_left(&serving.pod);
        }
        let in_time = serving.drain().await;
        outbound.drain();
        if !in_time {
            let closed = serving.close_open(&reason).await;
            // Without any, it was peers that did not let go of a tunnel in which nothing was open.
            if closed > 0 {
                info!(
                    pod = serving.pod.full_name(),
                    connections = closed,
                    reason = reason.code(),
                    "closed what was still open after the grace period"
                );
            }
        }
        serving.end();
        serving.context.pods.remove_exactly(&serving.pod);
        info!(pod = serving.pod.full_name(), "no longer serving a pod");
    }
}

fn bind(context: &Context, pod: &Pod) -> io::Result<Listeners> {
    if context.config.port_reuse
        && let Err(error) = hand_queues_over(pod)
    {
        // Read-only in an unprivileged container: the node agent, if it is ours, has set it.
        debug!(pod = pod.full_name(), %error, "connections that wait when this proxy stops may be reset");
    }
    let any = any_address(context.config.ipv6);
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

/// Lets the kernel move what waits for a listener that closes to another one on the same port, as during an upgrade
/// (Linux 5.14, `net.ipv4.tcp_migrate_req`).
fn hand_queues_over(pod: &Pod) -> Result<(), sys::link::LinkError> {
    const SETTING: &str = "ipv4.tcp_migrate_req";
    if sys::link::read_sysctl(&pod.network, SETTING)? == "0" {
        sys::link::sysctl(&pod.network, SETTING, "1")?;
    }
    Ok(())
}

/// What a listener for all addresses is bound to.
pub(crate) fn any_address(ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
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

#[cfg(test)]
mod tests;
