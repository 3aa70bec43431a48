//! Whom a policy is for: workloads by a selector, or what it is attached to.

use crate::read::{Field, Fields};
use crate::selector::{Labels, read_workload_selector};
use crate::syntax;

const MAX_TARGET_REFS: usize = 16;

/// What a policy is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRef {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
}

/// Whom the policy is for.
pub(super) fn read_scope(
    field: &Field<'_>,
    spec: &mut Fields<'_>,
    namespace: &str,
) -> (Labels, Vec<TargetRef>) {
    let selector = spec.get("selector");
    let (one, many) = (spec.get("targetRef"), spec.get("targetRefs"));
    if [&selector, &one, &many].into_iter().flatten().count() > 1 {
        field.error("at most one of selector, targetRef and targetRefs may be given");
        if field.is_stored() {
            // It cannot be told which of them is meant.
            return (Labels::new(), Vec::new());
        }
    }
    let many = many
        .map(|many| many.items_up_to(MAX_TARGET_REFS))
        .unwrap_or_default();
    // A stored reference that cannot be read still makes the policy a waypoint's.
    let unreadable = || TargetRef {
        group: String::new(),
        kind: String::new(),
        name: String::new(),
    };
    let read = |target: &Field<'_>| {
        let stands_for = target.is_stored().then(unreadable);
        TargetRef::read(target, namespace).or(stands_for)
    };
    let target_refs = one.iter().chain(&many).filter_map(read).collect();
    (read_workload_selector(selector), target_refs)
}

impl TargetRef {
    fn read(field: &Field<'_>, namespace: &str) -> Option<TargetRef> {
        const KINDS: [(&str, &str); 4] = [
            ("", "Service"),
            ("networking.istio.io", "ServiceEntry"),
            ("gateway.networking.k8s.io", "Gateway"),
            ("gateway.networking.k8s.io", "GatewayClass"),
        ];
        let mut fields = field.fields()?;
        let group = fields
            .get("group")
            .and_then(|field| field.text())
            .unwrap_or_default();
        let kind = fields
            .require("kind", "such as Service")
            .and_then(|field| field.text());
        let name = fields
            .require("name", "the target's name")
            .and_then(|field| field.checked(syntax::dns_subdomain));
        if let Some(field) = fields.get("namespace")
            && field
                .text()
                .is_some_and(|other| !other.is_empty() && other != namespace)
        {
            field.error("the target must be in the policy's own namespace");
            // One of this namespace with the same name is not meant.
            if field.is_stored() {
                return None;
            }
        }
        fields.finish();
        let (kind, name) = (kind?, name?);
        // The core group may also be written out.
        let group = if group == "core" { "" } else { group };
        if !KINDS.contains(&(group, kind)) {
            field.error(format!(
                "a policy cannot be attached to {kind:?} of group {group:?}: use Service (group \"\"), ServiceEntry \
                 (networking.istio.io), Gateway or GatewayClass (gateway.networking.k8s.io)"
            ));
        }
        Some(TargetRef {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        })
    }
}
