//! How long proxies take to follow a change.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many changes are remembered for measuring how long a proxy takes; of further ones the oldest are not measured.
const MAX_CONVERGING: usize = 64;

/// When the proxy's stream was told of revisions that the proxy has not acknowledged yet.
#[derive(Default)]
pub(super) struct Converging(VecDeque<(u64, Instant)>);

impl Converging {
    /// The stream was told of this revision now.
    pub(super) fn told(&mut self, revision: u64, now: Instant) {
        if self.0.len() == MAX_CONVERGING {
            self.0.pop_front();
        }
        self.0.push_back((revision, now));
    }

    /// How long each of those took that are acknowledged with this one.
    pub(super) fn acknowledged(&mut self, revision: u64, now: Instant) -> impl Iterator<Item = Duration> {
        let done = self.0.iter().take_while(|(told, _)| *told <= revision).count();
        let since: Vec<_> = self.0.drain(..done).collect();
        since
            .into_iter()
            .map(move |(_, since)| now.saturating_duration_since(since))
    }
}
