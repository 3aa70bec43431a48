//! Which PeerAuthentication decides about a port.

use objects::selector::Labels;
use objects::{Kind, MtlsMode, Object, ObjectKey, PeerAuthentication, Spec};

use crate::index::Index;

/// One object with its content.
pub(super) type Given<'a> = (&'a Object, &'a PeerAuthentication);

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
    let metadata = &pod.metadata;
    let own = workload_policy(index, root, &metadata.namespace, &metadata.labels);
    let levels = Levels::of(index, root, &metadata.namespace, own);
    let decision = levels.decide(port);
    EffectiveMtls {
        mode: decision.mode,
        decided_by: decision.by.map(Object::key),
        by_port: decision.by_port,
    }
}

/// The object that counts for a pod instead of others that select it: the oldest, or one above all levels.
pub(crate) fn deciding_for_pod<'a>(index: &'a Index, root: &str, pod: &'a Object) -> Option<&'a Object> {
    let metadata = &pod.metadata;
    let forced = forced(index, root, &metadata.namespace);
    let found = forced.or_else(|| workload_policy(index, root, &metadata.namespace, &metadata.labels));
    found.map(|(object, _)| object)
}

/// The object that counts in a namespace instead of others without a selector.
pub(crate) fn deciding_for_namespace<'a>(
    index: &'a Index,
    root: &str,
    namespace: &'a str,
) -> Option<&'a Object> {
    let found = forced(index, root, namespace).or_else(|| widest(index, namespace));
    found.map(|(object, _)| object)
}

/// The three levels that decide about a workload, the wider ones first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Levels<'a> {
    mesh: Option<Given<'a>>,
    namespace: Option<Given<'a>>,
    workload: Option<Given<'a>>,
    /// A policy of the namespace that cannot be read so far as to tell whom it selects: it stands above all levels.
    forced: Option<Given<'a>>,
}

/// What the levels say about a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision<'a> {
    pub(super) mode: MtlsMode,
    pub(super) by: Option<&'a Object>,
    pub(super) by_port: bool,
}

/// What has to be enforced on a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: plaintext is accepted everywhere.
    Nothing,
    /// Plaintext is refused everywhere.
    Everywhere,
    /// It depends on the port.
    ByPort,
}

impl<'a> Levels<'a> {
    pub(super) fn of(
        index: &'a Index,
        root: &'a str,
        namespace: &'a str,
        workload: Option<Given<'a>>,
    ) -> Levels<'a> {
        Levels {
            mesh: widest(index, root),
            namespace: widest(index, namespace),
            workload,
            forced: forced(index, root, namespace),
        }
    }

    /// What holds for a port; `None` asks for every port that the workload's policy does not name. A narrower level
    /// overrides a wider one unless it is unset, and a port overrides them all.
    pub(super) fn decide(&self, port: Option<u16>) -> Decision<'a> {
        if let Some((object, policy)) = self.forced {
            return Decision {
                mode: policy.mode,
                by: Some(object),
                by_port: false,
            };
        }
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

    pub(super) fn refuses_plaintext(&self, port: Option<u16>) -> bool {
        self.decide(port).mode == MtlsMode::Strict
    }

    /// The ports that have a mode of their own, ascending.
    pub(super) fn ports(&self) -> Vec<u16> {
        let own = self.workload.filter(|_| self.forced.is_none());
        let modes = own.into_iter().flat_map(|(_, policy)| &policy.port_modes);
        modes
            .filter(|(_, mode)| **mode != MtlsMode::Unset)
            .map(|(port, _)| *port)
            .collect()
    }

    /// The ports that differ from all others, ascending.
    pub(super) fn exceptions(&self) -> Vec<u16> {
        let usual = self.refuses_plaintext(None);
        self.ports()
            .into_iter()
            .filter(|port| self.refuses_plaintext(Some(*port)) != usual)
            .collect()
    }

    pub(super) fn effect(&self) -> Effect {
        match (self.exceptions().is_empty(), self.refuses_plaintext(None)) {
            (false, _) => Effect::ByPort,
            (true, true) => Effect::Everywhere,
            (true, false) => Effect::Nothing,
        }
    }
}

/// The oldest policy without a selector. `selector: {}` is none.
pub(super) fn widest<'a>(index: &'a Index, namespace: &'a str) -> Option<Given<'a>> {
    let wide = wide(index, namespace);
    // One that may be older than it can be read to be comes first: it can only close.
    wide.min_by(|(one, left), (other, right)| {
        let readable_last = left.selects_unknown.cmp(&right.selects_unknown).reverse();
        readable_last.then_with(|| one.metadata.by_age(&other.metadata))
    })
}

/// A policy of which it cannot be told whom it selects. In the root namespace it can only be one for the mesh, since
/// those with a selector count for nothing there.
pub(super) fn forced<'a>(index: &'a Index, root: &str, namespace: &'a str) -> Option<Given<'a>> {
    if namespace == root {
        return None;
    }
    let unknown = wide(index, namespace).filter(|(_, policy)| policy.selects_unknown);
    unknown.min_by(|(one, _), (other, _)| one.metadata.by_age(&other.metadata))
}

/// The oldest policy that selects a workload of a namespace by its labels. Policies with a selector count for nothing in the root namespace.
pub(super) fn workload_policy<'a>(
    index: &'a Index,
    root: &str,
    namespace: &'a str,
    labels: &Labels,
) -> Option<Given<'a>> {
    if namespace == root {
        return None;
    }
    index
        .selecting(Kind::PeerAuthentication, namespace, labels)
        .into_iter()
        .filter_map(given)
        .min_by(|(one, _), (other, _)| one.metadata.by_age(&other.metadata))
}

/// The policies of a namespace without a selector, also those of which it cannot be told whom they select.
fn wide<'a>(index: &'a Index, namespace: &'a str) -> impl Iterator<Item = Given<'a>> {
    index
        .without_selector(Kind::PeerAuthentication, namespace)
        .filter_map(given)
}

fn given(object: &Object) -> Option<Given<'_>> {
    match &object.spec {
        Spec::PeerAuthentication(policy) => Some((object, policy)),
        _ => None,
    }
}
