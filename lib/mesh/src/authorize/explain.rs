//! The whole of a decision: which policies select, which rules were tried, and what failed in each.

use std::sync::Arc;

use super::decide::Selection;
use super::{Connection, Decision, NamedPolicy, NotEnforced, decision};
use crate::policy::{
    Action, Attribute, Attributes, Clause, Condition, Match, Policy, Rule, Scope, is_mtls_policy,
};
use crate::snapshot::{PolicyState, Snapshot};

/// The most wanted values that a [`FailedCondition`] lists.
pub const MAX_WANTED: usize = 10;

/// The whole of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What was decided: the same value as of [`super::authorize`].
    pub decision: Decision,
    /// Every policy that selects the workload, in the order of evaluation; then those that it lists and nobody has
    /// sent.
    pub policies: Vec<ExplainedPolicy>,
}

/// What became of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedPolicy {
    /// Which.
    pub policy: NamedPolicy,
    /// Why it applies to this workload.
    pub selected_by: SelectedBy,
    /// It decides nothing.
    pub dry_run: bool,
    /// What became of it.
    pub outcome: PolicyOutcome,
}

/// Why a policy applies to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SelectedBy {
    /// It applies to the whole mesh.
    Mesh,
    /// It applies to the workload's namespace.
    Namespace,
    /// The workload lists it: its selector matches, or it was made of a `PeerAuthentication`.
    Listed,
}

/// What became of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyOutcome {
    /// Its rules were tried.
    Tried {
        /// What a match means.
        action: Action,
        /// The first rule that matches, as a position in `rules`.
        matched: Option<usize>,
        /// All rules, in the order of the policy. One without any never matches.
        rules: Vec<ExplainedRule>,
        /// What its object says and nobody enforces.
        not_enforced: Vec<NotEnforced>,
    },
    /// It was not understood; if it is no dry run, it refuses everybody.
    NotUnderstood {
        /// What was not understood.
        reason: Arc<str>,
    },
    /// The workload lists it and nobody has sent it.
    Unknown,
}

/// One rule: it matches when all its clauses do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedRule {
    /// The rule of the object of the user, counted from 0.
    pub rule: usize,
    /// Whether it matches.
    pub matched: bool,
    /// Its clauses.
    pub clauses: Vec<ExplainedClause>,
}

/// One clause: it matches when any of its matches does, or when it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedClause {
    /// Whether it matches.
    pub matched: bool,
    /// Its matches.
    pub matches: Vec<ExplainedMatch>,
}

/// One match: it holds when all its conditions do, and never when it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedMatch {
    /// Whether it holds.
    pub matched: bool,
    /// It has no conditions, so it never holds.
    pub is_empty: bool,
    /// The conditions that do not hold.
    pub failed: Vec<FailedCondition>,
}

/// A condition that does not hold. `Display`: `source namespace: wanted web or shop, is other`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCondition {
    /// What it is about.
    pub attribute: Attribute,
    /// None of the values may fit.
    pub negated: bool,
    /// The first [`MAX_WANTED`] values.
    pub wanted: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// What the connection has; none if it lacks the attribute.
    pub actual: Option<String>,
}

/// Decides like [`super::authorize`] and keeps all of it. Costs as much as there are rules in the policies that
/// select the workload; meant for questions, not for connections.
pub fn explain(connection: &Connection<'_>, snapshot: &Snapshot) -> Explanation {
    let selection = Selection::new(connection.workload, snapshot);
    let attributes = Attributes::new(connection.peer, connection.source_ip, connection.destination);
    let port = connection.destination.port();
    let selected = selection.policies.iter().map(|state| {
        let selected_by = selected_by(state, connection);
        match state {
            PolicyState::Known(policy) => ExplainedPolicy {
                policy: selection.name(policy, port),
                selected_by,
                dry_run: policy.dry_run,
                outcome: outcome(policy, &selection.name(policy, port), &attributes),
            },
            PolicyState::Closed(closed) => ExplainedPolicy {
                policy: selection.name_key(&closed.key, port),
                selected_by,
                dry_run: closed.dry_run,
                outcome: PolicyOutcome::NotUnderstood {
                    reason: closed.reason.clone(),
                },
            },
        }
    });
    let unknown = selection.unknown.iter().map(|key| ExplainedPolicy {
        policy: selection.name_key(key, port),
        selected_by: SelectedBy::Listed,
        dry_run: false,
        outcome: PolicyOutcome::Unknown,
    });
    Explanation {
        decision: decision(connection, &selection, snapshot),
        policies: selected.chain(unknown).collect(),
    }
}

