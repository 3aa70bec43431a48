//! The smallest change with which a refused connection would pass.
//!
//! Whatever is claimed was tried: the connection with the change made is decided again, by the same code, and only
//! what passes is named. The work is bounded, as refusals may come in floods.

mod candidates;
mod difference;

use std::net::{IpAddr, SocketAddr};

pub use difference::Difference;

use super::decide::{Ground, Selection};
use super::{Connection, NamedPolicy, Verdict};
use crate::identity::Identity;
use crate::policy::{Action, Attribute, Attributes, Clause, Condition, Match, Policy, is_mtls_policy};
use crate::snapshot::Snapshot;
use crate::workload::Workload;
use candidates::Candidate;

/// The most connections that are decided again for one refusal.
pub const MAX_TRIALS: usize = 12;
/// The most values that a [`Difference`] names.
pub const MAX_VALUES: usize = 3;
/// The most matches that are looked at for one refusal.
const MAX_MATCHES: usize = 512;
/// The most ways to satisfy a rule that are kept, nearest first.
const MAX_PLANS: usize = 8;

/// What would have to be different for a connection to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearestMiss {
    /// The ALLOW policy that would then match, or the DENY policy that would not.
    pub policy: NamedPolicy,
    /// Which of the two.
    pub action: Action,
    /// The rule of the object of the user, counted from 0; none where the object has no rules.
    pub rule: Option<usize>,
    /// What would have to be different, all of it at once.
    pub differences: Vec<Difference>,
    /// The connection with the first value of each difference: it passes.
    pub passes: Facts,
}

/// What may differ between two connections to one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who calls.
    pub peer: Option<Identity>,
    /// The address the caller connects from.
    pub source_ip: IpAddr,
    /// The destination's own address, and the port of the application.
    pub destination: SocketAddr,
}

impl Facts {
    fn of(connection: &Connection<'_>) -> Self {
        Self {
            peer: connection.peer.cloned(),
            source_ip: connection.source_ip,
            destination: connection.destination,
        }
    }

    /// A connection with these facts.
    pub fn connection<'a>(&'a self, workload: &'a Workload) -> Connection<'a> {
        Connection {
            peer: self.peer.as_ref(),
            source_ip: self.source_ip,
            workload,
            destination: self.destination,
        }
    }

    fn attributes(&self) -> Attributes<'_> {
        Attributes::new(self.peer.as_ref(), self.source_ip, self.destination)
    }
}

/// What one change changes: the three attributes of the caller's identity come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    Peer,
    SourceIp,
    DestinationIp,
    DestinationPort,
}

impl Fact {
    const ALL: [Self; 4] = [
        Self::Peer,
        Self::SourceIp,
        Self::DestinationIp,
        Self::DestinationPort,
    ];

    fn of(condition: &Condition) -> Self {
        match condition.attribute() {
            Attribute::Namespace | Attribute::ServiceAccount | Attribute::Principal => Self::Peer,
            Attribute::SourceIp => Self::SourceIp,
            Attribute::DestinationIp => Self::DestinationIp,
            Attribute::DestinationPort => Self::DestinationPort,
        }
    }
}

/// Looks for the nearest miss of a refusal. None: nothing helps, or nothing was found with bounded work.
pub(super) fn nearest_miss(
    connection: &Connection<'_>,
    attributes: &Attributes<'_>,
    selection: &Selection<'_>,
    ground: &Ground<'_>,
    snapshot: &Snapshot,
) -> Option<NearestMiss> {
    let mut search = Search {
        selection,
        connection,
        attributes,
        snapshot,
        original: Facts::of(connection),
        trials: MAX_TRIALS,
        matches: MAX_MATCHES,
    };
    match ground {
        Ground::Denied(policy, rule) => search.escape(policy, *rule).or_else(|| search.satisfy()),
        Ground::Unknown(key) if is_mtls_policy(key) => {
            let policy = selection.name_key(key, connection.destination.port());
            search.with_identity(policy).or_else(|| search.satisfy())
        }
        Ground::NoneMatched => search.satisfy(),
        _ => None,
    }
}

struct Search<'a> {
    selection: &'a Selection<'a>,
    connection: &'a Connection<'a>,
    attributes: &'a Attributes<'a>,
    snapshot: &'a Snapshot,
    original: Facts,
    /// Decisions left.
    trials: usize,
    /// Matches left to look at.
    matches: usize,
}

/// One way to make a rule match: these matches would have to hold, one of each clause that fails now.
struct Plan<'a> {
    /// How many facts would have to be different.
    distance: usize,
    policy: &'a Policy,
    rule: usize,
    chosen: Vec<&'a Match>,
}

