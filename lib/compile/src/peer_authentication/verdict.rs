//! What the author of a PeerAuthentication is told.

use objects::{MtlsMode, Object, PeerAuthentication};

use super::levels::{forced, widest};
use crate::condition::{ACCEPTED, CONFLICTED, Condition, INVALID, UNSUPPORTED_VALUE, ZTUNNEL_ACCEPTED};
use crate::index::Index;

/// The condition of a policy.
pub(crate) fn condition(
    index: &Index,
    root: &str,
    object: &Object,
    policy: &PeerAuthentication,
) -> Condition {
    let (status, reason, message) = judge(index, root, object, policy);
    Condition {
        kind: ZTUNNEL_ACCEPTED,
        status,
        reason,
        message,
        observed_generation: object.metadata.generation,
    }
}

fn judge(
    index: &Index,
    root: &str,
    object: &Object,
    policy: &PeerAuthentication,
) -> (bool, &'static str, String) {
    let namespace = &object.metadata.namespace;
    let in_root = namespace == root;
    if !policy.unreadable.is_empty() {
        let whom = match (policy.selects_unknown || policy.selector.is_empty(), in_root) {
            (false, _) => "the workloads that it selects",
            (true, false) => "every workload of its namespace",
            (true, true) => "every workload of the mesh",
        };
        let message = format!(
            "the policy cannot be read ({}). Until it is mended or deleted, it counts as STRICT for {whom}.",
            policy.unreadable.join("; ")
        );
        return (false, INVALID, message);
    }
    if in_root && !policy.selector.is_empty() {
        let message =
            "policies with a selector have no effect in the root namespace: move it to the workloads' own";
        return (false, UNSUPPORTED_VALUE, message.to_owned());
    }
    let name = |other: &Object| other.metadata.name.clone();
    if let Some((other, _)) = forced(index, root, namespace) {
        let message = format!(
            "the policy {} cannot be read and counts as STRICT for the whole namespace, so this one has no effect",
            name(other)
        );
        return (false, CONFLICTED, message);
    }
    if policy.selector.is_empty()
        && let Some((other, _)) = widest(index, namespace)
        && other.metadata.name != object.metadata.name
    {
        let whole = if in_root { "mesh" } else { "namespace" };
        let message = format!(
            "the older policy {} decides for the whole {whole}, so this one has no effect",
            name(other)
        );
        return (false, CONFLICTED, message);
    }
    let disables = policy.port_modes.values().chain([&policy.mode]);
    if disables.into_iter().any(|mode| *mode == MtlsMode::Disable) {
        let message = "DISABLE lets plaintext in and does not turn mTLS off: peers in the mesh still use it, as with \
                       PERMISSIVE";
        return (true, UNSUPPORTED_VALUE, message.to_owned());
    }
    (true, ACCEPTED, "attached to ztunnel".to_owned())
}
