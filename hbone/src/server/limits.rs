//! What a peer that has proven who it is may cost while it uses nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::ABANDONED_WINDOW;

/// Looks this often within the timeout whether a connection is used.
const LOOKS: u32 = 4;

/// Notices when a connection has carried no tunnel for about the timeout: at least three quarters of it.
pub(super) struct Idle {
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    used: Instant,
    over: bool,
}

impl Idle {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            timer: Box::pin(sleep(timeout / LOOKS)),
            used: Instant::now(),
            over: false,
        }
    }

    /// A request has come.
    pub(super) fn used(&mut self) {
        self.used = Instant::now();
    }

    /// Completes once, when the connection is idle for long enough.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, in_use: impl Fn() -> bool) -> Poll<()> {
        while !self.over {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if in_use() {
                self.used = now;
            }
            self.over = now.duration_since(self.used) >= self.timeout;
            if self.over {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(now + self.timeout / LOOKS);
        }
        Poll::Pending
    }
}

/// Notices when a peer gives up too many requests.
pub(super) struct Abandoned {
    max: usize,
    since: Instant,
    before: usize,
}

impl Abandoned {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            since: Instant::now(),
            before: 0,
        }
    }

    /// `count`: how many there were since the connection began.
    pub(super) fn too_many(&mut self, count: usize) -> bool {
        if count.saturating_sub(self.before) <= self.max {
            if self.since.elapsed() >= ABANDONED_WINDOW {
                self.since = Instant::now();
                self.before = count;
            }
            return false;
        }
        // A slow trickle that was not looked at for long is none.
        let in_window = self.since.elapsed() < ABANDONED_WINDOW;
        self.since = Instant::now();
        self.before = count;
        in_window
    }
}
