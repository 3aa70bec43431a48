//! What stands in front of a target, as the caller's node proxy is told.

use compile::InFront;
use mesh::Identity;
use objects::{GATEWAY_NAME_LABEL, Kind, ObjectKey, Spec, TargetRef, WAYPOINT_CLASS};

use super::Speaker;
use super::notes::some;
use crate::answer::Unanswerable;
use crate::question::Target;
use crate::world::World;

/// Whom the endpoints see, and what is said about that.
pub(super) enum Way {
    /// The caller itself.
    Direct,
    /// The waypoint: who called it, it alone knows.
    Waypoint { speaker: Speaker, note: String },
    /// Nobody.
    Closed(String),
}

impl World {
    /// The way of a connection to the target. Who speaks plaintext has no node proxy, and passes no waypoint.
    pub(super) fn way(&self, speaker: &Speaker, target: &Target) -> Result<Way, Unanswerable> {
        let key = match target {
            Target::Service { namespace, name, .. } => ObjectKey::new(Kind::Service, namespace, name),
            Target::Pod { namespace, name, .. } => ObjectKey::new(Kind::Pod, namespace, name),
        };
        let (namespace, name) = match self.in_front_of(&key) {
            InFront::Nothing => return Ok(Way::Direct),
            _ if speaker.identity.is_none() => return Ok(Way::Direct),
            InFront::Closed(why) => return Ok(Way::Closed(why)),
            InFront::Waypoint { namespace, name } => (namespace, name),
        };
        let pods: Vec<_> = self
            .pods()
            .filter(|pod| {
                let metadata = &pod.object.metadata;
                metadata.namespace == namespace && metadata.labels.get(GATEWAY_NAME_LABEL) == Some(&name)
            })
            .collect();
        let is_of_it = |(own, pod): &(String, String)| {
            let mut same = pods.iter().map(|pod| &pod.object.metadata);
            same.any(|metadata| metadata.namespace == *own && metadata.name == *pod)
        };
        if speaker.pod.as_ref().is_some_and(is_of_it) {
            return Ok(Way::Direct);
        }
        let workload = pods.first().and_then(|pod| self.workload_of(pod));
        let waypoint = match workload {
            Some(workload) => Speaker {
                identity: Some(workload.identity()),
                addresses: workload.addresses.clone(),
                pod: None,
            },
            // Its pods are made by a controller, with an account of its name.
            None => Speaker {
                identity: Some(
                    Identity::try_new(&self.settings().trust_domain, &namespace, &name)
                        .map_err(|error| Unanswerable::NotAnIdentity(error.to_string()))?,
                ),
                addresses: Vec::new(),
                pod: None,
            },
        };
        let identity = waypoint.identity.as_ref().map(ToString::to_string);
        let attached = self.attached(&key, &namespace, &name);
        let decides = if attached.is_empty() {
            "no policy is attached to it".to_owned()
        } else {
            format!("{} is its to decide, and not asked here", some(&attached))
        };
        let note = format!(
            "goes through the waypoint {namespace}/{name}: {decides}; the endpoints see the waypoint, {}, not the caller",
            identity.unwrap_or_default()
        );
        Ok(Way::Waypoint {
            speaker: waypoint,
            note,
        })
    }

    /// The policies that a waypoint enforces for what stands behind it.
    fn attached(&self, behind: &ObjectKey, namespace: &str, name: &str) -> Vec<String> {
        let is_meant = |own: &str, target: &TargetRef| {
            let is = |kind: Kind| target.kind == kind.as_str() && target.group == kind.group();
            (is(behind.kind) && own == behind.namespace && target.name == behind.name)
                || (is(Kind::Gateway) && own == namespace && target.name == name)
                || (is(Kind::GatewayClass)
                    && own == self.settings().root_namespace
                    && target.name == WAYPOINT_CLASS)
        };
        let policies = self.objects_of(Kind::AuthorizationPolicy).filter(|object| {
            let own = &object.metadata.namespace;
            let Spec::AuthorizationPolicy(policy) = &object.spec else {
                return false;
            };
            policy.target_refs.iter().any(|target| is_meant(own, target))
        });
        policies
            .map(|object| format!("{}/{}", object.metadata.namespace, object.metadata.name))
            .collect()
    }
}
