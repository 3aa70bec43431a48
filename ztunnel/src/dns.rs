//! DNS of captured pods: services of the mesh are answered here, everything else is forwarded.
//!
//! Upstream sockets are made in the pod's own namespace, so that the pod's view of the network applies, and carry
//! the proxy's mark, so that they are not captured again.

use crate::config::SocketSettings;
use crate::context::Context;
use crate::pod_proxy::loopback;
use crate::pods::Pod;
use crate::state::MeshState;
use dns::{Forwarder, Resolver, Silent, Upstream};
use futures_util::future::BoxFuture;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use sys::Namespace;
use sys::socket;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Streams waiting to be accepted.
const BACKLOG: i32 = 64;

/// The sockets of one pod's DNS.
pub(crate) struct Sockets {
    datagrams: Vec<UdpSocket>,
    streams: Vec<TcpListener>,
}

/// Binds the DNS port on loopback of the pod's namespace.
pub(crate) fn bind(context: &Context, pod: &Pod) -> io::Result<Sockets> {
    let mut sockets = Sockets {
        datagrams: Vec::new(),
        streams: Vec::new(),
    };
    let wanted = context.config.dns_address;
    let addresses = wanted
        .ip
        .map_or_else(|| loopback(context.config.ipv6), |ip| vec![ip]);
    let settings = &context.config.sockets;
    for ip in addresses {
        let address = SocketAddr::new(ip, wanted.port);
        let options = settings.listen(false, context.config.port_reuse, BACKLOG);
        let bound = socket::udp(&pod.network, address, settings.mark)
            .and_then(|datagrams| Ok((datagrams, socket::listen(&pod.network, address, &options)?)));
        match bound {
            Ok((datagrams, streams)) => {
                sockets.datagrams.push(datagrams);
                sockets.streams.push(streams);
            }
            // A pod without IPv6 has no IPv6 loopback.
            Err(_) if ip.is_ipv6() => {}
            Err(error) => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("cannot listen on {address} in its namespace: {error}"),
                ));
            }
        }
    }
    Ok(sockets)
}

impl Sockets {
    /// Answers until `stop`.
    pub(crate) fn serve(self, context: Arc<Context>, pod: Arc<Pod>, stop: CancellationToken) {
        let resolver: Arc<dyn Resolver> = Arc::new(Services {
            state: context.state.clone(),
            namespace: pod.identity.namespace().into(),
        });
        let upstream = Arc::new(InPod {
            network: pod.network.clone(),
            sockets: context.config.sockets,
        });
        let forwarder = Forwarder::new(&context.name_servers, upstream);
        let name = pod.full_name();
        let mut servers: Vec<BoxFuture<'static, io::Result<()>>> = Vec::new();
        for socket in self.datagrams {
            servers.push(Box::pin(dns::serve_udp(
                socket,
                resolver.clone(),
                forwarder.clone(),
                Arc::new(Silent),
            )));
        }
        for listener in self.streams {
            servers.push(Box::pin(dns::serve_tcp(
                listener,
                resolver.clone(),
                forwarder.clone(),
                Arc::new(Silent),
            )));
        }
        for server in servers {
            let (stop, name) = (stop.clone(), name.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    ended = server => if let Err(error) = ended {
                        warn!(pod = name, %error, "DNS of a pod is no longer answered; queries there fail");
                    },
                }
            });
        }
    }
}

/// Service names as one pod sees them.
struct Services {
    state: MeshState,
    namespace: Arc<str>,
}

impl Resolver for Services {
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        let snapshot = self.state.snapshot();
        let service = snapshot.service_by_hostname(name, &self.namespace)?;
        if !service.addresses.is_empty() {
            return Some(
                service
                    .addresses
                    .iter()
                    .map(|address| address.prefix.address())
                    .collect(),
            );
        }
        // Headless: the name stands for its ready pods.
        let key = service.key();
        let ready = snapshot
            .endpoints(key)
            .filter(|pod| pod.healthy || service.load_balancing.allow_unhealthy);
        Some(ready.flat_map(|pod| pod.addresses.iter().copied()).collect())
    }
}

/// Makes sockets in the pod's namespace.
struct InPod {
    network: Namespace,
    sockets: SocketSettings,
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
}
