//! What is done next for one kind: listing, watching, or waiting. Pure: time and entropy are arguments.
//!
//! ```text
//!            a page with more behind it           the watch ended: go on from the last version
//!                 ┌──────┐                            ┌──────┐
//!                 ▼      │     the last page          ▼      │
//!             ┌───────────┐ ─────────────────────▶ ┌────────────┐
//!             │  Listing  │                        │  Watching  │
//!             └───────────┘ ◀───────────────────── └────────────┘
//!                 ▲      │   410, an unknown version,   ▲      │
//!                 └──────┘   something unreadable,      └──────┘
//!              any failure:  several answered errors     no answer: the same again,
//!              from the start                            however long it takes
//! ```
//!
//! A server that has too much to do is asked for the same again, also for the same page: everything anew would be more
//! for it to do.
//!
//! After a failure there is a pause, longer with each that follows. A server that cannot be reached for an hour is
//! asked to go on where the watch stopped; it says itself when it cannot. But of a version that it has not reached yet
//! it says nothing: it waits until it has, and tells nothing of what happens meanwhile. So a server that was away is
//! first asked how far it is: one that was put back to an older state has another history.

use std::time::{Duration, Instant};

use crate::error::{Failure, Sort};
use crate::read::number;

/// How many objects a page has; more after the server could not hold a list for as long as its pages took.
pub(crate) const PAGE: u32 = 500;
pub(crate) const MAX_PAGE: u32 = 8000;
/// The pause after the first failure, doubled with each further one up to the longest.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub(crate) const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A server may ask for a longer pause, but not for ever.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);
/// Watches begin at least this far apart.
pub(crate) const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A watch that lasted so long was a good one.
const GOOD_WATCH: Duration = Duration::from_secs(10);
/// How long the server is asked to keep a watch open, in seconds; a part of it is left to chance, so that clients
/// that began together do not come back together.
const WATCH_SECONDS: (u64, u64) = (240, 60);
/// So many answered errors in a row, and the version that was asked for is not believed any more.
pub(crate) const RELIST_AFTER: u32 = 3;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing before this time.
    Wait(Instant),
    /// Ask for a page. The first of a list has no token.
    List { token: Option<String>, limit: u32 },
    /// Ask how far the server is.
    Check,
    /// Watch from a version on, for so many seconds.
    Watch { version: String, seconds: u32 },
}

/// The state of one kind.
#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    page: u32,
    failures: u32,
    /// Answered errors in a row by which a watch was refused.
    refusals: u32,
    resume_at: Option<Instant>,
    /// When the open watch began, and how long it was to last.
    watch: Option<(Instant, Duration)>,
    /// The server was away: it may be another now.
    is_doubtful: bool,
}

#[derive(Debug)]
enum State {
    Listing { token: Option<String> },
    Watching { version: String },
}

impl Machine {
    /// Nothing is known yet.
    pub(crate) fn new() -> Machine {
        Machine {
            state: State::Listing { token: None },
            page: PAGE,
            failures: 0,
            refusals: 0,
            resume_at: None,
            watch: None,
            is_doubtful: false,
        }
    }

    /// What is to be done now.
    pub(crate) fn step(&mut self, now: Instant, entropy: u64) -> Step {
        if let Some(until) = self.resume_at.filter(|until| *until > now) {
            return Step::Wait(until);
        }
        self.resume_at = None;
        match &self.state {
            State::Listing { token } => Step::List {
                token: token.clone(),
                limit: self.page,
            },
            State::Watching { .. } if self.is_doubtful => Step::Check,
            State::Watching { version } => {
                let (least, more) = WATCH_SECONDS;
                let seconds = least + entropy % more;
                self.watch = Some((now, Duration::from_secs(seconds)));
                Step::Watch {
                    version: version.clone(),
                    seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
                }
            }
        }
    }

