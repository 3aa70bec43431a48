//! Exchanging the root without a moment at which two members of the mesh do not trust each other. A state machine
//! without I/O, clock or randomness: the time is an argument, with its bounds ([`Moment`]): what is waited for is over by the
//! earlier one, and what was done lasts by the later one.
//!
//! ```text
//!            introduce              switch                 drop
//!   Steady ────────────▶ Introduced ────────▶ Switched ───────────▶ Steady
//!   one root ◀────────── both are trusted,    both are trusted,     the new root
//!              abort     the old one signs    the new one signs     alone
//! ```
//!
//! It *switches* once everybody who holds a certificate trusts the new root: a node proxy that has acknowledged the
//! bundle of roots, or whoever has been issued a certificate, which carries the bundle, for each identity that it holds
//! since. It *drops* the old root once no certificate that the old root signed is in use: each was renewed or has expired.
//! Certificates that this process has not seen issued (before it began, or by another replica) count as in use until
//! they must have expired, so that a restart costs time and never safety. Replicas that share an authority tell each
//! other what they have seen ([`Report`]); of one that does not, everything counts as in use.
//!
//! Every change has a generation, greater than any before. What is kept between processes is one line of JSON; who has
//! acknowledged and who holds what is kept in memory only.

mod blocker;
mod carry;
mod ledger;
mod merge;
mod report;
mod state;

use std::time::{Duration, SystemTime};

use mesh::Identity;

use crate::server::clock::Moment;

pub use blocker::{Blocker, RotationStatus};
pub use carry::{carry_out, phase_of, root_life};
use ledger::Ledger;
pub use ledger::{Holder, MAX_CERTIFICATES, MAX_HOLDERS, SETTLE};
pub use merge::Reports;
use merge::{Account, accounts};
pub use report::{Report, ReportError};
pub(in crate::server) use state::seconds::number;
pub use state::{Phase, RotationState, StateError};

/// The part of a root's life, at its end, in which it is exchanged without being asked: one in so many.
pub const LAST_PART: u32 = 5;

/// How careful a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationSettings {
    /// The shortest time between two phases. In it other replicas take over what the authority keeps, and copies of the
    /// roots in files reach those who verify servers by them.
    pub pause: Duration,
    /// Nobody else signs with this authority: this process sees every certificate that is issued while it runs.
    pub alone: bool,
}

/// The life of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootLife {
    /// Its start.
    pub not_before: SystemTime,
    /// Its end.
    pub not_after: SystemTime,
}

/// What is to be done: written down first, with the state that follows from it, and then put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A new root is made and trusted beside the old one, which goes on signing.
    Introduce,
    /// The new root signs; the old one stays trusted.
    Switch,
    /// The old root is trusted no longer.
    Drop,
    /// The new root, which has signed nothing, is given up.
    Abort,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefused {
    /// There is one already.
    #[error("a rotation is under way since {} s; see `ztctl ca status` for what it waits for", .0.as_secs())]
    UnderWay(Duration),
    /// There is none.
    #[error("no rotation is under way, so there is nothing to abort")]
    NoneUnderWay,
    /// The new root signs already.
    #[error(
        "the new root signs already, and certificates of it are in use; wait for the end of this rotation and start another"
    )]
    TooLate,
}

/// The rotation of one authority, as one process sees it.
#[derive(Debug)]
pub struct Rotation {
    state: RotationState,
    ledger: Ledger,
    settings: RotationSettings,
    wanted: Option<Step>,
    /// What others have told since this generation began.
    others: Option<Reports>,
}

impl Rotation {
    /// Of an authority that was made just now and has signed nothing.
    #[cfg(test)]
    fn fresh(now: SystemTime, settings: RotationSettings) -> Self {
        Self::resumed(RotationState::new(now, Duration::ZERO), now, settings)
    }

    /// Of an authority that has signed before, of which it is not known what: certificates of at most `longest_life`.
    pub fn adopted(now: impl Into<Moment>, longest_life: Duration, settings: RotationSettings) -> Self {
        let now = now.into();
        Self::resumed(RotationState::new(now.latest, longest_life), now, settings)
    }

    /// Where an earlier process left it. A phase that is not the one written down, because somebody else has changed
    /// what is kept, begins anew.
    pub fn resumed_as(
        state: RotationState,
        phase: Phase,
        now: impl Into<Moment>,
        settings: RotationSettings,
    ) -> Self {
        let now = now.into();
        let state = if state.phase == phase {
            state
        } else {
            state.followed_by(phase, now)
        };
        Self::resumed(state, now, settings)
    }

    /// Where an earlier process left it.
    pub fn resumed(state: RotationState, now: impl Into<Moment>, settings: RotationSettings) -> Self {
        Self {
            ledger: Ledger::since(now.into().latest, state.longest_life),
            state,
            settings,
            wanted: None,
            others: None,
        }
    }

