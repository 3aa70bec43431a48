//! Whether this process stood still: stopped, or on a machine that hung or was paused.
//!
//! To itself it is as if no time had passed, but what it knows is old: others have changed the mesh meanwhile, and it has
//! not read of it yet. A proxy that came to it in that moment, from another replica, would be taken back to how the mesh
//! was, and let in who is denied by now. So such a process reads everything anew, as at its start, and takes no new
//! streams before that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

/// How often the process looks at the clock.
const BEAT: Duration = Duration::from_secs(1);
/// For how long it may not have looked; proxies stay with a replica that is silent for longer than that.
const LIMIT: Duration = Duration::from_secs(10);

/// Cheap to clone; every clone sees the same.
#[derive(Clone, Default)]
pub(crate) struct Standstill {
    shared: Arc<Shared>,
}

/// What the clocks show.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) monotonic: Instant,
    /// The monotonic one does not count while the machine is paused. A wall clock that was set ahead looks the same, and
    /// costs that everything is read once more.
    pub(crate) wall: SystemTime,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    noticed: Notify,
}

#[derive(Default)]
struct State {
    /// `None` before the first time: nothing is known that could be old.
    looked: Option<Now>,
    /// How often it stood still.
    times: u64,
    /// After which of these it has read everything.
    caught_up: u64,
}

impl Now {
    pub(crate) fn read() -> Now {
        Now {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// By the clock by which that was longer ago.
    fn since(&self, earlier: &Now) -> Duration {
        let by_wall = self.wall.duration_since(earlier.wall);
        let by_monotonic = self.monotonic.saturating_duration_since(earlier.monotonic);
        by_monotonic.max(by_wall.unwrap_or_default())
    }
}

impl Standstill {
    /// Looks at the clocks, from when reading begins until the future is dropped.
    pub(crate) async fn watch(self) {
        loop {
            self.look(Now::read());
            tokio::time::sleep(BEAT).await;
        }
    }

    pub(crate) fn look(&self, now: Now) {
        let mut state = self.lock();
        let stood = state.stood(&now);
        state.looked = Some(now);
        if stood > LIMIT {
            tracing::warn!(?stood, "this process stood still: everything is read anew");
            state.times += 1;
            self.shared.noticed.notify_one();
        }
    }

    /// Whether what this process knows may be older than it thinks. True from the first moment after it stood still,
    /// before anybody has looked at the clocks.
    pub(crate) fn is_behind(&self, now: Now) -> bool {
        let state = self.lock();
        state.times != state.caught_up || state.stood(&now) > LIMIT
    }

    /// Waits until it is noticed that the process stood still; says how often it has by now.
    pub(crate) async fn noticed(&self) -> u64 {
        self.shared.noticed.notified().await;
        self.lock().times
    }

    /// What was read after it had stood still so often is served.
    pub(crate) fn caught_up(&self, times: u64) {
        let mut state = self.lock();
        if state.caught_up != times {
            tracing::info!("everything is read anew");
            state.caught_up = times;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each field is right by itself, so a panic elsewhere does not spoil it.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn stood(&self, now: &Now) -> Duration {
        self.looked.map_or(Duration::ZERO, |looked| now.since(&looked))
    }
}

#[cfg(test)]
mod tests;
