use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The two directions behind an accepted CONNECT. Shutting it down ends its direction with END_STREAM.
#[derive(Debug)]
pub struct Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
    left: Bytes,
    finished: bool,
}

impl Tunnel {
    pub(crate) fn new(send: SendStream<Bytes>, receive: RecvStream) -> Tunnel {
        Tunnel {
            send,
            receive,
            left: Bytes::new(),
            finished: false,
        }
    }

    /// Ends both directions with RST_STREAM.
    pub fn reset(mut self, reason: Reason) {
        self.finished = true;
        self.send.send_reset(reason);
    }

    /// Sends one DATA frame, perhaps empty, perhaps the last.
    pub fn send(&mut self, bytes: impl Into<Bytes>, last: bool) -> Result<(), h2::Error> {
        self.finished |= last;
        self.send.send_data(bytes.into(), last)
    }

    /// The next DATA frame as it came; nothing at END_STREAM.
    pub async fn frame(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let frame = self.receive.data().await;
        if let Some(Ok(bytes)) = &frame {
            let _ = self.receive.flow_control().release_capacity(bytes.len());
        }
        frame
    }

    /// Waits until the other side resets the stream; its reason.
    pub async fn was_reset(&mut self) -> Result<Reason, h2::Error> {
        std::future::poll_fn(|cx| self.send.poll_reset(cx)).await
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.left.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(frame) => this.left = frame.map_err(io::Error::other)?,
            }
        }
        let length = this.left.len().min(buffer.remaining());
        buffer.put_slice(&this.left[..length]);
        this.left.advance(length);
        let _ = this.receive.flow_control().release_capacity(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(bytes.len());
        loop {
            let granted = match ready!(self.send.poll_capacity(cx)) {
                Some(granted) => granted.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
            let length = granted.min(bytes.len());
            if length > 0 {
                let frame = Bytes::copy_from_slice(&bytes[..length]);
                self.send.send_data(frame, false).map_err(io::Error::other)?;
                return Poll::Ready(Ok(length));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.finished = true;
            self.send
                .send_data(Bytes::new(), true)
                .map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}
