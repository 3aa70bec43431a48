//! PeerAuthentication to DENY policies that match what has no identity.
//!
//! Node proxies know no mTLS modes: a port is STRICT because a policy refuses connections without a principal. One
//! function, [`Levels::decide`], says what holds for a workload's port; the policy and the names that the
//! workload lists both follow from it, so they cannot disagree.

use objects::selector::Labels;
use objects::{MtlsMode, Object, PeerAuthentication};
use proto::origin::PeerAuthenticationOrigin;
use proto::security::{
    Action, Authorization, Clause, Match, Rule, Scope, StringMatch, string_match::MatchType,
};

use crate::index::Index;
use crate::origin;

mod levels;
mod verdict;

pub use levels::EffectiveMtls;
pub(crate) use levels::{deciding_for_namespace, deciding_for_pod, effective};
pub(crate) use verdict::condition;

use levels::{Effect, Levels, workload_policy};

/// The name of the policy that refuses every connection without an identity; it lives in the root namespace. The
/// underscores keep it apart from names that users can give.
pub const STATIC_STRICT_POLICY: &str = "istio_converted_static_strict";
/// What the name of a policy made from a single PeerAuthentication begins with.
const CONVERTED_PREFIX: &str = "converted_peer_authentication_";

/// The key that a workload lists for its PeerAuthentications, if it has to list one, and which of them decide.
pub(crate) fn listed(
    index: &Index,
    root: &str,
    namespace: &str,
    labels: &Labels,
) -> Option<(String, PeerAuthenticationOrigin)> {
    let own = workload_policy(index, root, namespace, labels);
    let levels = Levels::of(index, root, namespace, own);
    let key = match (levels.effect(), own) {
        (Effect::Everywhere, _) => format!("{root}/{STATIC_STRICT_POLICY}"),
        (Effect::ByPort, Some((object, _))) => converted_key(namespace, &object.metadata.name),
        (Effect::Nothing, _) | (Effect::ByPort, None) => return None,
    };
    let ports: Vec<u32> = levels.ports().into_iter().map(u32::from).collect();
    let by_port = own.filter(|_| !ports.is_empty());
    let origin = PeerAuthenticationOrigin {
        base: levels.decide(None).by.map(origin::of),
        by_port: by_port.map(|(object, _)| origin::of(object)),
        ports,
    };
    Some((key, origin))
}

/// The resource name of the policy made from one PeerAuthentication.
pub(crate) fn converted_key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{CONVERTED_PREFIX}{name}")
}

/// The policy made from one PeerAuthentication, where its ports differ.
pub(crate) fn convert(
    index: &Index,
    root: &str,
    object: &Object,
    policy: &PeerAuthentication,
) -> Option<Authorization> {
    let namespace = &object.metadata.namespace;
    if namespace == root || policy.selector.is_empty() {
        return None;
    }
    let levels = Levels::of(index, root, namespace, Some((object, policy)));
    if levels.effect() != Effect::ByPort {
        return None;
    }
    let ports = levels.exceptions();
    let rules = if levels.refuses_plaintext(None) {
        // Refused unless the port is one of the others: one rule, everything in it must hold.
        let no_identity = Clause {
            matches: vec![without_identity()],
        };
        let other_port = |port: &u16| {
            let mut unlike = Match::default();
            unlike.not_destination_ports.push(u32::from(*port));
            Clause {
                matches: vec![unlike],
            }
        };
        let mut clauses: Vec<Clause> = ports.iter().map(other_port).collect();
        // The order in which the reference writes them, so that the bytes are the same.
        let place = if policy.mode == MtlsMode::Strict {
            0
        } else {
            clauses.len()
        };
        clauses.insert(place, no_identity);
        vec![Rule { clauses }]
    } else {
        let strict_port = |port: &u16| {
            let mut refused = without_identity();
            refused.destination_ports.push(u32::from(*port));
            Rule {
                clauses: vec![Clause {
                    matches: vec![refused],
                }],
            }
        };
        ports.iter().map(strict_port).collect()
    };
    let name = format!("{CONVERTED_PREFIX}{}", object.metadata.name);
    Some(Authorization {
        extensions: vec![origin::of_policy(&origin::of(object))],
        ..deny(name, namespace.clone(), rules)
    })
}

/// The policy that refuses every connection without an identity.
pub(crate) fn static_strict(root: &str) -> Authorization {
    let rule = Rule {
        clauses: vec![Clause {
            matches: vec![without_identity()],
        }],
    };
    deny(STATIC_STRICT_POLICY.to_owned(), root.to_owned(), vec![rule])
}

fn deny(name: String, namespace: String, rules: Vec<Rule>) -> Authorization {
    Authorization {
        name,
        namespace,
        scope: Scope::WorkloadSelector.into(),
        action: Action::Deny.into(),
        rules,
        ..Authorization::default()
    }
}

fn without_identity() -> Match {
    let any_principal = StringMatch {
        match_type: Some(MatchType::Presence(())),
    };
    Match {
        not_principals: vec![any_principal],
        ..Match::default()
    }
}

#[cfg(test)]
mod tests;
