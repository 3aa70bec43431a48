//! Addresses for hosts of ServiceEntries whose authors gave none, so that connections to them can be told from others.
//!
//! An address is chosen by a hash of who wants it, and by looking further where that is taken, so that everybody who
//! looks at the same objects chooses the same. It counts from when it is written to the object's status, and stays
//! there: only its status makes an address a host's, and only one of those below, so that who may write a status cannot
//! take what is somebody else's. Of two that have the same, which takes two writers that did not know of each other, the
//! older keeps it and the other is given a new one. An author may choose one that was chosen for another entry of the
//! same namespace; of other namespaces, only for younger ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use objects::{AllocatedAddress, Object, ObjectKey, ServiceEntry};

use crate::block;
use crate::index::Index;

/// What IPv4 addresses are chosen from: 240.240.0.0/16, which is reserved and routed nowhere (RFC 1112, section 4).
const POOL_V4: Ipv4Addr = Ipv4Addr::new(240, 240, 0, 0);
/// What IPv6 addresses are chosen from: 2001:2::/48, which is set aside for benchmarks (RFC 5180, section 8).
const POOL_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0);
/// How many addresses are tried for one host: every one of the IPv4 pool but the first and the last.
const MAX_PROBES: u64 = 65_534;

/// What was chosen and is not in a status yet.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    of: BTreeMap<ObjectKey, Vec<AllocatedAddress>>,
    taken: BTreeMap<IpAddr, ObjectKey>,
}

/// What the statuses of changed entries are to say.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chosen {
    /// All addresses of each entry whose status says something else.
    pub(crate) wanted: BTreeMap<ObjectKey, Vec<AllocatedAddress>>,
    /// Hosts for which there is none left.
    pub(crate) without: Vec<(ObjectKey, String)>,
}

/// The addresses in an entry's status that are its hosts'.
pub(crate) fn held(index: &Index, object: &Object, entry: &ServiceEntry) -> Vec<AllocatedAddress> {
    let metadata = &object.metadata;
    let hosts: BTreeSet<&str> = entry.hosts_to_allocate(metadata).collect();
    let mut held: Vec<AllocatedAddress> = Vec::new();
    for one in &entry.allocated {
        let is_first = held.iter().all(|other| {
            other.address != one.address
                && (other.host != one.host || other.address.is_ipv4() != one.address.is_ipv4())
        });
        if is_first
            && is_of_pool(one.address)
            && hosts.contains(one.host.as_str())
            && is_holder(index, object, one.address)
        {
            held.push(one.clone());
        }
    }
    held
}

impl Choices {
    /// Chooses for entries that changed or are gone, and for those whose choice somebody else has now.
    pub(crate) fn update(&mut self, index: &Index, changed: BTreeSet<ObjectKey>) -> Chosen {
        let mut all = changed;
        for key in all.clone() {
            let Some(entry) = index.get_key(&key).and_then(|object| object.as_service_entry()) else {
                continue;
            };
            let addresses = entry.allocated.iter().map(|one| one.address);
            let addresses = addresses.chain(entry.addresses.iter().map(|block| block.address));
            all.extend(addresses.filter_map(|address| self.taken.get(&address)).cloned());
        }
        for key in &all {
            for one in self.of.remove(key).into_iter().flatten() {
                self.taken.remove(&one.address);
            }
        }
        let mut chosen = Chosen::default();
        for key in all {
            self.choose(index, key, &mut chosen);
        }
        chosen
    }

    fn choose(&mut self, index: &Index, key: ObjectKey, chosen: &mut Chosen) {
        let Some(object) = index.get_key(&key) else { return };
        let Some(entry) = object.as_service_entry() else {
            return;
        };
        let held = held(index, object, entry);
        let mut wanted = Vec::new();
        for host in entry.hosts_to_allocate(&object.metadata) {
            for is_v4 in [true, false] {
                let own = held
                    .iter()
                    .find(|one| one.host == host && one.address.is_ipv4() == is_v4);
                let address = own
                    .map(|one| one.address)
                    .or_else(|| self.free(index, &key, host, is_v4));
                match address {
                    Some(address) => {
                        if own.is_none() {
                            self.taken.insert(address, key.clone());
                        }
                        wanted.push(AllocatedAddress {
                            host: host.to_owned(),
                            address,
                        });
                    }
                    None => chosen.without.push((key.clone(), host.to_owned())),
                }
            }
        }
        if wanted != entry.allocated {
            let new = wanted.iter().filter(|one| !held.contains(one)).cloned();
            self.of.insert(key.clone(), new.collect());
            chosen.wanted.insert(key, wanted);
        }
    }

    fn free(&self, index: &Index, key: &ObjectKey, host: &str, is_v4: bool) -> Option<IpAddr> {
        let hash = hash(&[&key.namespace, &key.name, host]);
        let address = |probe: u64| -> IpAddr {
            if is_v4 {
                let offset = 1 + (hash % MAX_PROBES + probe) % MAX_PROBES;
                // Less than 65 535, see above.
                let offset = u32::try_from(offset).unwrap_or(1);
                Ipv4Addr::from(u32::from(POOL_V4) + offset).into()
            } else {
                let offset = hash.wrapping_add(probe).max(1);
                Ipv6Addr::from(u128::from(POOL_V6) + u128::from(offset)).into()
            }
        };
        let is_free = |address: &IpAddr| {
            !self.taken.contains_key(address) && index.entries_with_address(*address).next().is_none()
        };
        (0..MAX_PROBES).map(address).find(is_free)
    }
}

fn is_of_pool(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..2] == POOL_V4.octets()[..2],
        IpAddr::V6(address) => address.segments()[..3] == POOL_V6.segments()[..3],
    }
}

/// Whether the entry is the oldest of those whose status says that it has the address, and no author chose it who may.
fn is_holder(index: &Index, object: &Object, address: IpAddr) -> bool {
    let mut others = index
        .entries_with_address(address)
        .filter(|(other, _)| !std::ptr::eq(*other, object));
    !others.any(|(other, entry)| {
        let mut given = entry.addresses.iter().filter_map(block::single);
        let is_given = given.any(|given| given == address);
        let claims = entry.allocated.iter().any(|one| {
            one.address == address
                && entry
                    .hosts_to_allocate(&other.metadata)
                    .any(|host| host == one.host)
        });
        let is_older = other.metadata.by_age(&object.metadata).is_lt();
        let is_neighbour = other.metadata.namespace == object.metadata.namespace;
        (is_given && (is_neighbour || is_older)) || (claims && is_older)
    })
}

/// FNV-1a, 64 bits, with a byte between the parts that none of them holds.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
