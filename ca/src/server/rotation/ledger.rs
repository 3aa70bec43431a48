//! Who holds which certificates, and who has acknowledged what.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use mesh::Identity;

use super::blocker::Blocker;
use super::state::{Phase, RotationState};

/// How many holders are kept account of. What is issued to more counts as not seen.
pub const MAX_HOLDERS: usize = 20_000;
/// How many certificates are kept account of, of all holders.
pub const MAX_CERTIFICATES: usize = 1_000_000;

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

/// What this process has seen.
#[derive(Debug)]
pub(super) struct Ledger {
    holders: BTreeMap<Holder, Entry>,
    /// All entries of all holders.
    certificates: usize,
    /// What was issued before this was not seen: certificates of at most this life.
    not_seen_before: (SystemTime, Duration),
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
        now: SystemTime,
        holder: &Holder,
        identity: &Identity,
        generation: u64,
        not_after: SystemTime,
    ) -> bool {
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

    /// Which holders the next step waits for.
    pub(super) fn blockers(&self, now: SystemTime, state: &RotationState) -> Vec<Blocker> {
        let blocking = self.holders.iter().filter_map(|(holder, entry)| {
            let (identities, until) = entry.blocks(now, state)?;
            let holder = holder.clone();
            Some(match state.phase {
                Phase::Switched => Blocker::NotRenewed {
                    holder,
                    identities,
                    until,
                },
                Phase::Steady | Phase::Introduced => Blocker::NotAcknowledged {
                    holder,
                    identities,
                    until,
                },
            })
        });
        blocking.collect()
    }

    /// How many hold certificates, and how many of these the next step does not wait for.
    pub(super) fn progress(&self, now: SystemTime, state: &RotationState) -> (usize, usize) {
        let holding = self.holders.values().filter(|entry| entry.holds(now));
        let (mut all, mut done) = (0, 0);
        for entry in holding {
            all += 1;
            done += usize::from(state.phase == Phase::Steady || entry.blocks(now, state).is_none());
        }
        (all, done)
    }

    fn knows_or_has_room(&self, holder: &Holder) -> bool {
        self.holders.len() < MAX_HOLDERS || self.holders.contains_key(holder)
    }
}

impl Entry {
    fn holds(&self, now: SystemTime) -> bool {
        self.certificates.values().any(|newest| newest.is_valid(now))
    }

    /// The identities of older generations, and when the last of these certificates ends; `None` if the next step does
    /// not wait for this holder.
    fn blocks(&self, now: SystemTime, state: &RotationState) -> Option<(Vec<Identity>, SystemTime)> {
        if state.phase == Phase::Introduced && self.acknowledged >= state.generation {
            return None;
        }
        let used = self
            .certificates
            .iter()
            .map(|(identity, newest)| (identity, newest.oldest(now)));
        let (identities, ends): (Vec<_>, Vec<_>) = used
            .filter(|(_, one)| one.generation < state.generation && now < one.not_after)
            .map(|(identity, one)| (identity.clone(), one.not_after))
            .unzip();
        Some((identities, ends.into_iter().max()?))
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
