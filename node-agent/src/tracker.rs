//! Which pods of this node are to be enrolled, kept up to date from the stream of objects. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use object_store::{Batch, StoreChange};
use objects::{
    Kind, Object, ObjectKey, REDIRECTION_ANNOTATION, REDIRECTION_ENABLED, REDIRECTION_PENDING, Spec,
    enrolment::{Enrolment, Reason, wanted},
};
use zds::PodInfo;

use crate::plan::{Annotation, Goal};

/// What the objects say of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Unique for all time.
    pub uid: String,
    /// Who the pod is, as the node proxy is told.
    pub info: PodInfo,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What is wanted.
    pub goal: Goal,
    /// Why it is not to be enrolled.
    pub reason: Option<String>,
    /// What its annotation says.
    pub annotation: Annotation,
    /// Whether the pod's object is gone.
    pub deleted: bool,
    /// The revision of the store at which all this was so.
    pub revision: u64,
}

/// The pods of one node.
#[derive(Debug)]
pub struct Tracker {
    node: String,
    excluded: BTreeSet<String>,
    pods: BTreeMap<ObjectKey, Arc<Object>>,
    namespaces: BTreeMap<String, Arc<Object>>,
    views: BTreeMap<String, PodView>,
}

impl Tracker {
    /// Nothing is known yet.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            excluded: BTreeSet::new(),
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            views: BTreeMap::new(),
        }
    }

    /// Pods of these namespaces are not enrolled either, beside those of [`objects::enrolment::EXCLUDED_NAMESPACES`].
    #[must_use]
    pub fn excluding(mut self, namespaces: impl IntoIterator<Item = String>) -> Self {
        self.excluded.extend(namespaces);
        self
    }

    /// Takes in a batch and returns the pods of this node that are other than before, with those that are gone
    /// ([`Goal::Gone`]) first.
    pub fn apply(&mut self, batch: &Batch) -> Vec<PodView> {
        if batch.initial {
            self.pods.clear();
            self.namespaces.clear();
        }
        for change in &batch.changes {
            match change {
                StoreChange::Put(object) => self.put(object),
                StoreChange::Delete(key) if key.kind == Kind::Namespace => {
                    self.namespaces.remove(&key.name);
                }
                StoreChange::Delete(key) => {
                    self.pods.remove(key);
                }
            }
        }
        let views: BTreeMap<String, PodView> = self
            .pods
            .iter()
            .filter_map(|(key, pod)| self.view(key, pod, batch.revision))
            .map(|view| (view.uid.clone(), view))
            .collect();
        let gone = self
            .views
            .values()
            .filter(|view| !views.contains_key(&view.uid))
            .map(|view| PodView {
                goal: Goal::Gone,
                reason: Some("it is deleted".into()),
                annotation: Annotation::None,
                deleted: true,
                revision: batch.revision,
                ..view.clone()
            });
        let changed = views.values().filter(|view| {
            let same = |before: &PodView| {
                **view
                    == PodView {
                        revision: view.revision,
                        ..before.clone()
                    }
            };
            !self.views.get(&view.uid).is_some_and(same)
        });
        let all = gone.chain(changed.cloned()).collect();
        self.views = views;
        all
    }

    fn put(&mut self, object: &Arc<Object>) {
        match &object.spec {
            Spec::Namespace => {
                self.namespaces
                    .insert(object.metadata.name.clone(), object.clone());
            }
            Spec::Pod(pod) => {
                let key = object.key();
                // A pod in the node's own network has none that could be captured.
                if pod.spec.node_name == self.node && !pod.spec.host_network {
                    self.pods.insert(key, object.clone());
                } else {
                    self.pods.remove(&key);
                }
            }
            _ => {}
        }
    }

    fn view(&self, key: &ObjectKey, object: &Object, revision: u64) -> Option<PodView> {
        let Spec::Pod(pod) = &object.spec else { return None };
        let metadata = &object.metadata;
        let (goal, reason) = if pod.status.phase.is_terminal() {
            (Goal::Gone, Some("it has ended".to_owned()))
        } else if self.excluded.contains(&metadata.namespace) {
            (Goal::Direct, Some(Reason::ExcludedNamespace.to_string()))
        } else {
            match wanted(
                object,
                self.namespaces
                    .get(&metadata.namespace)
                    .map(|namespace| &**namespace),
            ) {
                Enrolment::Enrolled => (Goal::Enrolled, None),
                Enrolment::No(reason) => (Goal::Direct, Some(reason.to_string())),
            }
        };
        let annotation = match metadata
            .annotations
            .get(REDIRECTION_ANNOTATION)
            .map(String::as_str)
        {
            Some(REDIRECTION_ENABLED) => Annotation::Enabled,
            Some(REDIRECTION_PENDING) => Annotation::Pending,
            // A value that nobody of us wrote: anything but none, so that it is put right or removed.
            Some(_) => Annotation::Pending,
            None => Annotation::None,
        };
        Some(PodView {
            key: key.clone(),
            uid: metadata.uid.clone(),
            info: PodInfo {
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                service_account: pod.spec.service_account_name.clone(),
            },
            addresses: pod.status.pod_ips.clone(),
            goal,
            reason,
            annotation,
            deleted: false,
            revision,
        })
    }
}

#[cfg(test)]
mod tests;
