//! The side that opens tunnels.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use h2::Reason;
use http::{Method, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use crate::budget::{GrowingWindow, Piece};
use crate::connection::Shared;
use crate::error::code_name;
use crate::keepalive::Keepalive;
use crate::vitals::Vitals;
use crate::wire::{Turn, Wire, wire};
use crate::{ConnectError, ConnectionEnd, Header, ResponseHeaders, Settings, Tunnel, headers};

/// Starts HTTP/2 on a byte stream. Spawn the [`Driver`]: nothing moves unless it runs.
pub async fn handshake<IO>(io: IO, settings: Settings) -> Result<(Client, Driver<IO>), ConnectionEnd>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let vitals = Arc::new(Vitals::of_client());
    let (io, turn) = wire(io, Arc::clone(&vitals));
    let window = GrowingWindow::new(settings.account.clone(), settings.connection_window);
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(window.first())
        .max_frame_size(settings.max_frame)
        .max_header_list_size(settings.max_header_list)
        .max_send_buffer_size(settings.send_buffer)
        .initial_max_send_streams(settings.max_streams as usize)
        .max_concurrent_reset_streams(settings.max_concurrent_reset_streams)
        .max_pending_accept_reset_streams(settings.max_pending_accept_reset_streams)
        .max_local_error_reset_streams(Some(settings.max_local_error_reset_streams))
        .enable_push(false);
    let handshake = builder.handshake::<_, Piece>(io);
    let (requests, mut connection) = timeout(settings.handshake_timeout, handshake)
        .await
        .map_err(|_| ConnectionEnd::HandshakeTimeout(settings.handshake_timeout))?
        .map_err(ConnectionEnd::from_h2)?;
    let keepalive = connection
        .ping_pong()
        .map(|pings| Keepalive::new(pings, &settings));
    let shared = Arc::new(Shared::new(vitals, settings.account));
    let client = Client {
        requests,
        shared: Arc::clone(&shared),
        max_streams: settings.max_streams as usize,
    };
    turn.begin();
    Ok((
        client,
        Driver {
            connection: Some(connection),
            window,
            turn,
            keepalive,
            shared,
        },
    ))
}

/// A handle to an open connection. The connection closes by itself, in an orderly manner, when the last clone is
/// dropped and the last tunnel has ended.
#[derive(Clone)]
pub struct Client {
    requests: h2::client::SendRequest<Piece>,
    shared: Arc<Shared>,
    max_streams: usize,
}

/// What to ask a peer for.
#[derive(Clone, Debug, Default)]
pub struct ConnectRequest {
    /// `host:port`, sent as `:authority`.
    pub authority: String,
    /// Further headers, sent in this order.
    pub headers: Vec<Header>,
}

impl Client {
    /// Opens a tunnel: sends CONNECT with `:authority` and the given headers only (RFC 9113 §8.5) and waits for the
    /// answer. Only status 200 is a success. Dropping the future abandons the request.
    pub async fn connect(&self, request: ConnectRequest) -> Result<(Tunnel, ResponseHeaders), ConnectError> {
        let mut head = Request::new(());
        *head.method_mut() = Method::CONNECT;
        *head.uri_mut() = authority_form(&request.authority)?;
        *head.headers_mut() = headers::encode(request.headers)
            .map_err(|name| ConnectError::Invalid(format!("header {name}").into()))?;

        let mut requests = self.requests.clone();
        poll_fn(|cx| requests.poll_ready(cx))
            .await
            .map_err(|error| self.not_sent(&error))?;
        let (answer, send) = requests
            .send_request(head, false)
            .map_err(|error| self.not_sent(&error))?;
        drop(requests);
        let answer = answer.await.map_err(|error| self.failed(&error))?;
        if answer.status() != http::StatusCode::OK {
            return Err(ConnectError::Status(answer.status().as_u16()));
        }
        let (head, recv) = answer.into_parts();
        Ok((
            Tunnel::new(send, recv, Arc::clone(&self.shared)),
            ResponseHeaders(head.headers),
        ))
    }

    /// Whether new tunnels may be opened: the connection is up and the peer has not sent GOAWAY.
    pub fn is_usable(&self) -> bool {
        // Nothing is pending on a fresh clone, so this only looks at the state of the connection.
        let ready = self
            .requests
            .clone()
            .poll_ready(&mut Context::from_waker(Waker::noop()));
        self.shared.ended().is_none() && !matches!(ready, Poll::Ready(Err(_)))
    }

    /// How many tunnels this connection carries at a time: the smaller of our setting and the peer's.
    pub fn max_streams(&self) -> usize {
        self.max_streams.min(self.requests.current_max_send_streams())
    }

