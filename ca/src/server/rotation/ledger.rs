//! Who holds which certificates, and who has acknowledged what.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use mesh::Identity;

use super::report::{Seen, Tag, tag};
use super::state::{Phase, RotationState};
use crate::server::clock::Moment;

/// How many holders are kept account of. What is issued to more counts as not seen.
pub const MAX_HOLDERS: usize = 20_000;
/// How many certificates are kept account of, of all holders.
pub const MAX_CERTIFICATES: usize = 1_000_000;

/// Of how many generations it is remembered when the last certificate was issued.
const MAX_GENERATIONS: usize = 8;

/// How long after a newer certificate was issued the older one may still be the one in use: the answer may be lost, and
/// is then asked for again.
pub const SETTLE: Duration = Duration::from_secs(15);

/// Whoever asks for certificates: a node proxy, or a workload that asks for its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The node that it runs on.
    pub node: String,
    /// The namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} on {}", self.namespace, self.pod, self.node)
    }
}

/// A certificate that may be in use.
pub(super) struct Used<'a> {
    /// Whose; nobody's, where the holder has none.
    pub(super) identity: Option<&'a Identity>,
    /// Whether its holder trusts the roots of the generation that is asked for.
    pub(super) is_acknowledged: bool,
    /// Of an earlier generation.
    pub(super) is_old: bool,
    /// The one before it is not in use any more.
    pub(super) is_settled: bool,
    pub(super) not_after: SystemTime,
    /// When the newest of the identity was issued.
    pub(super) issued: SystemTime,
}

/// What this process has seen.
#[derive(Debug)]
pub(super) struct Ledger {
    holders: BTreeMap<Holder, Entry>,
    /// All entries of all holders.
    certificates: usize,
    /// What was issued before this was not seen: certificates of at most this life.
    not_seen_before: (SystemTime, Duration),
    /// When the last certificate of a generation was issued, of the last generations.
    last_issued: BTreeMap<u64, SystemTime>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The newest generation of roots that it trusts by its own word; 0 for none.
    acknowledged: u64,
    /// Of each identity the newest certificate, which takes the place of older ones.
    certificates: BTreeMap<Identity, Newest>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    certificate: Certificate,
    issued: SystemTime,
    /// The one before, while it may be in use.
    before: Option<Certificate>,
}

#[derive(Clone, Copy, Debug)]
struct Certificate {
    generation: u64,
    not_after: SystemTime,
}

impl Ledger {
    /// One that begins now; what was issued before lives for at most `longest_life`.
    pub(super) fn since(now: SystemTime, longest_life: Duration) -> Self {
        Self {
            holders: BTreeMap::new(),
            certificates: 0,
            not_seen_before: (now, longest_life),
            last_issued: BTreeMap::new(),
        }
    }

    pub(super) fn not_seen_before(&self) -> (SystemTime, Duration) {
        self.not_seen_before
    }

    /// Something was issued now that finds no room here.
    pub(super) fn not_seen(&mut self, now: SystemTime, longest_life: Duration) {
        self.not_seen_before = (now, longest_life);
    }

    /// Whether there was room for it.
    #[must_use]
    pub(super) fn issued(
        &mut self,
        now: Moment,
        holder: &Holder,
        identity: &Identity,
        generation: u64,
        not_after: SystemTime,
    ) -> bool {
        let last = self.last_issued.entry(generation).or_insert(now.latest);
        *last = now.latest.max(*last);
        // No newer than it must be: what takes the place of older ones counts from a time on.
        let now = now.earliest;
        if self.last_issued.len() > MAX_GENERATIONS
            && let Some((first, at)) = self.last_issued.pop_first()
            && let Some(mut next) = self.last_issued.first_entry()
            && first < *next.key()
        {
            // It stays as old as can be told.
            let last = at.max(*next.get());
            next.insert(last);
        }
        let has_room = self.certificates < MAX_CERTIFICATES && self.knows_or_has_room(holder);
        let known = self
            .holders
            .get(holder)
            .is_some_and(|entry| entry.certificates.contains_key(identity));
        if !known && !has_room {
            return false;
        }
        let entry = self.holders.entry(holder.clone()).or_default();
        let certificate = Certificate {
            generation,
            not_after,
        };
        let before = entry.certificates.get(identity).map(|newest| newest.oldest(now));
        let newest = Newest {
            certificate,
            issued: now,
            before,
        };
        entry.certificates.insert(identity.clone(), newest);
        self.certificates += usize::from(!known);
        true
    }

    pub(super) fn acknowledged(&mut self, holder: &Holder, generation: u64) {
        // Without room it counts as one that has not acknowledged, which is safe.
        if self.knows_or_has_room(holder) {
            let entry = self.holders.entry(holder.clone()).or_default();
            entry.acknowledged = entry.acknowledged.max(generation);
        }
    }

