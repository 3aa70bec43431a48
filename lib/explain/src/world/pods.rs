//! The pods that objects stand for.

use std::fmt;
use std::sync::Arc;

use objects::enrolment::{self, Enrolment};
use objects::{Kind, Object, ObjectKey, REDIRECTION_ANNOTATION, REDIRECTION_ENABLED, pod_of_template};
use serde_json::{Map, Value, json};

use super::{Basis, World};

/// A pod as the mesh sees it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// The object that is compiled.
    pub(crate) object: Arc<Object>,
    /// The object as it was given: the pod, or the Deployment that it stands for.
    given: Arc<Object>,
    /// Whether its connections go through the mesh.
    pub(crate) membership: Membership,
    /// Its address stands in no manifest.
    pub(crate) made_up_address: bool,
}

/// Whether a pod's connections go through the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// They do.
    Inside,
    /// They don't: it does not ask for it, or may not.
    Outside(enrolment::Reason),
    /// They don't yet: it asks for it, and the node agent has not said that it is done.
    NotYet,
    /// They do still: it asks to leave, and the node agent has not said that it is done.
    StillInside(enrolment::Reason),
}

impl Membership {
    /// Whether its connections go through the mesh.
    pub fn is_inside(self) -> bool {
        matches!(self, Membership::Inside | Membership::StillInside(_))
    }
}

/// As the end of a sentence that begins with the pod's name.
impl fmt::Display for Membership {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Membership::Inside => out.write_str("is in the mesh"),
            Membership::Outside(reason) => write!(out, "is not in the mesh: {reason}"),
            Membership::NotYet => out.write_str(
                "is not in the mesh: it asks for it, and the node agent has not said that it is done",
            ),
            Membership::StillInside(reason) => write!(
                out,
                "is in the mesh still, and is to leave it: {reason}, but the node agent has not said that it is done"
            ),
        }
    }
}

/// The pod of this key, from what was given. One that changes nothing keeps its object.
pub(super) fn make(world: &mut World, key: &ObjectKey) -> Option<Pod> {
    let (given, object) = match (world.objects.get(key), world.basis) {
        (Some(pod), _) => (Arc::clone(pod), None),
        (None, Basis::Applied) => return None,
        (None, Basis::Manifests) => {
            let deployment = deployment_that_stands_for(world, key)?;
            let known = world
                .pods
                .get(key)
                .filter(|pod| Arc::ptr_eq(&pod.given, deployment));
            let object = match known {
                Some(known) => Arc::clone(&known.object),
                None => Arc::new(of_template(deployment, &key.name)?),
            };
            (Arc::clone(deployment), Some(object))
        }
    };
    let object = object.unwrap_or_else(|| Arc::clone(&given));
    let namespace = world
        .objects
        .get(&ObjectKey::new(Kind::Namespace, "", &key.namespace));
    let membership = membership(world.basis, &object, namespace.map(Arc::as_ref));
    if let Some(known) = world.pods.get(key)
        && Arc::ptr_eq(&known.given, &given)
        && known.membership == membership
    {
        return Some(known.clone());
    }
    let status = &object.as_pod()?.status;
    let needs_address =
        world.basis == Basis::Manifests && status.pod_ips.is_empty() && !status.phase.is_terminal();
    let address = if needs_address {
        world.addresses.of(key)
    } else {
        world.addresses.release(key);
        None
    };
    let object = match world.basis {
        Basis::Applied => object,
        Basis::Manifests => {
            let state = object
                .metadata
                .annotations
                .get(REDIRECTION_ANNOTATION)
                .map(String::as_str);
            let wanted = membership.is_inside().then_some(REDIRECTION_ENABLED);
            let mut patch = Map::new();
            if state != wanted {
                patch.insert(
                    "metadata".to_owned(),
                    json!({"annotations": {REDIRECTION_ANNOTATION: wanted}}),
                );
            }
            if let Some(address) = address {
                patch.insert(
                    "status".to_owned(),
                    json!({"podIP": address.v4, "podIPs": [{"ip": address.v4}, {"ip": address.v6}]}),
                );
            }
            if patch.is_empty() {
                object
            } else {
                // A pod that could be read can be read with an address and an annotation.
                Arc::new(object.patched(&Value::Object(patch)).ok()?)
            }
        }
    };
    Some(Pod {
        object,
        given,
        membership,
        made_up_address: address.is_some(),
    })
}

fn membership(basis: Basis, pod: &Object, namespace: Option<&Object>) -> Membership {
    let wanted = enrolment::wanted(pod, namespace);
    let state = pod
        .metadata
        .annotations
        .get(REDIRECTION_ANNOTATION)
        .map(String::as_str);
    match (basis, wanted) {
        (Basis::Manifests, Enrolment::Enrolled) => Membership::Inside,
        (Basis::Manifests, Enrolment::No(reason)) => Membership::Outside(reason),
        (Basis::Applied, Enrolment::Enrolled) if state == Some(REDIRECTION_ENABLED) => Membership::Inside,
        (Basis::Applied, Enrolment::Enrolled) => Membership::NotYet,
        (Basis::Applied, Enrolment::No(reason)) if state == Some(REDIRECTION_ENABLED) => {
            Membership::StillInside(reason)
        }
        (Basis::Applied, Enrolment::No(reason)) => Membership::Outside(reason),
    }
}

/// Where the pod of a Deployment may stand: under the Deployment's name, or with endings where others have that name.
pub(super) fn names(deployment: &str) -> impl Iterator<Item = String> {
    std::iter::successors(Some(deployment.to_owned()), |name| {
        Some(format!("{name}{ENDING}"))
    })
}

/// The names of Deployments whose pod may stand under this name.
pub(super) fn deployments(pod: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(pod), |name| name.strip_suffix(ENDING))
}

/// What the name of a Deployment's pod ends with where a pod of others has the name.
const ENDING: &str = "-deployment";

/// The Deployment whose pod stands under this name: one of whose pods none is there.
fn deployment_that_stands_for<'a>(world: &'a World, key: &ObjectKey) -> Option<&'a Arc<Object>> {
    let has = |kind, name: &str| world.object(kind, &key.namespace, name).is_some();
    deployments(&key.name).find_map(|name| {
        let deployment = world.object(Kind::Deployment, &key.namespace, name)?;
        let selector = &deployment.as_deployment()?.selector;
        let mut pods = world.objects_in(Kind::Pod, &key.namespace);
        if pods.any(|pod| selector.matches(&pod.metadata.labels)) {
            return None;
        }
        let is_free = |free: &String| !has(Kind::Pod, free) && (free == name || !has(Kind::Deployment, free));
        (names(name).find(is_free)? == key.name).then_some(deployment)
    })
}

/// A pod of a Deployment's template.
fn of_template(deployment: &Object, name: &str) -> Option<Object> {
    let template = deployment.raw().pointer("/spec/template")?;
    // A template that could be read makes a pod that can be read.
    pod_of_template(template, &deployment.metadata.namespace, name).ok()
}
