//! Messages on a stream: each behind its length in two bytes (RFC 1035 §4.2.2).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes asked of the stream at a time.
const CHUNK: usize = 2048;

/// Reads messages. Giving up a read loses nothing: what has come is kept for the next.
pub(crate) struct MessageReader<S> {
    stream: S,
    buffer: Vec<u8>,
    /// How much of the buffer was given out.
    taken: usize,
}

impl<S: AsyncRead + Unpin> MessageReader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// The next message; nothing when the other side has ended between two.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            // Only now, or many small messages would each move all that follow.
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.buffer.reserve(CHUNK);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let rest = self.buffer.get(self.taken..)?;
        let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        let message = rest.get(2..2 + length)?.to_vec();
        self.taken += 2 + length;
        Some(message)
    }
}

/// Writes one message, with one call.
pub(crate) async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"))?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    stream.write_all(&framed).await
}
