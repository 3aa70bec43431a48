//! The TLS session without I/O: bytes in, bytes out.

use std::io::IoSlice;

use tokio::io::ReadBuf;

use super::buffer::{Buffer, LARGE, SMALL};
use super::connection::{Connection, Send, Step};
use crate::HandshakeError;

/// The plaintext of one full record.
const RECORD: usize = 16 * 1024;
/// How much longer a record is than its plaintext: 22 bytes in TLS 1.3, 29 in TLS 1.2 (RFC 5288 section 3).
const RECORD_OVERHEAD: usize = 29;
/// The most plaintext taken for one write: its records fill one large buffer.
pub(super) const MAX_WRITE: usize = 15 * RECORD;
/// After so many small reads in a row the read-ahead becomes small again.
const SMALL_READS: u8 = 8;

/// One TLS connection with its buffers.
pub(super) struct Session {
    tls: Connection,
    /// Ciphertext received and not yet used up.
    pub(super) input: Buffer,
    /// Ciphertext to be sent.
    pub(super) output: Buffer,
    /// Plaintext that did not fit into the reader's buffer.
    plaintext: Buffer,
    /// A handshake message is spread over records at the front of `input`.
    fragmented: bool,
    peer_closed: bool,
    closed: bool,
    failed: Option<HandshakeError>,
    read_ahead: ReadAhead,
}

/// How much to ask the socket for.
#[derive(Default)]
struct ReadAhead {
    large: bool,
    small_reads: u8,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Plaintext was written into the reader's buffer.
    Some,
    /// There will be no more.
    End,
    /// More ciphertext is needed.
    NeedInput,
}

impl Session {
    pub(super) fn new(tls: Connection) -> Self {
        Self {
            tls,
            input: Buffer::default(),
            output: Buffer::default(),
            plaintext: Buffer::default(),
            fragmented: false,
            peer_closed: false,
            closed: false,
            failed: None,
            read_ahead: ReadAhead::default(),
        }
    }

    pub(super) fn tls(&self) -> &Connection {
        &self.tls
    }

    /// How much memory the buffers hold, in bytes.
    pub(super) fn held(&self) -> usize {
        self.input.held() + self.output.held() + self.plaintext.held()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.common().is_handshaking()
    }

    /// Goes on with the handshake as far as the input reaches.
    pub(super) fn handshake(&mut self) -> Result<(), HandshakeError> {
        self.check()?;
        while self.is_handshaking() {
            // One step may reach past the peer's last message, into its first data.
            let mut early = std::mem::take(&mut self.plaintext);
            let step = self.step_on_input(&mut |data| early.extend(data));
            self.plaintext = early;
            match step? {
                // A server may already send here, but it does not yet know to whom.
                Step::NeedInput | Step::Ready => return Ok(()),
                Step::Again | Step::Data => {}
                Step::PeerClosed | Step::Closed => return Err(HandshakeError::PeerClosed),
            }
        }
        // The last messages of our own may still be queued inside.
        self.collect_output()
    }

    /// Decrypts into `out`, which must have room, until it is full or the input is used up.
    pub(super) fn read(&mut self, out: &mut ReadBuf<'_>) -> Result<Read, HandshakeError> {
        let before = out.filled().len();
        loop {
            let take = self.plaintext.len().min(out.remaining());
            out.put_slice(&self.plaintext.filled()[..take]);
            self.plaintext.consume(take);
            if out.remaining() == 0 {
                return Ok(Read::Some);
            }
            if self.peer_closed {
                self.shrink();
                return Ok(if out.filled().len() > before {
                    Read::Some
                } else {
                    Read::End
                });
            }
            // What was decrypted before an error is delivered first.
            if let Some(error) = &self.failed {
                return if out.filled().len() > before {
                    Ok(Read::Some)
                } else {
                    Err(error.clone())
                };
            }
            match self.decrypt(out) {
                Ok(Step::NeedInput | Step::Ready) => {
                    let some = out.filled().len() > before;
                    if self.plaintext.is_empty() {
                        self.plaintext.shrink();
                    }
                    return Ok(if some { Read::Some } else { Read::NeedInput });
                }
                Ok(Step::PeerClosed | Step::Closed) => self.peer_closed = true,
                Ok(Step::Again | Step::Data) | Err(_) => {}
            }
        }
    }

    fn decrypt(&mut self, out: &mut ReadBuf<'_>) -> Result<Step, HandshakeError> {
        let mut plaintext = std::mem::take(&mut self.plaintext);
        let step = self.step_on_input(&mut |data| {
            let (now, later) = data.split_at(data.len().min(out.remaining()));
            out.put_slice(now);
            plaintext.extend(later);
        });
        self.plaintext = plaintext;
        step
    }

