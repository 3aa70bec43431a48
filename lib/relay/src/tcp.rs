use std::future::Future;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::buffers::{self, LARGE, SMALL};
use crate::{Chunks, End, Fault, MAX_CHUNKS, Read};

/// A kernel TCP socket as one end of a relay.
pub struct TcpEnd {
    stream: Arc<TcpStream>,
    /// The last read filled its buffer, so the next one borrows a large buffer.
    busy: bool,
    /// Waits for an error event; made only when nothing else watches the socket.
    watch: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
}

impl TcpEnd {
    /// Wraps a connected socket. Set `TCP_NODELAY` before: a relay forwards whatever it gets at once.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream: Arc::new(stream),
            busy: false,
            watch: None,
        }
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// One `read` without waiting. A short read means that the kernel's queue is empty: the readiness is cleared
    /// inside the same `try_io`, which saves the second `read` that would only say so. A FIN that came with the
    /// bytes is not lost, since tokio never clears the "closed" readiness.
    fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let room = buffer.remaining_mut();
        let mut got = None;
        let outcome = self.stream.try_io(Interest::READABLE, || {
            let read = self.stream.try_read_buf(buffer)?;
            got = Some(read);
            if 0 < read && read < room {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        got.map_or_else(|| outcome.map(|()| 0), Ok)
    }

    /// One `writev` without waiting, with the same care for short writes.
    fn try_write(&self, from: &Chunks) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_CHUNKS];
        let count = from.slices(&mut slices);
        let mut put = None;
        let outcome = self.stream.try_io(Interest::WRITABLE, || {
            let written = self.stream.try_write_vectored(&slices[..count])?;
            put = Some(written);
            if written < from.bytes() {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        put.map_or_else(|| outcome.map(|()| 0), Ok)
    }
}

impl From<TcpStream> for TcpEnd {
    fn from(stream: TcpStream) -> Self {
        Self::new(stream)
    }
}

impl End for TcpEnd {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.stream.poll_read_ready(cx).map_err(Fault::from_io)
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        into: &mut Chunks,
    ) -> Poll<Result<Read, Fault>> {
        loop {
            let size = if self.busy { LARGE } else { SMALL };
            let mut buffer = buffers::take(size);
            let room = limit.min(buffer.capacity());
            let read = self.try_read(&mut (&mut buffer).limit(room));
            let result = match read {
                Ok(0) => Ok(Read::End),
                Ok(read) => {
                    self.busy = read == room && room >= size / 2 || self.busy && read >= SMALL;
                    into.push(if read <= COPIED {
                        Bytes::copy_from_slice(&buffer)
                    } else {
                        buffer.split().freeze()
                    });
                    Ok(Read::Bytes)
                }
                Err(error) => Err(error),
            };
            buffers::give(buffer, size);
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_read_ready(cx)).map_err(Fault::from_io)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result.map_err(Fault::from_io)),
            }
        }
    }

    fn delivered(&mut self, _bytes: usize) {
        // The kernel opened its window when the bytes were read; at most one chunk is ahead.
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Fault>> {
        self.stream
            .poll_write_ready(cx)
            .map_ok(|()| LARGE)
            .map_err(Fault::from_io)
    }

    fn release_room(&mut self) {}

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut Chunks) -> Poll<Result<usize, Fault>> {
        loop {
            ready!(self.stream.poll_write_ready(cx)).map_err(Fault::from_io)?;
            match self.try_write(from) {
                Ok(written) => {
                    from.advance(written);
                    return Poll::Ready(Ok(written));
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Poll::Ready(Err(Fault::from_io(error))),
            }
        }
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(
            SockRef::from(&*self.stream)
                .shutdown(Shutdown::Write)
                .map_err(Fault::from_io),
        )
    }

    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        loop {
            let stream = &self.stream;
            let watch = self.watch.get_or_insert_with(|| {
                let stream = Arc::clone(stream);
                Box::pin(async move { stream.ready(Interest::ERROR).await.map(drop) })
            });
            let outcome = ready!(watch.as_mut().poll(cx));
            self.watch = None;
            match outcome.and_then(|()| self.stream.take_error()) {
                Err(error) | Ok(Some(error)) => return Poll::Ready(Fault::from_io(error)),
                // Somebody else has taken the error: forget the event and wait for another.
                Ok(None) => {
                    let _ = self
                        .stream
                        .try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                }
            }
        }
    }

    fn reset(&mut self) {
        self.watch = None;
        // With a linger time of 0, closing discards what is queued and sends RST. A socket on which this fails is
        // closed already.
        let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// Reads up to this size are copied into an allocation of their own: cheaper than keeping a whole buffer alive for
/// as long as a few bytes wait in a queue.
const COPIED: usize = 2 * 1024;

#[cfg(test)]
mod tests;
