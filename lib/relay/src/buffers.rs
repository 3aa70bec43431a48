//! Read buffers, lent by the thread while bytes move.
//!
//! A buffer comes back after each read, often while parts of it (frozen chunks) still wait in a send queue. The pool
//! therefore lends the oldest one first and asks whether it is whole again; if it is not, a new one is made.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::BytesMut;

/// Size of the buffer that a connection reads with at first, and for small messages.
pub(crate) const SMALL: usize = 16 * 1024;
/// Size of the buffer once reads fill the small one.
pub(crate) const LARGE: usize = 256 * 1024;

/// Most buffers a thread keeps: 512 KiB of small and 4 MiB of large ones.
const SMALL_KEPT: usize = 32;
const LARGE_KEPT: usize = 16;

#[derive(Default)]
struct Pool {
    small: VecDeque<BytesMut>,
    large: VecDeque<BytesMut>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Lends an empty buffer with room for at least half of `size`, which is [`SMALL`] or [`LARGE`].
pub(crate) fn take(size: usize) -> BytesMut {
    POOL.with_borrow_mut(|pool| {
        let shelf = if size > SMALL {
            &mut pool.large
        } else {
            &mut pool.small
        };
        // Two tries: the oldest is the most likely to be whole again, and looking further costs more than it saves.
        for _ in 0..shelf.len().min(2) {
            let Some(mut buffer) = shelf.pop_front() else {
                break;
            };
            if buffer.try_reclaim(size) || buffer.capacity() >= size / 2 {
                return buffer;
            }
            shelf.push_back(buffer);
        }
        BytesMut::with_capacity(size)
    })
}

/// Takes back what [`take`] lent. Chunks split off it may still be in use.
pub(crate) fn give(mut buffer: BytesMut, size: usize) {
    buffer.clear();
    POOL.with_borrow_mut(|pool| {
        let (shelf, kept) = if size > SMALL {
            (&mut pool.large, LARGE_KEPT)
        } else {
            (&mut pool.small, SMALL_KEPT)
        };
        if shelf.len() == kept {
            shelf.pop_front();
        }
        shelf.push_back(buffer);
    });
}

#[cfg(test)]
mod tests;