    /// When the last byte came from the peer.
    pub fn heard(&self) -> Instant {
        self.shared.vitals().heard()
    }

    /// Pings the peer and waits until anything comes from it: the answer, or other bytes.
    pub async fn heard_again(&self) {
        self.shared.vitals().heard_again(|| self.shared.probe()).await;
    }

    /// Since when next to nothing of the connection's window is left, if it is so now: whatever the peer's readers do
    /// not take holds up all tunnels of this connection.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.shared.vitals().blocked_since()
    }

    /// Ends the connection and all its tunnels now; their other sides see a reset.
    pub fn close(&self, reason: impl Into<Cow<'static, str>>) {
        self.shared.close(reason.into());
    }

    /// Waits until the connection is over, and says why.
    pub async fn closed(&self) -> ConnectionEnd {
        let shared = Arc::clone(&self.shared);
        shared.wait().await.clone()
    }

    fn not_sent(&self, error: &h2::Error) -> ConnectError {
        ConnectError::NotSent(match self.shared.ended() {
            Some(end) => end.to_string().into(),
            None if error.is_go_away() => "the peer is going away".into(),
            None => error.to_string().into(),
        })
    }

    /// Sorts an error that came in place of an answer.
    fn failed(&self, error: &h2::Error) -> ConnectError {
        match error.reason() {
            // RFC 9113 §8.7: the server did no work for such a stream.
            Some(Reason::REFUSED_STREAM) if error.is_reset() => {
                ConnectError::NotSent("the peer refused the stream".into())
            }
            Some(reason) if error.is_reset() => ConnectError::Reset(code_name(reason)),
            // RFC 9113 §6.8: the library ends those streams that are above the peer's last one: it never saw them.
            Some(_) if error.is_go_away() && error.is_remote() => {
                ConnectError::NotSent("the peer went away before it took the request".into())
            }
            _ => ConnectError::Lost(match self.shared.ended() {
                Some(end) => end.to_string().into(),
                None => error.to_string().into(),
            }),
        }
    }
}

/// Runs a client connection: reads and writes frames for all its tunnels and watches whether the peer is alive.
/// Completes when the connection is over; dropping it ends the connection at once.
#[must_use = "nothing moves unless the driver runs"]
pub struct Driver<IO: AsyncRead + AsyncWrite + Unpin> {
    connection: Option<h2::client::Connection<Wire<IO>, Piece>>,
    window: GrowingWindow,
    turn: Turn<IO>,
    keepalive: Option<Keepalive>,
    shared: Arc<Shared>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Driver<IO> {
    type Output = ConnectionEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        let this = &mut *self;
        let Some(connection) = &mut this.connection else {
            return Poll::Ready(ConnectionEnd::Finished);
        };
        if let Some(size) = this.window.grown(this.shared.vitals().received()) {
            connection.set_target_window_size(size);
        }
        let end = if let Some(reason) = this.shared.poll_close(cx) {
            ConnectionEnd::ByOwner(reason)
        } else if let Poll::Ready(outcome) = Pin::new(connection).poll(cx) {
            outcome.map_or_else(ConnectionEnd::from_h2, |()| ConnectionEnd::Finished)
        } else if let Poll::Ready(Err(error)) = this.turn.poll_flush(cx) {
            ConnectionEnd::Io(Arc::new(error))
        } else if let Some(keepalive) = &mut this.keepalive
            && let Poll::Ready(end) =
                keepalive.poll(cx, this.shared.take_probe(), || this.turn.take_arrived())
        {
            end
        } else {
            return Poll::Pending;
        };
        // First the reason, then the streams: whoever is woken finds it.
        this.shared.end(end.clone());
        this.connection = None;
        Poll::Ready(end)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Drop for Driver<IO> {
    fn drop(&mut self) {
        if self.connection.is_some() {
            self.shared
                .end(ConnectionEnd::ByOwner("its driver was dropped".into()));
        }
    }
}

/// An authority is bounded here and read by the peer; only what cannot stand in HTTP/2 is refused.
fn authority_form(authority: &str) -> Result<Uri, ConnectError> {
    if authority.len() > crate::server::MAX_AUTHORITY {
        return Err(ConnectError::Invalid("the authority is too long".into()));
    }
    let authority = http::uri::Authority::try_from(authority)
        .map_err(|_| ConnectError::Invalid(format!("authority {authority:?}").into()))?;
    let mut parts = http::uri::Parts::default();
    parts.authority = Some(authority);
    Uri::from_parts(parts).map_err(|error| ConnectError::Invalid(error.to_string().into()))
}

#[cfg(test)]
mod tests;
