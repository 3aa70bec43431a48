//! Connections that a captured pod opens.
//!
//! Where each goes is `mesh::route`'s decision. A tunnel belongs to one source pod: the other end trusts the
//! certificate and the TCP address together, so neither may carry another pod's streams.

mod nested;
mod reach;
mod tunnels;

use crate::context::Context;
use crate::endpoint_load::Counted;
use crate::failure::Failure;
use crate::flow::{Direction, Flow};
use crate::pods::Pod;
use hbone::Tunnel;
use reach::Reach;
use relay::{Ended, TcpEnd};
use std::net::SocketAddr;
use std::sync::Arc;
use sys::socket;
use tokio::net::TcpStream;
use tunnels::Tunnels;

/// Serves what one pod opens.
pub(crate) struct Outbound {
    context: Arc<Context>,
    pod: Arc<Pod>,
    tunnels: Tunnels,
}

/// The destination, reached.
struct Reached {
    way: Upstream,
    /// Counts as load of the endpoint while the connection lasts.
    _counted: Option<Counted>,
}

/// The way to the destination.
enum Upstream {
    Direct(TcpStream),
    Tunnel(Tunnel),
}

impl Outbound {
    /// Serves `pod`.
    pub(crate) fn new(context: Arc<Context>, pod: Arc<Pod>) -> Self {
        let tunnels = Tunnels::new(context.clone(), pod.clone());
        Self {
            context,
            pod,
            tunnels,
        }
    }

    /// Serves one captured connection to its end.
    pub(crate) async fn serve(&self, stream: TcpStream) {
        let (source, destination) = match (
            socket::peer_address(&stream),
            socket::original_destination(&stream),
        ) {
            (Ok(source), Ok(destination)) => (source, destination),
            // The client has gone before anything was known of it.
            _ => return,
        };
        self.serve_to(stream, source, destination).await;
    }

    /// Serves one connection of which all is known.
    pub(crate) async fn serve_to(&self, stream: TcpStream, source: SocketAddr, destination: SocketAddr) {
        let flow = Flow::open(&self.context, &self.pod, Direction::Outbound, source, destination);
        let outcome = self.carry(&flow, stream, source, destination).await;
        flow.close(outcome);
    }

    /// Lets the tunnels end once their streams have.
    pub(crate) fn drain(&self) {
        self.tunnels.drain();
    }

    async fn carry(
        &self,
        flow: &Flow,
        stream: TcpStream,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<Ended, Failure> {
        let reach = Reach {
            context: &self.context,
            pod: &self.pod,
            tunnels: &self.tunnels,
            flow,
            source,
            destination,
        };
        let reached = match flow.unless_closed(reach.run()).await {
            Ok(reached) => reached,
            Err(failure) => {
                // The client connected to nothing: it shall see a reset, not an empty success.
                let _ = socket::reset_on_close(&stream);
                return Err(failure);
            }
        };
        let client = TcpEnd::new(stream);
        Ok(match reached.way {
            Upstream::Direct(server) => flow.relay(client, TcpEnd::new(server)).await,
            Upstream::Tunnel(tunnel) => flow.relay(client, tunnel).await,
        })
    }
}

#[cfg(test)]
mod tests;
