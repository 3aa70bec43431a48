//! What makes one identity's certificate more urgent than its schedule says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::Notify;

/// Shared by the task that keeps a certificate current and whoever wants it.
#[derive(Debug, Default)]
pub(crate) struct Hurry {
    waiting: AtomicUsize,
    early: Mutex<Option<SystemTime>>,
    judge: AtomicBool,
    changed: Notify,
}

impl Hurry {
    /// A connection waits until the guard is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        Waiting { hurry: self }
    }

    /// Whether a connection waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Asks for a renewal at `at`, unless it comes earlier.
    pub(crate) fn renew_at(&self, at: SystemTime) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        *early = Some(early.map_or(at, |before| before.min(at)));
        drop(early);
        self.changed.notify_one();
    }

    /// The early renewal asked for, once.
    pub(crate) fn take_early(&self) -> Option<SystemTime> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What is held may be revoked now.
    pub(crate) fn judge(&self) {
        self.judge.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Whether it is to be looked whether what is held is revoked, once.
    pub(crate) fn take_judge(&self) -> bool {
        self.judge.swap(false, Ordering::SeqCst)
    }

    /// Ends when something of the above has changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A connection that waits.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    hurry: &'a Hurry,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.hurry.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
