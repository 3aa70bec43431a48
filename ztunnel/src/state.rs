//! What is known of the mesh: one immutable snapshot, swapped as a whole.
//!
//! A response becomes visible at once, then open connections are judged by it, and only then it is
//! acknowledged: whoever waits for the acknowledgement may rely on the change being enforced.

use crate::disk::Disk;
use crate::enforcement::Enforcement;
use crate::on_demand::OnDemand;
use crate::readiness::Readiness;
use crate::trust_bundle::TrustBundles;
use arc_swap::ArcSwap;
use mesh::{Change, Identity, Rejected, Snapshot, Workload};
use proto::origin::TRUST_BUNDLE_TYPE_URL;
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::ADDRESS_TYPE_URL;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::warn;
use xds_client::{Handler, Rejection, ResourceUpdate, Unreadable, Update};

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
    /// Held by whoever makes the next snapshot out of the last one.
    writing: Mutex<()>,
    on_demand: OnceLock<OnDemand>,
}

/// Kinds of what there is to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    /// Workloads and services.
    pub(crate) addresses: bool,
    /// Policies.
    pub(crate) policies: bool,
}

impl Kinds {
    /// Neither.
    pub(crate) const NONE: Self = Self {
        addresses: false,
        policies: false,
    };
    /// Workloads and services.
    pub(crate) const ADDRESSES: Self = Self {
        addresses: true,
        policies: false,
    };
    /// Policies.
    pub(crate) const POLICIES: Self = Self {
        addresses: false,
        policies: true,
    };
    /// Both.
    pub(crate) const ALL: Self = Self {
        addresses: true,
        policies: true,
    };

    fn add(&mut self, other: Self) {
        self.addresses |= other.addresses;
        self.policies |= other.policies;
    }
}

/// How far the state has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Revision of the snapshot.
    pub(crate) revision: u64,
    /// Of what there is enough to decide by.
    pub(crate) known: Kinds,
    /// What the control plane has answered since the start.
    pub(crate) confirmed: Kinds,
    /// When what is in force was written to disk, where it comes from there.
    pub(crate) from_disk: Option<SystemTime>,
}

impl Progress {
    /// Whether decisions can be taken.
    pub(crate) fn is_synced(&self) -> bool {
        self.known == Kinds::ALL
    }
}

