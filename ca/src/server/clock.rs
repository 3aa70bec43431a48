//! What time it is, and how far that can be believed. Pure: wall clock and monotonic clock are arguments.
//!
//! What is forgotten when its time is over (a root, an entry of the revocation list) is forgotten for good, so a wall clock
//! that runs ahead for a moment must not do it. The wall clock is held against the monotonic one, which only counts: their
//! difference stays the same until somebody sets the wall clock. All differences of the last hour are believed to be
//! possible, so what time it is lies between two bounds ([`Moment`]): things end by the earlier one, and last by the later
//! one. A clock that was set is believed once it has gone evenly for that long, in whichever direction it was set.
//!
//! Two things count as well, as if the clock had shown them: what was written down last, when a process begins
//! ([`SettledClock::begins_with`]), and the clock of somebody else while it says otherwise ([`SettledClock::heard`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// How long a clock has to go evenly before it is believed again.
pub const SETTLED_AFTER: Duration = Duration::from_secs(3600);
/// How far two clocks may be apart without being in doubt. So far back lies the start of a certificate's life at most:
/// whoever's clock is further behind refuses what is signed now.
pub const MAX_DIFFERENCE: Duration = Duration::from_secs(120);
/// How far from the time that is most likely what is signed is valid too, while there is doubt: further away it would live too
/// long. Clocks that are set to another zone's time are within it.
const SIGNED_AROUND: Duration = Duration::from_secs(24 * 3600);
/// How long the word of another clock counts.
const WORD_LASTS: Duration = Duration::from_secs(600);
/// The time that is looked back on is kept in so many parts.
const SLOTS: u32 = 60;

/// A moment: what the wall clock shows, and between which bounds the true time is believed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What the clock shows.
    pub wall: SystemTime,
    /// What time it most likely is: what the clock shows, but where it was set and another clock says what it would show.
    pub likely: SystemTime,
    /// No earlier: what has ended by this time has ended.
    pub earliest: SystemTime,
    /// No later: what was done until now was done before this time.
    pub latest: SystemTime,
    /// The clock was set, or another clock says otherwise.
    pub is_doubtful: bool,
}

/// The clock of a process.
#[derive(Debug)]
pub struct SettledClock {
    settled_after: Duration,
    began: Instant,
    /// The last look, by the monotonic clock.
    looked: Duration,
    /// For how long it was looked. A time without a look counts as one part: a process that was stopped has seen nothing.
    watched: Duration,
    own: Window,
    /// What another clock has shown, where it was another time.
    others: Window,
    /// What was written down when this process began, as long as it counts.
    written: Option<SystemTime>,
    /// When another clock was heard, and what it showed, reckoned back to the beginning.
    heard: Option<(Duration, SystemTime)>,
}

/// What a clock has shown lately, the last first.
#[derive(Debug, Default)]
struct Window {
    slots: VecDeque<Slot>,
}

/// What a clock showed in a part of the time, reckoned back to the beginning of the process.
#[derive(Clone, Copy, Debug)]
struct Slot {
    began: Duration,
    last: Duration,
    least: SystemTime,
    greatest: SystemTime,
}

/// Why a clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It was set, by so many seconds, and will be believed after this time.
    Set {
        /// Ahead; back, where this is negative.
        seconds: i64,
        /// How long that takes at least.
        settles_in: Duration,
    },
    /// Another clock says otherwise.
    Differs {
        /// By how many seconds this one is ahead; behind, where this is negative.
        seconds: i64,
    },
    /// This process has begun, and nobody has confirmed its clock.
    Young {
        /// How long it takes until it is believed.
        settles_in: Duration,
    },
}

impl From<SystemTime> for Moment {
    /// By a clock that is believed.
    fn from(now: SystemTime) -> Self {
        Self::exactly(now)
    }
}

impl Moment {
    /// This time, without any doubt.
    pub const fn exactly(now: SystemTime) -> Self {
        Self {
            wall: now,
            likely: now,
            earliest: now,
            latest: now,
            is_doubtful: false,
        }
    }

    /// Between which times it is when something is signed now: it has to be valid at each of them, as far as they are not
    /// too far apart.
    pub fn signing(&self) -> (SystemTime, SystemTime) {
        if !self.is_doubtful {
            return (self.wall, self.wall);
        }
        (
            self.earliest.max(back(self.likely, SIGNED_AROUND)),
            self.latest.min(on(self.likely, SIGNED_AROUND)),
        )
    }

