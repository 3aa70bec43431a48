//! Addresses for pods that have none yet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use objects::ObjectKey;

/// How many pods without an address can be given one.
pub const MAX_MADE_UP_ADDRESSES: u32 = 3 * 254 + (1 << 17) - 2;

/// The blocks for documentation (RFC 5737), each with 254 addresses of hosts.
const DOCUMENTATION: [u32; 3] = [
    u32::from_be_bytes([192, 0, 2, 0]),
    u32::from_be_bytes([198, 51, 100, 0]),
    u32::from_be_bytes([203, 0, 113, 0]),
];
/// Where those are not enough: the block for benchmarks (RFC 2544), 198.18.0.0/15.
const BENCHMARKS: u32 = u32::from_be_bytes([198, 18, 0, 0]);

/// Which pod has which made-up address. A pod keeps its own as long as it is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    given: BTreeMap<ObjectKey, u32>,
    free: BTreeSet<u32>,
    next: u32,
}

impl Addresses {
    /// The pod's address; the lowest free one for a pod that had none. `None` when there is no more.
    pub(super) fn of(&mut self, pod: &ObjectKey) -> Option<IpAddr> {
        if let Some(index) = self.given.get(pod) {
            return Some(address(*index));
        }
        let index = match self.free.pop_first() {
            Some(index) => index,
            None if self.next < MAX_MADE_UP_ADDRESSES => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.given.insert(pod.clone(), index);
        Some(address(index))
    }

    /// The pod needs none any more.
    pub(super) fn release(&mut self, pod: &ObjectKey) {
        if let Some(index) = self.given.remove(pod) {
            self.free.insert(index);
        }
    }
}

fn address(index: u32) -> IpAddr {
    let number = match DOCUMENTATION.get(index as usize / 254) {
        Some(block) => block + 1 + index % 254,
        None => BENCHMARKS + 1 + (index - 3 * 254),
    };
    IpAddr::V4(Ipv4Addr::from(number))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use objects::{Kind, ObjectKey};

    use super::{Addresses, MAX_MADE_UP_ADDRESSES, address};

    #[test]
    fn every_address_is_another_and_none_leaves_its_block() {
        let all: BTreeSet<IpAddr> = (0..MAX_MADE_UP_ADDRESSES).map(address).collect();
        assert_eq!(all.len(), MAX_MADE_UP_ADDRESSES as usize);
        assert_eq!(address(0), IpAddr::from([192, 0, 2, 1]));
        assert_eq!(address(253), IpAddr::from([192, 0, 2, 254]));
        assert_eq!(address(254), IpAddr::from([198, 51, 100, 1]));
        assert_eq!(address(761), IpAddr::from([203, 0, 113, 254]));
        assert_eq!(address(762), IpAddr::from([198, 18, 0, 1]));
        assert_eq!(
            address(MAX_MADE_UP_ADDRESSES - 1),
            IpAddr::from([198, 19, 255, 254])
        );
    }

    #[test]
    fn a_pod_keeps_its_address_and_leaves_it_to_the_next() {
        let key = |name: &str| ObjectKey::new(Kind::Pod, "a", name);
        let mut addresses = Addresses::default();
        let first = addresses.of(&key("x"));
        let second = addresses.of(&key("y"));
        assert_ne!(first, second);
        assert_eq!(addresses.of(&key("x")), first);
        addresses.release(&key("x"));
        assert_eq!(addresses.of(&key("z")), first);
        assert_ne!(addresses.of(&key("x")), second);
    }
}