impl<'a> Search<'a> {
    /// Makes a DENY rule that matches not match, by one change.
    fn escape(&mut self, policy: &Policy, rule: usize) -> Option<NearestMiss> {
        let clauses = policy.rules().get(rule).map_or(&[][..], |rule| &rule.clauses);
        for one in clauses.iter().flat_map(Clause::matches) {
            self.matches = self.matches.checked_sub(1)?;
            if !one.applies(self.attributes) {
                continue;
            }
            for condition in one.conditions() {
                let candidates =
                    candidates::turning(condition, &self.original, self.connection, self.snapshot);
                if let Some((difference, passes)) =
                    self.first_passing(condition, candidates, !condition.negated)
                {
                    return Some(self.miss(policy, rule, vec![difference], passes));
                }
            }
        }
        None
    }

    /// Lets the caller come with an identity.
    fn with_identity(&mut self, policy: NamedPolicy) -> Option<NearestMiss> {
        let peer = candidates::likely_identity(self.connection, self.snapshot);
        let passes = Facts {
            peer: Some(peer),
            ..self.original.clone()
        };
        self.try_out(&passes).then(|| NearestMiss {
            policy,
            action: Action::Deny,
            rule: None,
            differences: vec![self.mtls(&passes)],
            passes,
        })
    }

    /// Makes an ALLOW rule match, the nearest one first.
    fn satisfy(&mut self) -> Option<NearestMiss> {
        let plans = self.plans();
        plans.iter().find_map(|plan| {
            let failing = |condition: &&Condition| !condition.holds(self.attributes);
            let failing: Vec<_> = plan
                .chosen
                .iter()
                .flat_map(|one| one.conditions())
                .filter(failing)
                .collect();
            let (differences, passes) = match plan.distance {
                1 => self.by_one(plan, &failing)?,
                _ => self.by_several(plan, &failing)?,
            };
            Some(self.miss(plan.policy, plan.rule, differences, passes))
        })
    }

    fn by_one(&mut self, plan: &Plan<'_>, failing: &[&Condition]) -> Option<(Vec<Difference>, Facts)> {
        failing.iter().find_map(|condition| {
            let mut candidates =
                candidates::turning(condition, &self.original, self.connection, self.snapshot);
            candidates.retain(|candidate| plan.accepts(&candidate.facts, Fact::of(condition)));
            let (difference, passes) = self.first_passing(condition, candidates, condition.negated)?;
            Some((vec![difference], passes))
        })
    }

    /// Takes the first candidate for each fact that has to be different, and tries them together.
    fn by_several(&mut self, plan: &Plan<'_>, failing: &[&Condition]) -> Option<(Vec<Difference>, Facts)> {
        let mut facts = self.original.clone();
        let mut differences = Vec::new();
        for fact in Fact::ALL {
            let mut about = failing
                .iter()
                .filter(|condition| Fact::of(condition) == fact)
                .peekable();
            if about.peek().is_none() {
                continue;
            }
            let (difference, next) = about.find_map(|condition| {
                let candidates = candidates::turning(condition, &facts, self.connection, self.snapshot);
                let found = candidates
                    .into_iter()
                    .find(|one| plan.accepts(&one.facts, fact))?;
                let next = found.facts.clone();
                Some((self.difference(condition, vec![found], condition.negated), next))
            })?;
            differences.push(difference);
            facts = next;
        }
        self.try_out(&facts).then_some((differences, facts))
    }

    /// The candidates that pass, at most [`MAX_VALUES`], and the connection with the first of them.
    fn first_passing(
        &mut self,
        condition: &Condition,
        candidates: Vec<Candidate>,
        away: bool,
    ) -> Option<(Difference, Facts)> {
        // Whatever is as good as another when something is to be avoided: one is enough.
        let most = if away { 1 } else { MAX_VALUES };
        let passing: Vec<_> = candidates
            .into_iter()
            .filter(|candidate| self.try_out(&candidate.facts))
            .take(most)
            .collect();
        let first = passing.first()?.facts.clone();
        Some((self.difference(condition, passing, away), first))
    }

    fn difference(&self, condition: &Condition, passing: Vec<Candidate>, away: bool) -> Difference {
        let attribute = condition.attribute();
        let first = passing.first();
        let of_any_identity =
            first.filter(|candidate| candidate.is_any_identity && self.original.peer.is_none());
        if let Some(candidate) = of_any_identity {
            return self.mtls(&candidate.facts);
        }
        let example = first.and_then(|candidate| candidate.example.clone());
        if away {
            let value = passing.into_iter().next().map(|candidate| candidate.value);
            return Difference::IsNot {
                attribute,
                value: value.unwrap_or_default(),
                example: example.unwrap_or_default(),
            };
        }
        Difference::Is {
            attribute,
            more: condition.values.len().saturating_sub(passing.len()),
            values: passing.into_iter().map(|candidate| candidate.value).collect(),
            example,
        }
    }

