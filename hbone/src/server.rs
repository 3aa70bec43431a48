//! The side that accepts tunnels.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::budget::{GrowingWindow, Piece};
use crate::connection::Shared;
use crate::keepalive::Keepalive;
use crate::vitals::Vitals;
use crate::wire::{Turn, Wire, wire};
use crate::{ConnectionEnd, Settings};
pub use incoming::{AnswerError, Incoming, MAX_HEADER};
use limits::{Abandoned, Idle};

mod incoming;
mod limits;

const ABANDONS_TOO_MUCH: &str = "the peer gave up too many requests before their answer";

/// Longest `:authority` accepted, bytes: a host name of 253 bytes, a colon and a port fit twice.
pub const MAX_AUTHORITY: usize = 520;

/// Starts HTTP/2 on an accepted byte stream.
pub async fn handshake<IO>(io: IO, settings: Settings) -> Result<Server<IO>, ConnectionEnd>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let vitals = Arc::new(Vitals::of_server());
    let (io, turn) = wire(io, Arc::clone(&vitals));
    let window = GrowingWindow::new(settings.account.clone(), settings.connection_window);
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(window.first())
        .max_frame_size(settings.max_frame)
        .max_header_list_size(settings.max_header_list)
        .max_send_buffer_size(settings.send_buffer)
        .max_concurrent_streams(settings.max_streams)
        .max_concurrent_reset_streams(settings.max_concurrent_reset_streams)
        .max_pending_accept_reset_streams(settings.max_pending_accept_reset_streams)
        .max_local_error_reset_streams(Some(settings.max_local_error_reset_streams));
    let handshake = builder.handshake::<_, Piece>(io);
    let mut connection = timeout(settings.handshake_timeout, handshake)
        .await
        .map_err(|_| ConnectionEnd::HandshakeTimeout(settings.handshake_timeout))?
        .map_err(ConnectionEnd::from_h2)?;
    let keepalive = connection
        .ping_pong()
        .map(|pings| Keepalive::new(pings, &settings));
    turn.begin();
    Ok(Server {
        connection: Some(connection),
        window,
        turn,
        keepalive,
        idle: Idle::new(settings.idle_timeout),
        abandoned: Abandoned::new(settings.max_abandoned),
        shared: Arc::new(Shared::new(vitals, settings.account)),
    })
}

/// One accepted connection.
///
/// [`Server::accept`] is also what drives it: frames of all its tunnels are read and written only while somebody
/// waits there. So one task loops over `accept` until it returns `None` and gives every [`Incoming`] a task of its
/// own; a loop that stops early starves or kills the tunnels that are still open.
///
/// ```no_run
/// # async fn serve(mut server: hbone::server::Server<tokio::net::TcpStream>, mut drain: tokio::sync::oneshot::Receiver<()>) {
/// let mut draining = false;
/// loop {
///     tokio::select! {
///         incoming = server.accept() => match incoming {
///             Some(Ok(incoming)) => drop(tokio::spawn(async move { let _ = incoming.authority(); })),
///             Some(Err(end)) => println!("{end}"),
///             None => break,
///         },
///         _ = &mut drain, if !draining => { draining = true; server.graceful_shutdown(); }
///     }
/// }
/// # }
/// ```
pub struct Server<IO: AsyncRead + AsyncWrite + Unpin> {
    connection: Option<h2::server::Connection<Wire<IO>, Piece>>,
    window: GrowingWindow,
    turn: Turn<IO>,
    keepalive: Option<Keepalive>,
    idle: Idle,
    abandoned: Abandoned,
    shared: Arc<Shared>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Server<IO> {
    /// The next CONNECT. `None`: the connection is over and nothing more will come. An error is the reason for that
    /// and comes at most once. Other methods than CONNECT are answered with 400 here and never returned.
    ///
    /// May be dropped and called again without losing anything.
    pub async fn accept(&mut self) -> Option<Result<Incoming, ConnectionEnd>> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// See [`Server::accept`].
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, ConnectionEnd>>> {
        let outcome = self.poll_turn(cx);
        if self.connection.is_some()
            && let Poll::Ready(Err(error)) = self.turn.poll_flush(cx)
            && outcome.is_pending()
        {
            return self.end(ConnectionEnd::Io(Arc::new(error)));
        }
        outcome
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, ConnectionEnd>>> {
        loop {
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(None);
            };
            if let Some(size) = self.window.grown(self.shared.vitals().received()) {
                connection.set_target_window_size(size);
            }
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.idle.used();
                    let incoming = incoming::admit(request, respond, &self.shared);
                    if self.abandoned.too_many(self.shared.abandoned()) {
                        // RFC 9113 §10.5: such a peer makes work and wants nothing of it.
                        self.shared.close(ABANDONS_TOO_MUCH.into());
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    } else if let Some(incoming) = incoming {
                        return Poll::Ready(Some(Ok(incoming)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return self.end(ConnectionEnd::from_h2(error)),
                Poll::Ready(None) => {
                    return self.end(self.asked_to_close().unwrap_or(ConnectionEnd::Finished));
                }
                Poll::Pending => {
                    if self.idle.poll(cx, || connection.has_streams()).is_ready() {
                        // The peer may be about to use it: it is told, and what it has sent by then is served.
                        connection.graceful_shutdown();
                        continue;
                    }
                    let Some(keepalive) = &mut self.keepalive else {
                        return Poll::Pending;
                    };
                    let end = ready!(keepalive.poll(cx, false, || self.turn.take_arrived()));
                    return self.end(self.asked_to_close().unwrap_or(end));
                }
            }
        }
    }

    /// Tells the peer to open no more tunnels (GOAWAY, RFC 9113 §6.8). CONNECTs that were already on their way are
    /// still returned by [`Server::accept`], open tunnels go on, and `accept` returns `None` once the last has ended.
    pub fn graceful_shutdown(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.graceful_shutdown();
        }
    }

    /// Ends the connection with all its tunnels: sends GOAWAY and closes as soon as it is written. Go on with
    /// [`Server::accept`] until `None`, or drop the server to end it this instant.
    pub fn close(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.shared.close(reason.into());
        if let Some(connection) = &mut self.connection {
            connection.abrupt_shutdown(Reason::NO_ERROR);
        }
    }

    /// Why the connection is over, once it is.
    pub fn ended(&self) -> Option<&ConnectionEnd> {
        self.shared.ended()
    }

    fn asked_to_close(&self) -> Option<ConnectionEnd> {
        self.shared.close_reason().map(ConnectionEnd::ByOwner)
    }

    fn end(&mut self, end: ConnectionEnd) -> Poll<Option<Result<Incoming, ConnectionEnd>>> {
        // First the reason, then the streams: whoever is woken finds it.
        self.shared.end(end.clone());
        self.connection = None;
        Poll::Ready(match end {
            ConnectionEnd::Finished | ConnectionEnd::ByOwner(_) => None,
            end => Some(Err(end)),
        })
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Drop for Server<IO> {
    fn drop(&mut self) {
        if self.connection.is_some() {
            self.shared.end(
                self.asked_to_close()
                    .unwrap_or(ConnectionEnd::ByOwner("dropped".into())),
            );
        }
    }
}

#[cfg(test)]
mod tests;
