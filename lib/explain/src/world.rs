//! The objects, and the mesh that stands on them.

mod addresses;
mod pods;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compile::{Compiler, EffectiveMtls, InFront, Output, Settings};
use mesh::{Change, Snapshot, Workload};
use objects::{Kind, Object, ObjectKey, Spec};
use prost::Message;
use proto::security::Authorization;

use addresses::Addresses;
pub use addresses::MAX_MADE_UP_ADDRESSES;
pub use pods::Membership;
pub(crate) use pods::Pod;

/// What the objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// What somebody wants to have. A pod counts as in the mesh when its labels and its namespace's ask for it; pods
    /// without an address get one; a Deployment stands for one pod, unless its pods are there: under its own name, or
    /// with `-deployment` behind it where a pod that is not its own has that name.
    Manifests,
    /// What a mesh has. A pod is in the mesh once the node agent has said so, and is where its status says.
    Applied,
}

/// The objects, and the mesh that stands on them.
#[derive(Debug)]
pub struct World {
    basis: Basis,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    pods: BTreeMap<ObjectKey, Pod>,
    addresses: Addresses,
    compiler: Compiler,
    snapshot: Snapshot,
}

impl World {
    /// A mesh with these objects; of two with the same key the later one counts.
    pub fn new(basis: Basis, settings: Settings, objects: impl IntoIterator<Item = Arc<Object>>) -> World {
        let mut snapshot = Snapshot::with_root_namespace(&settings.root_namespace);
        snapshot.apply([Change::PoliciesSynced]);
        let mut world = World {
            basis,
            objects: BTreeMap::new(),
            pods: BTreeMap::new(),
            addresses: Addresses::default(),
            compiler: Compiler::new(settings),
            snapshot,
        };
        world.set(objects.into_iter().map(|object| (object.key(), Some(object))));
        world
    }

    /// What the objects are.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// What is the same for the whole mesh.
    pub fn settings(&self) -> &Settings {
        self.compiler.settings()
    }

    /// How much was made of objects by now, in objects: what changes and questions cost.
    pub fn made(&self) -> u64 {
        self.compiler.made()
    }

    /// What a node proxy would know.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Answers a question with further objects, which are gone afterwards: each is added, or takes the place of
    /// the one with its key. The cost follows what they touch, not the size of the mesh.
    pub fn with<T>(
        &mut self,
        objects: impl IntoIterator<Item = Arc<Object>>,
        question: impl FnOnce(&World) -> T,
    ) -> T {
        self.with_for(None, objects, question)
    }

    /// Puts objects in (`None`: takes them out); gives what was there before.
    pub fn set(
        &mut self,
        changes: impl IntoIterator<Item = (ObjectKey, Option<Arc<Object>>)>,
    ) -> BTreeMap<ObjectKey, Option<Arc<Object>>> {
        let (before, output) = self.put(None, changes);
        self.snapshot.apply(changes_of(output));
        before
    }

    /// As [`World::with`], for a question about these pods alone. Where the objects are policies, others are left as
    /// they were.
    pub(crate) fn with_for<T>(
        &mut self,
        pods: Option<&BTreeSet<ObjectKey>>,
        objects: impl IntoIterator<Item = Arc<Object>>,
        question: impl FnOnce(&World) -> T,
    ) -> T {
        let objects: Vec<_> = objects
            .into_iter()
            .map(|object| (object.key(), Some(object)))
            .collect();
        if objects.is_empty() {
            return question(self);
        }
        let kinds = || objects.iter().map(|(key, _)| key.kind);
        let pods = pods.filter(|_| kinds().all(is_policy));
        let snapshot = self.snapshot.clone();
        let addresses = kinds().any(stands_for_pods).then(|| self.addresses.clone());
        let (before, output) = self.put(pods, objects);
        self.snapshot.apply(changes_of(output));
        let answer = question(self);
        // First, so that each pod finds the address again that it had.
        if let Some(addresses) = addresses {
            self.addresses = addresses;
        }
        self.put(pods, before);
        // The same as what would be read again, without having to read it.
        self.snapshot = snapshot;
        answer
    }

    /// Puts objects in, or takes them out; gives what was there before, and what a node proxy is to be told. With
    /// `pods`, these are all that is asked about until the changes are taken back.
    fn put(
        &mut self,
        pods: Option<&BTreeSet<ObjectKey>>,
        changes: impl IntoIterator<Item = (ObjectKey, Option<Arc<Object>>)>,
    ) -> (BTreeMap<ObjectKey, Option<Arc<Object>>>, Output) {
        let mut before = BTreeMap::new();
        let mut stale = BTreeSet::new();
        for (key, object) in changes {
            let old = match &object {
                Some(object) => self.objects.insert(key.clone(), Arc::clone(object)),
                None => self.objects.remove(&key),
            };
            for version in old.iter().chain(&object) {
                self.mark(version, &mut stale);
            }
            // What was there before the first change counts.
            before.entry(key).or_insert(old);
        }
        let others = before.keys().filter(|key| !stands_for_pods(key.kind));
        let mut compiled: Vec<_> = others
            .map(|key| {
                let object = self.objects.get(key).map(|object| match self.basis {
                    // Whether a waypoint is ready is a matter of the moment, which manifests are not about.
                    Basis::Manifests => compile::as_ready(object, self.compiler.settings()),
                    Basis::Applied => Arc::clone(object),
                });
                (key.clone(), object)
            })
            .collect();
        for key in stale {
            compiled.extend(self.make_pod(key));
        }
        let output = match pods {
            Some(pods) => self.compiler.apply_policies_for(pods, compiled),
            None => self.compiler.apply(compiled),
        };
        (before, output)
    }

