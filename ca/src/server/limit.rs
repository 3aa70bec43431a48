//! How many requests one caller may make. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many requests a caller may make at once: a node with as many identities that begins.
const BURST: u32 = 1000;
/// How many more it may make a second. Renewals need far less.
const PER_SECOND: f64 = 100.0;
/// How many callers are counted at once; beyond, new ones are told to come again. Who has made no request for as long
/// as it takes to have them all again is forgotten.
const MAX_CALLERS: usize = 65_536;

/// What each caller has left, by key.
pub(super) struct Limit {
    burst: f64,
    per_second: f64,
    callers: HashMap<String, Left>,
}

struct Left {
    requests: f64,
    at: Instant,
}

impl Default for Limit {
    fn default() -> Self {
        Self::new(BURST, PER_SECOND)
    }
}

impl Limit {
    /// So many at once, and so many more a second.
    pub(super) fn new(burst: u32, per_second: f64) -> Self {
        Self {
            burst: burst.into(),
            per_second,
            callers: HashMap::new(),
        }
    }

    /// Admits a request, unless the caller has made too many.
    pub(super) fn admit(&mut self, key: &str, now: Instant) -> bool {
        let (burst, per_second) = (self.burst, self.per_second);
        let left_now = |left: &Left| {
            let since = now.saturating_duration_since(left.at).as_secs_f64();
            (left.requests + since * per_second).min(burst)
        };
        if let Some(left) = self.callers.get_mut(key) {
            let requests = left_now(left);
            let is_admitted = requests >= 1.0;
            left.requests = if is_admitted { requests - 1.0 } else { requests };
            left.at = now;
            return is_admitted;
        }
        if self.callers.len() >= MAX_CALLERS {
            self.callers.retain(|_, left| left_now(left) < burst);
            if self.callers.len() >= MAX_CALLERS {
                return false;
            }
        }
        let requests = burst - 1.0;
        self.callers.insert(key.to_owned(), Left { requests, at: now });
        true
    }
}

/// How long a request waits for its turn when many are handled.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
