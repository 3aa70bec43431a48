//! Policies that are attached to a waypoint's target, and labels that name waypoints.

use std::sync::Arc;

use compile::{Compiler, Condition, InFront};
use objects::selector::Labels;
use objects::{
    EAST_WEST_CLASS, Kind, NO_WAYPOINT, REMOTE_CLASS, ReadObject, TargetRef, USE_WAYPOINT_LABEL,
    USE_WAYPOINT_NAMESPACE_LABEL, WAYPOINT_CLASS,
};

use crate::code::Code;
use crate::finding::Finding;
use crate::input::Settings;
use crate::world::World;

/// The reason of a waypoint that has no address yet.
const NOT_READY: &str = "WaypointIsNotReady";

/// What says which waypoint stands in front of what: a compiler that knows what names and makes waypoints, and counts
/// Gateways that no controller has seen yet as ready where one will.
pub(crate) fn compiler<'a>(objects: impl Iterator<Item = &'a ReadObject>, settings: &Settings) -> Compiler {
    const KINDS: [Kind; 7] = [
        Kind::Namespace,
        Kind::Service,
        Kind::ServiceEntry,
        Kind::WorkloadEntry,
        Kind::GatewayClass,
        Kind::Gateway,
        Kind::AuthorizationPolicy,
    ];
    let mut compiler = Compiler::new(compile::Settings {
        root_namespace: settings.root_namespace.clone(),
        ..compile::Settings::default()
    });
    let known = objects.filter(|read| KINDS.contains(&read.object.kind()));
    let changes: Vec<_> = known
        .map(|read| {
            let mut object = Arc::new(read.object.clone());
            if settings.waypoints_run {
                object = compile::as_ready(&object, compiler.settings());
            }
            (object.key(), Some(object))
        })
        .collect();
    compiler.apply(changes);
    compiler
}

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    for (read, policy) in world.authorization_policies() {
        let single = read
            .object
            .raw()
            .pointer("/spec/targetRef")
            .is_some_and(|one| !one.is_null());
        for (index, target) in policy.target_refs.iter().enumerate() {
            let field = if single {
                "spec.targetRef".to_owned()
            } else {
                format!("spec.targetRefs[{index}]")
            };
            found.push(attached(world, read, field, target));
        }
    }
    for read in world.behind_waypoints() {
        found.extend(unusable(world, read).map(|told| {
            Finding::about(
                read,
                Code::WaypointNotUsable,
                format!("metadata.labels[{USE_WAYPOINT_LABEL:?}]"),
                told.message.clone(),
                "give the waypoint an address, the label istio.io/waypoint-for or the allowedRoutes that the message \
                 asks for, or name another one",
            )
        }));
    }
    for read in world.behind_waypoints().chain(world.namespaces()) {
        let metadata = &read.object.metadata;
        let namespace = if metadata.namespace.is_empty() {
            &metadata.name
        } else {
            &metadata.namespace
        };
        let Some((at, name)) = named(&metadata.labels, namespace) else {
            continue;
        };
        let Some(missing) = missing(world, at, name) else {
            continue;
        };
        let refused = match metadata.namespace.as_str() {
            "" => refused_among(world, at, name, |user| user == namespace),
            _ => refused(world, read),
        };
        let effect = refused.unwrap_or_else(|| "there is no waypoint to pass".to_owned());
        found.push(Finding::about(
            read,
            Code::WaypointNotFound,
            format!("metadata.labels[{USE_WAYPOINT_LABEL:?}]"),
            format!("the label names the waypoint {at}/{name}, and {missing}: {effect}"),
            fix(at, name),
        ));
    }
}

/// Why the waypoint that an object or its namespace names takes none of its traffic, though it is there.
fn unusable<'w>(world: &'w World<'_>, read: &ReadObject) -> Option<&'w Condition> {
    let conditions = world.waypoints.conditions().get(&read.object.key())?;
    let told = conditions
        .iter()
        .find(|told| told.kind == "istio.io/WaypointBound" && !told.status)?;
    let (at, name) = chosen(world, read)?;
    missing(world, &at, &name).is_none().then_some(told)
}

