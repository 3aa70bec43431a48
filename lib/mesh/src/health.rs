//! What was seen of endpoints, beside what the control plane says of them.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use rpds::HashTrieMapSync;

use crate::endpoints::digest;

/// How long one failure keeps an endpoint out of the choice; each further one adds as much.
pub const EJECTION_STEP: Duration = Duration::from_secs(5);
/// The longest that failures keep an endpoint out.
pub const MAX_EJECTION: Duration = Duration::from_secs(60);
/// The most endpoints with failures that are remembered.
pub const MAX_TRACKED: usize = 65_536;

/// Recent failures to connect and open connections, by endpoint. Cloning is cheap, so it can be published like a snapshot.
///
/// An endpoint that failed is passed over for a while, as long as another is left; it never makes a service
/// unreachable on its own.
#[derive(Debug, Clone, Default)]
pub struct EndpointHealth {
    /// By digests of uids, which the endpoint tables hold, so that looking here reads nothing of the workload.
    failures: HashTrieMapSync<u64, Failures>,
    open: HashTrieMapSync<u64, u32>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    consecutive: u32,
    ejected_until: Instant,
}

impl EndpointHealth {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An attempt to reach the endpoint failed now.
    pub fn record_failure(&mut self, uid: &str, now: Instant) {
        let uid = digest(uid);
        let known = self.failures.get(&uid).map(|failures| failures.consecutive);
        if known.is_none() && self.failures.size() >= MAX_TRACKED {
            self.forget_old(now);
            if self.failures.size() >= MAX_TRACKED {
                // Passing over endpoints is a help, not a promise: one more is not worth unbounded memory.
                return;
            }
        }
        let consecutive = known.unwrap_or(0).saturating_add(1);
        let ejected = EJECTION_STEP.saturating_mul(consecutive).min(MAX_EJECTION);
        self.failures.insert_mut(
            uid,
            Failures {
                consecutive,
                ejected_until: now + ejected,
            },
        );
    }

    /// The endpoint was reached.
    pub fn record_success(&mut self, uid: &str) {
        self.failures.remove_mut(&digest(uid));
    }

    /// Whether the endpoint is passed over now.
    pub fn is_ejected(&self, uid: &str, now: Instant) -> bool {
        self.is_ejected_digest(digest(uid), now)
    }

    pub(crate) fn is_ejected_digest(&self, uid: u64, now: Instant) -> bool {
        // Most of the time nothing has failed, and there is nothing to look up.
        self.has_failures()
            && self
                .failures
                .get(&uid)
                .is_some_and(|failures| now < failures.ejected_until)
    }

    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    pub(crate) fn has_open_connections(&self) -> bool {
        !self.open.is_empty()
    }

    pub(crate) fn open_by_digest(&self, uid: u64) -> u32 {
        self.open.get(&uid).copied().unwrap_or(0)
    }

    /// A connection to the endpoint was opened, or is about to be. Each is followed by one
    /// [`EndpointHealth::connection_closed`].
    pub fn connection_opened(&mut self, uid: &str) {
        let uid = digest(uid);
        if let Some(open) = self.open.get_mut(&uid) {
            *open = open.saturating_add(1);
        } else if self.open.size() < MAX_TRACKED {
            // More are not counted: choosing by load is a help, not a promise.
            self.open.insert_mut(uid, 1);
        }
    }

    /// A connection to the endpoint is closed, or was not opened after all.
    pub fn connection_closed(&mut self, uid: &str) {
        let uid = digest(uid);
        match self.open.get_mut(&uid) {
            Some(open) if *open > 1 => *open -= 1,
            Some(_) => {
                self.open.remove_mut(&uid);
            }
            None => {}
        }
    }

    /// How many connections to the endpoint are open, as far as they were counted.
    pub fn open_connections(&self, uid: &str) -> u32 {
        self.open_by_digest(digest(uid))
    }

    /// Forgets endpoints whose time out is over for long.
    fn forget_old(&mut self, now: Instant) {
        let old = |failures: &Failures| now >= failures.ejected_until + MAX_EJECTION;
        let gone: Vec<_> = self
            .failures
            .iter()
            .filter(|(_, f)| old(f))
            .map(|(uid, _)| *uid)
            .collect();
        for uid in gone {
            self.failures.remove_mut(&uid);
        }
    }
}