    /// Forgets what has expired, and who holds nothing and has acknowledged only older generations than `generation`.
    pub(super) fn forget_expired(&mut self, now: SystemTime, generation: u64) {
        for entry in self.holders.values_mut() {
            entry.certificates.retain(|_, newest| newest.is_valid(now));
        }
        self.holders
            .retain(|_, entry| !entry.certificates.is_empty() || entry.acknowledged >= generation);
        self.certificates = self.holders.values().map(|entry| entry.certificates.len()).sum();
    }

    /// What every holder has in use and has acknowledged, as far as this process has seen.
    pub(super) fn in_use(
        &self,
        now: SystemTime,
        generation: u64,
    ) -> impl Iterator<Item = (&Holder, Vec<Used<'_>>)> {
        self.holders.iter().map(move |(holder, entry)| {
            let is_acknowledged = entry.acknowledged >= generation;
            let valid = entry
                .certificates
                .iter()
                .filter(|(_, newest)| newest.is_valid(now));
            let mut used: Vec<_> = valid
                .filter_map(|(identity, newest)| {
                    let one = newest.oldest(now);
                    (now < one.not_after).then_some(Used {
                        identity: Some(identity),
                        is_acknowledged,
                        is_old: one.generation < generation,
                        is_settled: newest.is_settled(now),
                        not_after: one.not_after,
                        issued: newest.issued,
                    })
                })
                .collect();
            if used.is_empty() {
                used.push(Used::nothing(is_acknowledged, now));
            }
            (holder, used)
        })
    }

    pub(super) fn knows(&self, holder: &Holder) -> bool {
        self.holders.contains_key(holder)
    }

    /// When the last certificate of an earlier generation was issued.
    pub(super) fn last_older_than(&self, generation: u64) -> SystemTime {
        let older = self.last_issued.range(..generation).map(|(_, at)| *at);
        older.max().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// What others need to know: see [`super::report`]. `all`: of holders that have acknowledged too, and what counts as
    /// old with the next generation.
    pub(super) fn told(
        &self,
        now: SystemTime,
        state: &RotationState,
        counts_from: SystemTime,
        all: bool,
    ) -> BTreeMap<Holder, Seen> {
        let mut told = BTreeMap::new();
        for (holder, entry) in &self.holders {
            let mut seen = Seen {
                acknowledged: entry.acknowledged >= state.generation,
                ..Seen::default()
            };
            if all || state.phase == Phase::Switched || !seen.acknowledged {
                for (identity, newest) in &entry.certificates {
                    seen.add(now, state.generation, counts_from, all, newest, || {
                        tag(holder, identity)
                    });
                }
            }
            if seen != Seen::default() {
                told.insert(holder.clone(), seen);
            }
        }
        told
    }

    fn knows_or_has_room(&self, holder: &Holder) -> bool {
        self.holders.len() < MAX_HOLDERS || self.holders.contains_key(holder)
    }
}

impl Seen {
    fn add(
        &mut self,
        now: SystemTime,
        generation: u64,
        counts_from: SystemTime,
        all: bool,
        newest: &Newest,
        tag: impl FnOnce() -> Tag,
    ) {
        if !newest.is_valid(now) {
            return;
        }
        let one = newest.oldest(now);
        let newer = newest.certificate;
        if newer.generation >= generation && now < newer.not_after {
            self.new_until = self.new_until.max(Some(newer.not_after));
        }
        if one.generation < generation {
            if now < one.not_after {
                self.old.push(tag());
                self.old_until = self.old_until.max(Some(one.not_after));
            }
        } else if newest.is_settled(now) && newest.issued >= counts_from {
            self.new.push(tag());
        } else if all {
            self.early.push(tag());
        }
    }
}

impl Used<'_> {
    fn nothing(is_acknowledged: bool, now: SystemTime) -> Self {
        Self {
            identity: None,
            is_acknowledged,
            is_old: false,
            is_settled: true,
            not_after: now,
            issued: now,
        }
    }
}

impl Newest {
    fn is_valid(&self, now: SystemTime) -> bool {
        let before = self.before.is_some_and(|before| now < before.not_after);
        now < self.certificate.not_after || (before && !self.is_settled(now))
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        now.duration_since(self.issued).is_ok_and(|since| since >= SETTLE)
    }

    /// The oldest that may be in use.
    fn oldest(&self, now: SystemTime) -> Certificate {
        match self.before {
            Some(before)
                if !self.is_settled(now)
                    && now < before.not_after
                    && before.generation < self.certificate.generation =>
            {
                before
            }
            _ => self.certificate,
        }
    }
}
