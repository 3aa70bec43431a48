//! The decision itself, on the policies that select one workload.

use std::sync::Arc;

use super::{Connection, DryRun, MAX_NAMED_POLICIES, NamedPolicy, NotEnforced, Reason, Verdict};
use crate::policy::{Action, Attributes, Policy, is_mtls_policy};
use crate::snapshot::{ClosedPolicy, PolicyState, Snapshot};
use crate::workload::Workload;

/// The most entries of [`super::Decision::not_enforced`].
pub const MAX_NOT_ENFORCED: usize = 8;

/// The policies that select one workload.
pub(super) struct Selection<'a> {
    pub(super) workload: &'a Workload,
    /// In the order of evaluation.
    pub(super) policies: Vec<&'a PolicyState>,
    /// Names that the workload lists and nobody has sent.
    pub(super) unknown: Vec<&'a Arc<str>>,
    pub(super) is_synced: bool,
}

/// What decided; rules are those of the policy.
#[derive(Clone, Copy)]
pub(super) enum Ground<'a> {
    Denied(&'a Policy, usize),
    Closed(&'a ClosedPolicy),
    Unknown(&'a Arc<str>),
    Allowed(&'a Policy, usize),
    NoAllowPolicy,
    NoneMatched,
    NotSynced,
}

impl Ground<'_> {
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Allowed(..) | Self::NoAllowPolicy => Verdict::Allow,
            Self::Denied(..) | Self::Closed(_) | Self::Unknown(_) | Self::NoneMatched | Self::NotSynced => {
                Verdict::Deny
            }
        }
    }
}

impl<'a> Selection<'a> {
    pub(super) fn new(workload: &'a Workload, snapshot: &'a Snapshot) -> Self {
        Self {
            workload,
            policies: snapshot.policies_selecting(workload).collect(),
            unknown: snapshot.unknown_policies(workload).collect(),
            is_synced: snapshot.policies_synced(),
        }
    }

