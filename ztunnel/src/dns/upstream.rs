//! Sockets towards name servers, in the pod's own namespace, so that its view of the network and its policies apply.
//! They carry the proxy's mark, so that they are not captured again.

use crate::config::SocketSettings;
use crate::context::Context;
use crate::pods::Pod;
use dns::Upstream;
use futures_util::future::BoxFuture;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Once;
use sys::Namespace;
use sys::conntrack::Conntrack;
use sys::socket;
use tokio::net::{TcpStream, UdpSocket};
use tracing::warn;

/// What of a pod is needed to reach the servers that it names in its own resolv.conf.
pub(super) struct InPod {
    network: Namespace,
    sockets: SocketSettings,
    /// Where the proxy takes queries.
    own_port: u16,
    conntrack: Option<Conntrack>,
    pod: String,
    failed: Once,
}

impl InPod {
    pub(super) fn new(context: &Context, pod: &Pod) -> Self {
        let made = Self {
            network: pod.network.clone(),
            sockets: context.config.sockets,
            own_port: context.config.dns_address.port,
            conntrack: None,
            pod: pod.full_name(),
            failed: Once::new(),
        };
        match Conntrack::in_namespace(&made.network) {
            Ok(conntrack) => Self {
                conntrack: Some(conntrack),
                ..made
            },
            Err(error) => {
                made.warn(&error);
                made
            }
        }
    }

    /// Whoever asks this proxy itself means no server in particular.
    fn elsewhere(&self, server: SocketAddr) -> Option<SocketAddr> {
        let own = server.ip().is_loopback() && server.port() == self.own_port;
        (!own).then_some(server)
    }

    fn warn(&self, error: &io::Error) {
        self.failed.call_once(|| {
            warn!(
                pod = self.pod,
                %error,
                "cannot find out which name server a pod asks; its DNS queries go to those of the node proxy's own resolv.conf"
            );
        });
    }
}

impl Upstream for InPod {
    fn udp(&self, server: SocketAddr) -> BoxFuture<'_, io::Result<UdpSocket>> {
        let any: IpAddr = if server.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        Box::pin(async move { socket::udp(&self.network, SocketAddr::new(any, 0), self.sockets.mark) })
    }

    fn tcp(&self, server: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let options = self.sockets.connect(None, dns::TRY_DEADLINE);
            socket::connect(&self.network, &options, server).await
        })
    }

    fn asked(&self, client: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
        match self.conntrack.as_ref()?.original_destination(client, local) {
            Ok(original) => original.and_then(|server| self.elsewhere(server)),
            Err(error) => {
                self.warn(&error);
                None
            }
        }
    }

    fn asked_by_stream(&self, stream: &TcpStream) -> Option<SocketAddr> {
        let original = socket::original_destination(stream).ok();
        original.and_then(|server| self.elsewhere(server))
    }
}
