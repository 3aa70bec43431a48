//! DNS of captured pods: services of the mesh are answered here, everything else goes on to the server that was asked.

mod count;
mod names;
mod upstream;

use crate::context::Context;
use crate::pod_proxy::loopback;
use crate::pods::Pod;
use count::Count;
use dns::{Forwarder, Resolver, Server};
pub(crate) use names::Names;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use sys::socket;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
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

/// What answers for `pod`: with the mesh as the pod sees it, and by sockets in its namespace.
pub(crate) fn server(context: &Arc<Context>, pod: &Arc<Pod>) -> Server {
    let forwarder = Forwarder::new(&context.name_servers, Arc::new(InPod::new(context, pod)));
    let count = Arc::new(Count {
        context: context.clone(),
        pod: pod.clone(),
    });
    Server::new(Arc::new(names(context, pod)), forwarder, count)
}

/// Names of the mesh, as `pod` sees them.
pub(crate) fn names(context: &Arc<Context>, pod: &Arc<Pod>) -> Names {
    Names::new(context, pod)
}

/// The addresses of a complete name, in lower case, if it is one of the mesh.
pub(crate) async fn mesh_addresses(names: &Names, name: &str) -> Option<Vec<IpAddr>> {
    if let Some(found) = names.lookup(name) {
        return Some(found);
    }
    names.demand(name)?.await;
    names.lookup(name)
}

impl Sockets {
    /// Answers until `stop`, in tasks of `open`; then what has been asked is still answered, for
    /// [`dns::DRAIN_DEADLINE`] at most.
    pub(crate) fn serve(
        self,
        context: &Arc<Context>,
        pod: &Arc<Pod>,
        stop: &CancellationToken,
        open: &TaskTracker,
    ) {
        let server = server(context, pod);
        let name: Arc<str> = pod.full_name().into();
        for socket in self.datagrams {
            let (server, stop, name) = (server.clone(), stop.clone(), name.clone());
            open.spawn(async move {
                report(&name, server.serve_udp(socket, stop.cancelled()).await);
            });
        }
        for listener in self.streams {
            let (server, stop, name) = (server.clone(), stop.clone(), name.clone());
            open.spawn(async move {
                report(&name, server.serve_tcp(listener, stop.cancelled()).await);
            });
        }
    }
}

fn report(pod: &str, ended: io::Result<()>) {
    if let Err(error) = ended {
        warn!(pod, %error, "DNS of a pod is no longer answered; queries there fail");
    }
}
