//! Where frames begin and end in a stream of bytes (RFC 9113 §4.1), and as much of them as is wanted. No frame is
//! kept or judged: that is the library's work.

/// DATA, RFC 9113 §6.1.
pub(crate) const DATA: u8 = 0;
/// WINDOW_UPDATE, RFC 9113 §6.9.
pub(crate) const WINDOW_UPDATE: u8 = 8;

/// The client's connection preface, RFC 9113 §3.4.
pub(crate) const PREFACE_BYTES: usize = 24;

const HEAD_BYTES: usize = 9;
const INCREMENT_BYTES: usize = 4;

/// One frame that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    /// Of the payload, bytes.
    pub(crate) length: u32,
    pub(crate) stream: u32,
    /// Of a WINDOW_UPDATE, else 0.
    pub(crate) increment: u32,
}

/// Follows one direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; HEAD_BYTES + INCREMENT_BYTES],
    have: usize,
    /// Bytes before the next head.
    skip: usize,
}

impl Frames {
    /// Frames begin after so many bytes.
    pub(crate) fn after(skip: usize) -> Self {
        Self {
            skip,
            ..Self::default()
        }
    }

    /// Takes the next bytes and calls `found` for each frame whose head is complete with them.
    pub(crate) fn follow(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let wanted = self.wanted();
            let taken = (wanted - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < self.wanted() {
                continue;
            }
            let frame = self.frame();
            self.skip = frame.length as usize - (self.have - HEAD_BYTES);
            self.have = 0;
            found(frame);
        }
    }

    /// Bytes of the head, as far as it is known.
    fn wanted(&self) -> usize {
        let update = self.have >= HEAD_BYTES
            && self.head[3] == WINDOW_UPDATE
            && self.head[..3] == [0, 0, INCREMENT_BYTES as u8];
        HEAD_BYTES + if update { INCREMENT_BYTES } else { 0 }
    }

    fn frame(&self) -> Frame {
        let head = &self.head;
        let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        // The highest bit of both numbers is reserved.
        const NUMBER: u32 = 0x7fff_ffff;
        Frame {
            kind: head[3],
            length: u32::from_be_bytes([0, head[0], head[1], head[2]]),
            stream: number(5) & NUMBER,
            increment: if self.have > HEAD_BYTES {
                number(HEAD_BYTES) & NUMBER
            } else {
                0
            },
        }
    }
}

#[cfg(test)]
mod tests;
