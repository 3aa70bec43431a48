//! Which roots peers are held against while an authority exchanges its own. A state machine without clock,
//! randomness or I/O: both time and entropy are arguments.
//!
//! An authority tells its roots with every certificate it signs. The newest answer counts for all identities of
//! this process at once: a root that it brings is trusted from that moment, by whoever holds an older certificate
//! too. A root that it no longer brings stays trusted while another identity's own newest answer still carries it,
//! since its peers may not have been issued anew either; those identities are asked to renew soon, so this takes
//! seconds, and at most [`LINGER`] when the authority does not answer. An identity whose certificate does not lead
//! to any root of the newest answer is asked to renew at once.
//!
//! Where the control plane says itself which roots count, by a bundle, its roots are trusted from that moment and as long
//! as no later bundle leaves them out, whatever answers carry: an authority's replica that is behind takes nothing
//! back. Roots that answers carry beyond the bundle count as before if the answer is older than the bundle, and while
//! the certificate is held if it is younger, because then the authority knows better; such a certificate is asked to
//! renew once, in case it does not.

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
    bundle: Option<Roots>,
    /// How many bundles there were.
    bundles: u64,
    trusted: Option<Roots>,
    held: BTreeMap<Identity, Held>,
    /// When the newest answer ceased to carry a root that is still trusted.
    dropped: BTreeMap<RootId, SystemTime>,
}

#[derive(Debug)]
struct Held {
    certificate: WorkloadCertificate,
    renewed_early: Option<SystemTime>,
    /// How many bundles there were when it arrived.
    bundles: u64,
    /// How many there were when it was last asked to renew although it was younger than the bundle.
    doubted: Option<u64>,
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
        entropy: impl FnMut() -> u64,
    ) -> Outcome {
        let before = self.held.get(certificate.identity());
        let held = Held {
            certificate: certificate.clone(),
            renewed_early: before.and_then(|held| held.renewed_early),
            bundles: self.bundles,
            doubted: before.and_then(|held| held.doubted),
        };
        self.held.insert(certificate.identity().clone(), held);
        self.newest = Some(certificate.roots().clone());
        Outcome {
            trusted: self.settle(now),
            renew: self.outdated(now, entropy),
        }
    }

    /// The control plane said at `now` which roots count. It says so anew for every change.
    pub fn on_bundle(&mut self, now: SystemTime, roots: Roots, entropy: impl FnMut() -> u64) -> Outcome {
        self.bundles += 1;
        self.bundle = Some(roots);
        Outcome {
            trusted: self.settle(now),
            renew: self.outdated(now, entropy),
        }
    }

    /// Whose certificate is to be renewed, because it came with roots that do not count any more.
    fn outdated(&mut self, now: SystemTime, mut entropy: impl FnMut() -> u64) -> Vec<(Identity, Duration)> {
        let mut renew = Vec::new();
        let Some(newest) = self.bundle.as_ref().or(self.newest.as_ref()) else {
            return renew;
        };
        for (identity, held) in &mut self.held {
            let outdated = held
                .certificate
                .roots()
                .certificates()
                .any(|(id, _)| !newest.contains(id));
            if !outdated {
                continue;
            }
            if self.bundle.is_some() && held.bundles == self.bundles {
                // The authority and the bundle contradict each other; asked once, it may have been a race.
                if held.doubted == Some(self.bundles) {
                    continue;
                }
                held.doubted = Some(self.bundles);
            }
            if held.renewed_early.is_some_and(|last| last > now) {
                // Asked for already, and not due yet.
                continue;
            }
            let pause = held
                .renewed_early
                .and_then(|last| (last + EARLY_PAUSE).duration_since(now).ok())
                .unwrap_or_default();
            let spread = if held.certificate.leads_to(newest) {
                SPREAD.mul_f64(fraction(entropy()))
            } else {
                Duration::ZERO
            };
            held.renewed_early = Some(now + pause + spread);
            renew.push((identity.clone(), pause + spread));
        }
        renew
    }

    /// A certificate from an earlier life of this process. Its answer is older than any of this one's.
    pub fn on_restored(&mut self, now: SystemTime, certificate: &WorkloadCertificate) -> Outcome {
        let held = Held {
            certificate: certificate.clone(),
            renewed_early: None,
            bundles: 0,
            doubted: None,
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

    /// What is trusted now: the bundle's roots, or else the newest answer's, and those that linger.
    fn settle(&mut self, now: SystemTime) -> Option<Roots> {
        let newest = self.bundle.as_ref().or(self.newest.as_ref())?.clone();
        let mut others = BTreeMap::new();
        let mut later = BTreeSet::new();
        for held in self.held.values() {
            let is_later = self.bundle.is_some() && held.bundles == self.bundles;
            for (id, root) in held.certificate.roots().certificates() {
                if !newest.contains(id) {
                    others.insert(*id, root.clone());
                    if is_later {
                        later.insert(*id);
                    }
                }
            }
        }
        let carried: BTreeSet<RootId> = others.keys().copied().filter(|id| !later.contains(id)).collect();
        self.dropped.retain(|id, _| carried.contains(id));
        for id in &carried {
            self.dropped.entry(*id).or_insert(now);
        }
        let dropped = &self.dropped;
        let lingers = |id: &RootId| {
            later.contains(id)
                || dropped
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
