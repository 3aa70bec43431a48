//! Whether an inbound connection may pass, and why.
//!
//! The order: nothing passes before the first complete set of policies. A matching DENY refuses; so does a
//! policy that selects the workload and is not understood or not known. Without any ALLOW policy the connection
//! passes; with some, one of them has to match. Dry-run policies are evaluated beside this and decide nothing.

mod reason;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use reason::Reason;

use crate::identity::Identity;
use crate::policy::{Action, Attributes, Policy, is_mtls_policy};
use crate::snapshot::{PolicyState, Snapshot};
use crate::workload::Workload;

/// What is decided about.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// Who calls: the identity in the certificate of this very session; none for plaintext.
    pub peer: Option<&'a Identity>,
    /// The address the caller connects from.
    pub source_ip: IpAddr,
    /// The destination.
    pub workload: &'a Workload,
    /// The destination's own address, and the port of the application.
    pub destination: SocketAddr,
}

/// What was decided, and on what ground.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Pass or not.
    pub verdict: Verdict,
    /// The deciding policy and rule, or the default that applied.
    pub reason: Reason,
    /// The snapshot's revision that this rests on.
    pub revision: u64,
    /// Policies that were tried out: they decide nothing.
    pub dry_run: Vec<DryRun>,
}

/// Pass or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The connection may pass.
    Allow,
    /// The connection is refused.
    Deny,
}

/// What one dry-run policy would have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// Its `namespace/name`.
    pub policy: Arc<str>,
    /// The rule that matches, counted from 0.
    pub rule: Option<usize>,
    /// The verdict if this policy were enforced beside those that are.
    pub verdict: Verdict,
    /// What of it was not understood; enforced, it would then refuse everybody.
    pub not_understood: Option<Arc<str>>,
}

impl Decision {
    /// Whether the connection may pass.
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// Decides whether a connection may pass.
pub fn authorize(connection: &Connection<'_>, snapshot: &Snapshot) -> Decision {
    let attributes = Attributes::new(connection.peer, connection.source_ip, connection.destination);
    let (reason, dry_run) = if snapshot.policies_synced() {
        let reason = decide(connection, &attributes, snapshot);
        let dry_run = dry_runs(connection.workload, &attributes, snapshot, &reason);
        (reason, dry_run)
    } else {
        (Reason::PoliciesNotSynced, Vec::new())
    };
    Decision {
        verdict: reason.verdict(),
        reason,
        revision: snapshot.revision(),
        dry_run,
    }
}

fn decide(connection: &Connection<'_>, attributes: &Attributes<'_>, snapshot: &Snapshot) -> Reason {
    let mut closed = None;
    let mut allowed = None;
    let mut unmatched = Vec::new();
    for state in snapshot.policies_selecting(connection.workload) {
        match state {
            PolicyState::Closed(placeholder) if !placeholder.dry_run => closed = closed.or(Some(placeholder)),
            PolicyState::Known(policy) if !policy.dry_run => match (policy.action, allowed.is_some()) {
                (Action::Deny, _) => {
                    if let Some(rule) = policy.matching_rule(attributes) {
                        return denied(policy, rule, connection.peer);
                    }
                }
                (Action::Allow, true) => {}
                (Action::Allow, false) => match policy.matching_rule(attributes) {
                    Some(rule) => allowed = Some((policy, rule)),
                    None => unmatched.push(policy.key()),
                },
            },
            PolicyState::Closed(_) | PolicyState::Known(_) => {}
        }
    }
    if let Some(placeholder) = closed {
        let (policy, reason) = (placeholder.key.clone(), placeholder.reason.clone());
        return Reason::PolicyNotUnderstood { policy, reason };
    }
    // Of a policy made of PeerAuthentication one thing is known without having it: it refuses nobody but
    // callers without identity.
    let mut unknown = snapshot.unknown_policies(connection.workload);
    if let Some(policy) = unknown.find(|key| connection.peer.is_none() || !is_mtls_policy(key)) {
        return Reason::PolicyUnknown {
            policy: policy.clone(),
        };
    }
    match allowed {
        Some((policy, rule)) => Reason::AllowedByPolicy {
            policy: policy.key().clone(),
            rule,
        },
        None if unmatched.is_empty() => Reason::NoAllowPolicy,
        None => Reason::NoAllowPolicyMatched {
            policies: unmatched.into_iter().cloned().collect(),
        },
    }
}

fn denied(policy: &Policy, rule: usize, peer: Option<&Identity>) -> Reason {
    let policy = policy.key().clone();
    if peer.is_none() && is_mtls_policy(&policy) {
        Reason::MtlsRequired { policy, rule }
    } else {
        Reason::DeniedByPolicy { policy, rule }
    }
}

fn dry_runs(
    workload: &Workload,
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    enforced: &Reason,
) -> Vec<DryRun> {
    let dry_run = |state: &PolicyState| match state {
        PolicyState::Known(policy) if policy.dry_run => {
            let rule = policy.matching_rule(attributes);
            let verdict = with_one_more(enforced, policy.action, rule.is_some());
            Some(DryRun {
                policy: policy.key().clone(),
                rule,
                verdict,
                not_understood: None,
            })
        }
        PolicyState::Closed(closed) if closed.dry_run => Some(DryRun {
            policy: closed.key.clone(),
            rule: None,
            verdict: Verdict::Deny,
            not_understood: Some(closed.reason.clone()),
        }),
        PolicyState::Known(_) | PolicyState::Closed(_) => None,
    };
    snapshot
        .policies_selecting(workload)
        .filter_map(dry_run)
        .collect()
}

/// The verdict if one more policy had been enforced.
fn with_one_more(enforced: &Reason, action: Action, matches: bool) -> Verdict {
    match (action, matches, enforced) {
        (Action::Deny, true, _) => Verdict::Deny,
        (Action::Allow, true, Reason::NoAllowPolicyMatched { .. }) => Verdict::Allow,
        (Action::Allow, false, Reason::NoAllowPolicy) => Verdict::Deny,
        _ => enforced.verdict(),
    }
}
