//! TLS connections from clients.

mod noting;
mod seats;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tls::server_auth::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

pub(crate) use self::noting::{Noting, Peer};
pub(crate) use self::seats::Limits;
use self::seats::{Seat, Seats};

/// How long a client may take for the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The pause after the system could not give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients until the receiver is dropped. Whoever serves them says by [`Noting`] which of them are known.
pub(crate) async fn accept(
    listener: TcpListener,
    acceptor: Arc<Acceptor>,
    connections: mpsc::Sender<io::Result<Connection>>,
    limits: Limits,
) {
    let seats = Seats::new(limits);
    while !connections.is_closed() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.closed() => return,
        };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let seat = tokio::select! {
            seat = seats.take(address.ip().to_canonical()) => seat,
            () = connections.closed() => return,
        };
        if let Some(seat) = seat {
            let (acceptor, connections) = (acceptor.clone(), connections.clone());
            tokio::spawn(begin(tcp, address, seat, acceptor, connections, limits.proof));
        }
    }
}

/// The handshake, and the time in which the client has to show who it is.
async fn begin(
    tcp: TcpStream,
    address: SocketAddr,
    seat: Seat,
    acceptor: Arc<Acceptor>,
    connections: mpsc::Sender<io::Result<Connection>>,
    proof: Duration,
) {
    // Small messages are answered at once; without this they might wait for each other.
    let _ = tcp.set_nodelay(true);
    let standing = seat.standing();
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(tcp)) => shaken,
        () = standing.closing() => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(peer = %address, "handshake failed: {error}"),
        Err(_) => {
            return tracing::info!(peer = %address, "the client did not finish the handshake in time");
        }
    };
    let connection = Connection {
        stream,
        peer: Peer {
            address,
            standing: standing.clone(),
        },
        closing: Box::pin(standing.closing()),
        _seat: seat,
    };
    // When nobody takes it the server is stopping, and the connection is closed.
    let _ = connections.send(Ok(connection)).await;
    tokio::select! {
        () = tokio::time::sleep(proof) => {}
        () = standing.closing() => return,
    }
    if !standing.is_known() {
        tracing::info!(peer = %address, "closed: no request with a valid token came in time");
        standing.close();
    }
}

/// One accepted client.
pub(crate) struct Connection {
    stream: tls::Stream<TcpStream>,
    peer: Peer,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    _seat: Seat,
}

impl Connection {
    /// An error once it is to be closed.
    fn poll_stays(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.closing.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    /// The client's address, and where it is noted that the client is known.
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_stays(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_stays(context)?;
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_stays(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_stays(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
