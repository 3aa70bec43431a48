//! Who the other end of a rule can be.

use objects::enrolment::EXCLUDED_NAMESPACES;
use objects::selector::Selector;

use super::{Mode, NetworkPeer, Workload, World};

/// Whether pods that a rule means are in the mesh; the strongest that holds for any of them.
pub(super) fn mesh_peers(world: &World<'_>, own: &str, peers: &[NetworkPeer]) -> Mode {
    let modes = peers.iter().map(|peer| match peer {
        NetworkPeer::Block { .. } => Mode::Outside,
        NetworkPeer::Pods { namespaces, pods } => pods_mode(world, own, namespaces.as_ref(), pods.as_ref()),
    });
    let all: Vec<Mode> = modes.collect();
    if all.is_empty() || all.contains(&Mode::InMesh) {
        // No peers mean everybody.
        Mode::InMesh
    } else if all.contains(&Mode::Unknown) {
        Mode::Unknown
    } else {
        Mode::Outside
    }
}

/// Whether a peer may mean a workload: the addresses of one that has none yet could be in any block.
pub(super) fn may_mean(world: &World<'_>, own: &str, peer: &NetworkPeer, workload: &Workload) -> bool {
    let is_block = matches!(peer, NetworkPeer::Block { .. });
    is_block && workload.pod().status.pod_ips.is_empty() || means(world, own, peer, workload)
}

/// Whether a peer means a workload as it is written.
pub(super) fn means(world: &World<'_>, own: &str, peer: &NetworkPeer, workload: &Workload) -> bool {
    match peer {
        NetworkPeer::Block { block, except } => {
            let mut addresses = workload.pod().status.pod_ips.iter();
            addresses.any(|address| {
                block.contains(*address) && !except.iter().any(|inner| inner.contains(*address))
            })
        }
        NetworkPeer::Pods { namespaces, pods } => {
            in_namespaces(world, own, namespaces.as_ref(), workload.namespace())
                && pods.as_ref().is_none_or(|pods| pods.matches(workload.labels()))
        }
    }
}

fn in_namespaces(world: &World<'_>, own: &str, namespaces: Option<&Selector>, name: &str) -> bool {
    match namespaces {
        None => name == own,
        Some(selector) => selector.matches(&world.namespace_labels(name)),
    }
}

fn pods_mode(world: &World<'_>, own: &str, namespaces: Option<&Selector>, pods: Option<&Selector>) -> Mode {
    let meant: Vec<&Workload> = world
        .workloads
        .iter()
        .filter(|workload| {
            in_namespaces(world, own, namespaces, workload.namespace())
                && pods.is_none_or(|pods| pods.matches(workload.labels()))
        })
        .collect();
    if meant.iter().any(|workload| workload.in_mesh()) {
        return Mode::InMesh;
    }
    if !meant.is_empty() {
        return Mode::Outside;
    }
    // Nobody in the manifests: as the namespaces say.
    if namespaces.is_none() {
        return world.mode(own);
    }
    if EXCLUDED_NAMESPACES
        .iter()
        .any(|name| in_namespaces(world, own, namespaces, name))
    {
        let others = world
            .namespaces()
            .filter(|read| !EXCLUDED_NAMESPACES.contains(&read.object.metadata.name.as_str()));
        let mut others =
            others.filter(|read| in_namespaces(world, own, namespaces, &read.object.metadata.name));
        if namespaces.is_some_and(|selector| !selector.is_empty()) && others.next().is_none() {
            return Mode::Outside;
        }
    }
    let known: Vec<Mode> = world
        .namespaces()
        .filter(|read| in_namespaces(world, own, namespaces, &read.object.metadata.name))
        .map(|read| world.mode(&read.object.metadata.name))
        .collect();
    if known.contains(&Mode::InMesh) {
        Mode::InMesh
    } else if known.is_empty() {
        Mode::Unknown
    } else {
        Mode::Outside
    }
}
