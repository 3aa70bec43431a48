//! Answers that are too large to be held as a whole: made piece by piece, as the client takes them.

use super::Body;
use bytes::BytesMut;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Size of a piece in bytes.
const PIECE: usize = 32 << 10;
/// Pieces that wait for a client.
const MAX_WAITING: usize = 2;

/// The body that `make` writes, on a thread where it may wait for the client. When `make` fails, the body breaks
/// off; when the client goes, `make`'s next write fails. `large` bounds how many run at once.
pub(super) async fn body(
    large: Arc<Semaphore>,
    make: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> Body {
    let permit = large.acquire_owned().await;
    let (sender, mut receiver) = mpsc::channel(MAX_WAITING);
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces {
            sender,
            waiting: BytesMut::new(),
        };
        let made = make(&mut pieces).and_then(|()| pieces.flush());
        if let Err(error) = made {
            // Nobody is told when the client has gone.
            let _ = pieces.sender.blocking_send(Err(error));
        }
        drop(permit);
    });
    let frames = stream::poll_fn(move |context| {
        receiver
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Takes what is written and sends it in pieces. Blocks while the client does not read.
pub(super) struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    waiting: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = self.waiting.split().freeze();
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone"))
    }
}

/// Lets text be written where bytes are taken, and keeps the error that a [`fmt::Error`] cannot carry.
pub(super) struct Text<'w, W> {
    to: &'w mut W,
    error: Option<io::Error>,
}

impl<'w, W: Write> Text<'w, W> {
    /// Writes what `make` writes to `to`.
    pub(super) fn write(to: &'w mut W, make: impl FnOnce(&mut Self) -> fmt::Result) -> io::Result<()> {
        let mut text = Self { to, error: None };
        make(&mut text).map_err(|error| text.error.take().unwrap_or_else(|| io::Error::other(error)))
    }
}

impl<W: Write> fmt::Write for Text<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.to.write_all(text.as_bytes()).map_err(|error| {
            self.error = Some(error);
            fmt::Error
        })
    }
}
