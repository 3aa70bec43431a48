//! What was issued and what was refused, for logs, metrics and whoever rotates the root.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mesh::Identity;

use super::authenticate::Caller;

/// How many refusals a second are written to the log; further ones are counted.
const MAX_REFUSALS_PER_SECOND: u32 = 20;

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueRecord {
    /// When.
    pub at: SystemTime,
    /// Its serial number, in lower-case hexadecimal.
    pub serial: String,
    /// Whom it names.
    pub identity: Identity,
    /// Who asked for it; its node is the certificate's.
    pub caller: Caller,
    /// The start of its life.
    pub not_before: SystemTime,
    /// The end of its life.
    pub not_after: SystemTime,
    /// [`super::Material::fingerprint`] of what signed it.
    pub signed_with: String,
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// A stable word for the reason.
    pub code: &'static str,
    /// The reason in words.
    pub reason: String,
    /// Who asked, where that is known.
    pub caller: Option<Caller>,
    /// For whom, where that was understood.
    pub identity: Option<Identity>,
}

/// Is told of every answer, before it is sent. It must not wait.
pub trait Observer: Send + Sync + 'static {
    /// A certificate was issued.
    fn issued(&self, issue: &IssueRecord);
    /// A request was refused.
    fn refused(&self, refusal: &Refusal);
}

/// Writes one line for each certificate and, as far as there are not too many, each refusal: whoever has no token
/// must not be able to fill a disk.
#[derive(Default)]
pub(super) struct Lines {
    window: Mutex<Window>,
}

impl Observer for Lines {
    fn issued(&self, issue: &IssueRecord) {
        let not_after = time::OffsetDateTime::from(issue.not_after);
        let IssueRecord {
            serial,
            identity,
            caller,
            ..
        } = issue;
        tracing::info!(%identity, serial, %caller, node = caller.node, %not_after, "certificate issued");
    }

    fn refused(&self, refusal: &Refusal) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = window.admit(refusal.at) else {
            return;
        };
        drop(window);
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "refusals were not written to the log: there were too many at once"
            );
        }
        let show = |text: Option<String>| text.unwrap_or_default();
        let caller = show(refusal.caller.as_ref().map(Caller::to_string));
        let identity = show(refusal.identity.as_ref().map(Identity::to_string));
        tracing::warn!(
            code = refusal.code,
            caller,
            identity,
            "certificate refused: {}",
            refusal.reason
        );
    }
}

/// Admits so many within a second.
#[derive(Default)]
struct Window {
    began: Option<SystemTime>,
    admitted: u32,
    left_out: u64,
}

impl Window {
    /// How many were left out since the last one; nothing when this one is left out too.
    fn admit(&mut self, now: SystemTime) -> Option<u64> {
        let second = Duration::from_secs(1);
        // A clock that was set back begins anew.
        let is_over = |began: SystemTime| now.duration_since(began).map_or(true, |age| age >= second);
        if self.began.is_none_or(is_over) {
            self.began = Some(now);
            self.admitted = 0;
        }
        if self.admitted == MAX_REFUSALS_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.admitted += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests;
