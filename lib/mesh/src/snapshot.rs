//! What is known of the mesh at one moment, indexed for the two decisions.

mod policies;
mod services;
#[cfg(test)]
mod tests;
mod unread;
mod workloads;

use std::sync::Arc;

pub use policies::{ClosedPolicy, PolicyState};

use crate::address::NetworkAddress;
use crate::change::Change;
use crate::endpoints::{ByCloseness, Endpoints};
use crate::policy::Policy;
use crate::rejected::Rejected;
use crate::service::Service;
use crate::workload::Workload;
use policies::Policies;
use services::Services;
use unread::Unread;
use workloads::Workloads;

/// The namespace whose policies without a selector apply to the whole mesh, unless set otherwise.
pub const DEFAULT_ROOT_NAMESPACE: &str = "istio-system";

/// What is known of the mesh at one moment.
///
/// Cloning is cheap and a clone never changes, so a snapshot is published by replacing one pointer. Everything
/// that is iterated has one order, whatever the order of arrival.
#[derive(Debug, Clone)]
pub struct Snapshot {
    revision: u64,
    workloads: Workloads,
    services: Services,
    endpoints: Endpoints,
    policies: Policies,
    unread: Unread,
}

/// From where a name or address of a service is looked at: what it means may differ between callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewpoint<'a> {
    /// The caller's namespace.
    pub namespace: &'a str,
    /// Of several services of other namespaces, of which none is canonical, that of this namespace is meant.
    pub preferred: Option<&'a str>,
}

impl<'a> From<&'a str> for Viewpoint<'a> {
    fn from(namespace: &'a str) -> Self {
        Self {
            namespace,
            preferred: None,
        }
    }
}

impl<'a> From<&'a Arc<str>> for Viewpoint<'a> {
    fn from(namespace: &'a Arc<str>) -> Self {
        Self::from(&**namespace)
    }
}

impl<'a> From<&'a String> for Viewpoint<'a> {
    fn from(namespace: &'a String) -> Self {
        Self::from(&**namespace)
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new()
    }
}

impl Snapshot {
    /// Nothing known, revision 0, root namespace [`DEFAULT_ROOT_NAMESPACE`]. Until
    /// [`Change::PoliciesSynced`] is applied, every connection is refused.
    pub fn new() -> Self {
        Self::with_root_namespace(DEFAULT_ROOT_NAMESPACE)
    }

    /// The same with another root namespace.
    pub fn with_root_namespace(root_namespace: &str) -> Self {
        Self {
            revision: 0,
            workloads: Workloads::default(),
            services: Services::default(),
            endpoints: Endpoints::default(),
            policies: Policies::new(root_namespace),
            unread: Unread::default(),
        }
    }

