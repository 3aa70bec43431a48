//! The byte stream under HTTP/2, shared by the library, which reads and writes frames, and whoever drives the
//! connection, who says when a turn is over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::vitals::Vitals;

/// Frames wait here until this many bytes are gathered.
const GATHERED: usize = 256 * 1024;
/// A write this large is not copied but goes out at once, with what was gathered before it.
const DIRECT: usize = 64 * 1024;

/// The library's side.
///
/// The library flushes after every DATA frame. That would be a TLS record and a system call for each, so flushing is
/// put off: the frames of all streams that are ready in one turn go out together when the driver calls
/// [`Turn::poll_flush`].
pub(crate) struct Wire<IO>(Arc<Mutex<State<IO>>>);

/// The driver's side.
pub(crate) struct Turn<IO>(Arc<Mutex<State<IO>>>);

struct State<IO> {
    io: IO,
    gathered: BytesMut,
    /// Somebody drives the connection and flushes at the end of each turn; during the handshake nobody does.
    driven: bool,
    arrived: bool,
    vitals: Arc<Vitals>,
}

pub(crate) fn wire<IO>(io: IO, vitals: Arc<Vitals>) -> (Wire<IO>, Turn<IO>) {
    let state = State {
        io,
        gathered: BytesMut::new(),
        driven: false,
        arrived: false,
        vitals,
    };
    let state = Arc::new(Mutex::new(state));
    (Wire(Arc::clone(&state)), Turn(state))
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Turn<IO> {
    /// From now on somebody calls [`Turn::poll_flush`] after each turn.
    pub(crate) fn begin(&self) {
        lock(&self.0).driven = true;
    }

    /// Writes what the turn has gathered.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_flush(cx)
    }

    /// Whether bytes have arrived since the last call.
    pub(crate) fn take_arrived(&self) -> bool {
        std::mem::take(&mut lock(&self.0).arrived)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let mut state = lock(&self.0);
        let outcome = Pin::new(&mut state.io).poll_read(cx, buf);
        let came = buf.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            state.arrived = true;
            state.vitals.came(came);
        }
        outcome
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        // The library does not flush the preface, so during the handshake nothing may be kept back.
        if length >= DIRECT || !state.driven {
            let written = ready!(state.poll_write_direct(cx, bufs))?;
            state.vitals.went(bufs, written);
            return Poll::Ready(Ok(written));
        }
        if state.gathered.len() + length > GATHERED {
            ready!(state.poll_drain(cx))?;
        }
        for buf in bufs {
            state.gathered.extend_from_slice(buf);
        }
        state.vitals.went(bufs, length);
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        if state.driven {
            Poll::Ready(Ok(()))
        } else {
            state.poll_flush(cx)
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        ready!(state.poll_flush(cx))?;
        Pin::new(&mut state.io).poll_shutdown(cx)
    }
}

impl<IO: AsyncWrite + Unpin> State<IO> {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        // An idle connection holds no buffer.
        self.gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Writes what was gathered and then, in the same call, from `bufs`. Returns how much of `bufs` was taken.
    fn poll_write_direct(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(&self.gathered);
            let mut count = 1;
            for (slice, buf) in slices[1..].iter_mut().zip(bufs) {
                *slice = IoSlice::new(buf);
                count += 1;
            }
            let first = usize::from(self.gathered.is_empty());
            let io = Pin::new(&mut self.io);
            let written = ready!(io.poll_write_vectored(cx, &slices[first..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written < self.gathered.len() {
                self.gathered.advance(written);
                continue;
            }
            let taken = written - self.gathered.len();
            self.gathered.clear();
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
    }
}

/// The library writes a frame as its head and its payload.
const SLICES: usize = 4;

fn lock<IO>(state: &Mutex<State<IO>>) -> MutexGuard<'_, State<IO>> {
    // Only a panic of the byte stream itself could leave it half-way, and then its next call fails or panics too.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
