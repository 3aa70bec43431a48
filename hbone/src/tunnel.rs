use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use relay::{Chunks, End, Fault, MAX_CHUNK_BYTES, Read};

use crate::budget::{Piece, Queue};
use crate::connection::Shared;
use crate::error::code_name;
use crate::pool::Ticket;

mod io_traits;

/// One open CONNECT stream, on the client's or the server's side.
///
/// As a [`relay::End`] it hands bytes over without copying, lets the peer send more only once bytes were delivered,
/// and takes bytes only within the peer's window. RST_STREAM with NO_ERROR or CANCEL is read as the end of the bytes
/// (Istio's proxies close that way); any other code, and the end of the connection below, is a fault.
///
/// A tunnel dropped before both directions have ended is reset with CONNECT_ERROR (RFC 9113 §8.5), so that what was
/// cut short never looks complete.
pub struct Tunnel {
    send: SendStream<Piece>,
    recv: RecvStream,
    connection: Arc<Shared>,
    /// Taken from the library, not yet read by the user.
    received: Chunks,
    peer_done: bool,
    sending: Sending,
    /// What of it counts against the connection's account, where it has one.
    queue: Option<Arc<Queue>>,
    _ticket: Option<Ticket>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// END_STREAM is on its way.
    Finished,
    /// The peer has closed the stream in an orderly manner and takes nothing more.
    Stopped,
    Reset,
}

impl Tunnel {
    pub(crate) fn new(send: SendStream<Piece>, recv: RecvStream, connection: Arc<Shared>) -> Self {
        Self {
            send,
            recv,
            queue: connection.queue(),
            connection,
            received: Chunks::default(),
            peer_done: false,
            sending: Sending::Open,
            _ticket: None,
        }
    }

    pub(crate) fn with_ticket(mut self, ticket: Ticket) -> Self {
        self._ticket = Some(ticket);
        self
    }

    /// The fault that an error of the library means, or `None` for an orderly end.
    fn fault(&self, error: &h2::Error) -> Option<Fault> {
        match error.reason() {
            Some(reason) if error.is_reset() => reset(reason),
            _ => Some(self.lost(error)),
        }
    }

    fn lost(&self, error: &dyn std::fmt::Display) -> Fault {
        Fault::Lost(match self.connection.ended() {
            Some(end) => io::Error::new(io::ErrorKind::ConnectionAborted, end.clone()),
            None => io::Error::new(
                io::ErrorKind::ConnectionAborted,
                format!("tunnel connection: {error}"),
            ),
        })
    }

    /// Looks whether and how the peer has reset the stream.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match ready!(self.send.poll_reset(cx)) {
            Ok(reason) => match reset(reason) {
                // The library reports a GOAWAY that killed the stream like a reset.
                Some(_) if self.connection.ended().is_some() => Poll::Ready(Err(self.lost(&"closed"))),
                Some(fault) => Poll::Ready(Err(fault)),
                None => {
                    self.sending = Sending::Stopped;
                    Poll::Ready(Ok(()))
                }
            },
            Err(error) => Poll::Ready(Err(self.lost(&error))),
        }
    }

    /// Called when the library says that nothing can be sent any more.
    fn send_closed(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        match self.poll_stopped(cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(self.lost(&"stream closed")),
        }
    }

    fn piece(&self, chunk: Bytes) -> Piece {
        match &self.queue {
            Some(queue) => Piece::of(queue, chunk),
            None => Piece::free(chunk),
        }
    }

    fn no_longer_takes() -> Fault {
        Fault::Reset("the peer has closed the stream and takes no more bytes".into())
    }
}

impl End for Tunnel {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while !self.peer_done && self.received.has_space() && self.received.bytes() < MAX_CHUNK_BYTES {
            match self.recv.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.received.push(chunk),
                Poll::Ready(None) => self.peer_done = true,
                Poll::Ready(Some(Err(error))) => match self.fault(&error) {
                    Some(fault) if self.received.is_empty() => return Poll::Ready(Err(fault)),
                    // Seen again once the bytes before it are read.
                    Some(_) => break,
                    None => self.peer_done = true,
                },
                Poll::Pending if self.received.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        into: &mut Chunks,
    ) -> Poll<Result<Read, Fault>> {
        ready!(self.poll_readable(cx))?;
        let mut room = limit;
        while room > 0
            && into.has_space()
            && let Some(chunk) = self.received.take(room)
        {
            room -= chunk.len();
            into.push(chunk);
        }
        Poll::Ready(Ok(if room < limit { Read::Bytes } else { Read::End }))
    }

    fn delivered(&mut self, bytes: usize) {
        // Fails only for more than was received.
        let _ = self.recv.flow_control().release_capacity(bytes);
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Fault>> {
        loop {
            // After an orderly stop the source must still be read: it may be at its end, and only bytes are a fault.
            if self.sending != Sending::Open {
                return Poll::Ready(Ok(1));
            }
            let allowed = match &self.queue {
                Some(queue) => queue.room(MAX_CHUNK_BYTES, cx),
                None => MAX_CHUNK_BYTES,
            };
            if allowed == 0 {
                // A reset of the peer must not go unseen meanwhile.
                return match ready!(self.poll_stopped(cx)) {
                    Ok(()) => continue,
                    Err(fault) => Poll::Ready(Err(fault)),
                };
            }
            self.send.reserve_capacity(allowed);
            let room = self.send.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room.min(allowed)));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => match self.fault(&error) {
                    Some(fault) => return Poll::Ready(Err(fault)),
                    None => self.sending = Sending::Stopped,
                },
                None => self.send_closed(cx)?,
            }
        }
    }

    fn release_room(&mut self) {
        if self.sending == Sending::Open {
            self.send.reserve_capacity(0);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut Chunks) -> Poll<Result<usize, Fault>> {
        let mut room = ready!(self.poll_writable(cx))?;
        if self.sending != Sending::Open {
            return Poll::Ready(Err(Self::no_longer_takes()));
        }
        let mut written = 0;
        while room > 0
            && let Some(chunk) = from.take(room)
        {
            let length = chunk.len();
            if let Err(error) = self.send.send_data(self.piece(chunk), false) {
                self.send_closed(cx)?;
                tracing::debug!(%error, "a stream took no bytes");
                return Poll::Ready(Err(Self::no_longer_takes()));
            }
            room -= length;
            written += length;
        }
        self.release_room();
        Poll::Ready(Ok(written))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.sending == Sending::Open {
            match self.send.send_data(Piece::free(Bytes::new()), true) {
                Ok(()) => self.sending = Sending::Finished,
                Err(_) => self.send_closed(cx)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if matches!(self.sending, Sending::Stopped | Sending::Reset) {
            return Poll::Pending;
        }
        match ready!(self.poll_stopped(cx)) {
            Err(fault) => Poll::Ready(fault),
            Ok(()) => Poll::Pending,
        }
    }

    fn reset(&mut self) {
        let orderly = self.peer_done && matches!(self.sending, Sending::Finished)
            || matches!(self.sending, Sending::Stopped | Sending::Reset);
        if !orderly {
            self.send.send_reset(Reason::CONNECT_ERROR);
        }
        self.sending = Sending::Reset;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.reset();
    }
}

/// `None` for the codes with which Istio's proxies close a stream in an orderly manner.
fn reset(reason: Reason) -> Option<Fault> {
    match reason {
        Reason::NO_ERROR | Reason::CANCEL => None,
        other => Some(Fault::Reset(format!("RST_STREAM {}", code_name(other)).into())),
    }
}
