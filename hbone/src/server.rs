//! The side that accepts tunnels.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::connection::Shared;
use crate::keepalive::Keepalive;
use crate::watched::Watched;
use crate::{ConnectionEnd, Header, Settings, Tunnel, headers};

/// Longest `:authority` accepted, bytes: a host name of 253 bytes, a colon and a port fit twice.
pub const MAX_AUTHORITY: usize = 520;

/// Starts HTTP/2 on an accepted byte stream.
pub async fn handshake<IO>(io: IO, settings: Settings) -> Result<Server<IO>, ConnectionEnd>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (io, arrivals) = Watched::new(io);
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_frame_size(settings.max_frame)
        .max_header_list_size(settings.max_header_list)
        .max_send_buffer_size(settings.send_buffer)
        .max_concurrent_streams(settings.max_streams)
        .max_concurrent_reset_streams(settings.max_concurrent_reset_streams)
        .max_pending_accept_reset_streams(settings.max_pending_accept_reset_streams)
        .max_local_error_reset_streams(Some(settings.max_local_error_reset_streams));
    let handshake = builder.handshake::<_, Bytes>(io);
    let mut connection = timeout(settings.handshake_timeout, handshake)
        .await
        .map_err(|_| ConnectionEnd::HandshakeTimeout(settings.handshake_timeout))?
        .map_err(ConnectionEnd::from_h2)?;
    let keepalive = connection
        .ping_pong()
        .map(|pings| Keepalive::new(pings, arrivals, &settings));
    Ok(Server {
        connection: Some(connection),
        keepalive,
        shared: Arc::default(),
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
    connection: Option<h2::server::Connection<Watched<IO>, Bytes>>,
    keepalive: Option<Keepalive>,
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
        loop {
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(None);
            };
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    if let Some(incoming) = admit(request, respond, &self.shared) {
                        return Poll::Ready(Some(Ok(incoming)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return self.end(ConnectionEnd::from_h2(error)),
                Poll::Ready(None) => {
                    return self.end(self.asked_to_close().unwrap_or(ConnectionEnd::Finished));
                }
                Poll::Pending => {
                    if let Some(Poll::Ready(end)) =
                        self.keepalive.as_mut().map(|keepalive| keepalive.poll(cx))
                    {
                        return self.end(self.asked_to_close().unwrap_or(end));
                    }
                    return Poll::Pending;
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

/// A CONNECT that waits for its answer. Dropped without one, it is reset with CONNECT_ERROR.
pub struct Incoming {
    authority: String,
    headers: HeaderMap,
    respond: h2::server::SendResponse<Bytes>,
    recv: Option<RecvStream>,
    shared: Arc<Shared>,
}

impl Incoming {
    /// What the peer wants to reach, as sent; at most [`MAX_AUTHORITY`] bytes, otherwise unchecked.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The first value of this request header, if it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        headers::first(&self.headers, name)
    }

    /// All values of this request header in order, as sent.
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        headers::values(&self.headers, name)
    }

    /// Completes when the peer has given up this request or the connection is over: the work for it can stop.
    pub async fn abandoned(&mut self) {
        let _ = poll_fn(|cx| self.respond.poll_reset(cx)).await;
    }

    /// Answers 200 and opens the tunnel. To be called once the application is connected.
    pub fn accept(mut self, headers: impl IntoIterator<Item = Header>) -> Result<Tunnel, AnswerError> {
        let send = self.answer(StatusCode::OK, headers, false)?;
        // Taken only here, so that it is there; a second answer is impossible since `self` is consumed.
        let recv = self.recv.take().ok_or(AnswerError::Gone)?;
        Ok(Tunnel::new(send, recv, Arc::clone(&self.shared)))
    }

    /// Answers with another status and ends the stream.
    pub fn refuse(
        mut self,
        status: u16,
        headers: impl IntoIterator<Item = Header>,
    ) -> Result<(), AnswerError> {
        let status = StatusCode::from_u16(status).map_err(|_| AnswerError::Invalid("status".into()))?;
        self.answer(status, headers, true)?;
        self.recv = None;
        Ok(())
    }

    fn answer(
        &mut self,
        status: StatusCode,
        headers: impl IntoIterator<Item = Header>,
        end: bool,
    ) -> Result<h2::SendStream<Bytes>, AnswerError> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() =
            headers::encode(headers).map_err(|name| AnswerError::Invalid(format!("header {name}").into()))?;
        self.respond
            .send_response(response, end)
            .map_err(|_| AnswerError::Gone)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.recv.is_some() {
            self.respond.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

/// Why a CONNECT could not be answered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The peer has reset the request, or the connection is over.
    #[error("the peer no longer waits for an answer")]
    Gone,
    /// The status or a header cannot be sent.
    #[error("the answer cannot be sent: {0}")]
    Invalid(Cow<'static, str>),
}

/// Answers what is not a plain CONNECT with 400; the library has refused malformed requests before.
fn admit(
    request: http::Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    shared: &Arc<Shared>,
) -> Option<Incoming> {
    let (head, recv) = request.into_parts();
    let plain = head.method == Method::CONNECT && head.extensions.get::<h2::ext::Protocol>().is_none();
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    match authority.filter(|authority| plain && authority.len() <= MAX_AUTHORITY) {
        Some(authority) => Some(Incoming {
            authority: authority.to_owned(),
            headers: head.headers,
            respond,
            recv: Some(recv),
            shared: Arc::clone(shared),
        }),
        None => {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            // A peer that is gone needs no answer.
            let _ = respond.send_response(response, true);
            None
        }
    }
}

#[cfg(test)]
mod tests;
