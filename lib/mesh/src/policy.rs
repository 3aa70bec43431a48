//! Authorization policies: who may talk to whom.
//!
//! A policy is read whole or not at all. What this version does not understand (a value out of range, a kind of
//! match or a protobuf field it has no meaning for) rejects it, since leaving a condition out would let more
//! through than its author wrote.

mod decode;
mod matching;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use crate::address::IpPrefix;
use crate::rejected::Rejected;

pub(crate) use matching::Attributes;

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
    /// It matches when any of its rules does; without rules never.
    pub rules: Vec<Rule>,
    /// It is evaluated and recorded, but decides nothing.
    pub dry_run: bool,
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

/// Matches when all its clauses do; without clauses always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// Matches when any of its matches does; without matches always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clause {
    /// The matches.
    pub matches: Vec<Match>,
}

/// Holds when every attribute named in it holds; without any never. A positive list holds when one of its values
/// does, a negative list when none does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the message and say it all")]
pub struct Match {
    pub namespaces: Vec<StringMatch>,
    pub not_namespaces: Vec<StringMatch>,
    pub service_accounts: Vec<ServiceAccountMatch>,
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    pub principals: Vec<StringMatch>,
    pub not_principals: Vec<StringMatch>,
    pub source_ips: Vec<IpPrefix>,
    pub not_source_ips: Vec<IpPrefix>,
    pub destination_ips: Vec<IpPrefix>,
    pub not_destination_ips: Vec<IpPrefix>,
    pub destination_ports: Vec<u16>,
    pub not_destination_ports: Vec<u16>,
}

/// How a string is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StringMatch {
    /// The same.
    Exact(Arc<str>),
    /// It begins so.
    Prefix(Arc<str>),
    /// It ends so.
    Suffix(Arc<str>),
    /// It is not empty.
    Presence,
}

/// An exact service account, of any trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceAccountMatch {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub service_account: Arc<str>,
}

impl Policy {
    /// A policy of parts that are known to be good.
    pub fn new(namespace: &str, name: &str, scope: Scope, action: Action, rules: Vec<Rule>) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            scope,
            action,
            rules,
            dry_run: false,
            key: format!("{namespace}/{name}").into(),
        }
    }

    /// `namespace/name`, under which it is delivered, found and listed.
    pub fn key(&self) -> &Arc<str> {
        &self.key
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
