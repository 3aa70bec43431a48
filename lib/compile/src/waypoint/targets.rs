//! Whether a waypoint stands in front of what a policy is attached to, for the policy's author.
//!
//! Node proxies enforce nothing of such a policy. What its waypoint makes of it is for the control plane to say that runs
//! the waypoint (`WaypointAccepted`, which is not written here); whether there is one, the objects say.

use objects::{
    AuthorizationPolicy, Kind, Object, ObjectKey, ServiceType, Spec, TargetRef, USE_WAYPOINT_LABEL,
    WAYPOINT_CLASS,
};

use super::{Bound, is_waypoint, of, policies};
use crate::condition::{
    ANCESTOR_NOT_BOUND, BOUND, Condition, INVALID, PARTIALLY_INVALID, TARGET_NOT_FOUND, TARGETS_BOUND,
    WAYPOINT_IS_NOT_READY,
};
use crate::index::Index;
use crate::service;
use crate::service_entry::{self, Visibility};
use crate::settings::Settings;

/// The kinds to which policies are attached.
const KINDS: [Kind; 4] = [
    Kind::Service,
    Kind::ServiceEntry,
    Kind::Gateway,
    Kind::GatewayClass,
];
/// What follows where nothing counts on a waypoint.
const UNENFORCED: &str = "no proxy enforces the policy, and connections are judged as if there were none";

/// Why no waypoint enforces the policy for a target: the reason in one word, and in words.
type Problem = (&'static str, String);

/// The targets that a policy names, as far as there may be such; objects of other kinds name none.
pub(crate) fn named_by(object: &Object) -> Vec<ObjectKey> {
    let Spec::AuthorizationPolicy(policy) = &object.spec else {
        return Vec::new();
    };
    let targets = policy.target_refs.iter();
    targets.filter_map(|target| key(object, target)).collect()
}

/// What the author of a policy is told; `None` where it is attached to nothing.
pub(crate) fn condition(
    index: &Index,
    settings: &Settings,
    object: &Object,
    policy: &AuthorizationPolicy,
) -> Option<Condition> {
    if policy.target_refs.is_empty() {
        return None;
    }
    let (status, reason, message) = judge(index, settings, object, policy);
    Some(Condition {
        kind: TARGETS_BOUND,
        status,
        reason,
        message,
        observed_generation: object.metadata.generation,
    })
}

fn judge(
    index: &Index,
    settings: &Settings,
    object: &Object,
    policy: &AuthorizationPolicy,
) -> (bool, &'static str, String) {
    let (mut bound, mut problems) = (Vec::new(), Vec::new());
    for target in &policy.target_refs {
        let name = match target.kind.as_str() {
            // What cannot be read has no kind, see `objects`.
            "" => "a target that cannot be read".to_owned(),
            kind => format!("{kind} {}", target.name),
        };
        match waypoint_of(index, settings, object, target) {
            Ok(waypoint) => bound.push(format!("{name}: {waypoint}")),
            Err((reason, why)) => problems.push((reason, format!("{name}: {why}"))),
        }
    }
    let Some((first, _)) = problems.first() else {
        let message = format!(
            "{}. Whether it enforces the policy, the control plane that runs it says (WaypointAccepted); node proxies do \
             not, so who passes it by is not judged",
            bound.join("; ")
        );
        return (true, BOUND, message);
    };
    let reason = if bound.is_empty() {
        *first
    } else {
        PARTIALLY_INVALID
    };
    let messages: Vec<&str> = problems.iter().map(|(_, message)| message.as_str()).collect();
    (false, reason, messages.join("; "))
}

/// The waypoint that is to enforce the policy for a target, in words.
fn waypoint_of(
    index: &Index,
    settings: &Settings,
    object: &Object,
    target: &TargetRef,
) -> Result<String, Problem> {
    let Some(key) = key(object, target) else {
        return Err((
            INVALID,
            format!("no policy can be attached to this; {UNENFORCED}"),
        ));
    };
    // The class is no object of the policy's namespace, so whether the policy may name it comes first.
    if key.kind == Kind::GatewayClass && object.metadata.namespace != settings.root_namespace {
        let root = &settings.root_namespace;
        let why = format!("a policy for a class counts in the root namespace {root} only; {UNENFORCED}");
        return Err((INVALID, why));
    }
    let Some(found) = index.get_key(&key) else {
        let effect = match key.kind {
            Kind::Gateway => effect_on_users(object),
            _ => UNENFORCED,
        };
        return Err((TARGET_NOT_FOUND, format!("there is none; {effect}")));
    };
    match &found.spec {
        Spec::Service(service) if service.service_type == ServiceType::ExternalName => Err((
            ANCESTOR_NOT_BOUND,
            format!("no waypoint stands in front of a mere alias (ExternalName); {UNENFORCED}"),
        )),
        Spec::Service(_) => in_front(of(index, settings, service::asks(&found.metadata))),
        Spec::ServiceEntry(entry) => {
            let metadata = &found.metadata;
            if Visibility::of(settings, metadata, entry) == Visibility::None {
                let why =
                    format!("nobody sees it (exportTo), so no waypoint stands in front of it; {UNENFORCED}");
                return Err((ANCESTOR_NOT_BOUND, why));
            }
            in_front(of(
                index,
                settings,
                service_entry::asks(settings, metadata, entry),
            ))
        }
        Spec::Gateway(gateway) if !is_waypoint(gateway) => Err((
            ANCESTOR_NOT_BOUND,
            format!(
                "Gateways of class {} are no waypoints; {}",
                gateway.class_name,
                effect_on_users(object)
            ),
        )),
        Spec::Gateway(gateway) if gateway.addresses.is_empty() => Err((
            WAYPOINT_IS_NOT_READY,
            format!("it has no address yet; {}", effect_on_users(object)),
        )),
        Spec::Gateway(_) => Ok("it has an address".to_owned()),
        _ if target.name == WAYPOINT_CLASS => Ok("each waypoint of the class".to_owned()),
        _ => Err((
            INVALID,
            format!("a policy counts for the class {WAYPOINT_CLASS} only; {UNENFORCED}"),
        )),
    }
}

fn in_front(bound: Bound) -> Result<String, Problem> {
    match bound {
        Bound {
            named: Some((namespace, name)),
            ..
        } => Ok(format!("the waypoint {namespace}/{name}")),
        // What becomes of connections is in the message.
        Bound {
            condition: Some(condition),
            ..
        } => Err((condition.reason, condition.message)),
        _ => Err((
            ANCESTOR_NOT_BOUND,
            format!(
                "no waypoint stands in front of it (label {USE_WAYPOINT_LABEL} on it or its namespace); {UNENFORCED}"
            ),
        )),
    }
}

/// What follows for connections to what names a waypoint that the policy is attached to and that cannot be used.
fn effect_on_users(object: &Object) -> &'static str {
    if policies::refuses(object) {
        "connections to what names it as waypoint are refused"
    } else {
        "connections to what names it as waypoint do not go through it"
    }
}

fn key(object: &Object, target: &TargetRef) -> Option<ObjectKey> {
    let mut kinds = KINDS.into_iter();
    let kind = kinds.find(|kind| target.kind == kind.as_str() && target.group == kind.group())?;
    let namespace = match kind.is_namespaced() {
        true => object.metadata.namespace.as_str(),
        false => "",
    };
    Some(ObjectKey::new(kind, namespace, &target.name))
}

#[cfg(test)]
mod tests;
