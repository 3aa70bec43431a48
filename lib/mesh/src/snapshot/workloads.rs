//! Workloads by uid, address, node and service.

use std::cmp::Reverse;
use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use crate::address::NetworkAddress;
use crate::workload::{TunnelProtocol, Workload};

/// Workloads in the order of their uids.
type ByUid = RedBlackTreeMapSync<Arc<str>, Arc<Workload>>;

/// Everything but the first map is derived from it. Hash maps are never iterated, so that their order, which
/// differs between runs, is never seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Workloads {
    by_uid: ByUid,
    /// Those who share an address, best first. Seldom more than one.
    by_address: HashTrieMapSync<NetworkAddress, Arc<[Arc<Workload>]>>,
    by_node: HashTrieMapSync<Arc<str>, ByUid>,
    by_service: HashTrieMapSync<Arc<str>, ByUid>,
}

impl Workloads {
    /// Returns it, unless it is known as it is.
    pub(super) fn insert(&mut self, workload: Workload) -> Option<Arc<Workload>> {
        if let Some(old) = self.by_uid.get(&workload.uid) {
            if **old == workload {
                return None;
            }
            let old = old.clone();
            self.unindex(&old);
        }
        let workload = Arc::new(workload);
        self.by_uid.insert_mut(workload.uid.clone(), workload.clone());
        for address in workload.network_addresses() {
            let mut sharing = self.sharing(&address);
            sharing.push(workload.clone());
            sharing.sort_by(|a, b| rank(a).cmp(&rank(b)));
            self.by_address.insert_mut(address, sharing.into());
        }
        add(&mut self.by_node, &workload.node, &workload);
        for service in workload.services.keys() {
            add(&mut self.by_service, service, &workload);
        }
        Some(workload)
    }

    /// Returns what it was.
    pub(super) fn remove(&mut self, uid: &str) -> Option<Arc<Workload>> {
        let old = self.by_uid.get(uid).cloned()?;
        self.unindex(&old);
        self.by_uid.remove_mut(uid);
        Some(old)
    }

    fn unindex(&mut self, old: &Workload) {
        for address in old.network_addresses() {
            let mut sharing = self.sharing(&address);
            sharing.retain(|workload| workload.uid != old.uid);
            if sharing.is_empty() {
                self.by_address.remove_mut(&address);
            } else {
                self.by_address.insert_mut(address, sharing.into());
            }
        }
        take(&mut self.by_node, &old.node, &old.uid);
        for service in old.services.keys() {
            take(&mut self.by_service, service, &old.uid);
        }
    }

    fn sharing(&self, address: &NetworkAddress) -> Vec<Arc<Workload>> {
        self.by_address
            .get(address)
            .map(|list| list.to_vec())
            .unwrap_or_default()
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.by_uid.get(uid)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_uid.values()
    }

    pub(super) fn by_address(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        self.by_address.get(address)?.first()
    }

    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_node
            .get(node)
            .into_iter()
            .flat_map(|workloads| workloads.values())
    }

    pub(super) fn local(
        &self,
        node: &str,
        namespace: &str,
        name: &str,
        service_account: &str,
    ) -> Option<&Arc<Workload>> {
        let is_wanted = |workload: &&Arc<Workload>| {
            *workload.name == *name
                && *workload.namespace == *namespace
                && *workload.service_account == *service_account
        };
        self.on_node(node)
            .filter(is_wanted)
            .min_by(|a, b| rank(a).cmp(&rank(b)))
    }

    pub(super) fn endpoints(&self, service: &str) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_service
            .get(service)
            .into_iter()
            .flat_map(|workloads| workloads.values())
    }
}

/// The best comes first.
fn rank(workload: &Workload) -> impl Ord + '_ {
    let hbone = workload.tunnel == TunnelProtocol::Hbone;
    (
        Reverse(workload.is_pod()),
        Reverse(hbone),
        Reverse(workload.healthy),
        &*workload.uid,
    )
}

fn add(index: &mut HashTrieMapSync<Arc<str>, ByUid>, key: &Arc<str>, workload: &Arc<Workload>) {
    if let Some(workloads) = index.get_mut(key) {
        workloads.insert_mut(workload.uid.clone(), workload.clone());
    } else {
        let mut workloads = ByUid::new_sync();
        workloads.insert_mut(workload.uid.clone(), workload.clone());
        index.insert_mut(key.clone(), workloads);
    }
}

fn take(index: &mut HashTrieMapSync<Arc<str>, ByUid>, key: &str, uid: &str) {
    if let Some(workloads) = index.get_mut(key) {
        workloads.remove_mut(uid);
        if workloads.is_empty() {
            index.remove_mut(key);
        }
    }
}