    /// A policy as a node proxy is sent it.
    pub(crate) fn compiled_policy(&self, key: &str) -> Option<&Authorization> {
        self.compiler.policies().get(key)
    }

    /// Whether a port of a pod takes plaintext, and who says so.
    pub(crate) fn effective_mtls(&self, pod: &Object, port: Option<u16>) -> EffectiveMtls {
        self.compiler.effective_mtls(pod, port)
    }

    /// What stands in front of an object.
    pub(crate) fn in_front_of(&self, key: &ObjectKey) -> InFront {
        self.compiler.in_front_of(key)
    }

    /// The object as it was given.
    pub(crate) fn object(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&ObjectKey::new(kind, namespace, name))
    }

    /// The objects of a kind as they were given, by namespace and name.
    pub(crate) fn objects_of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.objects
            .range(ObjectKey::new(kind, "", "")..)
            .take_while(move |(key, _)| key.kind == kind)
            .map(|(_, object)| object)
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.pods.get(&ObjectKey::new(Kind::Pod, namespace, name))
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// The workload that a node proxy knows for a pod.
    pub(crate) fn workload_of(&self, pod: &Pod) -> Option<&Arc<Workload>> {
        self.snapshot
            .workload(&self.uid(&pod.object.metadata.namespace, &pod.object.metadata.name))
    }

    /// The name of a pod's workload, or why it has none.
    pub(crate) fn uid(&self, namespace: &str, name: &str) -> String {
        format!("{}//Pod/{namespace}/{name}", self.settings().cluster_id)
    }

    /// Notes the pods that a version of an object bears on.
    fn mark(&self, object: &Object, stale: &mut BTreeSet<ObjectKey>) {
        let metadata = &object.metadata;
        match &object.spec {
            Spec::Pod(_) => {
                stale.insert(object.key());
                // A Deployment stands for a pod only as long as it has none.
                let deployments = self.objects_in(Kind::Deployment, &metadata.namespace);
                let own = deployments.filter(|deployment| {
                    let content = deployment.as_deployment();
                    content.is_some_and(|content| content.selector.matches(&metadata.labels))
                });
                for deployment in own {
                    self.mark_names(deployment, stale);
                }
                self.mark_deployments(object, stale);
            }
            Spec::Deployment(_) => {
                self.mark_names(object, stale);
                self.mark_deployments(object, stale);
            }
            Spec::Namespace => {
                let pods = self.pods.range(ObjectKey::new(Kind::Pod, &metadata.name, "")..);
                let here = pods.take_while(|(key, _)| key.namespace == metadata.name);
                stale.extend(here.map(|(key, _)| key.clone()));
            }
            _ => {}
        }
    }

    /// Notes the pods of Deployments for whom it matters that an object has its name.
    fn mark_deployments(&self, object: &Object, stale: &mut BTreeSet<ObjectKey>) {
        let metadata = &object.metadata;
        for name in pods::deployments(&metadata.name) {
            if let Some(deployment) = self.object(Kind::Deployment, &metadata.namespace, name) {
                self.mark_names(deployment, stale);
            }
        }
    }

    /// Notes all names under which the pod of a Deployment stood or may stand.
    fn mark_names(&self, deployment: &Object, stale: &mut BTreeSet<ObjectKey>) {
        let namespace = &deployment.metadata.namespace;
        for name in pods::names(&deployment.metadata.name) {
            let key = ObjectKey::new(Kind::Pod, namespace, &name);
            let is_taken = self.objects.contains_key(&key)
                || self.pods.contains_key(&key)
                || self.object(Kind::Deployment, namespace, &name).is_some();
            stale.insert(key);
            if !is_taken {
                break;
            }
        }
    }

    /// Makes a pod again; what changes for the compiler.
    fn make_pod(&mut self, key: ObjectKey) -> Option<(ObjectKey, Option<Arc<Object>>)> {
        let made = pods::make(self, &key);
        let (old, new) = match made {
            Some(pod) => {
                let object = Arc::clone(&pod.object);
                (self.pods.insert(key.clone(), pod), Some(object))
            }
            None => {
                self.addresses.release(&key);
                (self.pods.remove(&key), None)
            }
        };
        let same = match (&old, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(&old.object, new),
            (None, None) => true,
            _ => false,
        };
        (!same).then_some((key, new))
    }

    /// The objects of a kind in a namespace, by name.
    pub(crate) fn objects_in<'a>(
        &'a self,
        kind: Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        self.objects
            .range(ObjectKey::new(kind, namespace, "")..)
            .take_while(move |(key, _)| key.kind == kind && key.namespace == namespace)
            .map(|(_, object)| object)
    }
}

/// What a pod is besides the policies that it lists does not follow from these.
fn is_policy(kind: Kind) -> bool {
    matches!(kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication)
}

/// Pods are not compiled as given.
fn stands_for_pods(kind: Kind) -> bool {
    matches!(kind, Kind::Pod | Kind::Deployment)
}

/// What a node proxy reads of what the control plane sends.
fn changes_of(output: Output) -> Vec<Change> {
    let addresses = output.addresses.iter();
    let policies = output.policies.iter();
    let mut changes: Vec<Change> = addresses
        .map(|(name, address)| Change::decode_address(name, &address.encode_to_vec()))
        .collect();
    changes.extend(policies.map(|(name, policy)| Change::decode_policy(name, &policy.encode_to_vec())));
    changes.extend(output.removed_addresses.into_iter().map(Change::RemoveAddress));
    changes.extend(output.removed_policies.into_iter().map(Change::RemovePolicy));
    changes
}
