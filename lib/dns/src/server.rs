//! Listening: the asynchronous shell.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answer::{answer, query_type};
use crate::forward::{read_message, write_message};
use crate::message::{MAX_MESSAGE, Raw, SERVER_FAILURE};
use crate::{Forwarder, Reply, Resolver, Transport};

#[cfg(test)]
mod tests;

/// How many queries one listener forwards at a time. Those beyond it are answered SERVFAIL.
pub const MAX_FORWARDS: usize = 256;

/// How many TCP connections one listener holds. Those beyond it are closed.
pub const MAX_CONNECTIONS: usize = 64;

/// How long a TCP connection may be silent.
pub const TCP_IDLE_DEADLINE: Duration = Duration::from_secs(5);

/// What is known of a query, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueryInfo {
    /// The record type asked for, as it is written in zone files (`A`, `AAAA`); `unknown`
    /// when it has no name or the query could not be read.
    pub query_type: &'static str,
    /// How the query arrived.
    pub transport: Transport,
}

/// Is told what happens. Every method does nothing unless overridden, and must not block.
pub trait Observer: Send + Sync + 'static {
    /// A query arrived.
    fn request(&self, query: QueryInfo) {
        let _ = query;
    }
    /// A query is forwarded.
    fn upstream_request(&self, query: QueryInfo) {
        let _ = query;
    }
    /// No server answered a forwarded query.
    fn upstream_failure(&self, query: QueryInfo) {
        let _ = query;
    }
    /// A server answered a forwarded query after this time.
    fn upstream_answered(&self, query: QueryInfo, after: Duration) {
        let _ = (query, after);
    }
    /// A query or connection was turned away because [`MAX_FORWARDS`] or [`MAX_CONNECTIONS`] was reached.
    fn overloaded(&self, transport: Transport) {
        let _ = transport;
    }
}

/// An [`Observer`] that counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Serves datagrams until the socket fails for good. Drop the future to stop.
pub async fn serve_udp(
    socket: UdpSocket,
    resolver: Arc<dyn Resolver>,
    forwarder: Forwarder,
    observer: Arc<dyn Observer>,
) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut forwards = JoinSet::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut failures = Failures::default();
    loop {
        let received = tokio::select! {
            Some(_) = forwards.join_next(), if !forwards.is_empty() => continue,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                failures.note(error).await?;
                continue;
            }
        };
        failures.clear();
        let query = &buffer[..length];
        let info = QueryInfo {
            query_type: query_type(query),
            transport: Transport::Udp,
        };
        observer.request(info);
        let bytes = match answer(query, &*resolver, Transport::Udp) {
            Reply::Refuse => continue,
            Reply::Answer(bytes) => bytes,
            Reply::Forward if forwards.len() < MAX_FORWARDS => {
                let (socket, forwarder, observer) = (socket.clone(), forwarder.clone(), observer.clone());
                let query = query.to_vec();
                forwards.spawn(async move {
                    if let Some(bytes) = forward(&query, info, &forwarder, &*observer).await {
                        send(&socket, &bytes, client).await;
                    }
                });
                continue;
            }
            Reply::Forward => {
                observer.overloaded(Transport::Udp);
                match Raw::new(query) {
                    Some(raw) => raw.failure(SERVER_FAILURE),
                    None => continue,
                }
            }
        };
        send(&socket, &bytes, client).await;
    }
}

/// Serves streams until the listener fails for good. Drop the future to stop; connections end with it.
pub async fn serve_tcp(
    listener: TcpListener,
    resolver: Arc<dyn Resolver>,
    forwarder: Forwarder,
    observer: Arc<dyn Observer>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let mut failures = Failures::default();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                failures.note(error).await?;
                continue;
            }
        };
        failures.clear();
        if connections.len() >= MAX_CONNECTIONS {
            observer.overloaded(Transport::Tcp);
            continue;
        }
        let (resolver, forwarder, observer) = (resolver.clone(), forwarder.clone(), observer.clone());
        connections.spawn(async move {
            if let Err(error) = serve_stream(stream, &*resolver, &forwarder, &*observer).await {
                tracing::debug!(%error, "a DNS client's connection ended");
            }
        });
    }
}

/// Answers one query after the other until the client is done or silent.
async fn serve_stream(
    mut stream: TcpStream,
    resolver: &dyn Resolver,
    forwarder: &Forwarder,
    observer: &dyn Observer,
) -> io::Result<()> {
    loop {
        let query = timeout(TCP_IDLE_DEADLINE, read_message(&mut stream)).await??;
        let info = QueryInfo {
            query_type: query_type(&query),
            transport: Transport::Tcp,
        };
        observer.request(info);
        let bytes = match answer(&query, resolver, Transport::Tcp) {
            // On a stream there is no way back from what is not understood.
            Reply::Refuse => return Ok(()),
            Reply::Answer(bytes) => Some(bytes),
            Reply::Forward => forward(&query, info, forwarder, observer).await,
        };
        let Some(bytes) = bytes else {
            return Ok(());
        };
        timeout(TCP_IDLE_DEADLINE, write_message(&mut stream, &bytes)).await??;
    }
}

/// A server's answer, or SERVFAIL.
async fn forward(
    query: &[u8],
    info: QueryInfo,
    forwarder: &Forwarder,
    observer: &dyn Observer,
) -> Option<Vec<u8>> {
    observer.upstream_request(info);
    let began = Instant::now();
    match forwarder.forward(query, info.transport).await {
        Ok(answer) => {
            observer.upstream_answered(info, began.elapsed());
            Some(answer)
        }
        Err(error) => {
            observer.upstream_failure(info);
            tracing::debug!(%error, "a DNS query cannot be forwarded");
            Some(Raw::new(query)?.failure(SERVER_FAILURE))
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    // The client asks again when an answer is lost.
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%error, %client, "a DNS answer cannot be sent");
    }
}

/// Failures of a listening socket. Most pass (no descriptors left, a client that went away); one that does not ends
/// the listener.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
}

impl Failures {
    const MAX_IN_A_ROW: u32 = 100;
    const WAIT: Duration = Duration::from_millis(50);

    async fn note(&mut self, error: io::Error) -> io::Result<()> {
        self.in_a_row += 1;
        if self.in_a_row >= Self::MAX_IN_A_ROW {
            return Err(error);
        }
        tracing::debug!(%error, "a DNS listener failed");
        sleep(Self::WAIT).await;
        Ok(())
    }

    fn clear(&mut self) {
        self.in_a_row = 0;
    }
}
