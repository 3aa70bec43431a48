//! Who has which addresses, and who wrote them down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use objects::{EntryAddress, IpBlock, Object, ObjectKey, Spec, WorkloadEntry};

use super::blocks::Blocks;
use super::links::Links;
use crate::block;

/// Who has which addresses, and who wrote them down.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// The ServiceEntries that were given an address, or whose author chose it.
    given: Links<IpAddr>,
    /// The ServiceEntries whose authors chose blocks.
    blocks: Blocks,
    /// The Services, pods and nodes that have an address by Kubernetes.
    held: Links<IpAddr>,
    /// The Services whose authors want connections to an address.
    wanted: Links<IpAddr>,
    /// The WorkloadEntries and ServiceEntries with an endpoint there.
    endpoints: Links<IpAddr>,
    /// How many addresses in an entry's blocks are held in other namespaces; none is left out.
    covered: BTreeMap<ObjectKey, usize>,
    /// The entries for which there are some now and were none, or the other way around, since it was asked last.
    flipped: BTreeSet<ObjectKey>,
}

impl Addresses {
    pub(super) fn change(&mut self, key: &ObjectKey, old: Option<&Object>, new: Option<&Object>) {
        let of = |object: Option<&Object>, of: fn(&Object) -> Vec<IpAddr>| object.map(of).unwrap_or_default();
        self.given.change(key, of(old, given), of(new, given));
        self.wanted.change(key, of(old, wanted), of(new, wanted));
        self.endpoints.change(key, of(old, endpoints), of(new, endpoints));
        let (before, after) = (of(old, held), of(new, held));
        if before != after {
            let (old, new): (BTreeSet<_>, BTreeSet<_>) =
                (before.iter().copied().collect(), after.iter().copied().collect());
            for address in old.difference(&new) {
                self.count(key, *address, false);
            }
            for address in new.difference(&old) {
                self.count(key, *address, true);
            }
            self.held.change(key, before, after);
        }
        let (before, after) = (
            old.map(blocks).unwrap_or_default(),
            new.map(blocks).unwrap_or_default(),
        );
        if before != after {
            self.blocks.change(key, &before, &after);
            let ranges: BTreeSet<(IpAddr, IpAddr)> = after
                .iter()
                .map(|one| (block::first(one), block::last(one)))
                .collect();
            let holders = ranges
                .into_iter()
                .flat_map(|(first, last)| self.held.within(first..=last));
            let foreign = holders
                .filter(|(_, holder)| holder.namespace != key.namespace)
                .count();
            self.set_covered(key, foreign);
        }
    }

    /// The ServiceEntries that have an address, chosen by their author or for them.
    pub(crate) fn given(&self, address: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.given.naming(&address)
    }

    /// The Services, pods and nodes that have an address by Kubernetes.
    pub(crate) fn holders(&self, address: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.held.naming(&address)
    }

    /// The Services whose authors want connections to an address.
    pub(crate) fn wanted(&self, address: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.wanted.naming(&address)
    }

    /// The WorkloadEntries and ServiceEntries with an endpoint at an address.
    pub(crate) fn endpoints(&self, address: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.endpoints.naming(&address)
    }

    /// The blocks of ServiceEntries in which all of a block lies, each with the entry.
    pub(crate) fn blocks_around(&self, inner: IpBlock) -> impl Iterator<Item = (IpBlock, &ObjectKey)> {
        self.blocks.containing(inner)
    }

    /// Whose addresses, blocks and endpoints lie in a block.
    pub(crate) fn inside(&self, outer: IpBlock) -> impl Iterator<Item = &ObjectKey> {
        let range = block::first(&outer)..=block::last(&outer);
        let given = self.given.within(range.clone());
        let endpoints = self.endpoints.within(range);
        let single = given.chain(endpoints).map(|(_, key)| key);
        single.chain(self.blocks.inside(outer))
    }

    /// Whether something of another namespace is in the blocks of an entry.
    pub(crate) fn covers_others(&self, entry: &ObjectKey) -> bool {
        self.covered.contains_key(entry)
    }

    /// The entries of which [`Addresses::covers_others`] may be other than when this was asked last.
    pub(crate) fn take_flipped(&mut self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.flipped)
    }

    /// An address is held now, or no longer.
    fn count(&mut self, holder: &ObjectKey, address: IpAddr, is_new: bool) {
        let around = self.blocks.containing(block::of(address));
        let foreign = around.filter(|(_, entry)| entry.namespace != holder.namespace);
        let entries: Vec<ObjectKey> = foreign.map(|(_, entry)| entry.clone()).collect();
        for entry in entries {
            let count = self.covered.get(&entry).copied().unwrap_or(0);
            let count = if is_new {
                count + 1
            } else {
                count.saturating_sub(1)
            };
            self.set_covered(&entry, count);
        }
    }

    fn set_covered(&mut self, entry: &ObjectKey, count: usize) {
        let before = match count {
            0 => self.covered.remove(entry),
            _ => self.covered.insert(entry.clone(), count),
        };
        if before.is_some() != (count > 0) {
            self.flipped.insert(entry.clone());
        }
    }
}

/// The addresses that Kubernetes gave: to a Service, with those of its load balancer; to a pod that has not ended; to a
/// node.
pub(crate) fn held(object: &Object) -> Vec<IpAddr> {
    match &object.spec {
        Spec::Service(service) => {
            let own = service.cluster_ips.iter();
            own.chain(&service.load_balancer_ips).copied().collect()
        }
        Spec::Pod(pod) if !pod.status.phase.is_terminal() => pod.status.pod_ips.clone(),
        Spec::Node(node) => {
            let addresses = node.addresses.iter();
            addresses.filter_map(|one| one.address.parse().ok()).collect()
        }
        _ => Vec::new(),
    }
}

/// The addresses that the author of a Service wants connections to.
pub(crate) fn wanted(object: &Object) -> Vec<IpAddr> {
    let service = object.as_service();
    service
        .map(|service| service.external_ips.clone())
        .unwrap_or_default()
}

/// The blocks of more than one address that the author of a ServiceEntry chose.
pub(crate) fn blocks(object: &Object) -> Vec<IpBlock> {
    let chosen = object.as_service_entry().map(|entry| entry.addresses.as_slice());
    let chosen = chosen.unwrap_or_default().iter();
    chosen
        .filter(|one| block::single(one).is_none())
        .copied()
        .collect()
}

/// Where the endpoints of an entry are, as far as it has any of its own.
pub(crate) fn endpoints(object: &Object) -> Vec<IpAddr> {
    let endpoints: &[WorkloadEntry] = match &object.spec {
        Spec::WorkloadEntry(entry) => std::slice::from_ref(entry),
        Spec::ServiceEntry(entry) => &entry.endpoints,
        _ => &[],
    };
    let addresses = endpoints.iter().filter_map(|endpoint| match &endpoint.address {
        Some(EntryAddress::Ip(address)) => Some(*address),
        _ => None,
    });
    addresses.collect()
}

/// The single addresses of a ServiceEntry: its author chose them, or they were chosen for it.
pub(crate) fn given(object: &Object) -> Vec<IpAddr> {
    let Some(entry) = object.as_service_entry() else {
        return Vec::new();
    };
    let chosen = entry.addresses.iter().filter_map(block::single);
    chosen
        .chain(entry.allocated.iter().map(|one| one.address))
        .collect()
}
