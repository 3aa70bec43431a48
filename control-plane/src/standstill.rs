//! Whether this process stood still: stopped, or on a machine that hung or was paused.
//!
//! To itself it is as if no time had passed, but what it knows is old: others have changed the mesh meanwhile, and it has
//! not read of it yet. A proxy that came to it in that moment, from another replica, would be taken back to how the mesh
//! was, and let in who is denied by now. So such a process reads everything anew, as at its start, and takes no new
//! streams before that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How often the process looks at the clock.
const BEAT: Duration = Duration::from_secs(1);
/// For how long it may not have looked; proxies stay with a replica that is silent for longer than that.
const LIMIT: Duration = Duration::from_secs(10);

/// Cheap to clone; every clone sees the same.
#[derive(Clone)]
pub(crate) struct Standstill {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    noticed: Notify,
}

struct State {
    looked: Instant,
    /// How often it stood still.
    times: u64,
    /// After which of these it has read everything.
    caught_up: u64,
}

impl Standstill {
    pub(crate) fn new(now: Instant) -> Standstill {
        let state = State {
            looked: now,
            times: 0,
            caught_up: 0,
        };
        Standstill {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                noticed: Notify::new(),
            }),
        }
    }

    /// Looks at the clock, until the future is dropped.
    pub(crate) async fn watch(self) {
        loop {
            self.look(Instant::now());
            tokio::time::sleep(BEAT).await;
        }
    }

    pub(crate) fn look(&self, now: Instant) {
        let mut state = self.lock();
        let stood = now.saturating_duration_since(state.looked);
        state.looked = now;
        if stood > LIMIT {
            tracing::warn!(?stood, "this process stood still: everything is read anew");
            state.times += 1;
            self.shared.noticed.notify_one();
        }
    }

    /// Whether what this process knows may be older than it thinks. True from the first moment, before anybody has
    /// looked at the clock.
    pub(crate) fn is_behind(&self, now: Instant) -> bool {
        let state = self.lock();
        state.times != state.caught_up || now.saturating_duration_since(state.looked) > LIMIT
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_stood_still_is_behind_until_it_has_read_everything() {
        let begin = Instant::now();
        let standstill = Standstill::new(begin);
        standstill.look(begin + LIMIT);
        assert!(!standstill.is_behind(begin + LIMIT + BEAT));
        // Before the clock is looked at, and after.
        let later = begin + LIMIT + LIMIT + BEAT;
        assert!(standstill.is_behind(later));
        standstill.look(later);
        assert!(standstill.is_behind(later));
        assert_eq!(standstill.noticed().await, 1);
        standstill.look(later + BEAT);
        assert!(standstill.is_behind(later + BEAT), "nothing was read yet");
        // What is served was read before it stood still.
        standstill.caught_up(0);
        assert!(standstill.is_behind(later + BEAT));
        standstill.caught_up(1);
        assert!(!standstill.is_behind(later + BEAT));
    }
}
