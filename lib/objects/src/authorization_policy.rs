//! AuthorizationPolicy: who may talk to whom.
//!
//! What a layer 4 proxy can decide has types; the HTTP attributes are checked for their shape and kept by name, so
//! that whoever converts the policy can say which of them is not enforced.
//!
//! What cannot be read is refused where objects enter. In a policy that is stored already it must not vanish, since
//! that could open: single values are kept as unreadable ones, a rule with anything else wrong counts as unreadable,
//! and a policy with anything else wrong as one that denies everything ([`AuthorizationPolicy::unreadable`]).

use crate::selector::Labels;

mod conditions;
mod matches;
mod read;
mod rule;
mod source;
mod target;
mod unreadable;
mod values;

pub use conditions::{Condition, Test};
pub use matches::Matches;
pub use rule::{Operation, Rule};
pub use source::{ServiceAccountRef, Source};
pub use target::TargetRef;

/// The annotation that asks for a policy to be tried without being enforced.
pub const DRY_RUN_ANNOTATION: &str = "istio.io/dry-run";

/// Who may talk to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// The workloads meant; empty (also `selector: {}`): all of the namespace, or of the mesh in the root namespace.
    pub selector: Labels,
    /// What the policy is attached to instead of workloads; such a policy is a waypoint's.
    pub target_refs: Vec<TargetRef>,
    /// What a match means.
    pub action: Action,
    /// The policy matches when any rule does. Without rules, it matches nothing.
    pub rules: Vec<Rule>,
    /// Why the policy as a whole cannot be read; empty unless it was stored so. Then the action is DENY and the only
    /// rule matches everything, and where it cannot be told whom the policy selects, that is everybody.
    pub unreadable: Vec<String>,
}

/// What a match means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// The connection is let in; once any ALLOW policy applies, only what matches one is.
    #[default]
    Allow,
    /// The connection is refused, whatever is allowed.
    Deny,
    /// The request is logged: nothing for node proxies. Refused where objects enter.
    Audit,
    /// An external authorizer is asked: nothing for node proxies. Refused where objects enter.
    Custom,
}

impl Action {
    /// Whether node proxies know the action.
    pub fn is_supported(self) -> bool {
        matches!(self, Action::Allow | Action::Deny)
    }

    /// The action as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
            Action::Audit => "AUDIT",
            Action::Custom => "CUSTOM",
        }
    }
}

impl AuthorizationPolicy {
    /// The HTTP attributes named anywhere in the policy, sorted, each once.
    pub fn http_attributes(&self) -> Vec<&str> {
        let mut found: Vec<&str> = self.rules.iter().flat_map(Rule::http_attributes).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}
