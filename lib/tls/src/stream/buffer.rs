//! Buffers that are held only while bytes move.
//!
//! Each thread keeps a few free buffers. A stream takes one when it has something to read or write and gives it
//! back when it is empty, so that an idle stream holds none.

use std::cell::RefCell;

/// Holds any one TLS record (RFC 8446 §5.2: 5 + 16384 + 256 bytes) with room to spare.
pub(crate) const SMALL: usize = 20 * 1024;
/// How far a stream reads ahead, and the most ciphertext made for one write.
pub(crate) const LARGE: usize = 256 * 1024;
/// The most free buffers kept per thread and size; what comes back beyond is freed.
const KEPT_SMALL: usize = 32;
const KEPT_LARGE: usize = 8;

thread_local! {
    static FREE: RefCell<Free> = const { RefCell::new(Free { small: Vec::new(), large: Vec::new() }) };
}

struct Free {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
}

/// A queue of bytes in one piece of memory: filled at the back, used up at the front.
#[derive(Default)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// How much memory is held, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.memory.len()
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    /// Uses up `count` bytes at the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The free part behind what is filled. See [`Buffer::reserve`].
    pub(crate) fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.end..]
    }

    /// Counts `count` bytes of the free part as filled.
    pub(crate) fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.memory.len());
    }

    /// Makes the free part at least `room` bytes long.
    pub(crate) fn reserve(&mut self, room: usize) {
        if self.memory.len() - self.end >= room {
            return;
        }
        let needed = self.len() + room;
        if needed <= self.memory.len() {
            self.memory.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        } else {
            self.move_to(needed);
        }
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Gives back memory that is not needed: all when empty, the large piece when a small one does.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        } else if self.memory.len() > SMALL && self.len() <= SMALL {
            self.move_to(self.len());
        }
    }

    /// Moves the bytes to another piece of memory with room for `needed` bytes in all.
    fn move_to(&mut self, needed: usize) {
        let mut memory = take(needed);
        let len = self.len();
        memory[..len].copy_from_slice(self.filled());
        *self = Self {
            memory,
            start: 0,
            end: len,
        };
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // When the thread is ending its store is gone, and the memory is simply freed.
        let _ = FREE.try_with(|free| {
            let free = &mut *free.borrow_mut();
            match memory.len() {
                SMALL if free.small.len() < KEPT_SMALL => free.small.push(memory),
                LARGE if free.large.len() < KEPT_LARGE => free.large.push(memory),
                _ => {}
            }
        });
    }
}

fn take(needed: usize) -> Box<[u8]> {
    let size = if needed <= SMALL { SMALL } else { needed.max(LARGE) };
    let kept = FREE.try_with(|free| {
        let free = &mut *free.borrow_mut();
        match size {
            SMALL => free.small.pop(),
            LARGE => free.large.pop(),
            _ => None,
        }
    });
    kept.ok()
        .flatten()
        .unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

#[cfg(test)]
mod tests;