    /// The same bounds around another time of the wall clock, not long ago.
    #[must_use]
    pub fn at(&self, wall: SystemTime) -> Self {
        let moved = |time: SystemTime| match time.duration_since(self.wall) {
            Ok(after) => on(wall, after),
            Err(before) => back(wall, before.duration()),
        };
        Self {
            wall,
            likely: moved(self.likely),
            earliest: moved(self.earliest),
            latest: moved(self.latest),
            is_doubtful: self.is_doubtful,
        }
    }

    /// What is written down as the time of what is done now, where others read it: a clock that may run ahead must not
    /// make a list that is not valid yet.
    pub fn stamp(&self) -> SystemTime {
        if self.is_doubtful {
            self.earliest
        } else {
            self.wall
        }
    }

    /// How long something must count from [`Moment::stamp`] on so that it counts for `life`.
    pub fn lasting(&self, life: Duration) -> Duration {
        let uncertain = self.latest.duration_since(self.stamp()).unwrap_or_default();
        life.saturating_add(uncertain)
    }
}

impl SettledClock {
    /// Of a process that begins now; its clock is believed after it has gone evenly for `settled_after`.
    pub fn new(settled_after: Duration, wall: SystemTime, monotonic: Instant) -> Self {
        let mut clock = Self {
            settled_after,
            began: monotonic,
            looked: Duration::ZERO,
            watched: Duration::ZERO,
            own: Window::default(),
            others: Window::default(),
            written: None,
            heard: None,
        };
        clock.look(wall, monotonic);
        clock
    }

    /// The time now. It has to be asked for often: what happens in between is not seen.
    pub fn look(&mut self, wall: SystemTime, monotonic: Instant) -> Moment {
        let since = monotonic.saturating_duration_since(self.began).max(self.looked);
        let part = self.settled_after / SLOTS;
        self.watched += (since - self.looked).min(part);
        self.looked = since;
        self.own.put(back(wall, since), self.watched, part);
        if let Some(over) = self.watched.checked_sub(self.settled_after) {
            self.own.forget(over);
            self.others.forget(over);
            self.written = self.written.filter(|_| over.is_zero());
        }
        // What another clock says may be asked more seldom than slots are kept.
        let differs = self.differing(wall, since);
        let shown = || {
            let shown = self.slots().flat_map(|slot| [slot.least, slot.greatest]);
            let shown = shown.chain(self.written).chain(differs);
            shown.map(|shown| on(shown, since))
        };
        Moment {
            wall,
            likely: self.likely(wall, since),
            // There is one at least: this one.
            earliest: shown().min().unwrap_or(wall),
            latest: shown().max().unwrap_or(wall),
            is_doubtful: matches!(
                self.doubt(wall, monotonic),
                Some(Doubt::Set { .. } | Doubt::Differs { .. })
            ),
        }
    }

    /// The last thing that was written down before this process began was written at `written`: less time cannot have
    /// passed since than this process has seen.
    pub fn begins_with(&mut self, written: SystemTime, wall: SystemTime, monotonic: Instant) {
        self.look(wall, monotonic);
        let is_confirmed = self.agrees(wall, monotonic) || apart(wall, written) <= MAX_DIFFERENCE;
        self.written = (!is_confirmed).then(|| back(written, self.looked));
    }

    /// Another clock shows `told` now. Whether the two agree.
    pub fn heard(&mut self, told: SystemTime, wall: SystemTime, monotonic: Instant) -> bool {
        self.look(wall, monotonic);
        let shown = back(told, self.looked);
        self.heard = Some((self.looked, shown));
        let agree = apart(wall, told) <= MAX_DIFFERENCE;
        if agree {
            self.written = None;
        } else {
            let part = self.settled_after / SLOTS;
            self.others.put(shown, self.watched, part);
        }
        agree
    }

