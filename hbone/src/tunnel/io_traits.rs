use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use relay::{Chunks, End, Fault};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Tunnel;

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_readable(cx)).map_err(into_io)?;
        let mut copied = 0;
        while buf.remaining() > 0
            && let Some(chunk) = self.received.take(buf.remaining())
        {
            buf.put_slice(&chunk);
            copied += chunk.len();
        }
        self.delivered(copied);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_writable(cx)).map_err(into_io)?;
        let mut chunks = Chunks::default();
        chunks.push(Bytes::copy_from_slice(&buf[..room.min(buf.len())]));
        End::poll_write(&mut *self, cx, &mut chunks).map_err(into_io)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(cx).map_err(into_io)
    }
}

fn into_io(fault: Fault) -> io::Error {
    match fault {
        Fault::Reset(_) => io::Error::new(io::ErrorKind::ConnectionReset, fault),
        Fault::Lost(error) => error,
    }
}