    /// Where no policy tells one identity from another, any will do.
    fn mtls(&self, passes: &Facts) -> Difference {
        let names_callers = self.selection.enforced().any(Policy::names_callers);
        Difference::Mtls {
            identity: passes.peer.clone().filter(|_| names_callers),
        }
    }

    fn try_out(&mut self, facts: &Facts) -> bool {
        let Some(left) = self.trials.checked_sub(1) else {
            return false;
        };
        self.trials = left;
        self.selection.decide(&facts.attributes()).verdict() == Verdict::Allow
    }

    fn miss(&self, policy: &Policy, rule: usize, differences: Vec<Difference>, passes: Facts) -> NearestMiss {
        let named = self.selection.name(policy, self.connection.destination.port());
        NearestMiss {
            action: policy.action,
            rule: (!is_mtls_policy(policy.key())).then(|| named.rule(rule)),
            policy: named,
            differences,
            passes,
        }
    }

    /// The nearest ways to make an ALLOW rule match; equally near ones in the order of evaluation.
    fn plans(&mut self) -> Vec<Plan<'a>> {
        let mut plans = Vec::new();
        let allow = self
            .selection
            .enforced()
            .filter(|policy| policy.action == Action::Allow);
        for policy in allow {
            for (number, rule) in policy.rules().iter().enumerate() {
                let failing = rule
                    .clauses
                    .iter()
                    .filter(|clause| !clause.applies(self.attributes));
                let failing: Vec<_> = failing.map(|clause| self.ways(clause)).collect();
                let mut keep = |chosen: Vec<&'a Match>| {
                    let distance = distance(&chosen, self.attributes);
                    let at = plans.partition_point(|plan: &Plan<'_>| plan.distance <= distance);
                    if distance > 0 && at < MAX_PLANS {
                        let plan = Plan {
                            distance,
                            policy,
                            rule: number,
                            chosen,
                        };
                        plans.insert(at, plan);
                        plans.truncate(MAX_PLANS);
                    }
                };
                match &failing[..] {
                    [only] => only.iter().for_each(|one| keep(vec![one])),
                    clauses => {
                        let nearest = clauses.iter().map(|ways| {
                            ways.iter()
                                .copied()
                                .min_by_key(|one| distance(&[one], self.attributes))
                        });
                        if let Some(chosen) = nearest.collect::<Option<Vec<_>>>() {
                            keep(chosen);
                        }
                    }
                }
                if self.matches == 0 {
                    return plans;
                }
            }
        }
        plans
    }

    /// The matches of a clause that could hold.
    fn ways(&mut self, clause: &'a Clause) -> Vec<&'a Match> {
        let looked_at = clause.matches().len().min(self.matches);
        self.matches -= looked_at;
        let could_hold = |one: &&Match| !one.conditions().is_empty();
        clause
            .matches()
            .iter()
            .take(looked_at)
            .filter(could_hold)
            .collect()
    }
}

impl Plan<'_> {
    /// Whether all that the plan demands of a fact holds.
    fn accepts(&self, facts: &Facts, fact: Fact) -> bool {
        let attributes = facts.attributes();
        let mut conditions = self.chosen.iter().flat_map(|one| one.conditions());
        conditions.all(|condition| Fact::of(condition) != fact || condition.holds(&attributes))
    }
}

/// How many facts would have to be different for all of these to hold.
fn distance(matches: &[&Match], attributes: &Attributes<'_>) -> usize {
    let failing = |fact: &Fact| {
        let mut conditions = matches.iter().flat_map(|one| one.conditions());
        conditions.any(|condition| Fact::of(condition) == *fact && !condition.holds(attributes))
    };
    Fact::ALL.iter().filter(|fact| failing(fact)).count()
}

/// `would be allowed if … (ALLOW policy a/b, rule 0)`.
impl std::fmt::Display for NearestMiss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, difference) in self.differences.iter().enumerate() {
            let joint = if position == 0 {
                "would be allowed if "
            } else {
                " and "
            };
            write!(f, "{joint}{difference}")?;
        }
        let action = match self.action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
        };
        match self.rule {
            Some(rule) => write!(f, " ({action} policy {}, rule {rule})", self.policy),
            None => write!(f, " (PeerAuthentication {})", self.policy),
        }
    }
}