impl Default for MeshState {
    fn default() -> Self {
        let snapshot = ArcSwap::from_pointee(Snapshot::new());
        Self {
            inner: Arc::new(Inner {
                snapshot,
                progress: watch::Sender::new(Progress::default()),
                writing: Mutex::default(),
                on_demand: OnceLock::new(),
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

    /// From here on the snapshot holds what is asked for through `on_demand`. Only the first call counts.
    pub(crate) fn ask_through(&self, on_demand: OnDemand) {
        // A second one would have another client behind it, which there is not.
        let _ = self.inner.on_demand.set(on_demand);
    }

    /// How to ask for what the snapshot does not hold.
    pub(crate) fn on_demand(&self) -> OnDemand {
        self.inner.on_demand.get().cloned().unwrap_or_default()
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
        let on_demand = self.on_demand();
        let ask = async {
            // The answer shows in the snapshot; without one the wait ends at its deadline.
            let _ = on_demand.pod(identity.namespace(), name).await;
            std::future::pending().await
        };
        let found = async {
            tokio::select! {
                found = wait => found,
                never = ask => never,
            }
        };
        tokio::time::timeout(WAIT_FOR_WORKLOAD, found)
            .await
            .ok()
            .flatten()
    }

    /// When what is in force was written to disk, if it comes from there and the control plane has not answered.
    pub(crate) fn read_from_disk(&self) -> Option<SystemTime> {
        self.inner.progress.borrow().from_disk
    }

    /// Whether there is enough to decide by.
    pub(crate) fn is_synced(&self) -> bool {
        self.inner.progress.borrow().is_synced()
    }

    /// Replaces the snapshot by one with `changes` and gives both. `complete` is known from here on.
    fn update(&self, changes: Vec<Change>, complete: Kinds) -> (Arc<Snapshot>, Arc<Snapshot>) {
        let _writing = self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot();
        let mut next = (*before).clone();
        next.apply(changes);
        let next = Arc::new(next);
        self.inner.snapshot.store(next.clone());
        self.inner.progress.send_modify(|progress| {
            progress.revision = next.revision();
            progress.known.add(complete);
        });
        (before, next)
    }

    fn confirm(&self, kinds: Kinds) {
        self.inner.progress.send_if_modified(|progress| {
            let before = *progress;
            progress.confirmed.add(kinds);
            if progress.confirmed == Kinds::ALL {
                progress.from_disk = None;
            }
            *progress != before
        });
    }

    fn note_from_disk(&self, written: SystemTime) {
        self.inner
            .progress
            .send_modify(|progress| progress.from_disk = Some(written));
    }
}

/// Changes the state and enforces the change.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    state: MeshState,
    enforcement: Enforcement,
}

impl Writer {
    /// Writes `state`; after each change `enforcement` judges what is open.
    pub(crate) fn new(state: MeshState, enforcement: Enforcement) -> Self {
        Self { state, enforcement }
    }

    /// Makes the changes in one step; they are enforced when this returns. `complete` is what is known from here on,
    /// if it was not before.
    pub(crate) async fn write(&self, mut changes: Vec<Change>, complete: Kinds) {
        if complete.policies {
            changes.push(Change::PoliciesSynced);
        }
        let concerns_policy = changes.iter().any(is_of_policy);
        let concerns_addresses = changes.iter().any(|change| !is_of_policy(change));
        let (before, after) = self.state.update(changes, complete);
        if concerns_policy || self.local_pods_changed(&before, &after) {
            self.enforcement.enforce().await;
        }
        if concerns_addresses {
            self.enforcement.enforce_outbound().await;
        }
    }

    /// Decides by what was read from disk, which was written at `written`.
    pub(crate) async fn fall_back_to_disk(&self, written: SystemTime) {
        self.state.note_from_disk(written);
        self.write(Vec::new(), Kinds::ALL).await;
    }

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

fn is_of_policy(change: &Change) -> bool {
    matches!(
        change,
        Change::Policy(_) | Change::RemovePolicy(_) | Change::RejectedPolicy(_) | Change::PoliciesSynced
    )
}

/// Takes discovery responses into the state.
pub(crate) struct StateHandler {
    writer: Writer,
    disk: Option<Disk>,
    readiness: Readiness,
    bundles: Option<TrustBundles>,
}

impl StateHandler {
    /// Feeds `writer`, and `disk` where the state is kept.
    pub(crate) fn new(writer: Writer, disk: Option<Disk>, readiness: Readiness) -> Self {
        Self {
            writer,
            disk,
            readiness,
            bundles: None,
        }
    }

    /// Hands bundles of roots to `bundles`.
    pub(crate) fn with_bundles(mut self, bundles: TrustBundles) -> Self {
        self.bundles = Some(bundles);
        self
    }
}

impl Handler for StateHandler {
    async fn apply(&mut self, update: Update) -> Vec<Rejection> {
        let _busy = self.readiness.busy("a response of the control plane");
        if let Some(bundles) = &self.bundles
            && update.type_url == TRUST_BUNDLE_TYPE_URL
        {
            return bundles.apply(&update).await;
        }
        let (kinds, (changes, rejections)) = match update.type_url.as_str() {
            ADDRESS_TYPE_URL => (Kinds::ADDRESSES, address_changes(&update)),
            AUTHORIZATION_TYPE_URL => (Kinds::POLICIES, policy_changes(&update)),
            type_url => {
                warn!(
                    type_url,
                    "the control plane sent a type that was not asked for; ignored"
                );
                return Vec::new();
            }
        };
        for Rejection { name, reason } in &rejections {
            warn!(
                resource = name,
                reason, "resource refused; the last good version, if any, stays in force"
            );
        }
        self.writer.write(changes, kinds).await;
        self.writer.state.confirm(kinds);
        if let Some(disk) = &self.disk {
            disk.note(&update, &rejections);
        }
        rejections
    }

    /// The pods of this node are, and whatever a connection is open to.
    fn in_use(&self) -> impl Fn(&str) -> bool {
        let snapshot = self.writer.state.snapshot();
        let node = self.writer.enforcement.node.clone();
        let open = self.writer.enforcement.connections.list().into_iter();
        let open: HashSet<IpAddr> = open.map(|one| one.destination.ip().to_canonical()).collect();
        move |name: &str| {
            let here = snapshot
                .workload(name)
                .is_some_and(|workload| workload.node == node);
            let address = name.rsplit_once('/').and_then(|(_, ip)| ip.parse().ok());
            here || address.is_some_and(|ip: IpAddr| open.contains(&ip))
        }
    }
}

/// What `addresses` and `policies`, as once received, come to; and the names and versions that are in force by it.
pub(crate) fn restored(addresses: Update, policies: Update) -> (Vec<Change>, Vec<(String, String, String)>) {
    let mut held = Vec::new();
    let mut all = Vec::new();
    for (type_url, update) in [(ADDRESS_TYPE_URL, addresses), (AUTHORIZATION_TYPE_URL, policies)] {
        let versions = update
            .resources
            .iter()
            .map(|one| (one.name.clone(), one.version.clone()));
        let mut versions: std::collections::BTreeMap<String, String> = versions.collect();
        let (changes, rejections) = if type_url == ADDRESS_TYPE_URL {
            address_changes(&update)
        } else {
            policy_changes(&update)
        };
        let unreadable = update.unreadable.into_iter().map(|one| (one.name, one.reason));
        let rejections = rejections.into_iter().map(|one| (one.name, one.reason));
        for (name, reason) in rejections.chain(unreadable) {
            warn!(
                resource = name,
                reason, "resource from disk refused; what it concerns is closed"
            );
            // Not in force in any version; the name is told all the same, so that its end is heard of.
            versions.insert(name, String::new());
        }
        all.extend(changes);
        held.extend(
            versions
                .into_iter()
                .map(|(name, version)| (type_url.to_owned(), name, version)),
        );
    }
    (all, held)
}

fn address_changes(update: &Update) -> (Vec<Change>, Vec<Rejection>) {
    let read = |resource: &ResourceUpdate| Change::decode_address(&resource.name, &resource.payload);
    let (mut changes, rejections) = read_all(&update.resources, read);
    changes.extend(update.unreadable.iter().map(|one| {
        let aliases = one.aliases.iter().map(String::as_str);
        Change::unread_address(&one.name, aliases, one.reason.as_str())
    }));
    changes.extend(update.removed.iter().cloned().map(Change::RemoveAddress));
    (changes, rejections)
}

fn policy_changes(update: &Update) -> (Vec<Change>, Vec<Rejection>) {
    let read = |resource: &ResourceUpdate| Change::decode_policy(&resource.name, &resource.payload);
    let (mut changes, rejections) = read_all(&update.resources, read);
    let rejected = |one: &Unreadable| Rejected::new(&one.name, &one.reason);
    changes.extend(update.unreadable.iter().map(rejected).map(Change::RejectedPolicy));
    changes.extend(update.removed.iter().cloned().map(Change::RemovePolicy));
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
