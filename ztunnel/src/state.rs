//! What the control plane has told us: one immutable snapshot, swapped as a whole.
//!
//! A response becomes visible at once, then open connections are judged by it, and only then it is
//! acknowledged: whoever waits for the acknowledgement may rely on the change being enforced.

use crate::enforcement::Enforcement;
use arc_swap::ArcSwap;
use mesh::{Change, Identity, Snapshot, Workload};
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::ADDRESS_TYPE_URL;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;
use xds_client::{Handler, Rejection, ResourceUpdate, Update};

/// How long a connection waits for its own pod to become known.
pub(crate) const WAIT_FOR_WORKLOAD: Duration = Duration::from_secs(5);

/// The current snapshot and how complete it is.
#[derive(Clone, Debug)]
pub(crate) struct MeshState {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    snapshot: ArcSwap<Snapshot>,
    progress: watch::Sender<Progress>,
}

/// How far the state has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Revision of the snapshot.
    pub(crate) revision: u64,
    /// Whether the first response with workloads and services was taken.
    pub(crate) addresses: bool,
    /// Whether the first response with policies was taken.
    pub(crate) policies: bool,
}

impl Progress {
    /// Whether decisions can be taken.
    pub(crate) fn is_synced(&self) -> bool {
        self.addresses && self.policies
    }
}

impl Default for MeshState {
    fn default() -> Self {
        let snapshot = ArcSwap::from_pointee(Snapshot::new());
        Self {
            inner: Arc::new(Inner {
                snapshot,
                progress: watch::Sender::new(Progress::default()),
            }),
        }
    }
}

impl MeshState {
    /// The snapshot in force.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.snapshot.load_full()
    }

    /// Follows the progress.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.inner.progress.subscribe()
    }

    /// Waits for a synced snapshot that knows the pod `namespace/name` with its account on `node`. None after
    /// [`WAIT_FOR_WORKLOAD`].
    pub(crate) async fn own_workload(
        &self,
        node: &str,
        name: &str,
        identity: &Identity,
    ) -> Option<(Arc<Snapshot>, Arc<Workload>)> {
        let find = || {
            if !self.inner.progress.borrow().is_synced() {
                return None;
            }
            let snapshot = self.snapshot();
            let found = snapshot
                .local_workload(node, identity.namespace(), name, identity.service_account())
                .cloned()?;
            (found.identity() == *identity).then_some((snapshot, found))
        };
        if let Some(found) = find() {
            return Some(found);
        }
        let mut progress = self.progress();
        let wait = async {
            loop {
                progress.mark_unchanged();
                if let Some(found) = find() {
                    return Some(found);
                }
                progress.changed().await.ok()?;
            }
        };
        tokio::time::timeout(WAIT_FOR_WORKLOAD, wait).await.ok().flatten()
    }

    fn store(&self, snapshot: Snapshot, addresses: bool, policies: bool) {
        let revision = snapshot.revision();
        self.inner.snapshot.store(Arc::new(snapshot));
        self.inner.progress.send_modify(|progress| {
            progress.revision = revision;
            progress.addresses |= addresses;
            progress.policies |= policies;
        });
    }
}

/// Takes discovery responses into the state and enforces them.
#[derive(Debug)]
pub(crate) struct StateHandler {
    state: MeshState,
    enforcement: Enforcement,
}

impl StateHandler {
    /// Feeds `state`; after each change `enforcement` judges what is open.
    pub(crate) fn new(state: MeshState, enforcement: Enforcement) -> Self {
        Self { state, enforcement }
    }
}

impl StateHandler {
    /// Whether anything changed that decisions about this node's pods rest on, besides policies.
    fn local_pods_changed(&self, before: &Snapshot, after: &Snapshot) -> bool {
        let node = &self.enforcement.node;
        let same = |one: &Arc<Workload>, other: &Arc<Workload>| Arc::ptr_eq(one, other);
        let (mut old, mut new) = (before.local_pods(node), after.local_pods(node));
        loop {
            match (old.next(), new.next()) {
                (None, None) => return false,
                (Some(one), Some(other)) if same(one, other) => {}
                _ => return true,
            }
        }
    }
}

impl Handler for StateHandler {
    async fn apply(&mut self, update: Update) -> Vec<Rejection> {
        let is_address = update.type_url == ADDRESS_TYPE_URL;
        let is_policy = update.type_url == AUTHORIZATION_TYPE_URL;
        let (changes, rejections) = if is_address {
            address_changes(update)
        } else if is_policy {
            policy_changes(update)
        } else {
            warn!(
                type_url = update.type_url,
                "the control plane sent a type that was not asked for; ignored"
            );
            return Vec::new();
        };
        for Rejection { name, reason } in &rejections {
            warn!(
                resource = name,
                reason, "resource refused; the last good version, if any, stays in force"
            );
        }
        let before = self.state.snapshot();
        let mut next = (*before).clone();
        next.apply(changes);
        let concerned = is_policy || self.local_pods_changed(&before, &next);
        self.state.store(next, is_address, is_policy);
        if concerned {
            self.enforcement.enforce().await;
        }
        if is_address {
            self.enforcement.enforce_outbound().await;
        }
        rejections
    }
}

fn address_changes(update: Update) -> (Vec<Change>, Vec<Rejection>) {
    let read = |resource: &ResourceUpdate| Change::decode_address(&resource.name, &resource.payload);
    let (mut changes, rejections) = read_all(&update.resources, read);
    changes.extend(update.removed.into_iter().map(Change::RemoveAddress));
    (changes, rejections)
}

fn policy_changes(update: Update) -> (Vec<Change>, Vec<Rejection>) {
    let read = |resource: &ResourceUpdate| Change::decode_policy(&resource.name, &resource.payload);
    let (mut changes, rejections) = read_all(&update.resources, read);
    changes.extend(update.removed.into_iter().map(Change::RemovePolicy));
    changes.push(Change::PoliciesSynced);
    (changes, rejections)
}

/// Rejected resources are changes too, so that what they concern is closed; here they are named as well.
fn read_all(
    resources: &[ResourceUpdate],
    read: impl Fn(&ResourceUpdate) -> Change,
) -> (Vec<Change>, Vec<Rejection>) {
    let changes: Vec<Change> = resources.iter().map(read).collect();
    let rejection = |change: &Change| match change {
        Change::RejectedAddress(rejected) | Change::RejectedPolicy(rejected) => Some(Rejection {
            name: rejected.name.clone(),
            reason: rejected.reason.clone(),
        }),
        _ => None,
    };
    let rejections = changes.iter().filter_map(rejection).collect();
    (changes, rejections)
}

#[cfg(test)]
mod tests;
