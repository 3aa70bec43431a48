//! What the bytes of a connection tell about its peer: when it was heard last, and whether it takes more.

use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::frames::{DATA, Frames, PREFACE_BYTES, WINDOW_UPDATE};

/// The connection's window before any WINDOW_UPDATE, RFC 9113 §6.9.2, bytes.
const INITIAL_WINDOW: i64 = 65_535;

/// A window with no more than this left is as good as used up: one frame of a usual size does not fit.
const USED_UP: i64 = 16 * 1024;

/// Updated with every read and write of a connection.
pub(crate) struct Vitals {
    state: Mutex<State>,
    /// How many wait for the next byte: waking is spared when nobody does.
    waiting: AtomicUsize,
    arrived: Notify,
    received: AtomicU64,
}

struct State {
    heard: Instant,
    window: Option<Window>,
}

/// How much the peer allows us to send on all streams together, counted from the frames in both directions, since the
/// library does not tell.
struct Window {
    left: i64,
    used_up_since: Option<Instant>,
    sent: Frames,
    received: Frames,
}

impl Vitals {
    /// Of a connection that this side has opened: its window is watched.
    pub(crate) fn of_client() -> Self {
        Self::new(Some(Window {
            left: INITIAL_WINDOW,
            used_up_since: None,
            sent: Frames::after(PREFACE_BYTES),
            received: Frames::default(),
        }))
    }

    /// Of a connection that was accepted: nobody chooses between those, so its window is not watched.
    pub(crate) fn of_server() -> Self {
        Self::new(None)
    }

    fn new(window: Option<Window>) -> Self {
        Self {
            state: Mutex::new(State {
                heard: Instant::now(),
                window,
            }),
            waiting: AtomicUsize::new(0),
            arrived: Notify::new(),
            received: AtomicU64::new(0),
        }
    }

    /// These bytes have come.
    pub(crate) fn came(&self, bytes: &[u8]) {
        let now = Instant::now();
        self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut state = self.lock();
        state.heard = now;
        if let Some(window) = &mut state.window {
            window.came(bytes);
        }
        drop(state);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.arrived.notify_waiters();
        }
    }

    /// The first `count` of these bytes are on their way.
    pub(crate) fn went(&self, bufs: &[IoSlice<'_>], mut count: usize) {
        let mut state = self.lock();
        let Some(window) = &mut state.window else {
            return;
        };
        for buf in bufs {
            let part = buf.len().min(count);
            window.went(&buf[..part]);
            count -= part;
        }
    }

    /// How many bytes have come.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn heard(&self) -> Instant {
        self.lock().heard
    }

    /// Since when the window is used up, if it is.
    pub(crate) fn blocked_since(&self) -> Option<Instant> {
        self.lock().window.as_ref()?.used_up_since
    }

    /// Calls `ask` and then waits for any byte of the peer.
    pub(crate) async fn heard_again(&self, ask: impl FnOnce()) {
        let _waiting = Waiting::new(&self.waiting);
        let mut arrived = std::pin::pin!(self.arrived.notified());
        // Listen before asking, or a quick answer would go unheard.
        arrived.as_mut().enable();
        ask();
        arrived.await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn came(&mut self, bytes: &[u8]) {
        let mut more = 0;
        self.received.follow(bytes, |frame| {
            if frame.kind == WINDOW_UPDATE && frame.stream == 0 {
                more += i64::from(frame.increment);
            }
        });
        if more > 0 {
            self.left = self.left.saturating_add(more);
            self.look();
        }
    }

    fn went(&mut self, bytes: &[u8]) {
        let mut used = 0;
        self.sent.follow(bytes, |frame| {
            if frame.kind == DATA {
                used += i64::from(frame.length);
            }
        });
        if used > 0 {
            self.left -= used;
            self.look();
        }
    }

    fn look(&mut self) {
        if self.left > USED_UP {
            self.used_up_since = None;
        } else {
            self.used_up_since.get_or_insert_with(Instant::now);
        }
    }
}

/// Counts one who waits, as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
