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
use mesh::route::Refusal;
use reach::Reach;
use relay::TcpEnd;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use sys::socket;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tunnels::Tunnels;

/// Time for a client to take the few bytes that it waits for.
const GREETING_DEADLINE: Duration = Duration::from_secs(10);

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
        if is_not_captured(&stream, destination) {
            let refusal = Refusal::SelfCall { destination };
            let flow = Flow::open(&self.context, &self.pod, Direction::Outbound, source, destination);
            let _ = socket::reset_on_close(&stream);
            return flow.close(Err(Failure::Route(refusal)));
        }
        self.serve_to(stream, source, destination).await;
    }

    /// Serves one connection of which all is known.
    pub(crate) async fn serve_to(&self, stream: TcpStream, source: SocketAddr, destination: SocketAddr) {
        match self.reach(source, destination).await {
            Ok(way) => way.carry(stream, &[]).await,
            Err(unreached) => {
                // The client connected to nothing: it shall see a reset, not an empty success.
                let _ = socket::reset_on_close(&stream);
                unreached.close();
            }
        }
    }

    /// Finds the way to `destination` for a client at `source`.
    pub(crate) async fn reach(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<Ready, Unreached> {
        let flow = Flow::open(&self.context, &self.pod, Direction::Outbound, source, destination);
        let reach = Reach {
            context: &self.context,
            pod: &self.pod,
            tunnels: &self.tunnels,
            flow: &flow,
            source,
            destination,
        };
        match flow.unless_closed(reach.run()).await {
            Ok(reached) => Ok(Ready { flow, reached }),
            Err(failure) => Err(Unreached { flow, failure }),
        }
    }

    /// Lets the tunnels end once their streams have.
    pub(crate) fn drain(&self) {
        self.tunnels.drain();
    }
}

/// Whether nothing has redirected the connection: it was opened to the listener itself. Where that address is dialled, the
/// call is answered here again, and again.
fn is_not_captured(stream: &TcpStream, destination: SocketAddr) -> bool {
    // Scopes of link-local addresses are told by one and not by the other.
    let end = |address: SocketAddr| (address.ip(), address.port());
    socket::local_address(stream).is_ok_and(|local| end(local) == end(destination))
}

/// A connection whose destination has been reached; the client has not been told.
pub(crate) struct Ready {
    flow: Flow,
    reached: Reached,
}

impl Ready {
    /// Carries the client's bytes to the connection's end, after it has been told `greeting`, which must fit into the
    /// buffer of a socket that has nothing else to send.
    pub(crate) async fn carry(self, mut stream: TcpStream, greeting: &[u8]) {
        let Self { flow, reached } = self;
        let told = tokio::time::timeout(GREETING_DEADLINE, stream.write_all(greeting)).await;
        let outcome = match told {
            Ok(Ok(())) => {
                let client = TcpEnd::new(stream);
                Ok(match reached.way {
                    Upstream::Direct(server) => flow.relay(client, TcpEnd::new(server)).await,
                    Upstream::Tunnel(tunnel) => flow.relay(client, tunnel).await,
                })
            }
            Ok(Err(_)) | Err(_) => Err(Failure::Lost(
                "the client went before it was told that its destination was reached".into(),
            )),
        };
        flow.close(outcome);
    }
}

/// A connection whose destination was not reached.
pub(crate) struct Unreached {
    flow: Flow,
    failure: Failure,
}

impl Unreached {
    /// Why not.
    pub(crate) fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Ends it.
    pub(crate) fn close(self) {
        self.flow.close(Err(self.failure));
    }
}

#[cfg(test)]
mod tests;
