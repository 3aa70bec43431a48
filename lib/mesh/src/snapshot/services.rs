//! Services by key, host name, address and prefix.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use crate::address::{IpPrefix, NetworkAddress};
use crate::service::Service;
use crate::snapshot::Viewpoint;

/// Services in the order of their keys.
type ByKey = RedBlackTreeMapSync<Arc<str>, Arc<Service>>;

/// Everything but the first map is derived from it; hash maps are never iterated.
#[derive(Debug, Clone, Default)]
pub(super) struct Services {
    by_key: ByKey,
    by_hostname: HashTrieMapSync<Arc<str>, ByKey>,
    by_vip: HashTrieMapSync<NetworkAddress, ByKey>,
    by_prefix: HashTrieMapSync<Arc<str>, Prefixes>,
}

/// The prefixes of one network.
#[derive(Debug, Clone, Default)]
struct Prefixes {
    services: HashTrieMapSync<IpPrefix, ByKey>,
    /// How many prefixes there are of a length, so that a look-up tries only lengths in use.
    lengths: RedBlackTreeMapSync<Reverse<u8>, usize>,
}

impl Services {
    pub(super) fn insert(&mut self, service: Service) {
        if let Some(old) = self.by_key.get(service.key()) {
            if **old == service {
                return;
            }
            let old = old.clone();
            self.unindex(&old);
        }
        let service = Arc::new(service);
        self.by_key.insert_mut(service.key().clone(), service.clone());
        add(&mut self.by_hostname, service.hostname.clone(), &service);
        for address in &service.addresses {
            if address.prefix.is_host() {
                let vip = NetworkAddress::new(address.network.clone(), address.prefix.address());
                add(&mut self.by_vip, vip, &service);
            } else if let Some(prefixes) = self.by_prefix.get_mut(&address.network) {
                prefixes.add(address.prefix, &service);
            } else {
                let mut prefixes = Prefixes::default();
                prefixes.add(address.prefix, &service);
                self.by_prefix.insert_mut(address.network.clone(), prefixes);
            }
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Some(old) = self.by_key.get(key).cloned() {
            self.unindex(&old);
            self.by_key.remove_mut(key);
        }
    }

    fn unindex(&mut self, old: &Service) {
        take(&mut self.by_hostname, &old.hostname, old.key());
        for address in &old.addresses {
            if address.prefix.is_host() {
                let vip = NetworkAddress::new(address.network.clone(), address.prefix.address());
                take(&mut self.by_vip, &vip, old.key());
            } else if let Some(prefixes) = self.by_prefix.get_mut(&address.network) {
                prefixes.take(address.prefix, old.key());
                if prefixes.lengths.is_empty() {
                    self.by_prefix.remove_mut(&address.network);
                }
            }
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Service>> {
        self.by_key.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_key.values()
    }

    pub(super) fn by_hostname(&self, hostname: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.by_hostname
            .get(hostname)
            .into_iter()
            .flat_map(|services| services.values())
    }

    pub(super) fn by_vip(&self, address: &NetworkAddress, from: Viewpoint<'_>) -> Option<&Arc<Service>> {
        preferred(self.by_vip.get(address)?.values(), from)
    }

    pub(super) fn with_vip(&self, address: &NetworkAddress) -> Option<&Arc<Service>> {
        self.by_vip
            .get(address)?
            .values()
            .min_by_key(|service| !service.canonical)
    }

    pub(super) fn by_prefix(&self, address: &NetworkAddress, from: Viewpoint<'_>) -> Option<&Arc<Service>> {
        let prefixes = self.by_prefix.get(&address.network)?;
        // From the longest to the shortest, so that of each length the best is enough, and the first of them
        // wins unless a shorter one is of the callers' namespace.
        let mut best = None;
        for services in prefixes.containing(address.ip) {
            match preferred(services.values(), from) {
                Some(service) if *service.namespace == *from.namespace => return Some(service),
                found => best = best.or(found),
            }
        }
        best
    }
}

/// Who wins among services of one address or name: those the callers cannot see don't count; then their own
/// namespace, then the canonical one, then the preferred namespace, then the first by key.
pub(super) fn preferred<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    from: Viewpoint<'_>,
) -> Option<&'a Arc<Service>> {
    services
        .filter(|service| service.visible_from(from.namespace))
        .min_by_key(|service| {
            (
                *service.namespace != *from.namespace,
                !service.canonical,
                from.preferred != Some(&*service.namespace),
            )
        })
}

impl Prefixes {
    fn add(&mut self, prefix: IpPrefix, service: &Arc<Service>) {
        if !self.services.contains_key(&prefix) {
            let count = self.lengths.get(&Reverse(prefix.length())).copied().unwrap_or(0);
            self.lengths.insert_mut(Reverse(prefix.length()), count + 1);
        }
        add(&mut self.services, prefix, service);
    }

    fn take(&mut self, prefix: IpPrefix, key: &str) {
        if !self.services.contains_key(&prefix) {
            return;
        }
        take(&mut self.services, &prefix, key);
        if !self.services.contains_key(&prefix) {
            let length = Reverse(prefix.length());
            match self.lengths.get(&length).copied() {
                Some(count) if count > 1 => self.lengths.insert_mut(length, count - 1),
                _ => {
                    self.lengths.remove_mut(&length);
                }
            }
        }
    }

    /// The services of prefixes that contain the address, longest prefix first.
    fn containing(&self, ip: IpAddr) -> impl Iterator<Item = &ByKey> {
        let lengths = self.lengths.keys();
        lengths.filter_map(move |length| self.services.get(&IpPrefix::new(ip, length.0.into()).ok()?))
    }
}

fn add<K: Hash + Eq + Clone>(index: &mut HashTrieMapSync<K, ByKey>, key: K, service: &Arc<Service>) {
    if let Some(services) = index.get_mut(&key) {
        services.insert_mut(service.key().clone(), service.clone());
    } else {
        let mut services = ByKey::new_sync();
        services.insert_mut(service.key().clone(), service.clone());
        index.insert_mut(key, services);
    }
}

fn take<K, Q>(index: &mut HashTrieMapSync<K, ByKey>, key: &Q, service: &str)
where
    K: Hash + Eq + Clone + Borrow<Q>,
    Q: Hash + Eq + ?Sized,
{
    if let Some(services) = index.get_mut(key) {
        services.remove_mut(service);
        if services.is_empty() {
            index.remove_mut(key);
        }
    }
}
