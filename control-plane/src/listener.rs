//! TLS connections from clients.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tls::server_auth::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::transport::server::Connected;

use crate::places::{Place, Places};

/// How many connections are open at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// How many of them may come from one address. A node proxy has two, and several nodes may come from one address where
/// the network translates addresses; but no pod may keep all others out, which it could before it shows a token.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 2_048;
/// How long a client may take for the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The pause after the system could not give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections may be open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    all: usize,
    per_address: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            all: MAX_CONNECTIONS,
            per_address: MAX_CONNECTIONS_PER_ADDRESS,
        }
    }
}

/// Accepts clients until the receiver is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    acceptor: Arc<Acceptor>,
    connections: mpsc::Sender<io::Result<Connection>>,
    limits: Limits,
) {
    let permits = Arc::new(Semaphore::new(limits.all));
    let shares = Places::default();
    while !connections.is_closed() {
        if permits.available_permits() == 0 {
            tracing::warn!("{} connections are open; further ones wait", limits.all);
        }
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let (tcp, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = connections.closed() => return,
        };
        let address = peer.ip().to_canonical();
        let Some(share) = shares.take(address, limits.per_address) else {
            tracing::warn!(%peer, "{} connections of this address are open; a further one is closed", limits.per_address);
            continue;
        };
        let (acceptor, connections) = (acceptor.clone(), connections.clone());
        tokio::spawn(async move {
            // Small messages are answered at once; without this they might wait for each other.
            let _ = tcp.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => {
                    let connection = Connection {
                        stream,
                        peer,
                        _permits: (permit, share),
                    };
                    // When nobody takes it the server is stopping, and the connection is closed.
                    let _ = connections.send(Ok(connection)).await;
                }
                Ok(Err(error)) => tracing::info!(%peer, "handshake failed: {error}"),
                Err(_) => tracing::info!(%peer, "the client did not finish the handshake in time"),
            }
        });
    }
}

/// One accepted client.
pub(crate) struct Connection {
    stream: tls::Stream<TcpStream>,
    peer: SocketAddr,
    _permits: (OwnedSemaphorePermit, Place<IpAddr>),
}

impl Connected for Connection {
    /// The client's address.
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