    /// Encrypts the front of `data`; returns how many bytes were taken. The output must be empty or short.
    pub(super) fn write(&mut self, data: &[IoSlice<'_>]) -> Result<usize, HandshakeError> {
        self.check()?;
        let total = data.iter().map(|slice| slice.len()).sum::<usize>().min(MAX_WRITE);
        let mut left = total;
        let mut gather: Vec<u8> = Vec::new();
        self.output
            .reserve(total + (total / RECORD + 2) * RECORD_OVERHEAD);
        for slice in data {
            let mut slice = &slice[..slice.len().min(left)];
            left -= slice.len();
            // Short pieces share a record; long ones are encrypted from where they lie.
            if !gather.is_empty() || (slice.len() < RECORD && left > 0) {
                if gather.capacity() == 0 {
                    gather.reserve_exact(RECORD.min(total));
                }
                let (head, tail) = slice.split_at(slice.len().min(RECORD - gather.len()));
                gather.extend_from_slice(head);
                slice = tail;
                if gather.len() == RECORD {
                    self.send(Send::Data(&gather))?;
                    gather.clear();
                }
            }
            let whole = if left == 0 {
                slice.len()
            } else {
                slice.len() / RECORD * RECORD
            };
            let (direct, rest) = slice.split_at(if gather.is_empty() { whole } else { 0 });
            if !direct.is_empty() {
                self.send(Send::Data(direct))?;
            }
            gather.extend_from_slice(rest);
            if left == 0 {
                break;
            }
        }
        if !gather.is_empty() {
            self.send(Send::Data(&gather))?;
        }
        Ok(total)
    }

    /// Whether our close_notify is queued or sent: nothing may follow it (RFC 8446 §6.1).
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Queues our close_notify, once.
    pub(super) fn close(&mut self) -> Result<(), HandshakeError> {
        if self.closed || self.failed.is_some() {
            return Ok(());
        }
        self.closed = true;
        self.send(Send::CloseNotify)
    }

    /// Makes room for the next read and returns it.
    ///
    /// # Errors
    /// When a handshake message comes in so many pieces that the largest buffer cannot hold them.
    pub(super) fn room(&mut self) -> Result<&mut [u8], HandshakeError> {
        if self.input.len() >= LARGE {
            return Err(HandshakeError::Protocol(
                "a handshake message in too many pieces".into(),
            ));
        }
        let size = if self.read_ahead.large || self.input.len() >= SMALL {
            LARGE
        } else {
            SMALL
        };
        if self.input.held() < size {
            self.input.reserve(size - self.input.len());
        } else {
            // Moves what is left of a record to the front, at most once per read.
            self.input.reserve(self.input.held() - self.input.len());
        }
        Ok(self.input.spare_mut())
    }

    /// Takes note of `count` bytes read into the room.
    pub(super) fn received(&mut self, count: usize) {
        let full = count == self.input.spare_mut().len();
        self.input.advance(count);
        if full {
            self.read_ahead = ReadAhead {
                large: true,
                small_reads: 0,
            };
        } else if count < SMALL / 2 {
            self.read_ahead.small_reads = self.read_ahead.small_reads.saturating_add(1);
            if self.read_ahead.small_reads >= SMALL_READS {
                self.read_ahead.large = false;
            }
        } else {
            self.read_ahead.small_reads = 0;
        }
    }

    /// Gives back the memory that is not in use, as when there is nothing to read for now.
    pub(super) fn shrink(&mut self) {
        self.input.shrink();
        if self.plaintext.is_empty() {
            self.plaintext.shrink();
        }
    }

    /// The connection below ended without a close_notify.
    pub(super) fn truncated(&mut self) -> HandshakeError {
        self.failed.get_or_insert(HandshakeError::PeerClosed).clone()
    }

    fn check(&self) -> Result<(), HandshakeError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Sends something once the connection is ready for it.
    fn send(&mut self, send: Send<'_>) -> Result<(), HandshakeError> {
        loop {
            // Received records are the reader's: this step sees none, except those already seen that hold the
            // beginning of a handshake message, which the library wants to find where they were.
            let input = if self.fragmented {
                self.input.filled_mut()
            } else {
                &mut []
            };
            let plaintext = &mut self.plaintext;
            let (used, step) = self
                .tls
                .step(input, &mut self.output, send, &mut |data| plaintext.extend(data));
            self.input.consume(used);
            match step {
                Ok(Step::Ready) => return Ok(()),
                Ok(Step::Again | Step::Data) => {}
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::NeedInput) => {
                    return Err(HandshakeError::Internal(
                        "sending before the handshake is over".into(),
                    ));
                }
                Ok(Step::Closed) => return Err(HandshakeError::Internal("sending after the close".into())),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    fn step_on_input(&mut self, deliver: &mut dyn FnMut(&[u8])) -> Result<Step, HandshakeError> {
        let (used, step) = self
            .tls
            .step(self.input.filled_mut(), &mut self.output, Send::Nothing, deliver);
        self.input.consume(used);
        self.fragmented = match step {
            // All complete records have been seen, so one that is still here is part of a message.
            Ok(Step::NeedInput | Step::Ready) => begins_with_record(self.input.filled()),
            Ok(Step::Again) => self.fragmented,
            _ => false,
        };
        step.map_err(|error| self.fail(error))
    }

    fn collect_output(&mut self) -> Result<(), HandshakeError> {
        while self.tls.common().wants_write() {
            let (used, step) = self
                .tls
                .step(&mut [], &mut self.output, Send::Nothing, &mut |_| ());
            self.input.consume(used);
            step.map_err(|error| self.fail(error))?;
        }
        Ok(())
    }

    /// Records a failure, and puts the alert about it into the output.
    fn fail(&mut self, error: rustls::Error) -> HandshakeError {
        let started = self.tls.common().protocol_version().is_some();
        let error = HandshakeError::from_tls(error, started);
        self.failed = Some(error.clone());
        // As long as something is queued, a step hands it out and looks at nothing else.
        while self.tls.common().wants_write() {
            let (_, step) = self
                .tls
                .step(&mut [], &mut self.output, Send::Nothing, &mut |_| ());
            if step != Ok(Step::Again) {
                break;
            }
        }
        error
    }
}

/// Whether `bytes` begin with one whole TLS record.
fn begins_with_record(bytes: &[u8]) -> bool {
    match bytes {
        [_, _, _, high, low, rest @ ..] => rest.len() >= usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}
