//! An answer with all that led to it.

use std::fmt;

use mesh::authorize::{ExplainedClause, ExplainedPolicy, ExplainedRule, PolicyOutcome, SelectedBy};
use mesh::policy::{Action, ObjectKind};
use serde_json::{Value, json};

use super::{Answer, Ground};

/// An answer with all that led to it, for people and for machines.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a>(pub(super) &'a Answer);

impl Tree<'_> {
    /// The answer as [`Answer::to_json`], each endpoint with its `policies`.
    pub fn to_json(&self) -> Value {
        let mut answer = self.0.to_json();
        for (position, endpoint) in self.0.endpoints.iter().enumerate() {
            answer["endpoints"][position]["policies"] = endpoint.policies.iter().map(policy_json).collect();
        }
        answer
    }
}

/// The answer, and below it each endpoint with its policies, their rules, and what failed in each.
impl fmt::Display for Tree<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)?;
        for endpoint in &self.0.endpoints {
            write!(out, "\n{} at {}", endpoint.pod, endpoint.address)?;
            match &endpoint.ground {
                Ground::Decided(_) if endpoint.policies.is_empty() => {
                    write!(out, "\n  no policy selects it")?
                }
                Ground::Decided(_) => {}
                Ground::NotInMesh(_) | Ground::Itself | Ground::WaypointUnusable(_) => {
                    write!(out, "\n  no policy is asked")?
                }
            }
            endpoint
                .policies
                .iter()
                .try_for_each(|policy| write_policy(out, policy))?;
        }
        Ok(())
    }
}

fn write_policy(out: &mut fmt::Formatter<'_>, policy: &ExplainedPolicy) -> fmt::Result {
    let kind = policy.policy.kind().map_or("policy", |kind| kind.as_str());
    write!(out, "\n  {kind} {}", policy.policy)?;
    let dry_run = if policy.dry_run { ", a dry run" } else { "" };
    write!(out, ", for {}{dry_run}: ", selected(policy.selected_by))?;
    match &policy.outcome {
        PolicyOutcome::Tried {
            action,
            matched,
            rules,
            not_enforced,
        } => {
            // It has no rules; those of the policy that was made of it would only say the same in more words.
            if policy.policy.kind() == Some(ObjectKind::PeerAuthentication) {
                let effect = if matched.is_some() {
                    "refuses this caller, who has no identity"
                } else {
                    "has nothing against it"
                };
                out.write_str(effect)?;
                return match closed_because(policy) {
                    Some(why) => write!(out, " (it cannot be read and so counts as STRICT: {why})"),
                    None => Ok(()),
                };
            }
            let action = action_word(*action);
            match matched.and_then(|position| rules.get(position)) {
                Some(rule) => write!(out, "{action} matches by rule {}", rule.rule)?,
                None if rules.is_empty() => write!(out, "{action} has no rules, so it matches nothing")?,
                None => write!(out, "{action} does not match")?,
            }
            for part in not_enforced {
                write!(out, "\n    not enforced: {part}")?;
            }
            rules.iter().try_for_each(|rule| write_rule(out, rule))
        }
        PolicyOutcome::NotUnderstood { reason } => {
            let effect = if policy.dry_run {
                ""
            } else {
                ", so it refuses everybody"
            };
            write!(out, "is not understood{effect}: {reason}")
        }
        PolicyOutcome::Unknown => write!(out, "is listed, and nobody has sent it"),
    }
}

/// Why the object cannot be read as a whole, where it was closed for that.
fn closed_because(policy: &ExplainedPolicy) -> Option<&str> {
    policy.policy.origin.as_ref()?.closed_because.as_deref()
}

fn write_rule(out: &mut fmt::Formatter<'_>, rule: &ExplainedRule) -> fmt::Result {
    let word = if rule.matched { "matches" } else { "does not match" };
    write!(out, "\n    rule {} {word}", rule.rule)?;
    for clause in rule.clauses.iter().filter(|clause| !clause.matched) {
        for (position, failed) in failures(clause).iter().enumerate() {
            let joint = if position == 0 { "" } else { "nor " };
            write!(out, "\n      {joint}{}", failed.join("; "))?;
        }
    }
    Ok(())
}

/// For each match of a clause why it does not hold.
fn failures(clause: &ExplainedClause) -> Vec<Vec<String>> {
    let one = |part: &mesh::authorize::ExplainedMatch| {
        if part.is_empty {
            vec!["nothing is left of it that a node proxy can decide, so it never matches".to_owned()]
        } else {
            part.failed.iter().map(ToString::to_string).collect()
        }
    };
    clause.matches.iter().map(one).collect()
}

fn policy_json(policy: &ExplainedPolicy) -> Value {
    let mut value = json!({
        "policy": policy.policy.name(),
        "kind": policy.policy.kind().map(|kind| kind.as_str()),
        "selected_by": match policy.selected_by {
            SelectedBy::Mesh => "mesh",
            SelectedBy::Namespace => "namespace",
            SelectedBy::Listed => "workload",
        },
        "dry_run": policy.dry_run,
        "closed_because": closed_because(policy),
    });
    match &policy.outcome {
        PolicyOutcome::Tried {
            action,
            matched,
            rules,
            not_enforced,
        } => {
            let matched = matched
                .and_then(|position| rules.get(position))
                .map(|rule| rule.rule);
            value["outcome"] = if matched.is_some() {
                "matched"
            } else {
                "not_matched"
            }
            .into();
            value["action"] = action_word(*action).into();
            value["matched_rule"] = matched.into();
            value["rules"] = rules.iter().map(rule_json).collect();
            value["not_enforced"] = not_enforced.iter().map(ToString::to_string).collect();
        }
        PolicyOutcome::NotUnderstood { reason } => {
            value["outcome"] = "not_understood".into();
            value["reason"] = (**reason).into();
        }
        PolicyOutcome::Unknown => value["outcome"] = "unknown".into(),
    }
    value
}

fn rule_json(rule: &ExplainedRule) -> Value {
    let clause = |clause: &ExplainedClause| {
        let failed = if clause.matched {
            Vec::new()
        } else {
            failures(clause)
        };
        json!({"matched": clause.matched, "failed": failed})
    };
    json!({
        "rule": rule.rule,
        "matched": rule.matched,
        "clauses": rule.clauses.iter().map(clause).collect::<Vec<Value>>(),
    })
}

fn selected(by: SelectedBy) -> &'static str {
    match by {
        SelectedBy::Mesh => "the whole mesh",
        SelectedBy::Namespace => "its namespace",
        SelectedBy::Listed => "this workload",
    }
}

fn action_word(action: Action) -> &'static str {
    match action {
        Action::Allow => "ALLOW",
        Action::Deny => "DENY",
    }
}
