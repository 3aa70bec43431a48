//! DNS of captured pods: services of the mesh are answered here, everything else goes on to the server that was asked.

mod count;
mod names;
mod upstream;

use crate::context::Context;
use crate::pod_proxy::loopback;
use crate::pods::Pod;
use count::Count;
use dns::{Forwarder, Server};
use futures_util::future::BoxFuture;
use names::Names;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use sys::socket;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use upstream::InPod;

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
        let datagrams = if options.reuse_port {
            socket::shared_udp(&pod.network, address, settings.mark)
        } else {
            socket::udp(&pod.network, address, settings.mark)
        };
        let bound =
            datagrams.and_then(|datagrams| Ok((datagrams, socket::listen(&pod.network, address, &options)?)));
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
        let forwarder = Forwarder::new(&context.name_servers, Arc::new(InPod::new(&context, &pod)));
        let names = Arc::new(Names::new(&context, &pod));
        let name = pod.full_name();
        let server = Server::new(names, forwarder, Arc::new(Count { context, pod }));
        let mut serving: Vec<BoxFuture<'static, io::Result<()>>> = Vec::new();
        for socket in self.datagrams {
            let server = server.clone();
            serving.push(Box::pin(async move { server.serve_udp(socket).await }));
        }
        for listener in self.streams {
            let server = server.clone();
            serving.push(Box::pin(async move { server.serve_tcp(listener).await }));
        }
        for served in serving {
            let (stop, name) = (stop.clone(), name.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    ended = served => if let Err(error) = ended {
                        warn!(pod = name, %error, "DNS of a pod is no longer answered; queries there fail");
                    },
                }
            });
        }
    }
}
