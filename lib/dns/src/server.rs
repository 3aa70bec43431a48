//! Listening: the asynchronous shell.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answer::{Forward, answer, failure, query_type};
use crate::message::{MAX_MESSAGE, NO_SUCH_NAME, Raw, SERVER_FAILURE};
use crate::{Forwarder, Reply, Resolver, Transport};

mod lookup;
mod stream;
#[cfg(test)]
mod tests;

pub use lookup::{LookupError, MAX_FOUND};
pub use stream::{MAX_PIPELINED, TCP_IDLE_DEADLINE};

/// How many datagrams one server forwards at a time. Those beyond it are answered SERVFAIL.
pub const MAX_FORWARDS: usize = 256;

/// How many TCP connections one server holds. Those beyond it are closed.
pub const MAX_CONNECTIONS: usize = 64;

/// How long a server that was told to stop goes on with what it has begun.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(6);

/// How many waiting connections a server that was told to stop still takes: under a flood there is always another.
const MAX_QUEUED: usize = 1024;

/// For how long nothing may come before a socket that is to be closed counts as empty.
const SILENCE: Duration = Duration::from_millis(20);

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
    fn overloaded(&self, query: QueryInfo) {
        let _ = query;
    }
}

/// An [`Observer`] that counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Serves one pod, or one node. Its bounds hold over all its sockets together.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    resolver: Arc<dyn Resolver>,
    forwarder: Forwarder,
    observer: Arc<dyn Observer>,
    forwards: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// A server that answers what `resolver` knows and forwards the rest.
    pub fn new(resolver: Arc<dyn Resolver>, forwarder: Forwarder, observer: Arc<dyn Observer>) -> Self {
        Self {
            shared: Arc::new(Shared {
                resolver,
                forwarder,
                observer,
                forwards: Arc::new(Semaphore::new(MAX_FORWARDS)),
                connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            }),
        }
    }

    /// Serves datagrams until `stop`, or until the socket fails for good. At `stop` another socket on the same port gets
    /// what comes from then on; what has come before is answered, within [`DRAIN_DEADLINE`]. Drop the future to end at
    /// once.
    pub async fn serve_udp(&self, socket: UdpSocket, stop: impl Future<Output = ()>) -> io::Result<()> {
        let mut datagrams = Datagrams {
            shared: self.shared.clone(),
            socket: Arc::new(socket),
            forwards: JoinSet::new(),
            buffer: vec![0; MAX_MESSAGE],
        };
        let mut failures = Failures::default();
        let mut stop = std::pin::pin!(stop);
        loop {
            let received = tokio::select! {
                Some(_) = datagrams.forwards.join_next(), if !datagrams.forwards.is_empty() => continue,
                received = datagrams.socket.recv_from(&mut datagrams.buffer) => received,
                () = &mut stop => break,
            };
            match received {
                Ok((length, client)) => {
                    failures.clear();
                    datagrams.take(length, client).await;
                }
                Err(error) => failures.note(error).await?,
            }
        }
        // Whoever holds the same port gets everything from now on: a connected socket takes from one peer alone, here
        // from itself.
        datagrams.socket.connect(datagrams.socket.local_addr()?).await?;
        while let Ok(Ok((length, client))) =
            timeout(SILENCE, datagrams.socket.recv_from(&mut datagrams.buffer)).await
        {
            datagrams.take(length, client).await;
        }
        finish(datagrams.forwards).await;
        Ok(())
    }

    /// Serves streams until `stop`, or until the listener fails for good. At `stop` those that are waiting are still
    /// taken; open ones have [`DRAIN_DEADLINE`]. Drop the future to end at once.
    pub async fn serve_tcp(&self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
        let mut connections = JoinSet::new();
        let mut failures = Failures::default();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            match accepted {
                Ok((connection, _)) => {
                    failures.clear();
                    self.serve_stream(connection, &mut connections);
                }
                Err(error) => failures.note(error).await?,
            }
        }
        for connection in queued(listener)? {
            self.serve_stream(connection, &mut connections);
        }
        finish(connections).await;
        Ok(())
    }

    fn serve_stream(&self, connection: TcpStream, connections: &mut JoinSet<()>) {
        let Ok(permit) = self.shared.connections.clone().try_acquire_owned() else {
            self.shared.observer.overloaded(QueryInfo {
                query_type: query_type(&[]),
                transport: Transport::Tcp,
            });
            return;
        };
        let shared = self.shared.clone();
        connections.spawn(async move {
            if let Err(error) = stream::serve(&shared, connection).await {
                tracing::debug!(%error, "a DNS client's connection ended");
            }
            drop(permit);
        });
    }
}

