use std::borrow::Cow;
use std::io;
use std::task::{Context, Poll};

use crate::Chunks;

/// One side of a relay: where bytes come from and where bytes go.
///
/// All methods are called by one task. A method that returns `Pending` has arranged for the task to be woken.
pub trait End: Send {
    /// Waits until something can be read: bytes, their end, or a fault. Holds no buffer while it waits.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Reads what is there, at most `limit` bytes (never 0), onto the back of `into`.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        into: &mut Chunks,
    ) -> Poll<Result<Read, Fault>>;

    /// Told when bytes read from this end were taken by the other one: the moment to let the peer send more.
    fn delivered(&mut self, bytes: usize);

    /// Waits for room to write, and says how many bytes (at least 1). Room may be set aside for this end until
    /// [`End::release_room`].
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Fault>>;

    /// Gives back room that [`End::poll_writable`] set aside and no write has used.
    fn release_room(&mut self);

    /// Writes from the front of `from`, removes what was taken and returns its length (at least 1).
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut Chunks) -> Poll<Result<usize, Fault>>;

    /// Says that no more bytes follow (FIN, END_STREAM). Reading goes on.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Waits for a fault only. Used while nothing is read from this end, so that a reset is seen at once.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Fault>;

    /// Ends both directions so that the peer sees a reset (RST, RST_STREAM). Takes full effect at the latest when
    /// the end is dropped.
    fn reset(&mut self);
}

/// What [`End::poll_read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes were appended.
    Bytes,
    /// The peer has sent everything.
    End,
}

/// Why an end can no longer be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The peer broke the connection off.
    #[error("reset by the peer ({0})")]
    Reset(Cow<'static, str>),
    /// The connection failed although the peer did not ask for it.
    #[error("connection lost: {0}")]
    Lost(io::Error),
}

impl Fault {
    /// Sorts an error of the operating system: a reset by the peer, or a loss.
    pub fn from_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected => Self::Reset("TCP RST".into()),
            _ => Self::Lost(error),
        }
    }
}
