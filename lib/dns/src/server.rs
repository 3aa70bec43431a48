//! Listening: the asynchronous shell.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};

use crate::{Forwarder, Resolver, Transport};

/// How many queries one listener forwards at a time. Those beyond it are answered SERVFAIL.
pub const MAX_FORWARDS: usize = 256;

/// How many TCP connections one listener holds. Those beyond it are closed.
pub const MAX_CONNECTIONS: usize = 64;

/// How long a TCP connection may be silent.
pub const TCP_IDLE_DEADLINE: Duration = Duration::from_secs(5);

/// What is known of a query, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueryInfo {
    /// The record type asked for, as it is written in zone files (`A`, `AAAA`, `TYPE65` where it has no name);
    /// `unknown` when the query could not be read.
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
    let _ = (socket, resolver, forwarder, observer);
    std::future::pending().await
}

/// Serves streams until the listener fails for good. Drop the future to stop; connections end with it.
pub async fn serve_tcp(
    listener: TcpListener,
    resolver: Arc<dyn Resolver>,
    forwarder: Forwarder,
    observer: Arc<dyn Observer>,
) -> io::Result<()> {
    let _ = (listener, resolver, forwarder, observer);
    std::future::pending().await
}
