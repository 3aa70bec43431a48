//! How much of one process's memory the peers of its tunnels may hold.
//!
//! A stream takes bytes for a peer before the peer reads them, and a window is a promise to take what a peer sends
//! before the application reads it. Each connection bounds both for itself; a [`Budget`] bounds them for all
//! connections of a process together, and an [`Account`] is the share of those that belong together, such as one
//! pod's. An account may hold as much as it leaves free: one alone half of the budget, two a third each, so that there
//! is always something left for one that has held nothing so far (dynamic thresholds, Choudhury and Hahne 1998).
//!
//! A stream may hold a part of what its account has left, so that the more of them are stuck, the less each holds. It
//! is [`LEAST`] bytes always, so that nothing stops for good as long as its peer reads. Only when those fill the share,
//! is the account exhausted. Its connections then keep the small window that they have begun with, and no further
//! ones should be made.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;

/// What a stream may queue whatever the others hold, bytes.
pub const LEAST: usize = 16 * 1024;

/// A stream may queue one part in so many of what is left. With a budget of 1 GiB that is more than its own bound at
/// first, and some 500 streams of one account have to be stuck before it is exhausted.
const PART: usize = 128;

/// The connection window that a connection with an account begins with, if its settings do not say less; bytes.
pub const FIRST_WINDOW: u32 = 1024 * 1024;

/// A connection asks for its whole window once so many bytes have come through it.
pub(crate) const WORTH_A_WINDOW: u64 = 256 * 1024;

/// The bound for all connections of a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Total>);

#[derive(Debug)]
struct Total {
    limit: usize,
    queued: AtomicUsize,
    promised: AtomicUsize,
}

impl Budget {
    /// At most about `limit` bytes queued for peers, and at most `limit` bytes of windows beyond [`FIRST_WINDOW`].
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Total {
            limit,
            queued: AtomicUsize::new(0),
            promised: AtomicUsize::new(0),
        }))
    }

    /// The bound, bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes that wait for peers to read.
    pub fn queued(&self) -> usize {
        self.0.queued.load(Ordering::Relaxed)
    }

    /// Bytes of windows beyond the first ones.
    pub fn promised(&self) -> usize {
        self.0.promised.load(Ordering::Relaxed)
    }

    /// A share in it that holds nothing yet.
    pub fn account(&self) -> Account {
        Account(Arc::new(Own {
            total: self.0.clone(),
            queued: AtomicUsize::new(0),
        }))
    }
}

/// The share of connections that belong together. Clones share it.
#[derive(Clone, Debug)]
pub struct Account(Arc<Own>);

#[derive(Debug)]
struct Own {
    total: Arc<Total>,
    queued: AtomicUsize,
}

impl Account {
    /// Whether nothing is left for these connections: no further one should be made.
    pub fn is_exhausted(&self) -> bool {
        self.room() == 0
    }

    /// Bytes of these connections that wait for peers to read.
    pub fn queued(&self) -> usize {
        self.0.queued.load(Ordering::Relaxed)
    }

    /// How many bytes more these connections may queue.
    fn room(&self) -> usize {
        let total = &self.0.total;
        let free = total.limit.saturating_sub(total.queued.load(Ordering::Relaxed));
        free.saturating_sub(self.0.queued.load(Ordering::Relaxed))
    }

    fn take(&self, bytes: usize) {
        self.0.queued.fetch_add(bytes, Ordering::Relaxed);
        self.0.total.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.0.queued.fetch_sub(bytes, Ordering::Relaxed);
        self.0.total.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A window of `bytes` more, if there is as much for these connections.
    pub(crate) fn promise(&self, bytes: usize) -> Option<Promise> {
        if self.is_exhausted() {
            return None;
        }
        let total = &self.0.total;
        let enough = |promised: usize| promised.checked_add(bytes).filter(|all| *all <= total.limit);
        let taken = total
            .promised
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough);
        taken.ok().map(|_| Promise {
            total: total.clone(),
            bytes,
        })
    }
}

/// A window that counts as long as this lives.
#[derive(Debug)]
pub(crate) struct Promise {
    total: Arc<Total>,
    bytes: usize,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.total.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The window of one connection, which grows once that is worth it and allowed.
#[derive(Debug)]
pub(crate) struct GrowingWindow {
    account: Option<Account>,
    full: u32,
    promise: Option<Promise>,
}

impl GrowingWindow {
    pub(crate) fn new(account: Option<Account>, full: u32) -> Self {
        // Without an account, or with a small setting, it is whole from the first.
        let account = account.filter(|_| full > FIRST_WINDOW);
        Self {
            account,
            full,
            promise: None,
        }
    }

    pub(crate) fn first(&self) -> u32 {
        match self.account {
            Some(_) => FIRST_WINDOW,
            None => self.full,
        }
    }

    /// The size that it is to have from now on, after so many bytes have come, if that is new.
    pub(crate) fn grown(&mut self, received: u64) -> Option<u32> {
        let account = self.account.as_ref()?;
        if received < WORTH_A_WINDOW || self.promise.is_some() {
            return None;
        }
        self.promise = account.promise((self.full - FIRST_WINDOW) as usize);
        self.promise.is_some().then_some(self.full)
    }
}

/// What one stream has queued.
#[derive(Debug)]
pub(crate) struct Queue {
    account: Account,
    queued: AtomicUsize,
    waker: AtomicWaker,
}

impl Queue {
    pub(crate) fn new(account: Account) -> Arc<Self> {
        Arc::new(Self {
            account,
            queued: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
        })
    }

    /// How many of `wanted` bytes may be queued now. When it is 0, the task is woken once it may be more.
    pub(crate) fn room(&self, wanted: usize, cx: &Context<'_>) -> usize {
        let room = self.now();
        if room > 0 {
            return room.min(wanted);
        }
        self.waker.register(cx.waker());
        // The last bytes may have gone between the two.
        self.now().min(wanted)
    }

    fn now(&self) -> usize {
        let most = (self.account.room() / PART).max(LEAST);
        most.saturating_sub(self.queued.load(Ordering::Acquire))
    }
}

/// Bytes that count until they are written, or thrown away.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    counted: Option<(Arc<Queue>, usize)>,
}

impl Piece {
    /// For nobody's account.
    pub(crate) fn free(bytes: Bytes) -> Self {
        Self { bytes, counted: None }
    }

    pub(crate) fn of(queue: &Arc<Queue>, bytes: Bytes) -> Self {
        let length = bytes.len();
        queue.account.take(length);
        queue.queued.fetch_add(length, Ordering::AcqRel);
        Self {
            bytes,
            counted: Some((queue.clone(), length)),
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some((queue, length)) = self.counted.take() {
            queue.account.give_back(length);
            queue.queued.fetch_sub(length, Ordering::AcqRel);
            queue.waker.wake();
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

#[cfg(test)]
mod tests;