/// Why connections to an object are refused: a policy counts on its waypoint, and that cannot be used.
fn refused(world: &World<'_>, read: &ReadObject) -> Option<String> {
    match world.waypoints.in_front_of(&read.object.key()) {
        InFront::Closed(why) => Some(why),
        InFront::Nothing | InFront::Waypoint { .. } => None,
    }
}

/// The same for the first of what names a waypoint, in these namespaces.
fn refused_among(
    world: &World<'_>,
    at: &str,
    name: &str,
    is_namespace: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut users = world.behind_waypoints().filter(|read| {
        is_namespace(&read.object.metadata.namespace)
            && chosen(world, read).is_some_and(|(of, chosen)| of == at && chosen == name)
    });
    users.find_map(|read| Some(format!("{}: {}", read.object.key(), refused(world, read)?)))
}

/// What becomes of a policy that is attached to a target.
fn attached(world: &World<'_>, read: &ReadObject, field: String, target: &TargetRef) -> Finding {
    let namespace = read.object.metadata.namespace.as_str();
    let closed;
    let waypoint = match target.kind.as_str() {
        "Service" | "ServiceEntry" => {
            let kind = if target.kind == "Service" {
                Kind::Service
            } else {
                Kind::ServiceEntry
            };
            let Some(service) = world.get(kind, namespace, &target.name) else {
                return not_found(read, field, target, namespace);
            };
            // Where no waypoints run, that one is not ready is the lesser news.
            let told = unusable(world, service)
                .filter(|told| world.settings.waypoints_run || told.reason != NOT_READY);
            if let Some(told) = told {
                let effect = match refused(world, service) {
                    Some(_) => "no waypoint can enforce the policy",
                    None => "nobody enforces the policy",
                };
                return Finding::about(
                    read,
                    Code::WaypointNotUsable,
                    field,
                    format!("{effect} for {} {}: {}", target.kind, target.name, told.message),
                    "mend the waypoint as the message says, or name another one",
                );
            }
            let Some(named) = chosen(world, service) else {
                return Finding::about(
                    read,
                    Code::TargetWithoutWaypoint,
                    field,
                    format!(
                        "the {} {} has no waypoint (label {USE_WAYPOINT_LABEL} on it or its namespace), and node \
                         proxies do not enforce policies with targetRefs: nobody enforces this one, and what it denies \
                         is let in",
                        target.kind, target.name
                    ),
                    format!(
                        "label the {} {USE_WAYPOINT_LABEL}=NAME of a waypoint; or, for callers and ports only, use a \
                         selector in place of targetRefs",
                        target.kind
                    ),
                );
            };
            closed = refused(world, service);
            named
        }
        "Gateway" => {
            closed = refused_among(world, namespace, &target.name, |_| true);
            (namespace.to_owned(), target.name.clone())
        }
        "GatewayClass" => {
            if target.name == WAYPOINT_CLASS && namespace == world.settings.root_namespace {
                return enforced(read, field, "every waypoint of the mesh enforces it");
            }
            return Finding::about(
                read,
                Code::TargetNotFound,
                field,
                format!(
                    "a policy for a GatewayClass counts only for {WAYPOINT_CLASS} and in the root namespace, {}: nobody \
                     enforces this one",
                    world.settings.root_namespace
                ),
                "move it to the root namespace, or attach it to Services or Gateways",
            );
        }
        _ => {
            let there = world.input.unread.iter().any(|unread| {
                unread.kind == target.kind && unread.namespace == namespace && unread.name == target.name
            });
            if there {
                return enforced(
                    read,
                    field,
                    &format!("the waypoint of {} {} enforces it", target.kind, target.name),
                );
            }
            return not_found(read, field, target, namespace);
        }
    };
    let (at, name) = &waypoint;
    match missing(world, at, name) {
        Some(missing) => Finding::about(
            read,
            Code::WaypointNotFound,
            field,
            match closed {
                Some(why) => format!("the policy counts on the waypoint {at}/{name}, and {missing}: {why}"),
                None => format!(
                    "the policy counts on the waypoint {at}/{name}, and {missing}; node proxies do not enforce policies \
                     with targetRefs: nobody enforces this one"
                ),
            },
            fix(at, name),
        ),
        None if !world.settings.waypoints_run => Finding::about(
            read,
            Code::TargetWithoutWaypoint,
            field,
            match closed {
                Some(why) => format!(
                    "the policy counts on the waypoint {at}/{name}, and this control plane runs no waypoints yet: {why}"
                ),
                None => format!(
                    "the policy counts on the waypoint {at}/{name}, and this control plane runs no waypoints yet; node \
                     proxies do not enforce policies with targetRefs: nobody enforces this one"
                ),
            },
            "for callers and ports only, use a selector in place of targetRefs; for HTTP, a control plane that runs \
             waypoints",
        ),
        None => enforced(
            read,
            field,
            &format!(
                "the waypoint {at}/{name} enforces it, HTTP attributes included, where the control plane runs waypoints \
                 (Istio's does)"
            ),
        ),
    }
}

