//! On what ground a connection passed or not, in words for people and for machines.

use std::fmt;
use std::sync::Arc;

use super::Verdict;
use crate::policy::is_mtls_policy;

/// On what ground a connection passed or not. `Display` is a full sentence that names the policy; rules are
/// counted from 0, in the order of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A DENY policy matched.
    DeniedByPolicy {
        /// Its `namespace/name`.
        policy: Arc<str>,
        /// The rule that matched.
        rule: usize,
    },
    /// `PeerAuthentication` demands mTLS and the caller came without.
    MtlsRequired {
        /// The policy made of it.
        policy: Arc<str>,
        /// The rule that matched.
        rule: usize,
    },
    /// The workload lists a policy that nobody has sent.
    PolicyUnknown {
        /// Its `namespace/name`.
        policy: Arc<str>,
    },
    /// A policy was not understood and has no older version.
    PolicyNotUnderstood {
        /// Its `namespace/name`.
        policy: Arc<str>,
        /// What was not understood.
        reason: Arc<str>,
    },
    /// ALLOW policies select the workload and none of them matched.
    NoAllowPolicyMatched {
        /// Their `namespace/name`s, in the order of evaluation.
        policies: Vec<Arc<str>>,
    },
    /// An ALLOW policy matched.
    AllowedByPolicy {
        /// Its `namespace/name`.
        policy: Arc<str>,
        /// The rule that matched.
        rule: usize,
    },
    /// No ALLOW policy selects the workload.
    NoAllowPolicy,
    /// The first complete set of policies has not arrived.
    PoliciesNotSynced,
}

impl Reason {
    /// What follows from it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::AllowedByPolicy { .. } | Self::NoAllowPolicy => Verdict::Allow,
            Self::DeniedByPolicy { .. }
            | Self::MtlsRequired { .. }
            | Self::PolicyUnknown { .. }
            | Self::PolicyNotUnderstood { .. }
            | Self::NoAllowPolicyMatched { .. }
            | Self::PoliciesNotSynced => Verdict::Deny,
        }
    }

    /// A stable word for metrics, logs and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DeniedByPolicy { .. } => "denied_by_policy",
            Self::MtlsRequired { .. } => "mtls_required",
            Self::PolicyUnknown { .. } => "policy_unknown",
            Self::PolicyNotUnderstood { .. } => "policy_not_understood",
            Self::NoAllowPolicyMatched { .. } => "no_allow_policy_matched",
            Self::AllowedByPolicy { .. } => "allowed_by_policy",
            Self::NoAllowPolicy => "no_allow_policy",
            Self::PoliciesNotSynced => "policies_not_synced",
        }
    }

    /// The deciding policy's `namespace/name`, where one policy decided.
    pub fn policy(&self) -> Option<&Arc<str>> {
        match self {
            Self::DeniedByPolicy { policy, .. }
            | Self::MtlsRequired { policy, .. }
            | Self::PolicyUnknown { policy }
            | Self::PolicyNotUnderstood { policy, .. }
            | Self::AllowedByPolicy { policy, .. } => Some(policy),
            Self::NoAllowPolicyMatched { .. } | Self::NoAllowPolicy | Self::PoliciesNotSynced => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeniedByPolicy { policy, rule } => write!(f, "denied by rule {rule} of DENY policy {policy}"),
            Self::MtlsRequired { policy, .. } => write!(
                f,
                "PeerAuthentication requires mTLS (policy {policy}); the caller presented no identity"
            ),
            Self::PolicyUnknown { policy } if is_mtls_policy(policy) => write!(
                f,
                "PeerAuthentication requires mTLS (policy {policy}, not received yet); the caller presented no \
                 identity"
            ),
            Self::PolicyUnknown { policy } => write!(
                f,
                "policy {policy} selects this workload but has not been received; until then everything is refused"
            ),
            Self::PolicyNotUnderstood { policy, reason } => write!(
                f,
                "policy {policy} applies here but was not understood, so everything is refused: {reason}"
            ),
            Self::NoAllowPolicyMatched { policies } => {
                let are = if policies.len() == 1 { "selects" } else { "select" };
                write!(f, "no ALLOW policy matched: {} {are} this workload", policies.join(", "))
            }
            Self::AllowedByPolicy { policy, rule } => write!(f, "allowed by rule {rule} of ALLOW policy {policy}"),
            Self::NoAllowPolicy => f.write_str("no ALLOW policy selects this workload, and no DENY policy matched"),
            Self::PoliciesNotSynced => f.write_str(
                "the first complete set of policies has not arrived from the control plane; until then everything \
                 is refused",
            ),
        }
    }
}
