//! Authorization policies: who may talk to whom.
//!
//! A policy is read whole or not at all. What this version does not understand (a value out of range, a kind of
//! match or a protobuf field it has no meaning for) rejects it, since leaving a condition out would let more
//! through than its author wrote.

mod condition;
mod decode;
mod index;
mod matching;
mod origin;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

pub use condition::{
    Accounts, Attribute, Blocks, Clause, Condition, Match, Ports, Rule, ServiceAccountMatch, StringMatch,
    Strings, Values,
};
pub(crate) use matching::Attributes;
pub use origin::{
    Effect, MAX_CLOSED_BECAUSE, MAX_NOT_ENFORCED_ATTRIBUTES, MAX_NOT_ENFORCED_RULES, NotEnforcedRule,
    ObjectKind, Origin, PeerAuthentications,
};

use crate::rejected::Rejected;

/// The largest policy in encoded bytes. Kubernetes objects are limited to less.
pub const MAX_POLICY_SIZE: usize = 4 << 20;

/// The name of the policy that the control plane makes of `PeerAuthentication` STRICT.
const STATIC_STRICT: &str = "istio_converted_static_strict";
/// The beginning of the names of policies made of `PeerAuthentication` with port levels.
const CONVERTED_PREFIX: &str = "converted_peer_authentication_";

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Whom it applies to.
    pub scope: Scope,
    /// What a match means.
    pub action: Action,
    /// It is evaluated and recorded, but decides nothing.
    pub dry_run: bool,
    /// The object of the user that it was made of, where the control plane tells.
    pub origin: Option<Arc<Origin>>,
    rules: Vec<Rule>,
    key: Arc<str>,
}

/// Whom a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Every workload.
    Global,
    /// Every workload of the policy's namespace.
    Namespace,
    /// Workloads that list it by name.
    WorkloadSelector,
}

/// What a policy's match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// The connection may pass.
    Allow,
    /// The connection is refused.
    Deny,
}

impl Policy {
    /// A policy of parts that are known to be good.
    pub fn new(namespace: &str, name: &str, scope: Scope, action: Action, rules: Vec<Rule>) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            scope,
            action,
            dry_run: false,
            origin: None,
            rules,
            key: format!("{namespace}/{name}").into(),
        }
    }

    /// `namespace/name`, under which it is delivered, found and listed.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// It matches when any of its rules does; without rules never.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a rule tells one identity from another.
    pub(crate) fn names_callers(&self) -> bool {
        let mut matches = self
            .rules
            .iter()
            .flat_map(|rule| &rule.clauses)
            .flat_map(Clause::matches);
        matches.any(|one| {
            one.conditions()
                .iter()
                .any(|condition| condition.values.names_callers())
        })
    }

    /// Reads an encoded `istio.security.Authorization`, whole or not at all.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejected> {
        decode::decode(bytes)
    }
}

/// Whether a policy of this key (`namespace/name`) was made of a `PeerAuthentication` that demands mTLS. Its
/// names have `_`, which no name in Kubernetes has, so no user's policy is meant.
pub fn is_mtls_policy(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    name == STATIC_STRICT || name.starts_with(CONVERTED_PREFIX)
}
