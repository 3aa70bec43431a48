//! Which roots peers are held against while an authority exchanges its own. A state machine without clock,
//! randomness or I/O: both time and entropy are arguments.
//!
//! An authority tells its roots with every certificate it signs. The newest answer counts for all identities of
//! this process at once: a root that it brings is trusted from that moment, by whoever holds an older certificate
//! too. A root that it no longer brings stays trusted while another identity's own newest answer still carries it,
//! since its peers may not have been issued anew either; those identities are asked to renew soon, so this takes
//! seconds, and at most [`LINGER`] when the authority does not answer. An identity whose certificate does not lead
//! to any root of the newest answer is asked to renew at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use mesh::Identity;

use crate::entropy::fraction;
use crate::roots::RootId;
use crate::{Roots, WorkloadCertificate};

/// How long a root stays trusted that the newest answer no longer carries.
pub const LINGER: Duration = Duration::from_secs(600);
/// Over how long early renewals are spread, so that a mesh does not ask in step.
pub const SPREAD: Duration = Duration::from_secs(20);
/// The shortest time between two early renewals of one identity: authorities that contradict each other cost no
/// more than this.
pub const EARLY_PAUSE: Duration = Duration::from_secs(60);

/// What follows from something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The roots that peers are held against from now on, if that changed.
    pub trusted: Option<Roots>,
    /// Whose certificate is to be renewed early, and after how long.
    pub renew: Vec<(Identity, Duration)>,
}

/// The roots of all identities of one process.
#[derive(Debug, Default)]
pub struct RootRotation {
    newest: Option<Roots>,
    trusted: Option<Roots>,
    held: BTreeMap<Identity, Held>,
    /// When the newest answer ceased to carry a root that is still trusted.
    dropped: BTreeMap<RootId, SystemTime>,
}

#[derive(Debug)]
struct Held {
    certificate: WorkloadCertificate,
    renewed_early: Option<SystemTime>,
}

impl RootRotation {
    /// Nothing is trusted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An answer of the authority arrived at `now`.
    pub fn on_certificate(
        &mut self,
        now: SystemTime,
        certificate: &WorkloadCertificate,
        mut entropy: impl FnMut() -> u64,
    ) -> Outcome {
        let renewed_early = self
            .held
            .get(certificate.identity())
            .and_then(|held| held.renewed_early);
        let held = Held {
            certificate: certificate.clone(),
            renewed_early,
        };
        self.held.insert(certificate.identity().clone(), held);
        let newest = certificate.roots().clone();
        self.newest = Some(newest.clone());
        let trusted = self.settle(now);
        let mut renew = Vec::new();
        for (identity, held) in &mut self.held {
            let outdated = held
                .certificate
                .roots()
                .certificates()
                .any(|(id, _)| !newest.contains(id));
            if !outdated {
                continue;
            }
            if held.renewed_early.is_some_and(|last| last > now) {
                // Asked for already, and not due yet.
                continue;
            }
            let pause = held
                .renewed_early
                .and_then(|last| (last + EARLY_PAUSE).duration_since(now).ok())
                .unwrap_or_default();
            let spread = if held.certificate.leads_to(&newest) {
                SPREAD.mul_f64(fraction(entropy()))
            } else {
                Duration::ZERO
            };
            held.renewed_early = Some(now + pause + spread);
            renew.push((identity.clone(), pause + spread));
        }
        Outcome { trusted, renew }
    }

    /// A certificate from an earlier life of this process. Its answer is older than any of this one's.
    pub fn on_restored(&mut self, now: SystemTime, certificate: &WorkloadCertificate) -> Outcome {
        let held = Held {
            certificate: certificate.clone(),
            renewed_early: None,
        };
        self.held.entry(certificate.identity().clone()).or_insert(held);
        self.newest.get_or_insert_with(|| certificate.roots().clone());
        Outcome {
            trusted: self.settle(now),
            renew: Vec::new(),
        }
    }

    /// Nobody holds `identity` any more.
    pub fn forget(&mut self, now: SystemTime, identity: &Identity) -> Outcome {
        self.held.remove(identity);
        Outcome {
            trusted: self.settle(now),
            renew: Vec::new(),
        }
    }

    /// Time has passed: see [`RootRotation::next_tick`].
    pub fn tick(&mut self, now: SystemTime) -> Outcome {
        Outcome {
            trusted: self.settle(now),
            renew: Vec::new(),
        }
    }

    /// When something changes by time alone.
    pub fn next_tick(&self, now: SystemTime) -> Option<SystemTime> {
        let ends = self.dropped.values().map(|since| *since + LINGER);
        ends.filter(|end| *end > now).min()
    }

    /// The roots that peers are held against.
    pub fn trusted(&self) -> Option<&Roots> {
        self.trusted.as_ref()
    }

    /// What is trusted now: the newest answer's roots, and those that linger.
    fn settle(&mut self, now: SystemTime) -> Option<Roots> {
        let newest = self.newest.clone()?;
        let mut others = BTreeMap::new();
        for held in self.held.values() {
            for (id, root) in held.certificate.roots().certificates() {
                if !newest.contains(id) {
                    others.insert(*id, root.clone());
                }
            }
        }
        let carried: BTreeSet<RootId> = others.keys().copied().collect();
        self.dropped.retain(|id, _| carried.contains(id));
        for id in &carried {
            self.dropped.entry(*id).or_insert(now);
        }
        let dropped = &self.dropped;
        let lingers = |id: &RootId| {
            dropped
                .get(id)
                .is_some_and(|since| now.duration_since(*since).unwrap_or_default() < LINGER)
        };
        let trusted = newest.with(others.into_iter().filter(|(id, _)| lingers(id)));
        if self.trusted.as_ref() == Some(&trusted) {
            return None;
        }
        self.trusted = Some(trusted.clone());
        Some(trusted)
    }
}

#[cfg(test)]
mod tests;
