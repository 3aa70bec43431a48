//! How long to wait before the next stream.

use std::time::Duration;

/// The wait after the first failure, before jitter.
pub const FIRST_WAIT: Duration = Duration::from_millis(20);

/// The longest wait, before jitter.
pub const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Doubles from [`FIRST_WAIT`] to [`LONGEST_WAIT`]. Jitter takes away up to half, so that the proxies of a mesh
/// don't come back to a control plane all at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST_WAIT }
    }
}

impl Backoff {
    /// The wait after one more failure.
    pub fn next(&mut self, entropy: u64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST_WAIT);
        let half = wait / 2;
        // `entropy` is reduced to a fraction of 2^32 parts; the product fits, half a wait has fewer than 2^34 ns.
        let part = u128::from(entropy >> 32);
        let jitter = (half.as_nanos() * part) >> 32;
        half + Duration::from_nanos(u64::try_from(jitter).unwrap_or(0))
    }

    /// All is well: the next failure is a first one.
    pub fn reset(&mut self) {
        self.next = FIRST_WAIT;
    }
}
