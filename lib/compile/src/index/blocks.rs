//! Blocks of addresses, with the objects that name them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use objects::{IpBlock, ObjectKey};

use super::links::Links;
use crate::block;

/// Blocks of addresses, with the objects that name them.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// By first address and length.
    named: Links<(IpAddr, u8)>,
    /// How often blocks of a family (whether it is IPv4) and length are named, so that only lengths in use are tried.
    lengths: BTreeMap<(bool, u8), usize>,
}

impl Blocks {
    /// The object named the old ones and names the new ones now.
    pub(super) fn change(&mut self, by: &ObjectKey, old: &[IpBlock], new: &[IpBlock]) {
        let (old, new) = (ranges(old), ranges(new));
        for (first, length) in &old {
            if let Some(count) = self.lengths.get_mut(&(first.is_ipv4(), *length)) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.lengths.remove(&(first.is_ipv4(), *length));
                }
            }
        }
        for (first, length) in &new {
            *self.lengths.entry((first.is_ipv4(), *length)).or_default() += 1;
        }
        self.named
            .change(by, old.into_iter().collect(), new.into_iter().collect());
    }

    /// The blocks in which all of a block lies, the widest first, each with one that names it.
    pub(super) fn containing(&self, inner: IpBlock) -> impl Iterator<Item = (IpBlock, &ObjectKey)> {
        let is_v4 = inner.address.is_ipv4();
        let lengths = self.lengths.range((is_v4, 0)..=(is_v4, inner.length));
        lengths.flat_map(move |((_, length), _)| {
            let outer = IpBlock {
                length: *length,
                ..inner
            };
            let address = block::first(&outer);
            let outer = IpBlock { address, ..outer };
            let naming = self.named.naming(&(address, *length));
            naming.map(move |key| (outer, key))
        })
    }

    /// Who names a block that lies in this one.
    pub(super) fn inside(&self, outer: IpBlock) -> impl Iterator<Item = &ObjectKey> {
        let range = (block::first(&outer), outer.length)..=(block::last(&outer), block::widest(&outer));
        let within = self.named.within(range);
        within
            .filter(move |((_, length), _)| *length >= outer.length)
            .map(|(_, key)| key)
    }
}

/// Each once, whatever is behind the prefix.
fn ranges(blocks: &[IpBlock]) -> BTreeSet<(IpAddr, u8)> {
    let range = |one: &IpBlock| (block::first(one), one.length);
    blocks.iter().map(range).collect()
}
