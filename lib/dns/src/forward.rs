//! Passing a query on to a name server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::message::{MAX_MESSAGE, NOT_IMPLEMENTED, REFUSED, Raw, SERVER_FAILURE, is_answer};

/// How many servers are asked at most, as in libc.
pub const MAX_SERVERS: usize = 3;

/// How long one of several servers has to answer, or to take a connection.
pub const TRY_DEADLINE: Duration = Duration::from_secs(2);

/// How long the server has to answer that the client chose itself: as long as libc waits for it.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Makes the sockets that queries are forwarded through. ztunnel makes them in the pod's network namespace, with
/// its mark, so that they are not captured again.
pub trait Upstream: Send + Sync + 'static {
    /// A datagram socket that can reach `server`, bound to a port of the kernel's choice (which is random).
    fn udp(&self, server: SocketAddr) -> BoxFuture<'_, io::Result<UdpSocket>>;

    /// A stream to `server`.
    fn tcp(&self, server: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;

    /// The server that a client meant whose datagram was redirected to the socket `local`. `None`: none is known, and
    /// the forwarder's own servers are asked.
    fn asked(&self, client: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
        let _ = (client, local);
        None
    }

    /// The same of a stream.
    fn asked_by_stream(&self, stream: &TcpStream) -> Option<SocketAddr> {
        let _ = stream;
        None
    }
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
    #[error("name server {server} did not answer within {seconds} s", seconds = deadline.as_secs())]
    TooLate {
        /// The server.
        server: SocketAddr,
        /// The time it had.
        deadline: Duration,
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

/// Forwards queries to the server that their client meant, or to a list of servers.
#[derive(Clone)]
pub struct Forwarder {
    servers: Arc<[SocketAddr]>,
    pub(crate) upstream: Arc<dyn Upstream>,
}

impl Forwarder {
    /// A forwarder to `servers`, tried in order; those beyond [`MAX_SERVERS`] are left out.
    pub fn new(servers: &[SocketAddr], upstream: Arc<dyn Upstream>) -> Self {
        Self {
            servers: servers.iter().copied().take(MAX_SERVERS).collect(),
            upstream,
        }
    }

    /// Asks over datagrams and gives the answer, with the query's own id.
    ///
    /// Where it is known which server was `asked`, that one gets the query and no other: the client has a list of its
    /// own. Else the list is tried in turn; an answer that says the server itself is in trouble counts only if no other
    /// server has a better one.
    pub async fn forward(&self, query: &[u8], asked: Option<SocketAddr>) -> Result<Vec<u8>, ForwardError> {
        let Some(raw) = Raw::new(query) else {
            return Err(ForwardError::Length { length: query.len() });
        };
        if let Some(server) = asked {
            return self.ask(server, ANSWER_DEADLINE, raw, query).await;
        }
        let mut last = Err(ForwardError::NoServer);
        for server in self.servers.iter().copied() {
            match self.ask(server, TRY_DEADLINE, raw, query).await {
                Ok(answer) if is_good(&answer) => return Ok(answer),
                Ok(answer) => last = Ok(answer),
                Err(error) if last.is_err() => last = Err(error),
                Err(_) => {}
            }
        }
        last
    }

    /// Connects to the server that was `asked`, else to the first of the list that takes the connection.
    pub(crate) async fn connect(&self, asked: Option<SocketAddr>) -> Result<TcpStream, ForwardError> {
        let one = asked.map(|server| [server]);
        let servers = one.as_ref().map_or(&*self.servers, |one| one.as_slice());
        let mut last = ForwardError::NoServer;
        for server in servers.iter().copied() {
            match timeout(TRY_DEADLINE, self.upstream.tcp(server)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = ForwardError::Io { server, error },
                Err(_) => {
                    last = ForwardError::TooLate {
                        server,
                        deadline: TRY_DEADLINE,
                    }
                }
            }
        }
        Err(last)
    }

    async fn ask(
        &self,
        server: SocketAddr,
        deadline: Duration,
        raw: Raw<'_>,
        query: &[u8],
    ) -> Result<Vec<u8>, ForwardError> {
        // The client's id may be known to others, a fresh one is not (RFC 5452 §9.2).
        let id = rand::random::<[u8; 2]>();
        let mut outgoing = query.to_vec();
        outgoing[..2].copy_from_slice(&id);
        match timeout(deadline, self.ask_udp(server, id, &outgoing)).await {
            Ok(Ok(mut answer)) => {
                answer[..2].copy_from_slice(&raw.id());
                Ok(answer)
            }
            Ok(Err(error)) => Err(ForwardError::Io { server, error }),
            Err(_) => Err(ForwardError::TooLate { server, deadline }),
        }
    }

    async fn ask_udp(&self, server: SocketAddr, id: [u8; 2], outgoing: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self.upstream.udp(server).await?;
        // A connected socket takes datagrams from that server alone.
        socket.connect(server).await?;
        socket.send(outgoing).await?;
        loop {
            socket.readable().await?;
            // Not before something is there: many queries may wait for long.
            let mut buffer = vec![0; MAX_MESSAGE];
            let length = match socket.try_recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            // What does not belong to the query may be forged: go on waiting for what does.
            if is_answer(&buffer[..length], outgoing, id) {
                return Ok(buffer[..length].to_vec());
            }
        }
    }
}

/// Whether the server could deal with the query; as libc does, another one is asked after SERVFAIL, NOTIMP and
/// REFUSED.
fn is_good(answer: &[u8]) -> bool {
    Raw::new(answer)
        .is_some_and(|answer| !matches!(answer.response_code(), SERVER_FAILURE | NOT_IMPLEMENTED | REFUSED))
}
