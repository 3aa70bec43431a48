//! Which mTLS mode holds for a workload's port, and whose policy says so.

use objects::{MtlsMode, PeerAuthentication, ReadObject, selector};

use crate::world::{Workload, World};

/// The mode of a port (`None`: of every port that is not named), and the policy that decides; PERMISSIVE without one.
/// A narrower level overrides a wider one unless it is unset; of one level the oldest policy counts.
pub(crate) fn mode<'a>(
    world: &World<'a>,
    workload: &Workload,
    port: Option<u16>,
) -> (MtlsMode, Option<&'a ReadObject>) {
    let own = deciding(world, workload);
    let wide = |namespace: &str| widest(world, namespace).map(|(read, policy)| (policy.mode, read));
    let of_port = own.and_then(|(read, policy)| Some((*policy.port_modes.get(&port?)?, read)));
    let levels = [
        of_port,
        own.map(|(read, policy)| (policy.mode, read)),
        wide(workload.namespace()),
        wide(&world.settings.root_namespace),
    ];
    let found = levels
        .into_iter()
        .flatten()
        .find(|(mode, _)| *mode != MtlsMode::Unset);
    found.map_or((MtlsMode::Permissive, None), |(mode, read)| (mode, Some(read)))
}

/// The policy with a selector that counts for a workload.
pub(crate) fn deciding<'a>(
    world: &World<'a>,
    workload: &Workload,
) -> Option<(&'a ReadObject, &'a PeerAuthentication)> {
    let namespace = workload.namespace();
    if namespace == world.settings.root_namespace {
        return None;
    }
    world
        .peer_authentications()
        .filter(|(read, policy)| {
            read.object.metadata.namespace == namespace
                && !policy.selector.is_empty()
                && selector::matches(workload.labels(), &policy.selector)
        })
        .min_by(|(one, _), (other, _)| one.object.metadata.by_age(&other.object.metadata))
}

/// The policy without a selector that counts in a namespace.
pub(crate) fn widest<'a>(
    world: &World<'a>,
    namespace: &str,
) -> Option<(&'a ReadObject, &'a PeerAuthentication)> {
    world
        .peer_authentications()
        .filter(|(read, policy)| read.object.metadata.namespace == namespace && policy.selector.is_empty())
        .min_by(|(one, _), (other, _)| one.object.metadata.by_age(&other.object.metadata))
}
