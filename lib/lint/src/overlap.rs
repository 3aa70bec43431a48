//! Rules that others make useless.

use objects::{Action, AuthorizationPolicy, ReadObject};

use crate::code::Code;
use crate::finding::Finding;
use crate::scope::Scope;
use crate::terms::{self, Cube};
use crate::world::World;

/// How many pairs of rules are compared. Each policy is compared with those of its namespace and the root namespace.
const MAX_COMPARISONS: usize = 1_000_000;

struct Ruled<'a> {
    read: &'a ReadObject,
    policy: &'a AuthorizationPolicy,
    scope: Scope<'a>,
    index: usize,
    cubes: Vec<Cube>,
}

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    let mut rules = Vec::new();
    for (read, policy) in world.enforced() {
        for (index, rule) in policy.rules.iter().enumerate() {
            let cubes = terms::cubes(
                rule,
                policy.action,
                &read.object.metadata.namespace,
                &world.settings.trust_domains,
            );
            // What can never match is said elsewhere, and covers nothing.
            let Some(cubes) = cubes.filter(|cubes| !terms::all_empty(cubes)) else {
                continue;
            };
            rules.push(Ruled {
                read,
                policy,
                scope: Scope::of(world, &read.object, &policy.selector),
                index,
                cubes,
            });
        }
    }
    let mut comparisons = 0usize;
    for (place, rule) in rules.iter().enumerate() {
        let mut said = None;
        for (other_place, other) in rules.iter().enumerate() {
            if place == other_place || !other.scope.covers(&rule.scope) {
                continue;
            }
            let size = rule.cubes.len().saturating_mul(other.cubes.len());
            comparisons = comparisons.saturating_add(size);
            if comparisons > MAX_COMPARISONS {
                found.push(Finding::about(
                    rule.read,
                    Code::TooManyRules,
                    "spec.rules",
                    format!(
                        "after {MAX_COMPARISONS} comparisons of rules with each other, those of this policy and the ones \
                         behind it are not compared"
                    ),
                    "lint fewer policies at once, such as those of one namespace",
                ));
                return;
            }
            let Some(code) = relation(rule, other, place, other_place) else {
                continue;
            };
            // One reason is enough; a DENY is the strongest, and allow-all says more than a repetition.
            if said.is_none_or(|(best, _)| rank(code) < rank(best)) {
                said = Some((code, other));
            }
        }
        found.extend(said.map(|(code, other)| finding(rule, other, code)));
    }
}

/// What `other` does to `rule`.
fn relation(rule: &Ruled<'_>, other: &Ruled<'_>, place: usize, other_place: usize) -> Option<Code> {
    let code = match (rule.policy.action, other.policy.action) {
        (Action::Allow, Action::Deny) => Code::ShadowedByDeny,
        (Action::Deny, Action::Allow) => return None,
        (Action::Allow, Action::Allow) if other.cubes.iter().any(Cube::is_everything) => {
            Code::CoveredByAllowAll
        }
        _ => Code::RepeatedRule,
    };
    if !terms::all_covered(&other.cubes, &rule.cubes) {
        return None;
    }
    let both = code != Code::ShadowedByDeny
        && rule.scope.covers(&other.scope)
        && terms::all_covered(&rule.cubes, &other.cubes);
    // Of two that say the same, the later one is the repetition.
    if both && place < other_place {
        return None;
    }
    Some(if both { Code::RepeatedRule } else { code })
}

fn rank(code: Code) -> u8 {
    match code {
        Code::ShadowedByDeny => 0,
        Code::CoveredByAllowAll => 1,
        _ => 2,
    }
}

fn finding(rule: &Ruled<'_>, other: &Ruled<'_>, code: Code) -> Finding {
    let same = std::ptr::eq(rule.read, other.read);
    let whose = if same {
        format!("rule {} of the same policy", other.index)
    } else {
        format!("rule {} of {}", other.index, other.read.object.key())
    };
    let (why, fix) = match code {
        Code::ShadowedByDeny => (
            format!(
                "everything that this rule allows is denied by {whose}, and a DENY always wins: the rule lets in nobody"
            ),
            "drop the rule, or narrow the DENY so that it leaves what is meant to be allowed",
        ),
        Code::CoveredByAllowAll => (
            format!(
                "{whose} allows everything in the same scope, so this rule changes nothing: everybody is let in"
            ),
            "drop the rule that allows everything, if this one is meant to restrict; else drop this one",
        ),
        _ => (
            format!(
                "{whose} already matches everything that this rule matches, so this rule changes nothing"
            ),
            "drop this rule; where it was meant to be another one, correct it",
        ),
    };
    Finding::about(rule.read, code, format!("spec.rules[{}]", rule.index), why, fix)
}
