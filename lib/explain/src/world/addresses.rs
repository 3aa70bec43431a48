//! Addresses for pods that have none yet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

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

/// The block for documentation of the other family (RFC 3849), so that callers of both can be asked about.
const DOCUMENTATION_V6: u128 = 0x2001_0db8 << 96;

/// The made-up addresses of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MadeUp {
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
}

/// Which pod has which made-up addresses. A pod keeps its own as long as it is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    given: BTreeMap<ObjectKey, u32>,
    free: BTreeSet<u32>,
    next: u32,
}

impl Addresses {
    /// The pod's addresses; the lowest free ones for a pod that had none. `None` when there are no more.
    pub(super) fn of(&mut self, pod: &ObjectKey) -> Option<MadeUp> {
        if let Some(index) = self.given.get(pod) {
            return Some(made_up(*index));
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
        Some(made_up(index))
    }

    /// The pod needs none any more.
    pub(super) fn release(&mut self, pod: &ObjectKey) {
        if let Some(index) = self.given.remove(pod) {
            self.free.insert(index);
        }
    }
}

fn made_up(index: u32) -> MadeUp {
    let number = match DOCUMENTATION.get(index as usize / 254) {
        Some(block) => block + 1 + index % 254,
        None => BENCHMARKS + 1 + (index - 3 * 254),
    };
    MadeUp {
        v4: Ipv4Addr::from(number),
        v6: Ipv6Addr::from(DOCUMENTATION_V6 + 1 + u128::from(index)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use objects::{Kind, ObjectKey};

    use super::{Addresses, MAX_MADE_UP_ADDRESSES, made_up};

    #[test]
    fn every_address_is_another_and_none_leaves_its_block() {
        let all = || (0..MAX_MADE_UP_ADDRESSES).map(made_up);
        let (v4, v6): (BTreeSet<_>, BTreeSet<_>) = all().map(|one| (one.v4, one.v6)).unzip();
        assert_eq!([v4.len(), v6.len()], [MAX_MADE_UP_ADDRESSES as usize; 2]);
        for (index, first, second) in [
            (0, "192.0.2.1", "2001:db8::1"),
            (253, "192.0.2.254", "2001:db8::fe"),
            (254, "198.51.100.1", "2001:db8::ff"),
            (761, "203.0.113.254", "2001:db8::2fa"),
            (762, "198.18.0.1", "2001:db8::2fb"),
            (MAX_MADE_UP_ADDRESSES - 1, "198.19.255.254", "2001:db8::2:2f8"),
        ] {
            let one = made_up(index);
            assert_eq!(
                (one.v4.to_string(), one.v6.to_string()),
                (first.to_owned(), second.to_owned())
            );
        }
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