    /// Why this clock is not believed now, if it is not.
    pub fn doubt(&self, wall: SystemTime, monotonic: Instant) -> Option<Doubt> {
        if let Some(seconds) = self.word(wall, monotonic)
            && Duration::from_secs(seconds.unsigned_abs()) > MAX_DIFFERENCE
        {
            return Some(Doubt::Differs { seconds });
        }
        let since = monotonic.saturating_duration_since(self.began);
        let now = back(wall, since);
        let differs = |slot: &&Slot| !slot.is_like(now);
        let settles_in = |last: Duration| (last + self.settled_after).saturating_sub(self.watched);
        if let Some(slot) = self.slots().filter(differs).max_by_key(|slot| slot.last) {
            let furthest = match apart(now, slot.least) > apart(now, slot.greatest) {
                true => slot.least,
                false => slot.greatest,
            };
            return Some(Doubt::Set {
                seconds: ahead(now, furthest),
                settles_in: settles_in(slot.last),
            });
        }
        self.written.map(|_| Doubt::Young {
            settles_in: settles_in(Duration::ZERO),
        })
    }

    /// By how many seconds it is ahead of another clock, where that was heard lately; behind, where this is negative.
    pub fn word(&self, wall: SystemTime, monotonic: Instant) -> Option<i64> {
        let since = monotonic.saturating_duration_since(self.began);
        Some(ahead(back(wall, since), self.other(since)?))
    }

    /// What another clock shows, reckoned back to the beginning.
    fn other(&self, since: Duration) -> Option<SystemTime> {
        let (at, shown) = self.heard?;
        (since.saturating_sub(at) <= WORD_LASTS).then_some(shown)
    }

    /// The same, where it is another time than this one's.
    fn differing(&self, wall: SystemTime, since: Duration) -> Option<SystemTime> {
        let other = self.other(since);
        other.filter(|other| apart(*other, back(wall, since)) > MAX_DIFFERENCE)
    }

    /// Where this clock was set and another one goes on as this one did, two say the same.
    fn likely(&self, wall: SystemTime, since: Duration) -> SystemTime {
        let other = self.differing(wall, since);
        let was_so = |other: &SystemTime| {
            let shown = self.own.slots.iter().flat_map(|slot| [slot.least, slot.greatest]);
            shown
                .into_iter()
                .any(|shown| apart(shown, *other) <= MAX_DIFFERENCE)
        };
        other.filter(was_so).map_or(wall, |other| on(other, since))
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.own.slots.iter().chain(&self.others.slots)
    }

    fn agrees(&self, wall: SystemTime, monotonic: Instant) -> bool {
        self.word(wall, monotonic)
            .is_some_and(|seconds| Duration::from_secs(seconds.unsigned_abs()) <= MAX_DIFFERENCE)
    }
}

impl Window {
    /// A clock shows this when it was watched for so long; one slot lasts for `part`.
    fn put(&mut self, shown: SystemTime, watched: Duration, part: Duration) {
        match self.slots.front_mut() {
            Some(slot) if watched - slot.began <= part => {
                slot.last = watched;
                slot.least = slot.least.min(shown);
                slot.greatest = slot.greatest.max(shown);
            }
            _ => self.slots.push_front(Slot {
                began: watched,
                last: watched,
                least: shown,
                greatest: shown,
            }),
        }
    }

    /// Forgets what was shown before that.
    fn forget(&mut self, over: Duration) {
        while self.slots.back().is_some_and(|slot| slot.last < over) {
            self.slots.pop_back();
        }
    }
}

impl Slot {
    fn is_like(&self, shown: SystemTime) -> bool {
        apart(shown, self.least) <= MAX_DIFFERENCE && apart(shown, self.greatest) <= MAX_DIFFERENCE
    }
}

impl Doubt {
    /// How long it takes until the clock is believed, where that is known.
    pub fn settles_in(&self) -> Option<Duration> {
        match self {
            Self::Set { settles_in, .. } | Self::Young { settles_in } => Some(*settles_in),
            Self::Differs { .. } => None,
        }
    }

    /// A stable word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Set { .. } => "set",
            Self::Differs { .. } => "differs",
            Self::Young { .. } => "young",
        }
    }
}

/// Two times may be further apart than can be counted; then the end stays where it is.
fn back(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn on(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}

fn apart(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

/// In whole seconds.
fn ahead(one: SystemTime, other: SystemTime) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match one.duration_since(other) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    }
}

#[cfg(test)]
mod tests;