    /// How many times changes were applied.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Applies changes in order, as one step of the revision: whoever clones the snapshot sees all or none.
    /// The cost follows the changes, not the size of the mesh.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::Workload(workload) => {
                    self.unread.remove(&workload.uid);
                    self.put_workload(workload);
                }
                Change::Service(service) => {
                    self.unread.remove(service.key());
                    self.put_service(service);
                }
                Change::RejectedAddress(rejected) => self.reject_address(rejected),
                Change::Policy(policy) => self.policies.insert(policy),
                Change::RemoveAddress(name) => {
                    if let Some(old) = self.workloads.remove(&name) {
                        self.endpoints.workload(Some(&old), None);
                    }
                    self.services.remove(&name);
                    self.endpoints.remove_service(&name);
                    self.unread.remove(&name);
                }
                Change::RemovePolicy(key) => self.policies.remove(&key),
                Change::RejectedPolicy(rejected) => self.policies.reject(rejected),
                Change::PoliciesSynced => self.policies.synced(),
            }
        }
        self.revision += 1;
    }

    /// The workload or service at this address that was not understood and has no last good version.
    pub fn not_understood(&self, address: &NetworkAddress) -> Option<&Arc<Rejected>> {
        self.unread.at(address)
    }

    /// The service that was not understood, has no last good version, and has a block around this address that is at least as
    /// long as that of `known`, the service whose block it is otherwise.
    pub fn not_understood_around(
        &self,
        address: &NetworkAddress,
        known: Option<&Service>,
    ) -> Option<&Arc<Rejected>> {
        let least = known.and_then(|service| service.closest_block(address));
        self.unread.around(address, least.unwrap_or(0))
    }

    /// The workload (uid) or service (`namespace/hostname`) that was not understood and has no last good version.
    pub fn not_understood_name(&self, name: &str) -> Option<&Arc<Rejected>> {
        self.unread.named(name)
    }

    /// The workload of this uid.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload at this address. Of several, a pod counts before anything else, then one that is reached by
    /// HBONE, then a ready one.
    pub fn workload_by_address(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        self.workloads.by_address(address)
    }

    /// The workload on this node with this namespace, name and service account.
    pub fn local_workload(
        &self,
        node: &str,
        namespace: &str,
        name: &str,
        service_account: &str,
    ) -> Option<&Arc<Workload>> {
        self.workloads.local(node, namespace, name, service_account)
    }

    /// The pods of a node, by uid.
    pub fn local_pods(&self, node: &str) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.on_node(node).filter(|workload| workload.is_pod())
    }

    /// All workloads, by uid.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter()
    }

    /// The endpoints of a service (`namespace/hostname`), by uid: workloads that name it, ready or not, whether
    /// or not the service itself has arrived.
    pub fn endpoints(&self, service: &str) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.endpoints(service)
    }

    /// The endpoints of a service that is known and that are ready enough for it, for a caller at its place.
    pub(crate) fn endpoints_by_closeness(&self, service: &str, caller: &Workload) -> Option<ByCloseness<'_>> {
        self.endpoints.by_closeness(service, caller)
    }

    /// The service of this key (`namespace/hostname`).
    pub fn service(&self, key: &str) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The service that callers mean by this address: one that has exactly this address, else one whose prefix
    /// contains it.
    pub fn service_by_address<'v>(
        &self,
        address: &NetworkAddress,
        from: impl Into<Viewpoint<'v>>,
    ) -> Option<&Arc<Service>> {
        let from = from.into();
        let exact = self.service_by_vip(address, from);
        exact.or_else(|| self.service_by_prefix(address, from))
    }

    /// The service that callers mean by exactly this address: their own namespace's, else the canonical one, else
    /// that of the preferred namespace, else the first by key.
    pub fn service_by_vip<'v>(
        &self,
        address: &NetworkAddress,
        from: impl Into<Viewpoint<'v>>,
    ) -> Option<&Arc<Service>> {
        self.services.by_vip(address, from.into())
    }

    /// The service that has exactly this address, whoever may see it: the canonical one, else the first by key. For
    /// addresses that the control plane names, not callers.
    pub fn service_with_vip(&self, address: &NetworkAddress) -> Option<&Arc<Service>> {
        self.services.with_vip(address)
    }

    /// The service whose prefix contains this address: the callers' own namespace's, else the one with the
    /// longest prefix, else the canonical one, else that of the preferred namespace, else the first by key.
    pub fn service_by_prefix<'v>(
        &self,
        address: &NetworkAddress,
        from: impl Into<Viewpoint<'v>>,
    ) -> Option<&Arc<Service>> {
        self.services.by_prefix(address, from.into())
    }

    /// All services with this host name, by key.
    pub fn services_by_hostname(&self, hostname: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.services.by_hostname(hostname)
    }

    /// The service that callers mean by this host name; conflicts are decided as for addresses.
    pub fn service_by_hostname<'v>(
        &self,
        hostname: &str,
        from: impl Into<Viewpoint<'v>>,
    ) -> Option<&Arc<Service>> {
        services::preferred(self.services.by_hostname(hostname), from.into())
    }

    /// All services, by key.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// All policies in force, by key; closed placeholders are [`Snapshot::rejected_policies`].
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter().filter_map(PolicyState::known)
    }

    /// The policy or placeholder of this key (`namespace/name`).
    pub fn policy(&self, key: &str) -> Option<&PolicyState> {
        self.policies.get(key)
    }

    /// Policies whose latest version was not understood, by key, whether an older one is in force or not.
    pub fn rejected_policies(&self) -> impl Iterator<Item = &Arc<Rejected>> {
        self.policies.rejections()
    }

    /// The policies and placeholders that select this workload: of the mesh, of its namespace, and those it
    /// lists, each once.
    pub fn policies_selecting(&self, workload: &Workload) -> impl Iterator<Item = &PolicyState> {
        self.policies.selecting(workload)
    }

    /// Names that a workload lists and nobody has sent.
    pub fn unknown_policies<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = &'a Arc<str>> {
        workload
            .authorization_policies
            .iter()
            .filter(|key| self.policies.get(key).is_none())
    }

    /// Whether the first complete set of policies has arrived.
    pub fn policies_synced(&self) -> bool {
        self.policies.is_synced()
    }

    fn put_workload(&mut self, workload: Workload) {
        let old = self.workloads.get(&workload.uid).cloned();
        if let Some(new) = self.workloads.insert(workload) {
            self.endpoints.workload(old.as_deref(), Some(&new));
        }
    }

    fn put_service(&mut self, service: Service) {
        let workloads = self.workloads.endpoints(service.key());
        self.endpoints.service(&service, workloads);
        self.services.insert(service);
    }

    /// A last good version stays in force; without one the addresses are closed.
    fn reject_address(&mut self, rejected: Rejected) {
        if self.workloads.get(&rejected.name).is_none() && self.services.get(&rejected.name).is_none() {
            self.unread.insert(rejected);
        }
    }
}
