//! Whose an object is, where several control planes stand beside each other (Istio's revisions).

use crate::{Kind, Object};

/// The label by which an object says whose it is.
const REVISION_LABEL: &str = "istio.io/rev";
/// The kinds on which it means that. On namespaces and pods it chooses a sidecar, which concerns nobody here.
const REVISIONED: [Kind; 5] = [
    Kind::AuthorizationPolicy,
    Kind::PeerAuthentication,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::WorkloadGroup,
];

/// Whether the control plane of a revision reads an object: of several control planes each has its own policies and
/// entries, and those that name none; one without a revision (empty) has all. Gateways count whoever runs them: a waypoint
/// that is passed over is one that is gone around.
pub fn is_of_revision(object: &Object, revision: &str) -> bool {
    let is_shared = revision.is_empty() || !REVISIONED.contains(&object.kind());
    let label = object.metadata.labels.get(REVISION_LABEL);
    is_shared || label.is_none_or(|own| own == revision)
}