fn selected_by(state: &PolicyState, connection: &Connection<'_>) -> SelectedBy {
    let in_namespace = |namespace: &str| *namespace == *connection.workload.namespace;
    match state.scope() {
        Scope::Global => SelectedBy::Mesh,
        Scope::Namespace if state.key().split_once('/').is_some_and(|(n, _)| in_namespace(n)) => {
            SelectedBy::Namespace
        }
        Scope::Namespace | Scope::WorkloadSelector => SelectedBy::Listed,
    }
}

fn outcome(policy: &Policy, named: &NamedPolicy, attributes: &Attributes<'_>) -> PolicyOutcome {
    match named.closed_because().filter(|_| !is_mtls_policy(policy.key())) {
        Some(reason) => PolicyOutcome::NotUnderstood {
            reason: reason.clone(),
        },
        None => tried(policy, named, attributes),
    }
}

fn tried(policy: &Policy, named: &NamedPolicy, attributes: &Attributes<'_>) -> PolicyOutcome {
    let rules = policy.rules().iter().enumerate();
    let origin = policy.origin.as_ref();
    let not_enforced = origin.iter().flat_map(|origin| &origin.not_enforced);
    PolicyOutcome::Tried {
        action: policy.action,
        matched: policy.matching_rule(attributes),
        rules: rules
            .map(|(position, rule)| explained_rule(named.rule(position), rule, attributes))
            .collect(),
        not_enforced: not_enforced
            .map(|part| NotEnforced {
                policy: named.clone(),
                rule: part.rule as usize,
                attributes: part.attributes.clone(),
                effect: part.effect,
            })
            .collect(),
    }
}

fn explained_rule(number: usize, rule: &Rule, attributes: &Attributes<'_>) -> ExplainedRule {
    let clause = |clause: &Clause| ExplainedClause {
        matched: clause.applies(attributes),
        matches: clause
            .matches()
            .iter()
            .map(|one| explained_match(one, attributes))
            .collect(),
    };
    ExplainedRule {
        rule: number,
        matched: rule.applies(attributes),
        clauses: rule.clauses.iter().map(clause).collect(),
    }
}

fn explained_match(one: &Match, attributes: &Attributes<'_>) -> ExplainedMatch {
    let failed = one
        .conditions()
        .iter()
        .filter(|condition| !condition.holds(attributes));
    ExplainedMatch {
        matched: one.applies(attributes),
        is_empty: one.conditions().is_empty(),
        failed: failed
            .map(|condition| failed_condition(condition, attributes))
            .collect(),
    }
}

fn failed_condition(condition: &Condition, attributes: &Attributes<'_>) -> FailedCondition {
    FailedCondition {
        attribute: condition.attribute(),
        negated: condition.negated,
        wanted: condition.values.texts(MAX_WANTED),
        more: condition.values.len().saturating_sub(MAX_WANTED),
        actual: attributes.text(condition.attribute()),
    }
}

impl std::fmt::Display for FailedCondition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wanted = if self.negated {
            "wanted none of "
        } else {
            "wanted "
        };
        let joint = if self.negated { ", " } else { " or " };
        write!(f, "{}: {wanted}{}", self.attribute, self.wanted.join(joint))?;
        if self.more > 0 {
            write!(f, " ({} more)", self.more)?;
        }
        match &self.actual {
            Some(actual) => write!(f, ", is {actual}"),
            None => f.write_str(", has none"),
        }
    }
}
