//! When to ask for the next certificate. A state machine without clock, randomness or I/O: both time and
//! entropy are arguments.
//!
//! A certificate is renewed at half of the life that is left when it arrives, a little earlier by chance so
//! that a mesh does not renew in step. Counting from the arrival rather than from `notBefore` matters: an
//! authority that backdates `notBefore` by minutes would otherwise make a short-lived certificate look overdue
//! the moment it arrives. After a failure the pauses double, and never reach past half of what is left. What
//! is held is kept until it ends; what has ended is not usable, whatever happens.

use std::time::{Duration, SystemTime};

use crate::WorkloadCertificate;
use crate::entropy::fraction;

/// The first pause after a failure.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause between two attempts, before jitter.
pub const LAST_RETRY: Duration = Duration::from_secs(150);
/// How far a retry pause strays, either way.
pub const RETRY_JITTER: f64 = 0.2;
/// How much earlier than half life a renewal may come.
pub const RENEWAL_JITTER: f64 = 0.05;
/// The longest wait answered at once, so that a clock that was set is noticed.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The shortest wait after any attempt, whatever the certificate says.
pub const SHORTEST_WAIT: Duration = Duration::from_millis(500);

/// The life of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its start.
    pub not_before: SystemTime,
    /// Its end.
    pub not_after: SystemTime,
}

impl From<&WorkloadCertificate> for Validity {
    fn from(certificate: &WorkloadCertificate) -> Self {
        Self {
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for a certificate, then report with [`Renewal::on_success`] or [`Renewal::on_failure`].
    Fetch,
    /// Ask again in this time, at most [`LONGEST_WAIT`].
    Wait(Duration),
}

/// The renewal of one identity's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    held: Option<Validity>,
    next: Option<SystemTime>,
    failures: u32,
}

impl Renewal {
    /// Nothing is held: the first action is to fetch.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do at `now`.
    pub fn next_action(&self, now: SystemTime) -> Action {
        match self.next.and_then(|next| next.duration_since(now).ok()) {
            Some(left) if !left.is_zero() => Action::Wait(left.min(LONGEST_WAIT)),
            _ => Action::Fetch,
        }
    }

    /// A certificate arrived at `now`.
    ///
    /// One that has already ended is no success: it counts as a failure, and what was held is kept.
    pub fn on_success(&mut self, now: SystemTime, certificate: impl Into<Validity>, entropy: u64) {
        let validity = certificate.into();
        let left = validity.not_after.duration_since(now).unwrap_or_default();
        if left.is_zero() {
            self.on_failure(now, entropy);
            return;
        }
        let wait = (left / 2)
            .mul_f64(1.0 - RENEWAL_JITTER * fraction(entropy))
            .max(SHORTEST_WAIT);
        *self = Self {
            held: Some(validity),
            next: Some(now + wait),
            failures: 0,
        };
    }

    /// An attempt failed at `now`.
    pub fn on_failure(&mut self, now: SystemTime, entropy: u64) {
        let doubled = FIRST_RETRY
            .saturating_mul(1 << self.failures.min(16))
            .min(LAST_RETRY);
        let mut wait = doubled.mul_f64(1.0 + RETRY_JITTER * (2.0 * fraction(entropy) - 1.0));
        let left = self.held.and_then(|held| held.not_after.duration_since(now).ok());
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            wait = wait.min(left / 2);
        }
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now + wait.max(SHORTEST_WAIT));
    }

    /// A reason not to wait so long: the next attempt comes at `at`, unless it is due earlier. What follows a
    /// failure keeps its pause.
    pub fn hasten(&mut self, at: SystemTime) {
        if self.failures == 0
            && let Some(next) = &mut self.next
        {
            *next = (*next).min(at);
        }
    }

    /// Whether the certificate held may be used at `now`.
    pub fn usable(&self, now: SystemTime) -> bool {
        self.held.is_some_and(|held| now < held.not_after)
    }

    /// How many attempts have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next attempt is due; `None` means now.
    pub fn due(&self) -> Option<SystemTime> {
        self.next
    }
}

#[cfg(test)]
mod tests;
