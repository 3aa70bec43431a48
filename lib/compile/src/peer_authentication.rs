//! PeerAuthentication to DENY policies that match what has no identity.
//!
//! Node proxies know no mTLS modes: a port is STRICT because a policy refuses connections without a principal. One
//! function, [`Levels::refuses_plaintext`], says what holds for a workload's port; the policy and the names that the
//! workload lists both follow from it, so they cannot disagree.

use objects::{MtlsMode, Object, PeerAuthentication, selector};
use proto::security::{
    Action, Authorization, Clause, Match, Rule, Scope, StringMatch, string_match::MatchType,
};

use crate::index::Index;

/// The name of the policy that refuses every connection without an identity; it lives in the root namespace. The
/// underscores keep it apart from names that users can give.
pub const STATIC_STRICT_POLICY: &str = "istio_converted_static_strict";
/// What the name of a policy made from a single PeerAuthentication begins with.
const CONVERTED_PREFIX: &str = "converted_peer_authentication_";

/// The three levels that decide about a workload, the wider ones first.
#[derive(Clone, Copy, Debug)]
struct Levels<'a> {
    mesh: MtlsMode,
    namespace: MtlsMode,
    workload: Option<&'a PeerAuthentication>,
}

/// What has to be enforced on a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing: plaintext is accepted everywhere.
    Nothing,
    /// Plaintext is refused everywhere.
    Everywhere,
    /// It depends on the port.
    ByPort,
}

impl Levels<'_> {
    /// Whether plaintext to a port is refused; `None` asks for every port that the workload's policy does not name.
    /// A narrower level overrides a wider one unless it is unset, and a port overrides them all.
    fn refuses_plaintext(&self, port: Option<u16>) -> bool {
        let own = self.workload.map_or(MtlsMode::Unset, |policy| policy.mode);
        let of_port = port
            .zip(self.workload)
            .and_then(|(port, policy)| policy.port_modes.get(&port))
            .copied();
        let narrowest_first = [of_port.unwrap_or_default(), own, self.namespace, self.mesh];
        narrowest_first.into_iter().find(|mode| *mode != MtlsMode::Unset) == Some(MtlsMode::Strict)
    }

    /// The ports that differ from all others, ascending.
    fn exceptions(&self) -> Vec<u16> {
        let usual = self.refuses_plaintext(None);
        let ports = self
            .workload
            .into_iter()
            .flat_map(|policy| policy.port_modes.keys().copied());
        ports
            .filter(|port| self.refuses_plaintext(Some(*port)) != usual)
            .collect()
    }

    fn effect(&self) -> Effect {
        match (self.exceptions().is_empty(), self.refuses_plaintext(None)) {
            (false, _) => Effect::ByPort,
            (true, true) => Effect::Everywhere,
            (true, false) => Effect::Nothing,
        }
    }
}

/// The key that a pod lists for its PeerAuthentications, if it has to list one.
pub(crate) fn key_for(index: &Index, root: &str, pod: &Object) -> Option<String> {
    let namespace = &pod.metadata.namespace;
    let own = workload_policy(index, root, pod);
    let levels = levels(index, root, namespace, own.map(|(_, policy)| policy));
    match (levels.effect(), own) {
        (Effect::Everywhere, _) => Some(format!("{root}/{STATIC_STRICT_POLICY}")),
        (Effect::ByPort, Some((object, _))) => Some(converted_key(namespace, &object.metadata.name)),
        (Effect::Nothing, _) | (Effect::ByPort, None) => None,
    }
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
    let levels = levels(index, root, namespace, Some(policy));
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
    Some(deny(name, namespace.clone(), rules))
}

/// Why a policy has less effect than its author may think.
pub(crate) fn remark(
    index: &Index,
    root: &str,
    object: &Object,
    policy: &PeerAuthentication,
) -> Option<String> {
    let namespace = &object.metadata.namespace;
    if !policy.selector.is_empty() {
        let ignored =
            "policies with a selector have no effect in the root namespace: move it to the workloads' own";
        return (namespace == root).then(|| ignored.to_owned());
    }
    let (oldest, _) = widest(index, namespace)?;
    (oldest.metadata.name != object.metadata.name).then(|| {
        format!(
            "the older policy {} decides for the whole namespace, so this one has no effect",
            oldest.metadata.name
        )
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

fn levels<'a>(
    index: &Index,
    root: &str,
    namespace: &str,
    workload: Option<&'a PeerAuthentication>,
) -> Levels<'a> {
    Levels {
        mesh: wide_mode(index, root),
        namespace: wide_mode(index, namespace),
        workload,
    }
}

fn wide_mode(index: &Index, namespace: &str) -> MtlsMode {
    widest(index, namespace).map_or(MtlsMode::Unset, |(_, policy)| policy.mode)
}

/// The oldest policy without a selector. `selector: {}` is none.
fn widest<'a>(index: &'a Index, namespace: &'a str) -> Option<(&'a Object, &'a PeerAuthentication)> {
    let wide = index
        .peer_authentications(namespace)
        .filter(|(_, policy)| policy.selector.is_empty());
    wide.min_by(|(one, _), (other, _)| one.metadata.by_age(&other.metadata))
}

/// The oldest policy that selects a pod. Policies with a selector count for nothing in the root namespace.
fn workload_policy<'a>(
    index: &'a Index,
    root: &str,
    pod: &'a Object,
) -> Option<(&'a Object, &'a PeerAuthentication)> {
    let metadata = &pod.metadata;
    if metadata.namespace == root {
        return None;
    }
    index
        .peer_authentications(&metadata.namespace)
        .filter(|(_, policy)| {
            !policy.selector.is_empty() && selector::matches(&metadata.labels, &policy.selector)
        })
        .min_by(|(one, _), (other, _)| one.metadata.by_age(&other.metadata))
}

#[cfg(test)]
mod tests;
