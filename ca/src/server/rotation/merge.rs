//! Whom the next step waits for, by what all replicas have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use mesh::Identity;

use super::blocker::Blocker;
use super::ledger::{Holder, Ledger, Used};
use super::report::{Report, Tag, tag};
use super::state::{Phase, RotationState};

/// The reports of the other replicas by their names; nothing for one that cannot be read.
pub type Reports = BTreeMap<String, Option<Report>>;

/// One holder of certificates.
pub(super) struct Account {
    pub(super) holder: Holder,
    /// Whether it has certificates in use.
    pub(super) holds: bool,
    /// Of which earlier ones are what is waited for.
    pub(super) waits: Option<Waits>,
}

pub(super) struct Waits {
    identities: Vec<Identity>,
    /// And so many that are not known by name here.
    unnamed: usize,
    until: SystemTime,
}

/// Every holder that anybody has seen. Certificates that were issued at `counts_from` or later take the place of those that
/// other replicas have issued before: until then one may have issued older ones afterwards.
pub(super) fn accounts(
    ledger: &Ledger,
    reports: &Reports,
    now: SystemTime,
    state: &RotationState,
    counts_from: SystemTime,
) -> Vec<Account> {
    let told = by_holder(reports);
    let mut accounts: Vec<Account> = Vec::new();
    let own_are_replaceable = ledger.last_older_than(state.generation) < counts_from;
    for (holder, used) in ledger.in_use(now, state.generation) {
        let told_of = told.get(holder).map(Vec::as_slice).unwrap_or_default();
        let mut merged = Merged::of(state, told_of, now, counts_from);
        merged.own(holder, used, own_are_replaceable, counts_from);
        accounts.push(merged.account(holder, state, now));
    }
    for (holder, told_of) in &told {
        if !ledger.knows(holder) {
            let merged = Merged::of(state, told_of, now, counts_from);
            accounts.push(merged.account(holder, state, now));
        }
    }
    accounts
}

impl Account {
    pub(super) fn blocker(self, phase: Phase) -> Option<Blocker> {
        let (holder, waits) = (self.holder, self.waits?);
        let Waits {
            identities,
            unnamed,
            until,
        } = waits;
        Some(match phase {
            Phase::Switched => Blocker::NotRenewed {
                holder,
                identities,
                unnamed,
                until,
            },
            Phase::Steady | Phase::Introduced => Blocker::NotAcknowledged {
                holder,
                identities,
                unnamed,
                until,
            },
        })
    }
}

type Told<'a> = (&'a Report, &'a super::report::Seen);

fn by_holder(reports: &Reports) -> BTreeMap<&Holder, Vec<Told<'_>>> {
    let mut told: BTreeMap<&Holder, Vec<Told<'_>>> = BTreeMap::new();
    for report in reports.values().flatten() {
        for (holder, seen) in &report.holders {
            told.entry(holder).or_default().push((report, seen));
        }
    }
    told
}

#[derive(Default)]
struct Merged {
    acknowledged: bool,
    holds: bool,
    named: Vec<(Identity, SystemTime)>,
    /// Old ones of other replicas, which a newer one replaces.
    replaceable: BTreeMap<Tag, SystemTime>,
    /// Those that none does.
    fixed: BTreeMap<Tag, SystemTime>,
    /// The end of those of which it is not known whose they are.
    more_until: Option<SystemTime>,
    replaced: BTreeSet<Tag>,
}

impl Merged {
    fn of(state: &RotationState, told: &[Told<'_>], now: SystemTime, counts_from: SystemTime) -> Self {
        let mut merged = Self::default();
        for (report, seen) in told {
            let is_older = report.generation < state.generation;
            merged.acknowledged |= seen.acknowledged && !is_older;
            if !is_older {
                merged.replaced.extend(&seen.new);
            }
            merged.holds |= seen
                .old_until
                .max(seen.new_until)
                .is_some_and(|until| now < until);
            let (tags, more, until) = seen.older(is_older);
            let Some(until) = until.filter(|until| now < *until) else {
                continue;
            };
            let are_replaceable = report.last_older_than(state.generation) < counts_from;
            let list = if are_replaceable {
                &mut merged.replaceable
            } else {
                &mut merged.fixed
            };
            for tag in tags {
                let known = list.entry(tag).or_insert(until);
                *known = until.max(*known);
            }
            if more {
                merged.more_until = merged.more_until.max(Some(until));
            }
        }
        merged
    }

    fn own(&mut self, holder: &Holder, used: Vec<Used<'_>>, are_replaceable: bool, counts_from: SystemTime) {
        self.acknowledged |= used.iter().any(|used| used.is_acknowledged);
        for used in used {
            let Some(identity) = used.identity else { continue };
            self.holds = true;
            // Hashing is left out where nobody else has seen the holder.
            let is_shared =
                !(self.replaceable.is_empty() && self.fixed.is_empty() && self.replaced.is_empty());
            let tag = is_shared.then(|| tag(holder, identity));
            if used.is_old {
                if are_replaceable && tag.is_some_and(|tag| self.replaced.contains(&tag)) {
                    continue;
                }
                let others = tag.map(|tag| self.replaceable.remove(&tag).max(self.fixed.remove(&tag)));
                let until = others
                    .flatten()
                    .map_or(used.not_after, |until| until.max(used.not_after));
                self.named.push((identity.clone(), until));
            } else if let Some(tag) = tag.filter(|_| used.is_settled && used.issued >= counts_from) {
                self.replaceable.remove(&tag);
            }
        }
    }

    fn account(self, holder: &Holder, state: &RotationState, now: SystemTime) -> Account {
        let left: Vec<SystemTime> = self
            .replaceable
            .iter()
            .filter(|(tag, _)| !self.replaced.contains(*tag))
            .chain(&self.fixed)
            .map(|(_, until)| *until)
            .collect();
        let ends = left
            .iter()
            .copied()
            .chain(self.named.iter().map(|(_, until)| *until));
        let until = ends.chain(self.more_until).max().filter(|until| now < *until);
        let is_done = state.phase == Phase::Introduced && self.acknowledged;
        let identities = self.named.into_iter().map(|(identity, _)| identity);
        Account {
            holder: holder.clone(),
            holds: self.holds,
            waits: until.filter(|_| !is_done).map(|until| Waits {
                identities: identities.collect(),
                unnamed: left.len() + usize::from(self.more_until.is_some()),
                until,
            }),
        }
    }
}
