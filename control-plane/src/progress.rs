//! How far compiling is: whether the program makes progress, and what it knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use objects::Kind;

/// How long changes may wait to be compiled before the program counts as stuck. Compiling everything anew takes
/// seconds for a hundred thousand pods, on a machine that is busy perhaps a minute.
const STUCK: Duration = Duration::from_secs(600);

/// Cheap to clone; every clone sees the same.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Since when the oldest change waits.
    waits_since: Option<Instant>,
    waiting: usize,
    objects: BTreeMap<Kind, usize>,
    awaits_settings: bool,
}

impl Progress {
    /// So many changes wait, of so many objects that exist.
    pub(crate) fn received(&self, waiting: usize, objects: &BTreeMap<Kind, usize>, now: Instant) {
        let mut state = self.lock();
        state.waiting = waiting;
        state.waits_since.get_or_insert(now);
        state.objects.clone_from(objects);
    }

    /// All that waited is compiled; returns how long the oldest had waited.
    pub(crate) fn compiled(&self, now: Instant) -> Duration {
        let mut state = self.lock();
        state.waiting = 0;
        let since = state.waits_since.take().unwrap_or(now);
        now.saturating_duration_since(since)
    }

    /// Whether nothing is compiled until the mesh's settings can be read.
    pub(crate) fn awaits_settings(&self, awaits: bool) {
        self.lock().awaits_settings = awaits;
    }

    /// Whether it is so.
    pub(crate) fn is_awaiting_settings(&self) -> bool {
        self.lock().awaits_settings
    }

    /// How many changes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// How many objects there are, by kind.
    pub(crate) fn objects(&self) -> BTreeMap<Kind, usize> {
        self.lock().objects.clone()
    }

    /// For how long changes have waited, if that is too long.
    pub(crate) fn stuck(&self, now: Instant) -> Option<Duration> {
        let since = self.lock().waits_since?;
        Some(now.saturating_duration_since(since)).filter(|waited| *waited >= STUCK)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each field is right by itself, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stuck_only_while_something_waits() {
        let (progress, begin) = (Progress::default(), Instant::now());
        assert_eq!(progress.stuck(begin + 2 * STUCK), None);
        progress.received(2, &BTreeMap::from([(Kind::Pod, 1)]), begin);
        progress.received(3, &BTreeMap::from([(Kind::Pod, 2)]), begin + STUCK / 2);
        assert_eq!(progress.stuck(begin + STUCK / 2), None);
        assert_eq!(progress.stuck(begin + STUCK), Some(STUCK), "the oldest counts");
        assert_eq!(progress.waiting(), 3);
        assert_eq!(progress.compiled(begin + STUCK), STUCK);
        assert_eq!(progress.stuck(begin + 3 * STUCK), None);
        assert_eq!((progress.waiting(), progress.objects()[&Kind::Pod]), (0, 2));
    }
}
