//! An authenticated, encrypted byte stream.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::HandshakeError;

mod buffer;
mod connection;
mod session;

pub(crate) use connection::Connection;
use session::{Read, Session};

/// TLS over `IO`, which is a TCP stream or anything like it.
///
/// Reads take up to 256 KiB from the socket at once; a write is cut into records of 16 KiB that go out together,
/// also when its bytes come in several pieces ([`AsyncWrite::poll_write_vectored`]). Memory is held only while
/// bytes are under way: an idle stream holds no buffer.
///
/// - A write is handed to the socket at once; what the socket does not take stays here (at most 256 KiB) until
///   the next write, flush or shutdown.
/// - Shutdown sends close_notify, and the peer may still send (RFC 8446 §6.1).
/// - A connection that ends without close_notify was cut off: reading gives [`io::ErrorKind::UnexpectedEof`].
/// - Errors made by TLS carry a [`HandshakeError`]: see [`HandshakeError::from_io`].
pub struct Stream<IO> {
    io: IO,
    session: Session,
}

impl<IO> Stream<IO> {
    /// The stream below.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The stream below. Reading or writing there breaks the connection.
    pub fn get_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// The protocol both sides agreed to speak inside.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.session.tls().common().alpn_protocol()
    }

    /// The name of the key exchange and cipher suite in use, for people.
    pub fn cipher(&self) -> Option<String> {
        let common = self.session.tls().common();
        let group = common.negotiated_key_exchange_group()?.name();
        let suite = common.negotiated_cipher_suite()?.suite();
        Some(format!("{group:?} {suite:?}"))
    }

    /// How many bytes of buffers the stream holds now.
    pub fn buffered_memory(&self) -> usize {
        self.session.held()
    }

    pub(crate) fn peer_chain(&self) -> Option<&[CertificateDer<'static>]> {
        self.session.tls().peer_chain()
    }

    pub(crate) fn new(io: IO, tls: Connection) -> Self {
        Self {
            io,
            session: Session::new(tls),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Stream<IO> {
    /// Runs the handshake to its end. On failure the alert has been written, as far as the socket took it.
    pub(crate) async fn handshake(&mut self) -> Result<(), HandshakeError> {
        poll_fn(|cx| self.poll_handshake(cx)).await
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        loop {
            let outcome = self.session.handshake();
            let sent = ready!(self.poll_drain(cx)).and(ready!(Pin::new(&mut self.io).poll_flush(cx)));
            // A reason of TLS explains more than the failed write that followed from it.
            outcome?;
            if !self.session.is_handshaking() {
                sent.map_err(|error| HandshakeError::io(&error))?;
                self.session.shrink();
                return Poll::Ready(Ok(()));
            }
            // A peer that refused us may have said why before it stopped reading: look at that first.
            match ready!(self.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Err(self.session.truncated())),
                Ok(_) => {}
                Err(error) => {
                    return Poll::Ready(Err(HandshakeError::io(sent.as_ref().err().unwrap_or(&error))));
                }
            }
        }
    }

    /// Reads ciphertext; 0 means the connection below has ended.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = self.session.room().map_err(HandshakeError::into_io)?;
        let mut room = ReadBuf::new(room);
        match Pin::new(&mut self.io).poll_read(cx, &mut room) {
            Poll::Ready(Ok(())) => {
                let count = room.filled().len();
                self.session.received(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.session.shrink();
                Poll::Pending
            }
        }
    }

    /// Writes ciphertext until there is none left.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.output.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, self.session.output.filled()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.session.output.consume(written);
        }
        self.session.output.shrink();
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.session.read(out) {
                Ok(Read::Some | Read::End) => return Poll::Ready(Ok(())),
                Ok(Read::NeedInput) => {}
                Err(error) => {
                    // The alert goes out if the socket takes it now; the connection is over either way.
                    let _ = this.poll_drain(cx);
                    return Poll::Ready(Err(error.into_io()));
                }
            }
            if ready!(this.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(this.session.truncated().into_io()));
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.session.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_drain(cx))?;
        let taken = this.session.write(data).map_err(HandshakeError::into_io)?;
        match this.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.close().map_err(HandshakeError::into_io)?;
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