/// Takes what waits in a listener's queue, and closes it. Asked of the kernel and not of the runtime, which may not have
/// heard of the last ones yet.
fn queued(listener: TcpListener) -> io::Result<Vec<TcpStream>> {
    let listener = listener.into_std()?;
    let mut connections = Vec::new();
    for _ in 0..MAX_QUEUED {
        match listener.accept() {
            Ok((connection, _)) => {
                connection.set_nonblocking(true)?;
                connections.push(TcpStream::from_std(connection)?);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // That one has gone, or could not be taken; another may be.
            Err(error) => tracing::debug!(%error, "a DNS client that waited is not served"),
        }
    }
    Ok(connections)
}

/// Waits for what was begun.
async fn finish(mut begun: JoinSet<()>) {
    let all = async { while begun.join_next().await.is_some() {} };
    // What is late is cut off with the set.
    let _ = timeout(DRAIN_DEADLINE, all).await;
}

/// The datagrams of one socket.
struct Datagrams {
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    forwards: JoinSet<()>,
    buffer: Vec<u8>,
}

impl Datagrams {
    /// Deals with the datagram that is in the buffer.
    async fn take(&mut self, length: usize, client: SocketAddr) {
        let query = &self.buffer[..length];
        let info = self.shared.observe(query, Transport::Udp);
        let bytes = match answer(query, &*self.shared.resolver, Transport::Udp) {
            Reply::Refuse => return,
            Reply::Answer(bytes) => bytes,
            Reply::Forward(forward) => match self.shared.forwards.clone().try_acquire_owned() {
                Ok(permit) => {
                    let datagram = Datagram {
                        socket: self.socket.clone(),
                        client,
                        query: query.to_vec(),
                        info,
                    };
                    let shared = self.shared.clone();
                    self.forwards.spawn(async move {
                        datagram.forward(&shared, forward).await;
                        drop(permit);
                    });
                    return;
                }
                Err(_) => {
                    self.shared.observer.overloaded(info);
                    server_failure(query)
                }
            },
        };
        send(&self.socket, &bytes, client).await;
    }
}

impl Shared {
    fn observe(&self, query: &[u8], transport: Transport) -> QueryInfo {
        let info = QueryInfo {
            query_type: query_type(query),
            transport,
        };
        self.observer.request(info);
        info
    }

    /// Whether the query is still to be forwarded once it is certain which names there are.
    async fn settle(&self, query: &[u8], forward: Forward, transport: Transport) -> Reply {
        let demand = forward
            .unknown
            .as_deref()
            .and_then(|name| self.resolver.demand(name));
        match demand {
            Some(certain) => {
                certain.await;
                answer(query, &*self.resolver, transport)
            }
            None => Reply::Forward(forward),
        }
    }
}

/// A query that came as a datagram.
struct Datagram {
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    query: Vec<u8>,
    info: QueryInfo,
}

impl Datagram {
    async fn forward(self, shared: &Shared, forward: Forward) {
        let bytes = match shared.settle(&self.query, forward, Transport::Udp).await {
            Reply::Refuse => return,
            Reply::Answer(bytes) => bytes,
            Reply::Forward(forward) => self.ask(shared, forward).await,
        };
        send(&self.socket, &bytes, self.client).await;
    }

    /// A server's answer, or SERVFAIL.
    async fn ask(&self, shared: &Shared, forward: Forward) -> Vec<u8> {
        let observer = &shared.observer;
        observer.upstream_request(self.info);
        let began = Instant::now();
        let local = self.socket.local_addr().ok();
        let asked = local.and_then(|local| shared.forwarder.upstream.asked(self.client, local));
        match shared.forwarder.forward(&self.query, asked).await {
            Ok(answer) => {
                observer.upstream_answered(self.info, began.elapsed());
                prefer(forward.exists, answer)
            }
            Err(error) => {
                observer.upstream_failure(self.info);
                tracing::debug!(%error, "a DNS query cannot be forwarded");
                server_failure(&self.query)
            }
        }
    }
}

/// The server's answer, unless it denies a name that exists here.
fn prefer(exists: Option<Vec<u8>>, answer: Vec<u8>) -> Vec<u8> {
    match exists {
        Some(exists) if Raw::new(&answer).is_some_and(|raw| raw.response_code() == NO_SUCH_NAME) => exists,
        _ => answer,
    }
}

/// SERVFAIL to a query; nothing to what is no query.
fn server_failure(query: &[u8]) -> Vec<u8> {
    Raw::new(query).map_or_else(Vec::new, |raw| failure(query, raw, SERVER_FAILURE))
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
