//! Waiting a moment for more changes, so that what belongs together is compiled and sent together.

use std::time::{Duration, Instant};

/// How long nothing must happen.
const QUIET: Duration = Duration::from_millis(10);
/// How long the first of several changes waits at most.
const AT_MOST: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Debounce {
    /// The first and the last event.
    events: Option<(Instant, Instant)>,
}

impl Debounce {
    pub(super) fn event(&mut self, now: Instant) {
        self.events = Some((self.events.map_or(now, |(first, _)| first), now));
    }

    /// When it is time to do something; `None` while there is nothing to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.events
            .map(|(first, last)| (last + QUIET).min(first + AT_MOST))
    }

    pub(super) fn clear(&mut self) {
        self.events = None;
    }
}
