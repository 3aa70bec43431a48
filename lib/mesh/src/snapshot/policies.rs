//! Policies by key, and by whom they select.

use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use crate::policy::{Policy, Scope};
use crate::rejected::Rejected;
use crate::workload::Workload;

/// Policies in the order of their keys.
type ByKey = RedBlackTreeMapSync<Arc<str>, PolicyState>;

/// A policy in force, or the placeholder of one that was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyState {
    /// In force.
    Known(Arc<Policy>),
    /// Not understood, and there was no version before: closed.
    Closed(Arc<ClosedPolicy>),
}

/// The placeholder of a policy that was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedPolicy {
    /// The policy's `namespace/name`.
    pub key: Arc<str>,
    /// Whom it closes, besides workloads that list it.
    pub scope: Scope,
    /// It is certain that the policy is not to be enforced: nothing is closed, but it is recorded.
    pub dry_run: bool,
    /// What was not understood.
    pub reason: Arc<str>,
}

impl PolicyState {
    /// The policy, unless it is a placeholder.
    pub fn known(&self) -> Option<&Arc<Policy>> {
        match self {
            Self::Known(policy) => Some(policy),
            Self::Closed(_) => None,
        }
    }

    /// `namespace/name`.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Known(policy) => policy.key(),
            Self::Closed(closed) => &closed.key,
        }
    }

    /// Whether it decides nothing.
    pub fn is_dry_run(&self) -> bool {
        match self {
            Self::Known(policy) => policy.dry_run,
            Self::Closed(closed) => closed.dry_run,
        }
    }

    /// Whom it selects.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Known(policy) => policy.scope,
            Self::Closed(closed) => closed.scope,
        }
    }
}

/// Everything but `by_key` and `rejections` is derived; hash maps are never iterated.
#[derive(Debug, Clone)]
pub(super) struct Policies {
    root_namespace: Arc<str>,
    is_synced: bool,
    by_key: ByKey,
    global: ByKey,
    by_namespace: HashTrieMapSync<Arc<str>, ByKey>,
    rejections: RedBlackTreeMapSync<Arc<str>, Arc<Rejected>>,
}

impl Policies {
    pub(super) fn new(root_namespace: &str) -> Self {
        Self {
            root_namespace: root_namespace.into(),
            is_synced: false,
            by_key: ByKey::new_sync(),
            global: ByKey::new_sync(),
            by_namespace: HashTrieMapSync::new_sync(),
            rejections: RedBlackTreeMapSync::new_sync(),
        }
    }

    pub(super) fn insert(&mut self, policy: Policy) {
        self.rejections.remove_mut(&**policy.key());
        self.put(PolicyState::Known(Arc::new(policy)));
    }

    /// The last good version stays. Without one, the placeholder takes the scope that could be read; else that
    /// of the policy's namespace, which is the mesh where that is the root namespace or cannot be told.
    pub(super) fn reject(&mut self, rejected: Rejected) {
        let key: Arc<str> = rejected.name.as_str().into();
        if self.by_key.get(&key).is_none_or(|state| state.known().is_none()) {
            let namespace = namespace_of(&key);
            let mesh_wide = namespace.is_empty() || *namespace == *self.root_namespace;
            let unread = if mesh_wide {
                Scope::Global
            } else {
                Scope::Namespace
            };
            self.put(PolicyState::Closed(Arc::new(ClosedPolicy {
                key: key.clone(),
                scope: rejected.scope.unwrap_or(unread),
                dry_run: rejected.dry_run,
                reason: rejected.reason.as_str().into(),
            })));
        }
        self.rejections.insert_mut(key, Arc::new(rejected));
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.rejections.remove_mut(key);
        self.unindex(key);
        self.by_key.remove_mut(key);
    }

    pub(super) fn synced(&mut self) {
        self.is_synced = true;
    }

    pub(super) fn is_synced(&self) -> bool {
        self.is_synced
    }

    pub(super) fn get(&self, key: &str) -> Option<&PolicyState> {
        self.by_key.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PolicyState> {
        self.by_key.values()
    }

    pub(super) fn rejections(&self) -> impl Iterator<Item = &Arc<Rejected>> {
        self.rejections.values()
    }

    pub(super) fn selecting(&self, workload: &Workload) -> impl Iterator<Item = &PolicyState> {
        let namespace = workload.namespace.clone();
        let of_namespace = self
            .by_namespace
            .get(&namespace)
            .into_iter()
            .flat_map(|policies| policies.values());
        // A listed policy of a wider scope may have been met already; a name may be listed twice.
        let dry_run = workload.dry_run_policies.iter().filter_map(|key| self.get(key));
        let listed = workload
            .authorization_policies
            .iter()
            .filter_map(|key| self.get(key));
        let listed: Vec<_> = listed.chain(dry_run.filter(|state| state.is_dry_run())).collect();
        let mut listed: Vec<&PolicyState> = listed
            .into_iter()
            .filter(|state| match state.scope() {
                Scope::Global => false,
                Scope::Namespace => *namespace_of(state.key()) != *namespace,
                Scope::WorkloadSelector => true,
            })
            .collect();
        listed.sort_by(|a, b| a.key().cmp(b.key()));
        listed.dedup_by(|a, b| a.key() == b.key());
        self.global.values().chain(of_namespace).chain(listed)
    }

    fn put(&mut self, state: PolicyState) {
        let key = state.key().clone();
        self.unindex(&key);
        match state.scope() {
            Scope::Global => self.global.insert_mut(key.clone(), state.clone()),
            Scope::Namespace => {
                let namespace: Arc<str> = namespace_of(&key).into();
                let mut policies = self.by_namespace.get(&namespace).cloned().unwrap_or_default();
                policies.insert_mut(key.clone(), state.clone());
                self.by_namespace.insert_mut(namespace, policies);
            }
            Scope::WorkloadSelector => {}
        }
        self.by_key.insert_mut(key, state);
    }

    fn unindex(&mut self, key: &str) {
        match self.by_key.get(key).map(PolicyState::scope) {
            Some(Scope::Global) => {
                self.global.remove_mut(key);
            }
            Some(Scope::Namespace) => {
                let namespace = namespace_of(key);
                if let Some(policies) = self.by_namespace.get_mut(namespace) {
                    policies.remove_mut(key);
                    if policies.is_empty() {
                        self.by_namespace.remove_mut(namespace);
                    }
                }
            }
            Some(Scope::WorkloadSelector) | None => {}
        }
    }
}

/// The namespace in `namespace/name`; empty where there is none.
fn namespace_of(key: &str) -> &str {
    key.split_once('/').map_or("", |(namespace, _)| namespace)
}