    /// A page came. True: it was the last.
    pub(crate) fn listed(&mut self, version: String, token: Option<String>) -> bool {
        match token {
            Some(token) => {
                self.state = State::Listing { token: Some(token) };
                false
            }
            None => {
                self.page = PAGE;
                self.state = State::Watching { version };
                true
            }
        }
    }

    /// The server is as far as this version.
    pub(crate) fn checked(&mut self, version: &str) {
        self.is_doubtful = false;
        if self.is_behind(version) {
            self.list_anew();
        }
    }

    /// The watch told of a change; later ones go on from its version.
    pub(crate) fn told(&mut self, version: &str) {
        self.failures = 0;
        self.refusals = 0;
        // One that is older was told again.
        if !self.is_behind(version) {
            let version = version.to_owned();
            self.state = State::Watching { version };
        }
    }

    /// The watch told how far it is. False: it is behind what it was asked to go on from, so its history is another.
    pub(crate) fn marked(&mut self, version: &str) -> bool {
        let is_behind = self.is_behind(version);
        self.told(version);
        !is_behind
    }

    /// The watch ended without a word, as all do after a while. One that ends early was cut, also where it cannot be
    /// told how: the server may have been restarted.
    pub(crate) fn ended(&mut self, now: Instant) {
        self.refusals = 0;
        if let Some((began, wanted)) = self.watch.take() {
            let lasted = now.saturating_duration_since(began);
            if lasted >= GOOD_WATCH {
                self.failures = 0;
            }
            self.is_doubtful |= lasted < wanted;
            self.resume_at = Some(began + WATCH_INTERVAL);
        }
    }

    /// A request failed, or a watch broke off.
    pub(crate) fn failed(&mut self, failure: &Failure, now: Instant, entropy: u64) {
        let watch = self.watch.take();
        if watch.is_some_and(|(began, _)| now.saturating_duration_since(began) >= GOOD_WATCH) {
            self.failures = 0;
        }
        self.failures += 1;
        match &self.state {
            State::Listing { token } => {
                if failure.sort == Sort::Expired && token.is_some() {
                    self.page = (self.page * 4).min(MAX_PAGE);
                }
                if failure.sort != Sort::Busy {
                    self.state = State::Listing { token: None };
                }
            }
            State::Watching { .. } => {
                if failure.sort == Sort::Error {
                    self.refusals += 1;
                }
                let again = match failure.sort {
                    Sort::Expired | Sort::Absent | Sort::Unreadable => true,
                    Sort::Error => self.refusals >= RELIST_AFTER,
                    Sort::Refused | Sort::Busy | Sort::Unreachable => false,
                };
                self.is_doubtful |= failure.sort == Sort::Unreachable;
                if again {
                    self.list_anew();
                }
            }
        }
        let asked = failure.retry_after.min(MAX_RETRY_AFTER);
        self.resume_at = Some(now + pause(self.failures, entropy).max(asked));
    }

    /// What is known cannot be gone on from: everything is listed again.
    pub(crate) fn list_anew(&mut self) {
        self.refusals = 0;
        self.is_doubtful = false;
        self.state = State::Listing { token: None };
    }

    /// There is reason to try again now.
    pub(crate) fn wake(&mut self) {
        self.failures = self.failures.min(1);
        self.resume_at = None;
    }

    /// Whether a version is older than the one that is gone on from, where both are numbers.
    fn is_behind(&self, version: &str) -> bool {
        match &self.state {
            State::Watching { version: ours } => match (number(version), number(ours)) {
                (Some(theirs), Some(ours)) => theirs < ours,
                _ => false,
            },
            State::Listing { .. } => false,
        }
    }
}

/// The pause after so many failures in a row: at least half of it, the rest by chance.
fn pause(failures: u32, entropy: u64) -> Duration {
    let whole = FIRST_PAUSE
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LAST_PAUSE);
    let half = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
    Duration::from_millis(half + entropy % (half + 1))
}

#[cfg(test)]
mod tests;
