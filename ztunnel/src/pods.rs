//! The pods of this node that are in the mesh.

use hbone::budget::Account;
use mesh::Identity;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sys::Namespace;

/// A pod's uid, as the node agent names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodId(Arc<str>);

impl From<&str> for PodId {
    fn from(uid: &str) -> Self {
        Self(uid.into())
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One pod: who it is, and the network namespace that proves it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// Uid.
    pub(crate) id: PodId,
    /// Name.
    pub(crate) name: Arc<str>,
    /// What its service account gives it.
    pub(crate) identity: Identity,
    /// Its network namespace.
    pub(crate) network: Namespace,
    /// What the peers of its tunnels may hold of this process's memory.
    pub(crate) buffers: Account,
}

impl Pod {
    /// `namespace/name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.identity.namespace(), self.name)
    }
}

/// A pod that is to be served and cannot be yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// `namespace/name`.
    pub(crate) name: String,
    /// Why not.
    pub(crate) reason: String,
}

#[derive(Clone, Debug)]
struct Served {
    pod: Arc<Pod>,
    /// It has left the mesh: what is still open is served, and what is new passes by this proxy.
    has_left: bool,
}

/// The pods that are served now, and those that wait to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pods {
    inner: Arc<Mutex<HashMap<PodId, Served>>>,
    waiting: Arc<Mutex<BTreeMap<PodId, Waiting>>>,
}

impl Pods {
    /// Adds a pod, or replaces it.
    pub(crate) fn insert(&self, pod: Arc<Pod>) {
        let has_left = false;
        self.lock().insert(pod.id.clone(), Served { pod, has_left });
    }

    /// Exactly this pod has left the mesh, and is served until what it has open has ended.
    pub(crate) fn has_left(&self, pod: &Arc<Pod>) {
        if let Some(served) = self.lock().get_mut(&pod.id)
            && Arc::ptr_eq(&served.pod, pod)
        {
            served.has_left = true;
        }
    }

    /// Whether exactly this pod is in the mesh.
    pub(crate) fn is_in_mesh(&self, pod: &Arc<Pod>) -> bool {
        let pods = self.lock();
        let served = pods.get(&pod.id);
        served.is_some_and(|served| Arc::ptr_eq(&served.pod, pod) && !served.has_left)
    }

    /// Forgets exactly this pod, not one that came back under the same uid.
    pub(crate) fn remove_exactly(&self, pod: &Arc<Pod>) {
        let mut pods = self.lock();
        if pods
            .get(&pod.id)
            .is_some_and(|known| Arc::ptr_eq(&known.pod, pod))
        {
            pods.remove(&pod.id);
        }
    }

    /// All pods, those included that have left and have something open.
    pub(crate) fn list(&self) -> Vec<Arc<Pod>> {
        self.lock().values().map(|served| served.pod.clone()).collect()
    }

    /// Notes that a pod is to be served, and why it is not.
    pub(crate) fn waits(&self, id: &PodId, waiting: Waiting) {
        self.lock_waiting().insert(id.clone(), waiting);
    }

    /// The pod waits no more: it is served, or gone.
    pub(crate) fn waits_no_more(&self, id: &PodId) {
        self.lock_waiting().remove(id);
    }

    /// Those that wait.
    pub(crate) fn waiting(&self) -> Vec<(PodId, Waiting)> {
        let waiting = self.lock_waiting();
        waiting
            .iter()
            .map(|(id, waiting)| (id.clone(), waiting.clone()))
            .collect()
    }

    fn lock_waiting(&self) -> MutexGuard<'_, BTreeMap<PodId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PodId, Served>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
