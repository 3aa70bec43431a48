//! The pods as CA and discovery have to know them: which identities run on which node, and who is still there.

mod leaving;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use ca::{Caller, Denied, NodeAuthorizer, may_impersonate};
use mesh::Identity;
use object_store::StoreChange;
use objects::{Kind, Object, Phase};

use self::leaving::{Leaving, Waiter};

/// All pods. Cheap to clone; every clone sees the same.
#[derive(Clone, Default)]
pub(crate) struct Pods {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    /// By namespace and name.
    pods: BTreeMap<Name, Pod>,
    by_node: BTreeMap<String, BTreeSet<Name>>,
    leaving: Leaving,
}

type Name = (String, String);

struct Pod {
    uid: String,
    service_account: String,
    node: String,
    terminal: bool,
}

impl Pods {
    /// Takes changes over; everything else is kept.
    pub(crate) fn apply(&self, changes: &[StoreChange]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                StoreChange::Put(object) if object.kind() == Kind::Pod => known.put(object),
                StoreChange::Delete(key) if key.kind == Kind::Pod => {
                    known.delete(&(key.namespace.clone(), key.name.clone()));
                }
                _ => {}
            }
        }
    }
}

impl Pods {
    /// The node that the caller's own pod runs on, if that pod is known and scheduled.
    pub(crate) fn node_of(&self, caller: &Caller) -> Option<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let pod = known
            .pods
            .get(&(caller.namespace.clone(), caller.pod_name.clone()))?;
        (pod.uid == caller.pod_uid && !pod.node.is_empty()).then(|| pod.node.clone())
    }

    /// Notices from here on when the caller's own pod goes: it is deleted or replaced, or has ended.
    pub(crate) fn presence(&self, caller: &Caller) -> Presence {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Presence {
            waiter: known.leaving.wait(&caller.pod_uid),
            pods: self.clone(),
        }
    }
}

/// Whether a pod has gone since somebody began to look.
pub(crate) struct Presence {
    pods: Pods,
    waiter: Waiter,
}

impl Presence {
    /// Waits until it has gone.
    pub(crate) async fn ended(&self) {
        self.waiter.gone.cancelled().await;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut known = self.pods.known.write().unwrap_or_else(PoisonError::into_inner);
        known.leaving.forget(&self.waiter);
    }
}

impl NodeAuthorizer for Pods {
    fn may_impersonate(&self, caller: &Caller, identity: &Identity) -> Result<(), Denied> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        // Only the caller's own pod and those of its node can matter.
        let own = (caller.namespace.clone(), caller.pod_name.clone());
        let on_node = known
            .by_node
            .get(&caller.node)
            .into_iter()
            .flatten()
            .filter(|name| **name != own);
        let names = std::iter::once(&own).chain(on_node);
        may_impersonate(caller, identity, names.filter_map(|name| known.view(name)))
    }
}

impl Known {
    fn put(&mut self, object: &Object) {
        let Some(content) = object.as_pod() else { return };
        let name = (object.metadata.namespace.clone(), object.metadata.name.clone());
        let before = self.remove(&name);
        let pod = Pod {
            uid: object.metadata.uid.clone(),
            service_account: content.spec.service_account_name.clone(),
            node: content.spec.node_name.clone(),
            terminal: matches!(content.status.phase, Phase::Succeeded | Phase::Failed),
        };
        if let Some(before) = before.filter(|before| before.uid != pod.uid) {
            self.leaving.has_gone(&before.uid);
        }
        if pod.terminal {
            self.leaving.has_gone(&pod.uid);
        }
        if !pod.node.is_empty() {
            self.by_node
                .entry(pod.node.clone())
                .or_default()
                .insert(name.clone());
        }
        self.pods.insert(name, pod);
    }

    fn delete(&mut self, name: &Name) {
        if let Some(pod) = self.remove(name) {
            self.leaving.has_gone(&pod.uid);
        }
    }

    fn remove(&mut self, name: &Name) -> Option<Pod> {
        let pod = self.pods.remove(name)?;
        if let Some(names) = self.by_node.get_mut(&pod.node) {
            names.remove(name);
            if names.is_empty() {
                self.by_node.remove(&pod.node);
            }
        }
        Some(pod)
    }

    fn view<'a>(&'a self, name: &'a Name) -> Option<ca::Pod<'a>> {
        let pod = self.pods.get(name)?;
        Some(ca::Pod {
            namespace: &name.0,
            name: &name.1,
            uid: &pod.uid,
            service_account: &pod.service_account,
            node: &pod.node,
            terminal: pod.terminal,
        })
    }
}

#[cfg(test)]
mod tests;
