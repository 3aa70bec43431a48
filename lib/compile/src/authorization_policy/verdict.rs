//! What the author of a policy is told.

use objects::{Action, AuthorizationPolicy, Object};
use proto::origin::NotEnforced;
use proto::security;

use super::{is_dry_run, rule};
use crate::condition::{ACCEPTED, Condition, INVALID, UNSUPPORTED_VALUE, ZTUNNEL_ACCEPTED};

/// How many values are quoted in a message.
const MAX_QUOTED: usize = 5;

/// The condition of a policy; `None` for what is a waypoint's affair.
pub(super) fn condition(
    object: &Object,
    policy: &AuthorizationPolicy,
    root: &str,
    rules: &[security::Rule],
    not_enforced: &[NotEnforced],
) -> Option<Condition> {
    if !policy.target_refs.is_empty() {
        return None;
    }
    let (status, reason, message) = judge(object, policy, root, rules, not_enforced);
    Some(Condition {
        kind: ZTUNNEL_ACCEPTED,
        status,
        reason,
        message,
        observed_generation: object.metadata.generation,
    })
}

fn judge(
    object: &Object,
    policy: &AuthorizationPolicy,
    root: &str,
    rules: &[security::Rule],
    not_enforced: &[NotEnforced],
) -> (bool, &'static str, String) {
    if !policy.action.is_supported() {
        let action = policy.action.as_str();
        return (
            false,
            UNSUPPORTED_VALUE,
            format!("ztunnel does not support the {action} action"),
        );
    }
    if !policy.unreadable.is_empty() {
        return (false, INVALID, closed(object, policy, root));
    }
    let mut sentences = Vec::new();
    let http = policy.http_attributes();
    if !http.is_empty() {
        sentences.push(format!(
            "ztunnel does not support HTTP attributes (found: {}). In ambient mode you must use a waypoint proxy to \
             enforce HTTP rules.",
            http.join(", ")
        ));
    }
    let unreadable = unreadable(policy);
    if !unreadable.is_empty() {
        let left = unreadable.len().saturating_sub(MAX_QUOTED);
        let mut quoted = unreadable[..unreadable.len() - left].join("; ");
        if left > 0 {
            quoted += &format!("; and {left} more");
        }
        sentences.push(format!(
            "ztunnel does not understand parts of the policy (found: {quoted})."
        ));
    }
    let without_effect = policy.action == Action::Deny && !rules.iter().any(rule::can_match);
    match (policy.action, not_enforced.is_empty()) {
        (Action::Deny, _) if without_effect => {
            sentences.push("Nothing of the DENY rules is left: the policy has no effect.".to_owned());
        }
        (_, true) => {}
        (Action::Deny, false) => sentences.push(
            "DENY rules are enforced without these parts, so they may deny more than they say; a rule of which \
             nothing is left denies nothing."
                .to_owned(),
        ),
        (_, false) => sentences.push(
            "ALLOW rules with HTTP attributes are left out, so they allow nothing; values that are not understood \
             allow nothing either."
                .to_owned(),
        ),
    }
    if sentences.is_empty() {
        let how = if is_dry_run(object) {
            "attached to ztunnel as a dry run: what it would decide is recorded, and nothing is enforced"
        } else {
            "attached to ztunnel"
        };
        return (true, ACCEPTED, how.to_owned());
    }
    (!without_effect, UNSUPPORTED_VALUE, sentences.join(" "))
}

/// What a policy that cannot be read does instead.
fn closed(object: &Object, policy: &AuthorizationPolicy, root: &str) -> String {
    let whom = match (policy.selector.is_empty(), object.metadata.namespace == root) {
        (false, _) => "the workloads that it selects",
        (true, false) => "every workload of its namespace",
        (true, true) => "every workload of the mesh",
    };
    let effect = if is_dry_run(object) {
        format!("As a dry run it is recorded as denying all connections to {whom}.")
    } else {
        format!("Until it is mended or deleted, all connections to {whom} are refused.")
    };
    format!(
        "the policy cannot be read ({}). {effect}",
        policy.unreadable.join("; ")
    )
}

/// The values and rules that cannot be read, each with its rule.
fn unreadable(policy: &AuthorizationPolicy) -> Vec<String> {
    let mut found = Vec::new();
    for (number, rule) in policy.rules.iter().enumerate() {
        found.extend(
            rule.unreadable_parts()
                .map(|value| format!("rule {number}: {value}")),
        );
    }
    found
}