    /// What has to outlive this process.
    pub fn state(&self) -> &RotationState {
        &self.state
    }

    /// The state is now this one: a step was written down, by this process or another.
    pub fn reached(&mut self, state: RotationState) {
        if state.generation != self.state.generation {
            self.wanted = None;
            self.others = None;
        }
        let longest_life = self.state.longest_life.max(state.longest_life);
        self.state = RotationState {
            longest_life,
            ..state
        };
    }

    /// A certificate was issued at `now`, with the roots and by the root of this generation.
    pub fn issued(
        &mut self,
        now: impl Into<Moment>,
        holder: &Holder,
        identity: &Identity,
        generation: u64,
        not_after: SystemTime,
    ) {
        let now = now.into();
        let life = not_after.duration_since(now.signing().0).unwrap_or_default();
        // Whole seconds, rounded up, as they are written down.
        let life = Duration::from_secs(life.as_secs() + 1);
        self.state.longest_life = self.state.longest_life.max(life);
        let longest_life = self.state.longest_life;
        if !self.ledger.issued(now, holder, identity, generation, not_after) {
            self.ledger.not_seen(now.latest, longest_life);
        }
    }

    /// A node proxy trusts the roots of this generation, by its own word.
    pub fn acknowledged(&mut self, holder: &Holder, generation: u64) {
        self.ledger.acknowledged(holder, generation);
    }

    /// Everything that was issued since this time is in somebody's report, and what was issued before lives no longer
    /// than this: so it was written down when the first process reported.
    pub fn vouched_for(&mut self, since: SystemTime, life: Duration) {
        self.ledger.not_seen(since, life);
    }

    /// Somebody's report is lost: what it told of counts as not seen.
    pub fn lost(&mut self, now: impl Into<Moment>) {
        let longest_life = self.state.longest_life;
        self.ledger.not_seen(now.into().latest, longest_life);
    }

    /// What all others have told, read since this generation began.
    pub fn told(&mut self, others: Reports) {
        self.others = Some(others);
    }

    /// What others need to know of this process; `ended`: it issues nothing any more.
    pub fn report(&self, now: impl Into<Moment>, ended: bool) -> Report {
        let now = now.into();
        let mut report = Report::empty(self.state.generation, now.latest, self.ledger.not_seen_before());
        report.ended = ended;
        report.last_old = self.ledger.last_older_than(self.state.generation);
        // Without a rotation there is nothing to wait for, as long as somebody is there who can be asked.
        if ended || self.state.phase != Phase::Steady {
            report.holders = self
                .ledger
                .told(now.earliest, &self.state, self.counts_from(), ended);
        }
        report.rounded()
    }

    /// What all others have told, if that was read since this generation began.
    pub fn others(&self) -> Option<&Reports> {
        self.others.as_ref()
    }

    /// When the last certificate must have ended that may be in use and was issued by somebody whose account is not known.
    pub fn unseen_end(&self) -> Option<SystemTime> {
        let (before, life) = self.ledger.not_seen_before();
        (!life.is_zero()).then_some(before + life)
    }

    /// How long nothing is heard of a process before nothing that it has issued can be in use.
    pub fn longest_silence(&self) -> Duration {
        self.settings.pause + self.state.longest_life
    }

    /// A request is taken up that its author calls so; it is not to be taken up again.
    pub fn take_up(&mut self, request: &str) {
        self.state.request = Some(request.to_owned());
    }

    /// Somebody wants a new root.
    ///
    /// # Errors
    /// When a rotation is under way.
    pub fn request(&mut self, now: SystemTime) -> Result<(), RotationRefused> {
        if self.state.phase != Phase::Steady {
            return Err(RotationRefused::UnderWay(self.state.age(now)));
        }
        self.wanted = Some(Step::Introduce);
        Ok(())
    }

    /// Somebody wants the rotation ended without a new root.
    ///
    /// # Errors
    /// When there is none, or the new root signs already.
    pub fn abort(&mut self) -> Result<(), RotationRefused> {
        match self.state.phase {
            Phase::Steady if self.wanted.is_some() => {
                self.wanted = None;
                Ok(())
            }
            Phase::Steady => Err(RotationRefused::NoneUnderWay),
            Phase::Introduced => {
                self.wanted = Some(Step::Abort);
                Ok(())
            }
            Phase::Switched => Err(RotationRefused::TooLate),
        }
    }

