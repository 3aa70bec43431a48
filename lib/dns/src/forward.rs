//! Passing a query on to the servers of resolv.conf.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::Transport;
use crate::message::{MAX_MESSAGE, Raw};

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
        Self {
            servers: servers.iter().copied().take(MAX_SERVERS).collect(),
            upstream,
        }
    }

    /// Asks the servers in turn and gives the first answer, with the query's own id. An answer that says the server
    /// itself is in trouble counts only if no other server has a better one.
    pub async fn forward(&self, query: &[u8], transport: Transport) -> Result<Vec<u8>, ForwardError> {
        let Some(raw) = Raw::new(query) else {
            return Err(ForwardError::Length { length: query.len() });
        };
        let mut last = Err(ForwardError::NoServer);
        for server in self.servers.iter().copied() {
            match self.ask(server, raw, query, transport).await {
                Ok(answer) if is_good(&answer) => return Ok(answer),
                Ok(answer) => last = Ok(answer),
                Err(error) if last.is_err() => last = Err(error),
                Err(_) => {}
            }
        }
        last
    }

    async fn ask(
        &self,
        server: SocketAddr,
        raw: Raw<'_>,
        query: &[u8],
        transport: Transport,
    ) -> Result<Vec<u8>, ForwardError> {
        // The client's id may be known to others, a fresh one is not (RFC 5452 §9.2).
        let id = rand::random::<[u8; 2]>();
        let mut outgoing = query.to_vec();
        outgoing[..2].copy_from_slice(&id);
        let answer = async {
            match transport {
                Transport::Udp => self.ask_udp(server, raw, id, &outgoing).await,
                Transport::Tcp => self.ask_tcp(server, raw, id, &outgoing).await,
            }
        };
        match timeout(TRY_DEADLINE, answer).await {
            Ok(Ok(mut answer)) => {
                answer[..2].copy_from_slice(&raw.id());
                Ok(answer)
            }
            Ok(Err(error)) => Err(ForwardError::Io { server, error }),
            Err(_) => Err(ForwardError::TooLate { server }),
        }
    }

    async fn ask_udp(
        &self,
        server: SocketAddr,
        query: Raw<'_>,
        id: [u8; 2],
        outgoing: &[u8],
    ) -> io::Result<Vec<u8>> {
        let socket = self.upstream.udp(server).await?;
        // A connected socket takes datagrams from that server alone.
        socket.connect(server).await?;
        socket.send(outgoing).await?;
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // What does not belong to the query may be forged: go on waiting for what does.
            if Raw::new(&buffer[..length]).is_some_and(|answer| answer.answers(query, id)) {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }

    async fn ask_tcp(
        &self,
        server: SocketAddr,
        query: Raw<'_>,
        id: [u8; 2],
        outgoing: &[u8],
    ) -> io::Result<Vec<u8>> {
        let mut stream = self.upstream.tcp(server).await?;
        write_message(&mut stream, outgoing).await?;
        let answer = read_message(&mut stream).await?;
        if Raw::new(&answer).is_some_and(|answer| answer.answers(query, id)) {
            Ok(answer)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer does not belong to the query",
            ))
        }
    }
}

/// Reads one message from a stream (RFC 1035 §4.2.2).
pub(crate) async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message to a stream, with one call.
pub(crate) async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"))?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    stream.write_all(&framed).await
}

/// Whether the server could deal with the query; as libc does, another one is asked after SERVFAIL, NOTIMP and
/// REFUSED.
fn is_good(answer: &[u8]) -> bool {
    Raw::new(answer).is_some_and(|answer| !matches!(answer.response_code(), 2 | 4 | 5))
}
