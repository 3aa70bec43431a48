//! PeerAuthentication to DENY policies that match what has no identity.
//!
//! Node proxies know no mTLS modes: a port is STRICT because a policy refuses connections without a principal. One
//! function, [`Levels::decide`], says what holds for a workload's port; the policy and the names that the
//! workload lists both follow from it, so they cannot disagree.

use objects::{MtlsMode, Object, ObjectKey, PeerAuthentication, selector};
use proto::origin::PeerAuthenticationOrigin;
use proto::security::{
    Action, Authorization, Clause, Match, Rule, Scope, StringMatch, string_match::MatchType,
};

use crate::index::Index;
use crate::origin;

/// The name of the policy that refuses every connection without an identity; it lives in the root namespace. The
/// underscores keep it apart from names that users can give.
pub const STATIC_STRICT_POLICY: &str = "istio_converted_static_strict";
/// What the name of a policy made from a single PeerAuthentication begins with.
const CONVERTED_PREFIX: &str = "converted_peer_authentication_";

/// One object with its content.
type Given<'a> = (&'a Object, &'a PeerAuthentication);

/// Whether a workload's port takes plaintext, and which object says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveMtls {
    /// The mode; never [`MtlsMode::Unset`]. Where no object says anything it is [`MtlsMode::Permissive`].
    pub mode: MtlsMode,
    /// The PeerAuthentication that decides; `None` where none says anything.
    pub decided_by: Option<ObjectKey>,
    /// Whether its `portLevelMtls` decides.
    pub by_port: bool,
}

/// The mode of a port of a pod; `None` asks for every port that no policy names. This is the one place that knows
/// the precedence: the policies that are sent and the names that workloads list follow from it.
pub(crate) fn effective(index: &Index, root: &str, pod: &Object, port: Option<u16>) -> EffectiveMtls {
    let levels = Levels::of(
        index,
        root,
        &pod.metadata.namespace,
        workload_policy(index, root, pod),
    );
    let decision = levels.decide(port);
    EffectiveMtls {
        mode: decision.mode,
        decided_by: decision.by.map(Object::key),
        by_port: decision.by_port,
    }
}

/// The three levels that decide about a workload, the wider ones first.
#[derive(Clone, Copy, Debug)]
struct Levels<'a> {
    mesh: Option<Given<'a>>,
    namespace: Option<Given<'a>>,
    workload: Option<Given<'a>>,
}

/// What the levels say about a port.
#[derive(Clone, Copy, Debug)]
struct Decision<'a> {
    mode: MtlsMode,
    by: Option<&'a Object>,
    by_port: bool,
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

impl<'a> Levels<'a> {
    fn of(index: &'a Index, root: &'a str, namespace: &'a str, workload: Option<Given<'a>>) -> Levels<'a> {
        Levels {
            mesh: widest(index, root),
            namespace: widest(index, namespace),
            workload,
        }
    }

    /// What holds for a port; `None` asks for every port that the workload's policy does not name. A narrower level
    /// overrides a wider one unless it is unset, and a port overrides them all.
    fn decide(&self, port: Option<u16>) -> Decision<'a> {
        if let Some((object, mode)) = self
            .workload
            .zip(port)
            .and_then(|((object, policy), port)| Some((object, *policy.port_modes.get(&port)?)))
            .filter(|(_, mode)| *mode != MtlsMode::Unset)
        {
            return Decision {
                mode,
                by: Some(object),
                by_port: true,
            };
        }
        let narrowest_first = [self.workload, self.namespace, self.mesh];
        let set = narrowest_first
            .into_iter()
            .flatten()
            .find(|(_, policy)| policy.mode != MtlsMode::Unset);
        Decision {
            mode: set.map_or(MtlsMode::Permissive, |(_, policy)| policy.mode),
            by: set.map(|(object, _)| object),
            by_port: false,
        }
    }

    fn refuses_plaintext(&self, port: Option<u16>) -> bool {
        self.decide(port).mode == MtlsMode::Strict
    }

    /// The ports that have a mode of their own, ascending.
    fn ports(&self) -> impl Iterator<Item = u16> + 'a {
        let modes = self
            .workload
            .into_iter()
            .flat_map(|(_, policy)| &policy.port_modes);
        modes
            .filter(|(_, mode)| **mode != MtlsMode::Unset)
            .map(|(port, _)| *port)
    }

    /// The ports that differ from all others, ascending.
    fn exceptions(&self) -> Vec<u16> {
        let usual = self.refuses_plaintext(None);
        self.ports()
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

/// The key that a pod lists for its PeerAuthentications, if it has to list one, and which of them decide.
pub(crate) fn listed(index: &Index, root: &str, pod: &Object) -> Option<(String, PeerAuthenticationOrigin)> {
    let namespace = &pod.metadata.namespace;
    let own = workload_policy(index, root, pod);
    let levels = Levels::of(index, root, namespace, own);
    let key = match (levels.effect(), own) {
        (Effect::Everywhere, _) => format!("{root}/{STATIC_STRICT_POLICY}"),
        (Effect::ByPort, Some((object, _))) => converted_key(namespace, &object.metadata.name),
        (Effect::Nothing, _) | (Effect::ByPort, None) => return None,
    };
    let ports: Vec<u32> = levels.ports().map(u32::from).collect();
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

/// The oldest policy without a selector. `selector: {}` is none.
fn widest<'a>(index: &'a Index, namespace: &'a str) -> Option<Given<'a>> {
    let wide = index
        .peer_authentications(namespace)
        .filter(|(_, policy)| policy.selector.is_empty());
    wide.min_by(|(one, _), (other, _)| one.metadata.by_age(&other.metadata))
}

/// The oldest policy that selects a pod. Policies with a selector count for nothing in the root namespace.
fn workload_policy<'a>(index: &'a Index, root: &str, pod: &'a Object) -> Option<Given<'a>> {
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
