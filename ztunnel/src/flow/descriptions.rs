//! What peers say of their workloads, held to a number that metrics can bear.

use crate::headers::PeerDescription;
use mesh::Identity;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many descriptions of itself an identity may have in the metrics: workloads of one account, and their revisions.
pub(crate) const MAX_DESCRIPTIONS: usize = 16;

/// Of so many identities. Those beyond it are counted without what they say.
const MAX_IDENTITIES: usize = 10_000;

/// A description makes room for another when it was not heard of for so long.
const KEPT: Duration = Duration::from_secs(3600);

/// The descriptions that are in use.
#[derive(Default)]
pub(crate) struct Descriptions {
    random: RandomState,
    used: Mutex<HashMap<Identity, Vec<(u64, Instant)>>>,
}

impl Descriptions {
    /// Whether what `peer` says of itself may be told by metrics.
    pub(super) fn admit(&self, peer: &Identity, said: &PeerDescription, now: Instant) -> bool {
        // Region and zone make no series.
        let PeerDescription {
            cluster,
            namespace,
            workload,
            service,
            revision,
            region: _,
            zone: _,
        } = said;
        let said = self
            .random
            .hash_one((cluster, namespace, workload, service, revision));
        let is_fresh = |(_, heard): &(u64, Instant)| now.duration_since(*heard) < KEPT;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MAX_IDENTITIES && !used.contains_key(peer) {
            used.retain(|_, known| known.iter().any(is_fresh));
            if used.len() >= MAX_IDENTITIES {
                return false;
            }
        }
        let known = used.entry(peer.clone()).or_default();
        if let Some((_, heard)) = known.iter_mut().find(|(known, _)| *known == said) {
            *heard = now;
            return true;
        }
        known.retain(is_fresh);
        let has_room = known.len() < MAX_DESCRIPTIONS;
        if has_room {
            known.push((said, now));
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(number: usize) -> PeerDescription {
        PeerDescription {
            workload: Some(format!("workload-{number}")),
            ..PeerDescription::default()
        }
    }

    fn account(number: usize) -> Identity {
        Identity::new("cluster.local", "shop", &format!("account-{number}"))
    }

    #[test]
    fn an_identity_has_some_descriptions_and_old_ones_make_room() {
        let (descriptions, start) = (Descriptions::default(), Instant::now());
        let peer = account(0);
        for number in 0..MAX_DESCRIPTIONS {
            assert!(descriptions.admit(&peer, &described(number), start));
        }
        let zone = PeerDescription {
            zone: Some("zone".into()),
            ..described(0)
        };
        assert!(descriptions.admit(&peer, &zone, start + KEPT / 2), "known");
        assert!(!descriptions.admit(&peer, &described(99), start));
        assert!(
            descriptions.admit(&account(1), &described(99), start),
            "another's"
        );
        for number in 0..MAX_DESCRIPTIONS - 1 {
            assert!(descriptions.admit(&peer, &described(100 + number), start + KEPT));
        }
        assert!(
            !descriptions.admit(&peer, &described(99), start + KEPT),
            "one was heard of"
        );
    }

    #[test]
    fn identities_have_a_bound_too() {
        let (descriptions, start) = (Descriptions::default(), Instant::now());
        for number in 0..MAX_IDENTITIES {
            assert!(descriptions.admit(&account(number), &described(0), start));
        }
        let late = account(MAX_IDENTITIES);
        assert!(!descriptions.admit(&late, &described(0), start));
        assert!(descriptions.admit(&account(0), &described(0), start));
        assert!(descriptions.admit(&late, &described(0), start + KEPT));
    }
}
