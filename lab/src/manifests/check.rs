use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use objects::{Kind, Object, ObjectKey, PodSpec, Service};
use serde_json::Value;

use super::Manifests;
use crate::controllers::{clash, is_node_proxy};
use crate::error::LabError;
use crate::supervisor::container;

/// Where objects are to be applied.
pub(crate) struct Place<'a> {
    /// The objects that are there.
    pub(crate) present: &'a [Arc<Object>],
    pub(crate) nodes: &'a [String],
    pub(crate) ztctl: &'a Path,
}

/// Everything that is wrong with applying these manifests there; nothing is changed.
pub(crate) fn check(manifests: &Manifests, place: &Place<'_>) -> Result<(), LabError> {
    let present: BTreeMap<ObjectKey, &Object> = place
        .present
        .iter()
        .map(|object| (object.key(), object.as_ref()))
        .collect();
    let mut problems = Vec::new();
    for object in &manifests.objects {
        let key = object.key();
        let mut wrong = |field: &str, problem: &str| problems.push(manifests.problem(&key, field, problem));
        if key.kind.is_namespaced() {
            let namespace = ObjectKey::new(Kind::Namespace, "", &key.namespace);
            let here = present
                .get(&namespace)
                .is_some_and(|there| there.metadata.deletion_timestamp.is_none());
            if !here && !manifests.origin.contains_key(&namespace) {
                wrong(
                    "metadata.namespace",
                    &format!(
                        "there is no namespace `{}`; define it in the same manifests",
                        key.namespace
                    ),
                );
            }
        }
        let old = present.get(&key).copied();
        if old.is_some_and(is_node_proxy) || is_node_proxy(object) {
            wrong(
                "metadata.name",
                "this object belongs to the lab itself: choose another name",
            );
            continue;
        }
        if key.kind == Kind::Node && !place.nodes.contains(&key.name) {
            wrong(
                "metadata.name",
                &format!("the nodes of this lab are {}", place.nodes.join(", ")),
            );
        }
        if let Some(deployment) = object.as_deployment() {
            let raw = object.raw().pointer("/spec/template/spec");
            pod_spec(
                &deployment.template.spec,
                raw,
                "spec.template.spec",
                place,
                &mut wrong,
            );
        }
        if let Some(pod) = object.as_pod() {
            pod_spec(&pod.spec, object.raw().get("spec"), "spec", place, &mut wrong);
            if let Some(old) = old.filter(|old| old.metadata.deletion_timestamp.is_none()) {
                let merged = object.merged_over(old);
                if merged.raw().get("spec") != old.raw().get("spec") {
                    wrong(
                        "spec",
                        "a Pod that exists keeps its spec: delete it first, or use a Deployment",
                    );
                }
            }
        }
    }
    problems.extend(service_addresses(manifests, place));
    if problems.is_empty() {
        Ok(())
    } else {
        Err(LabError::Usage(problems.join("\n")))
    }
}

fn pod_spec(
    spec: &PodSpec,
    raw: Option<&Value>,
    field: &str,
    place: &Place<'_>,
    wrong: &mut impl FnMut(&str, &str),
) {
    if !spec.node_name.is_empty() && !place.nodes.contains(&spec.node_name) {
        let nodes = place.nodes.join(", ");
        wrong(
            &format!("{field}.nodeName"),
            &format!(
                "there is no node `{}`: the nodes of this lab are {nodes}",
                spec.node_name
            ),
        );
    }
    for (name, containers) in [
        ("containers", &spec.containers),
        ("initContainers", &spec.init_containers),
    ] {
        for (index, container) in containers.iter().enumerate() {
            let directory = raw
                .and_then(|raw| raw.pointer(&format!("/{name}/{index}/workingDir")))
                .and_then(Value::as_str);
            if let Some(directory) = directory.filter(|directory| !Path::new(directory).is_dir()) {
                wrong(
                    &format!("{field}.{name}[{index}].workingDir"),
                    &format!("`{directory}`: no such directory on this machine"),
                );
            }
            let Some(program) = container.command.first() else {
                continue;
            };
            if container::find(program, place.ztctl).is_none() {
                let where_ = if program.contains('/') {
                    "no such program on this machine".to_owned()
                } else {
                    format!("no such program in {}", container::search_path(place.ztctl))
                };
                wrong(
                    &format!("{field}.{name}[{index}].command[0]"),
                    &format!("`{program}`: {where_}"),
                );
            }
        }
    }
}

/// Services that ask for an address that is taken or not the lab's to give.
fn service_addresses(manifests: &Manifests, place: &Place<'_>) -> Option<String> {
    let services = |object: &Object| -> Option<Service> { object.as_service().cloned() };
    let merged: Vec<(Object, Service)> = manifests
        .objects
        .iter()
        .filter_map(|object| {
            let old = place.present.iter().find(|old| old.key() == object.key());
            let merged = old.map_or_else(|| object.clone(), |old| object.merged_over(old));
            let service = services(&merged)?;
            Some((merged, service))
        })
        .collect();
    let untouched: Vec<(&Object, Service)> = place
        .present
        .iter()
        .filter(|old| !manifests.origin.contains_key(&old.key()))
        .filter_map(|old| Some((old.as_ref(), services(old)?)))
        .collect();
    let all = untouched
        .iter()
        .map(|(object, service)| (*object, service))
        .chain(merged.iter().map(|(object, service)| (object, service)));
    let (key, problem) = clash(all)?;
    Some(manifests.problem(&key, "spec.clusterIP", &problem))
}
