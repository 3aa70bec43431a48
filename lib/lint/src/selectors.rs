//! Whether a policy is about anything.

use objects::selector::Labels;
use objects::{ReadObject, Spec};

use crate::code::Code;
use crate::finding::Finding;
use crate::scope::Scope;
use crate::world::{Workload, World, some};

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    for (read, policy) in world.authorization_policies() {
        if policy.target_refs.is_empty() {
            empty(read, found);
            mesh_policy(world, read, &policy.selector, found);
        }
    }
    for (read, policy) in world.peer_authentications() {
        empty(read, found);
        // With a selector in the root namespace it has no effect at all, which is said elsewhere.
        if policy.selector.is_empty() || read.object.metadata.namespace != world.settings.root_namespace {
            mesh_policy(world, read, &policy.selector, found);
        }
    }
    for (read, policy) in world.network_policies() {
        let namespace = read.object.metadata.namespace.as_str();
        let selects = |workload: &Workload| {
            workload.namespace() == namespace && policy.pod_selector.matches(workload.labels())
        };
        if policy.pod_selector.is_empty() || world.workloads.iter().any(selects) {
            continue;
        }
        let labels = policy.pod_selector.to_string();
        nothing(
            world,
            read,
            "spec.podSelector",
            Some(namespace),
            &format!("namespace {namespace}"),
            &labels,
            found,
        );
    }
}

/// A policy of the mesh: it should select something, and what it selects should be in the mesh.
fn mesh_policy(world: &World<'_>, read: &ReadObject, selector: &Labels, found: &mut Vec<Finding>) {
    let scope = Scope::of(world, &read.object, selector);
    let selected: Vec<&Workload> = world
        .workloads
        .iter()
        .filter(|workload| scope.selects(workload))
        .collect();
    if selected.is_empty() {
        if !selector.is_empty() {
            let namespace = (!scope.everywhere).then_some(scope.namespace);
            let labels: Vec<String> = selector
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            nothing(
                world,
                read,
                "spec.selector",
                namespace,
                &scope.place(),
                &labels.join(","),
                found,
            );
        }
        return;
    }
    // For the whole mesh, that there are pods outside of it is no news.
    if scope.everywhere && selector.is_empty() {
        return;
    }
    let outside: Vec<(&Workload, String)> = selected
        .iter()
        .filter_map(|workload| Some((*workload, format!("{} ({})", workload.name, workload.outside()?))))
        .collect();
    if outside.is_empty() {
        return;
    }
    let field = if selector.is_empty() {
        "spec"
    } else {
        "spec.selector"
    };
    let what = match &read.object.spec {
        Spec::PeerAuthentication(_) => "they take plaintext from everybody, whatever the mode",
        _ => "there, everybody may connect",
    };
    found.push(Finding::about(
        read,
        Code::NotInMesh,
        field,
        format!(
            "{} of {} selected workloads are not in the mesh, so that nothing enforces the policy on them and {what}: {}",
            outside.len(),
            selected.len(),
            some(outside.iter().map(|(_, text)| text.as_str()))
        ),
        "label their namespace or pods istio.io/dataplane-mode=ambient, or protect them by other means",
    ));
}

fn nothing(
    world: &World<'_>,
    read: &ReadObject,
    field: &str,
    namespace: Option<&str>,
    place: &str,
    labels: &str,
    found: &mut Vec<Finding>,
) {
    let finding = if world.has_workloads(namespace) {
        Finding::about(
            read,
            Code::SelectsNothing,
            field,
            format!(
                "no workload of {place} in these manifests has the labels {labels}: the policy protects nothing"
            ),
            "correct the labels, or the namespace of the policy; a selector means labels of pods, not of a Deployment",
        )
    } else {
        Finding::about(
            read,
            Code::SelectorNotChecked,
            field,
            format!(
                "the manifests hold no workload of {place}: it cannot be known whether {labels} selects anything"
            ),
            "give the manifests of the workloads too (-f), or lint what is applied",
        )
    };
    found.push(finding);
}

/// `selector: {}`, which could be meant as "nothing".
fn empty(read: &ReadObject, found: &mut Vec<Finding>) {
    let written = read.object.raw().pointer("/spec/selector");
    let labels = written.and_then(|selector| selector.get("matchLabels"));
    let nothing = labels.is_none_or(|labels| labels.as_object().is_none_or(serde_json::Map::is_empty));
    if written.is_some_and(|selector| !selector.is_null()) && nothing {
        found.push(Finding::about(
            read,
            Code::EmptySelector,
            "spec.selector",
            "an empty selector means every workload of the namespace (of the mesh, in the root namespace), as if there \
             were none; other proxies may take it for none at all",
            "leave the selector out",
        ));
    }
}
