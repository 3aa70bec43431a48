//! When to ask for the next certificate. A state machine without clock, randomness or I/O: both time and
//! entropy are arguments.
//!
//! A certificate is renewed at half of the life that is left when it arrives, a little earlier by chance so
//! that a mesh does not renew in step. Counting from the arrival rather than from `notBefore` matters: an
//! authority that backdates `notBefore` by minutes would otherwise make a short-lived certificate look overdue
//! the moment it arrives. After a failure the pauses double, and never reach past half of what is left. What
//! is held is kept until it ends; what has ended is not usable, whatever happens.
//!
//! What its authority has revoked (RFC 5280 §5.3) is of no use to its rightful holder either, so the next one is asked
//! for at once. If that one is revoked too, or another soon after, the pauses between double as after failures: an
//! authority, or one above it, that takes back whatever it gives is not asked without end.

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
/// Over how long those whose certificates are revoked at once ask for new ones, so that they do not do it in step.
pub const REVOKED_SPREAD: Duration = Duration::from_secs(2);
/// How long none may have been revoked until the next one is replaced without a pause.
pub const REVOKED_MEMORY: Duration = Duration::from_secs(600);
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
    /// What is held is revoked.
    is_revoked: bool,
    /// How many in a row were revoked, each within [`REVOKED_MEMORY`] of the one before, and when the last one was.
    revoked: Option<(u32, SystemTime)>,
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
            is_revoked: false,
            revoked: self.revoked,
        };
    }

    /// An attempt failed at `now`.
    pub fn on_failure(&mut self, now: SystemTime, entropy: u64) {
        let mut wait = pause(self.failures, entropy);
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

    /// It is seen at `now` that what is held is revoked; whether that is news. What follows a failure keeps its pause.
    pub fn on_revoked(&mut self, now: SystemTime, entropy: u64) -> bool {
        if self.held.is_none() || self.is_revoked {
            return false;
        }
        self.is_revoked = true;
        // A time that lies ahead is from before the clock was set back: still remembered.
        let before = self.revoked.filter(|(_, last)| {
            now.duration_since(*last)
                .is_ok_and(|since| since < REVOKED_MEMORY)
                || *last > now
        });
        let times = before.map_or(0, |(times, _)| times);
        self.revoked = Some((times.saturating_add(1), now));
        let wait = match times {
            0 => REVOKED_SPREAD.mul_f64(fraction(entropy)),
            again => pause(again, entropy),
        };
        self.hasten(now + wait);
        true
    }

    /// Whether the certificate held is revoked.
    pub fn is_revoked(&self) -> bool {
        self.is_revoked
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

/// The pause after so many in a row.
fn pause(times: u32, entropy: u64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << times.min(16)).min(LAST_RETRY);
    doubled.mul_f64(1.0 + RETRY_JITTER * (2.0 * fraction(entropy) - 1.0))
}

#[cfg(test)]
mod tests;
