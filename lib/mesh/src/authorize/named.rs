//! Policies as decisions name them: by the object that the user wrote, where that is known.

use std::fmt;
use std::sync::Arc;

use crate::policy::{Effect, ObjectKind, Origin};

/// A policy as a decision names it. `Display` is `namespace/name` of the object of the user, with its generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPolicy {
    /// The `namespace/name` under which it was sent.
    pub key: Arc<str>,
    /// The object that it was made of, where the control plane told.
    pub origin: Option<Arc<Origin>>,
}

/// A part of a policy that nobody enforces, and whose scope the connection is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEnforced {
    /// The policy.
    pub policy: NamedPolicy,
    /// The rule of the object, counted from 0.
    pub rule: usize,
    /// The attributes, as the object names them.
    pub attributes: Arc<[Arc<str>]>,
    /// What becomes of the rule.
    pub effect: Effect,
}

impl NamedPolicy {
    /// `namespace/name` of the object of the user, or the key where the control plane does not tell the object.
    pub fn name(&self) -> String {
        self.origin.as_ref().map_or_else(
            || (*self.key).to_owned(),
            |origin| format!("{}/{}", origin.namespace, origin.name),
        )
    }

    /// The kind of the object, where the control plane told.
    pub fn kind(&self) -> Option<ObjectKind> {
        self.origin.as_ref().map(|origin| origin.kind)
    }

    /// Why the object as a whole cannot be read, where the control plane closed it for that.
    pub(super) fn closed_because(&self) -> Option<&Arc<str>> {
        self.origin.as_ref()?.closed_because.as_ref()
    }

    /// The object's rule that the policy's rule was made of.
    pub(super) fn rule(&self, rule: usize) -> usize {
        self.origin.as_ref().map_or(rule, |origin| origin.rule(rule))
    }
}

impl fmt::Display for NamedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(origin) = &self.origin else {
            return f.write_str(&self.key);
        };
        write!(f, "{}/{}", origin.namespace, origin.name)?;
        if origin.generation > 0 {
            write!(f, " (generation {})", origin.generation)?;
        }
        Ok(())
    }
}

impl fmt::Display for NotEnforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of rule {} of {} is not enforced: {}",
            self.attributes.join(", "),
            self.rule,
            self.policy,
            self.effect
        )
    }
}