    /// What is to be done at `now`, if anything; `root` is the one that signs. While the time is in doubt nothing is but what
    /// makes no difference to anybody: other steps write down times that others go by.
    pub fn next(&mut self, now: impl Into<Moment>, root: RootLife) -> Option<Step> {
        let Moment {
            earliest: now,
            is_doubtful,
            ..
        } = now.into();
        self.ledger.forget_expired(now, self.state.generation);
        if is_doubtful {
            let is_given_up = self.state.phase == Phase::Introduced && self.wanted == Some(Step::Abort);
            return is_given_up.then_some(Step::Abort);
        }
        match self.state.phase {
            Phase::Steady => (self.wanted == Some(Step::Introduce) || is_in_last_part(now, root))
                .then_some(Step::Introduce),
            Phase::Introduced if self.wanted == Some(Step::Abort) => Some(Step::Abort),
            Phase::Introduced => self.blockers(now).is_empty().then_some(Step::Switch),
            Phase::Switched => self.blockers(now).is_empty().then_some(Step::Drop),
        }
    }

    /// The state after a step is done at `now`.
    pub fn after(&self, step: Step, now: impl Into<Moment>) -> RotationState {
        let phase = match step {
            Step::Introduce => Phase::Introduced,
            Step::Switch => Phase::Switched,
            Step::Drop | Step::Abort => Phase::Steady,
        };
        self.state.followed_by(phase, now)
    }

    /// What the next step of a rotation waits for; nothing where there is no rotation.
    pub fn blockers(&self, now: impl Into<Moment>) -> Vec<Blocker> {
        let now = now.into().earliest;
        let mut blockers = Vec::new();
        if self.state.phase == Phase::Steady {
            return blockers;
        }
        let paused_until = self.state.since + self.settings.pause;
        if now < paused_until {
            blockers.push(Blocker::Pause { until: paused_until });
        }
        if let Some(until) = self.unseen_until().filter(|until| now < *until) {
            blockers.push(Blocker::Unseen { until });
        }
        blockers.extend(self.replicas(now));
        let accounts = self.accounts(now).into_iter();
        blockers.extend(accounts.filter_map(|account| account.blocker(self.state.phase)));
        blockers
    }

    /// How it stands, for people.
    pub fn status(&self, now: impl Into<Moment>) -> RotationStatus {
        let now = now.into().earliest;
        let (mut holders, mut done) = (0, 0);
        for account in self.accounts(now).iter().filter(|account| account.holds) {
            holders += 1;
            done += usize::from(self.state.phase == Phase::Steady || account.waits.is_none());
        }
        RotationStatus {
            phase: self.state.phase,
            since: self.state.since,
            generation: self.state.generation,
            holders,
            done,
            blockers: self.blockers(now),
        }
    }

    /// Until when certificates of an earlier generation may be in use that nobody has told of.
    fn unseen_until(&self) -> Option<SystemTime> {
        let RotationState {
            since, longest_life, ..
        } = self.state;
        let pause = self.settings.pause;
        let others = match &self.others {
            // Others take the new generation over within the pause.
            None if !self.settings.alone => return Some(since + pause + longest_life),
            others => others.iter().flat_map(|others| others.values().flatten()),
        };
        let slack = if self.settings.alone {
            Duration::ZERO
        } else {
            pause
        };
        let ends = |(before, life): (SystemTime, Duration)| before.min(since + slack) + life;
        others
            .map(|report| ends(report.unseen).max(report.unlisted_until))
            .chain([ends(self.ledger.not_seen_before())])
            .max()
    }

    /// The replicas that have not said that they are at this generation.
    fn replicas(&self, now: SystemTime) -> impl Iterator<Item = Blocker> {
        let until = self.state.since + self.longest_silence();
        let others = self.others.iter().flatten();
        let behind = others.filter(move |(_, report)| match report {
            Some(report) => {
                report.generation < self.state.generation
                    && !report.ended
                    && !report.is_spent(now, self.longest_silence())
            }
            None => true,
        });
        behind
            .map(move |(name, report)| Blocker::Replica {
                name: name.clone(),
                is_readable: report.is_some(),
                until,
            })
            .filter(move |_| now < until)
    }

    fn accounts(&self, now: SystemTime) -> Vec<Account> {
        let none = Reports::new();
        let others = self.others.as_ref().unwrap_or(&none);
        accounts(&self.ledger, others, now, &self.state, self.counts_from())
    }

    /// Since when nobody issues anything of an earlier generation.
    fn counts_from(&self) -> SystemTime {
        self.state.since + self.settings.pause
    }
}

/// Whether so little of the root's life is left that it is to be exchanged.
fn is_in_last_part(now: SystemTime, root: RootLife) -> bool {
    let life = root.not_after.duration_since(root.not_before).unwrap_or_default();
    let left = root.not_after.duration_since(now).unwrap_or_default();
    left <= life / LAST_PART
}

#[cfg(test)]
mod tests;
