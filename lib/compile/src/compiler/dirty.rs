//! What a change can touch. Too much only costs time; too little would leave something stale, which the test of
//! incremental against whole compilation looks for.

use std::collections::BTreeSet;

use objects::{Kind, Object, ObjectKey, Spec, TRAFFIC_DISTRIBUTION_ANNOTATION};

use crate::authorization_policy;
use crate::index::{Index, slice_of_service, target_pods};
use crate::workload::locality;

/// What has to be made again.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// These objects.
    keys: BTreeSet<ObjectKey>,
    /// All objects of the kind in the namespace.
    namespaces: BTreeSet<(Kind, String)>,
    /// All objects of the kind.
    kinds: BTreeSet<Kind>,
    /// The pods on these nodes.
    nodes: BTreeSet<String>,
    /// The slices of these Services, by namespace and name.
    services: BTreeSet<(String, String)>,
    peer_authentications: bool,
}

impl Dirty {
    /// Notes what a change from `old` to `new` can touch.
    pub(super) fn mark(&mut self, root: &str, old: Option<&Object>, new: Option<&Object>) {
        let Some(any) = new.or(old) else { return };
        let key = any.key();
        let namespace = key.namespace.clone();
        let both = || old.into_iter().chain(new);
        match key.kind {
            Kind::Pod => {}
            Kind::Service => {
                if old.map(|object| &object.spec) != new.map(|object| &object.spec) {
                    self.namespaces.insert((Kind::Pod, namespace.clone()));
                    self.services.insert((namespace, key.name.clone()));
                }
            }
            Kind::EndpointSlice => {
                for (namespace, name) in both().flat_map(target_pods) {
                    self.keys.insert(ObjectKey::new(Kind::Pod, &namespace, &name));
                }
            }
            Kind::Node => {
                if old.and_then(locality) != new.and_then(locality) {
                    self.nodes.insert(key.name.clone());
                }
            }
            Kind::Namespace => {
                let annotation = |object: &Object| {
                    object
                        .metadata
                        .annotations
                        .get(TRAFFIC_DISTRIBUTION_ANNOTATION)
                        .cloned()
                };
                if old.and_then(annotation) != new.and_then(annotation) {
                    self.namespaces.insert((Kind::Service, key.name.clone()));
                }
            }
            Kind::AuthorizationPolicy => {
                if old.and_then(listing) != new.and_then(listing) {
                    self.widen(&[Kind::Pod], root, namespace);
                }
            }
            Kind::PeerAuthentication => {
                self.peer_authentications = true;
                self.widen(&[Kind::Pod, Kind::PeerAuthentication], root, namespace);
            }
            Kind::ServiceAccount | Kind::Deployment | Kind::NetworkPolicy | Kind::Gateway => return,
        }
        self.keys.insert(key);
    }

    /// Whether a PeerAuthentication changed.
    pub(super) fn peer_authentications(&self) -> bool {
        self.peer_authentications
    }

    /// The objects to make again, gone ones included.
    pub(super) fn sources(&self, index: &Index) -> BTreeSet<ObjectKey> {
        let mut sources = self.keys.clone();
        for kind in &self.kinds {
            sources.extend(index.all(*kind).map(|object| object.key()));
        }
        for (kind, namespace) in self
            .namespaces
            .iter()
            .filter(|(kind, _)| !self.kinds.contains(kind))
        {
            sources.extend(index.of(*kind, namespace).map(|object| object.key()));
        }
        if !self.nodes.is_empty() && !self.kinds.contains(&Kind::Pod) {
            let on_node = |pod: &&std::sync::Arc<Object>| {
                pod.as_pod()
                    .is_some_and(|pod| self.nodes.contains(&pod.spec.node_name))
            };
            sources.extend(index.all(Kind::Pod).filter(on_node).map(|object| object.key()));
        }
        for (namespace, service) in &self.services {
            let slices = index.of(Kind::EndpointSlice, namespace);
            let own = slices.filter(|slice| slice_of_service(slice).is_some_and(|(_, name)| name == service));
            sources.extend(own.map(|object| object.key()));
        }
        sources
    }

    /// Marks the kinds in the namespace, or everywhere when it is the root namespace.
    fn widen(&mut self, kinds: &[Kind], root: &str, namespace: String) {
        for kind in kinds {
            if namespace == root {
                self.kinds.insert(*kind);
            } else {
                self.namespaces.insert((*kind, namespace.clone()));
            }
        }
    }
}

/// The labels by which pods list a policy, and whether they list it as a dry run; `None` when no pod does.
fn listing(object: &Object) -> Option<(&objects::selector::Labels, bool)> {
    match &object.spec {
        Spec::AuthorizationPolicy(policy)
            if authorization_policy::is_sent(policy) && !policy.selector.is_empty() =>
        {
            Some((&policy.selector, authorization_policy::is_dry_run(object)))
        }
        _ => None,
    }
}
