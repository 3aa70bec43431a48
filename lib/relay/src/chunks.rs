use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// The most chunks that are gathered for one write.
pub const MAX_CHUNKS: usize = 16;

/// Bytes on their way from one end to the other: at most [`MAX_CHUNKS`] chunks in order.
#[derive(Debug, Default)]
pub struct Chunks {
    list: VecDeque<Bytes>,
    bytes: usize,
}

impl Chunks {
    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether another chunk may be added.
    pub fn has_space(&self) -> bool {
        self.list.len() < MAX_CHUNKS
    }

    /// Adds a chunk at the back. An empty one is left out.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.list.push_back(chunk);
        }
    }

    /// Removes up to `limit` bytes of the first chunk.
    pub fn take(&mut self, limit: usize) -> Option<Bytes> {
        let front = self.list.front_mut()?;
        let chunk = if front.len() <= limit {
            self.list.pop_front()?
        } else {
            front.split_to(limit)
        };
        self.bytes -= chunk.len();
        Some(chunk)
    }

    /// Fills `slices` from the front and returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_CHUNKS]) -> usize {
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.list) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    /// Drops the first `taken` bytes.
    pub fn advance(&mut self, mut taken: usize) {
        self.bytes = self.bytes.saturating_sub(taken);
        while let Some(front) = self.list.front_mut() {
            if taken < front.len() {
                front.advance(taken);
                break;
            }
            taken -= front.len();
            self.list.pop_front();
        }
        // What bursts have allocated is not kept by a connection that may now be idle for hours.
        if self.list.is_empty() && self.list.capacity() > KEPT_SLOTS {
            self.list = VecDeque::new();
        }
    }
}

const KEPT_SLOTS: usize = 4;
