//! Addresses of workloads and services that were not understood and have no last good version.
//!
//! Such an address is of the mesh, and what it asks for is unknown. A connection to it is refused, as plaintext
//! might be exactly what must not be sent.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use crate::address::{IpPrefix, NetworkAddress};
use crate::rejected::Rejected;
use crate::service::ServiceAddress;

#[derive(Debug, Clone, Default)]
pub(super) struct Unread {
    by_name: HashTrieMapSync<Arc<str>, Arc<Rejected>>,
    by_address: HashTrieMapSync<ServiceAddress, Arc<Rejected>>,
    /// How many of these are blocks, so that looking for one costs nothing where there is none.
    blocks: usize,
}

impl Unread {
    pub(super) fn insert(&mut self, rejected: Rejected) {
        self.remove(&rejected.name.clone());
        let rejected = Arc::new(rejected);
        for address in &rejected.addresses {
            if !self.by_address.contains_key(address) {
                self.blocks += usize::from(!address.prefix.is_host());
            }
            self.by_address.insert_mut(address.clone(), rejected.clone());
        }
        self.by_name.insert_mut(rejected.name.as_str().into(), rejected);
    }

    pub(super) fn remove(&mut self, name: &str) {
        let Some(old) = self.by_name.get(name).cloned() else {
            return;
        };
        self.by_name.remove_mut(name);
        for address in &old.addresses {
            // Another resource that was not understood may claim the same address.
            let still = self
                .by_address
                .get(address)
                .is_some_and(|held| held.name == old.name);
            if still {
                self.by_address.remove_mut(address);
                self.blocks -= usize::from(!address.prefix.is_host());
            }
        }
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Rejected>> {
        self.by_name.get(name)
    }

    pub(super) fn at(&self, address: &NetworkAddress) -> Option<&Arc<Rejected>> {
        self.by_address.get(&ServiceAddress {
            network: address.network.clone(),
            prefix: IpPrefix::host(address.ip),
        })
    }

    /// What has the longest block around the address, of `least` bits or more.
    pub(super) fn around(&self, address: &NetworkAddress, least: u8) -> Option<&Arc<Rejected>> {
        if self.blocks == 0 || address.ip.is_unspecified() {
            return None;
        }
        let most: u8 = if address.ip.is_ipv4() { 31 } else { 127 };
        (least..=most).rev().find_map(|length| {
            self.by_address.get(&ServiceAddress {
                network: address.network.clone(),
                prefix: IpPrefix::new(address.ip, length.into()).ok()?,
            })
        })
    }
}