    /// The policies that decide and are understood.
    pub(super) fn enforced(&self) -> impl Iterator<Item = &'a Policy> {
        self.policies.iter().filter_map(|state| match state {
            PolicyState::Known(policy) if !policy.dry_run => Some(&**policy),
            PolicyState::Known(_) | PolicyState::Closed(_) => None,
        })
    }

    pub(super) fn decide(&self, attributes: &Attributes<'_>) -> Ground<'a> {
        if !self.is_synced {
            return Ground::NotSynced;
        }
        let mut allowed = None;
        let mut has_allow = false;
        for policy in self.enforced() {
            match policy.action {
                Action::Deny => {
                    if let Some(rule) = policy.matching_rule(attributes) {
                        return Ground::Denied(policy, rule);
                    }
                }
                Action::Allow if allowed.is_none() => {
                    has_allow = true;
                    allowed = policy.matching_rule(attributes).map(|rule| (policy, rule));
                }
                Action::Allow => {}
            }
        }
        let closed = self.policies.iter().find_map(|state| match state {
            PolicyState::Closed(closed) if !closed.dry_run => Some(closed),
            PolicyState::Closed(_) | PolicyState::Known(_) => None,
        });
        if let Some(closed) = closed {
            return Ground::Closed(closed);
        }
        // Of a policy made of PeerAuthentication one thing is known without having it: it refuses nobody but
        // callers without identity.
        let decides = |key: &&&Arc<str>| !attributes.has_peer() || !is_mtls_policy(key);
        if let Some(key) = self.unknown.iter().find(decides) {
            return Ground::Unknown(key);
        }
        match allowed {
            Some((policy, rule)) => Ground::Allowed(policy, rule),
            None if has_allow => Ground::NoneMatched,
            None => Ground::NoAllowPolicy,
        }
    }

    pub(super) fn reason(&self, ground: &Ground<'_>, connection: &Connection<'_>) -> Reason {
        let port = connection.destination.port();
        match *ground {
            Ground::Denied(policy, rule) => {
                let named = self.name(policy, port);
                if connection.peer.is_none() && is_mtls_policy(policy.key()) {
                    Reason::MtlsRequired { policy: named, rule }
                } else if let Some(reason) = named.closed_because().cloned() {
                    let policy = named;
                    Reason::PolicyNotUnderstood { policy, reason }
                } else {
                    let rule = named.rule(rule);
                    Reason::DeniedByPolicy { policy: named, rule }
                }
            }
            Ground::Closed(closed) => Reason::PolicyNotUnderstood {
                policy: self.name_key(&closed.key, port),
                reason: closed.reason.clone(),
            },
            Ground::Unknown(key) => Reason::PolicyUnknown {
                policy: self.name_key(key, port),
            },
            Ground::Allowed(policy, rule) => {
                let policy = self.name(policy, port);
                let rule = policy.rule(rule);
                Reason::AllowedByPolicy { policy, rule }
            }
            Ground::NoAllowPolicy => Reason::NoAllowPolicy,
            Ground::NoneMatched => {
                let allow = || self.enforced().filter(|policy| policy.action == Action::Allow);
                Reason::NoAllowPolicyMatched {
                    policies: allow()
                        .take(MAX_NAMED_POLICIES)
                        .map(|policy| self.name(policy, port))
                        .collect(),
                    count: allow().count(),
                }
            }
            Ground::NotSynced => Reason::PoliciesNotSynced,
        }
    }

    /// Names a policy for a connection to `port`.
    pub(super) fn name(&self, policy: &Policy, port: u16) -> NamedPolicy {
        let mut named = self.name_key(policy.key(), port);
        if named.origin.is_none() {
            named.origin.clone_from(&policy.origin);
        }
        named
    }

    /// Names a policy of which nothing but its key is known. Those made of `PeerAuthentication` are shared by
    /// workloads; which object is meant, the workload tells.
    pub(super) fn name_key(&self, key: &Arc<str>, port: u16) -> NamedPolicy {
        let peer_authentication = self.workload.peer_authentication.as_ref();
        let origin = peer_authentication.filter(|_| is_mtls_policy(key));
        NamedPolicy {
            key: key.clone(),
            origin: origin.and_then(|origin| origin.deciding(port).cloned()),
        }
    }

    pub(super) fn not_enforced(&self) -> Vec<NotEnforced> {
        let origins = self.policies.iter().filter_map(|state| state.known());
        let origins = origins.filter_map(|policy| Some((policy.key(), policy.origin.as_ref()?)));
        let parts = origins.flat_map(|(key, origin)| {
            origin.not_enforced.iter().map(move |part| NotEnforced {
                policy: NamedPolicy {
                    key: key.clone(),
                    origin: Some(origin.clone()),
                },
                rule: part.rule as usize,
                attributes: part.attributes.clone(),
                effect: part.effect,
            })
        });
        parts.take(MAX_NOT_ENFORCED).collect()
    }

    pub(super) fn dry_runs(&self, attributes: &Attributes<'_>, ground: &Ground<'_>) -> Vec<DryRun> {
        if !self.is_synced {
            return Vec::new();
        }
        let dry_run = |state: &&PolicyState| match state {
            PolicyState::Known(policy) if policy.dry_run => {
                let rule = policy.matching_rule(attributes);
                let named = NamedPolicy {
                    key: policy.key().clone(),
                    origin: policy.origin.clone(),
                };
                let not_understood = named.closed_because().cloned();
                Some(DryRun {
                    rule: rule
                        .filter(|_| not_understood.is_none())
                        .map(|rule| named.rule(rule)),
                    policy: named,
                    verdict: with_one_more(ground, policy.action, rule.is_some()),
                    not_understood,
                })
            }
            PolicyState::Closed(closed) if closed.dry_run => Some(DryRun {
                policy: NamedPolicy {
                    key: closed.key.clone(),
                    origin: None,
                },
                rule: None,
                verdict: Verdict::Deny,
                not_understood: Some(closed.reason.clone()),
            }),
            PolicyState::Known(_) | PolicyState::Closed(_) => None,
        };
        self.policies.iter().filter_map(dry_run).collect()
    }
}

/// The verdict if one more policy had been enforced.
fn with_one_more(ground: &Ground<'_>, action: Action, matches: bool) -> Verdict {
    match (action, matches, ground) {
        (Action::Deny, true, _) => Verdict::Deny,
        (Action::Allow, true, Ground::NoneMatched) => Verdict::Allow,
        (Action::Allow, false, Ground::NoAllowPolicy) => Verdict::Deny,
        _ => ground.verdict(),
    }
}