fn enforced(read: &ReadObject, field: String, who: &str) -> Finding {
    Finding::about(
        read,
        Code::EnforcedByWaypoint,
        field,
        format!(
            "{who}; node proxies enforce nothing of it, so who reaches the pods without passing the waypoint is not \
             judged by it"
        ),
        "add a policy with a selector that lets only the waypoint's identity reach the pods",
    )
}

fn not_found(read: &ReadObject, field: String, target: &TargetRef, namespace: &str) -> Finding {
    Finding::about(
        read,
        Code::TargetNotFound,
        field,
        format!(
            "the manifests hold no {} {namespace}/{}: if there is none, or no waypoint stands in front of it, nobody \
             enforces the policy; node proxies do not enforce policies with targetRefs",
            target.kind, target.name
        ),
        "correct the name, or give the manifests of the target and its waypoint too (-f)",
    )
}

/// The waypoint that an object's labels name, or else those of its namespace.
fn chosen(world: &World<'_>, read: &ReadObject) -> Option<(String, String)> {
    let metadata = &read.object.metadata;
    let labels = if metadata.labels.contains_key(USE_WAYPOINT_LABEL) {
        metadata.labels.clone()
    } else {
        world.namespace_labels(&metadata.namespace)
    };
    let (at, name) = named(&labels, &metadata.namespace)?;
    Some((at.to_owned(), name.to_owned()))
}

/// The waypoint that labels name: namespace and name.
fn named<'l>(labels: &'l Labels, namespace: &'l str) -> Option<(&'l str, &'l str)> {
    let name = labels
        .get(USE_WAYPOINT_LABEL)
        .filter(|name| *name != NO_WAYPOINT)?;
    let at = labels
        .get(USE_WAYPOINT_NAMESPACE_LABEL)
        .map_or(namespace, String::as_str);
    Some((at, name))
}

/// Why a waypoint is none.
fn missing(world: &World<'_>, namespace: &str, name: &str) -> Option<String> {
    match world.gateway(namespace, name) {
        None => Some("the manifests hold no such Gateway".to_owned()),
        // Other classes may bring waypoints too, which the mesh reaches by a listener of HBONE.
        Some(gateway)
            if !gateway.is_waypoint()
                && (gateway.hbone_listener(None).is_none()
                    || [REMOTE_CLASS, EAST_WEST_CLASS].contains(&gateway.class_name.as_str())) =>
        {
            Some(format!(
                "that Gateway is of class {}, not {WAYPOINT_CLASS}",
                gateway.class_name
            ))
        }
        Some(_) => None,
    }
}

fn fix(namespace: &str, name: &str) -> String {
    format!(
        "add a Gateway {namespace}/{name} with gatewayClassName: {WAYPOINT_CLASS} and a listener of protocol HBONE on \
         port 15008, or give its manifest too (-f)"
    )
}
