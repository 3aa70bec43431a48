//! TLS connections from clients.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tls::server_auth::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::transport::server::Connected;

/// How many connections are open at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// How long a client may take for the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The pause after the system could not give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients until the receiver is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    acceptor: Arc<Acceptor>,
    connections: mpsc::Sender<io::Result<Connection>>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while !connections.is_closed() {
        if permits.available_permits() == 0 {
            tracing::warn!("{MAX_CONNECTIONS} connections are open; further ones wait");
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
        let (acceptor, connections) = (acceptor.clone(), connections.clone());
        tokio::spawn(async move {
            // Small messages are answered at once; without this they might wait for each other.
            let _ = tcp.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => {
                    let connection = Connection {
                        stream,
                        peer,
                        _permit: permit,
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
    _permit: OwnedSemaphorePermit,
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
