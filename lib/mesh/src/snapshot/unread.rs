//! Addresses of workloads and services that were not understood and have no last good version.
//!
//! Such an address is of the mesh, and what it asks for is unknown. A connection to it is refused, as plaintext
//! might be exactly what must not be sent.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use crate::address::NetworkAddress;
use crate::rejected::Rejected;

#[derive(Debug, Clone, Default)]
pub(super) struct Unread {
    by_name: HashTrieMapSync<Arc<str>, Arc<Rejected>>,
    by_address: HashTrieMapSync<NetworkAddress, Arc<Rejected>>,
}

impl Unread {
    pub(super) fn insert(&mut self, rejected: Rejected) {
        self.remove(&rejected.name.clone());
        let rejected = Arc::new(rejected);
        for address in &rejected.addresses {
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
            }
        }
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Rejected>> {
        self.by_name.get(name)
    }

    pub(super) fn at(&self, address: &NetworkAddress) -> Option<&Arc<Rejected>> {
        self.by_address.get(address)
    }
}
