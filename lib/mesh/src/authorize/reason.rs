//! On what ground a connection passed or not, in words for people and for machines.

use std::fmt;
use std::sync::Arc;

use super::{NamedPolicy, Verdict};
use crate::policy::is_mtls_policy;

/// The most policies that [`Reason::NoAllowPolicyMatched`] names.
pub const MAX_NAMED_POLICIES: usize = 10;

/// On what ground a connection passed or not. `Display` is a full sentence that names the object of the user, where
/// the control plane told it, and its rule, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A DENY policy matched.
    DeniedByPolicy {
        /// Which.
        policy: NamedPolicy,
        /// The rule that matched, of the object.
        rule: usize,
    },
    /// `PeerAuthentication` demands mTLS and the caller came without.
    MtlsRequired {
        /// The policy made of it.
        policy: NamedPolicy,
        /// The rule of the policy that matched.
        rule: usize,
    },
    /// The workload lists a policy that nobody has sent.
    PolicyUnknown {
        /// Which.
        policy: NamedPolicy,
    },
    /// A policy was not understood: by the node proxy, which has no older version, or by the control plane, which then
    /// sends one that refuses everybody.
    PolicyNotUnderstood {
        /// Which.
        policy: NamedPolicy,
        /// What was not understood.
        reason: Arc<str>,
    },
    /// ALLOW policies select the workload and none of them matched.
    NoAllowPolicyMatched {
        /// The first [`MAX_NAMED_POLICIES`] of them, in the order of evaluation.
        policies: Vec<NamedPolicy>,
        /// How many there are.
        count: usize,
    },
    /// An ALLOW policy matched.
    AllowedByPolicy {
        /// Which.
        policy: NamedPolicy,
        /// The rule that matched, of the object.
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

    /// The deciding policy, where one policy decided.
    pub fn policy(&self) -> Option<&NamedPolicy> {
        match self {
            Self::DeniedByPolicy { policy, .. }
            | Self::MtlsRequired { policy, .. }
            | Self::PolicyUnknown { policy }
            | Self::PolicyNotUnderstood { policy, .. }
            | Self::AllowedByPolicy { policy, .. } => Some(policy),
            Self::NoAllowPolicyMatched { .. } | Self::NoAllowPolicy | Self::PoliciesNotSynced => None,
        }
    }

    /// The rule of the user's object that decided, counted from 0; none where none did. The policies made of
    /// `PeerAuthentication` have rules, but the objects have none.
    pub fn rule(&self) -> Option<usize> {
        match self {
            Self::DeniedByPolicy { rule, .. } | Self::AllowedByPolicy { rule, .. } => Some(*rule),
            Self::MtlsRequired { .. }
            | Self::PolicyUnknown { .. }
            | Self::PolicyNotUnderstood { .. }
            | Self::NoAllowPolicyMatched { .. }
            | Self::NoAllowPolicy
            | Self::PoliciesNotSynced => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeniedByPolicy { policy, rule } => write!(f, "denied by rule {rule} of DENY policy {policy}"),
            Self::MtlsRequired { policy, .. } => mtls_required(f, policy, ""),
            Self::PolicyUnknown { policy } if is_mtls_policy(&policy.key) => {
                mtls_required(f, policy, ", not received yet")
            }
            Self::PolicyUnknown { policy } => write!(
                f,
                "policy {policy} selects this workload but has not been received; until then everything is refused"
            ),
            Self::PolicyNotUnderstood { policy, reason } => write!(
                f,
                "policy {policy} applies here but was not understood, so everything is refused: {reason}"
            ),
            Self::NoAllowPolicyMatched { policies, count } => none_matched(f, policies, *count),
            Self::AllowedByPolicy { policy, rule } => write!(f, "allowed by rule {rule} of ALLOW policy {policy}"),
            Self::NoAllowPolicy => f.write_str("no ALLOW policy selects this workload, and no DENY policy matched"),
            Self::PoliciesNotSynced => f.write_str(
                "the first complete set of policies has not arrived from the control plane; until then everything \
                 is refused",
            ),
        }
    }
}

fn mtls_required(f: &mut fmt::Formatter<'_>, policy: &NamedPolicy, remark: &str) -> fmt::Result {
    match &policy.origin {
        Some(origin) => write!(f, "PeerAuthentication requires mTLS ({origin}{remark})")?,
        None => write!(
            f,
            "PeerAuthentication requires mTLS (policy {}{remark})",
            policy.key
        )?,
    }
    if let Some(why) = policy.closed_because() {
        write!(f, ", which cannot be read and so counts as STRICT: {why}")?;
    }
    f.write_str("; the caller presented no identity")
}

fn none_matched(f: &mut fmt::Formatter<'_>, policies: &[NamedPolicy], count: usize) -> fmt::Result {
    const WORDS: [&str; 11] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    match WORDS.get(count) {
        Some(word) => f.write_str(word)?,
        None => write!(f, "{count}")?,
    }
    f.write_str(if count == 1 {
        " ALLOW policy selects this workload and did not match: "
    } else {
        " ALLOW policies select this workload and none matched: "
    })?;
    for (position, policy) in policies.iter().enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        write!(f, "{separator}{policy}")?;
    }
    match count.saturating_sub(policies.len()) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}
