//! AuthorizationPolicy to what a node proxy can decide.
//!
//! Nothing is dropped in silence: what a node proxy cannot decide, and what of a stored policy cannot be read, is named
//! in the origin that travels with the policy and in the condition for its author. What cannot be read can only close.

use objects::selector::Labels;
use objects::{Action, AuthorizationPolicy, Kind, Object, Spec};
use proto::security::{self, Authorization, Scope};

use crate::condition::Condition;
use crate::index::Index;
use crate::origin;

mod rule;
mod verdict;

pub(crate) use rule::ip_bytes;

/// What was made of a policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Converted {
    /// What is sent; `None`: it is not for node proxies.
    pub(crate) policy: Option<Authorization>,
    /// What its author is told; nothing about a waypoint's policy.
    pub(crate) condition: Option<Condition>,
}

/// The keys of the policies with a selector that selects a pod, each list sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Keys {
    /// Those that are enforced.
    pub(crate) enforced: Vec<String>,
    /// Those that are only tried.
    pub(crate) dry_run: Vec<String>,
}

/// Whether a policy is for node proxies at all.
pub(crate) fn is_sent(policy: &AuthorizationPolicy) -> bool {
    policy.target_refs.is_empty() && policy.action.is_supported()
}

/// The policies that select a workload by its labels: those of its own and of the root namespace.
pub(crate) fn keys_for(index: &Index, root: &str, namespace: &str, labels: &Labels) -> Keys {
    let selecting = |namespace: &str| index.selecting(Kind::AuthorizationPolicy, namespace, labels);
    let mut objects = selecting(namespace);
    // In the root namespace, own policies are the wide ones already.
    if namespace != root {
        objects.extend(selecting(root));
    }
    let mut keys = Keys::default();
    for object in objects {
        let sent = matches!(&object.spec, Spec::AuthorizationPolicy(policy) if is_sent(policy));
        match (sent, is_dry_run(object)) {
            (true, false) => keys.enforced.push(key(object)),
            (true, true) => keys.dry_run.push(key(object)),
            (false, _) => {}
        }
    }
    keys.enforced.sort_unstable();
    keys.dry_run.sort_unstable();
    keys
}

/// The resource name of a policy.
pub(crate) fn key(object: &Object) -> String {
    format!("{}/{}", object.metadata.namespace, object.metadata.name)
}

/// Whether a policy is to be tried without being enforced.
pub(crate) fn is_dry_run(object: &Object) -> bool {
    object
        .metadata
        .annotations
        .get(objects::DRY_RUN_ANNOTATION)
        .is_some_and(|value| value == "true")
}

/// Converts a policy. HTTP attributes cannot be decided: an ALLOW rule that names one is left out; from a DENY rule
/// they are erased, and what then asks for nothing matches nothing.
pub(crate) fn convert(object: &Object, policy: &AuthorizationPolicy, root: &str) -> Converted {
    let metadata = &object.metadata;
    let mut origin = origin::of(object);
    let mut rules = Vec::new();
    for (number, rule) in (0..).zip(&policy.rules) {
        let made = rule::convert(rule, policy.action, &metadata.namespace);
        if let Some(converted) = made.rule {
            rules.push(converted);
            origin.rules.push(number);
        }
        origin
            .not_enforced
            .extend(made.not_enforced.map(|part| part.of_rule(number)));
    }
    let condition = verdict::condition(object, policy, root, &rules, &origin.not_enforced);
    let action = match policy.action {
        Action::Allow => security::Action::Allow,
        Action::Deny => security::Action::Deny,
        Action::Audit | Action::Custom => {
            return Converted {
                policy: None,
                condition,
            };
        }
    };
    if !is_sent(policy) {
        return Converted {
            policy: None,
            condition,
        };
    }
    let sent = Authorization {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        scope: scope(object, policy, root).into(),
        action: action.into(),
        rules,
        dry_run: is_dry_run(object),
        extensions: vec![origin::of_policy(&origin)],
    };
    Converted {
        policy: Some(sent),
        condition,
    }
}

fn scope(object: &Object, policy: &AuthorizationPolicy, root: &str) -> Scope {
    match (policy.selector.is_empty(), object.metadata.namespace == root) {
        (true, true) => Scope::Global,
        (true, false) => Scope::Namespace,
        (false, _) => Scope::WorkloadSelector,
    }
}

#[cfg(test)]
mod tests;
