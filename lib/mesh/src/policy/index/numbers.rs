//! Lists of address blocks and of ports that are searched by halves.

use std::net::IpAddr;

use crate::address::IpPrefix;

/// What a list of blocks contains.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) struct BlockIndex {
    /// Sorted, IPv4 first, and none lies in another.
    apart: Vec<IpPrefix>,
}

/// What a list of ports contains: sorted, each once.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) struct PortIndex(Vec<u16>);

impl BlockIndex {
    pub(in crate::policy) fn new<'a>(list: impl IntoIterator<Item = &'a IpPrefix>) -> Self {
        let mut apart: Vec<IpPrefix> = list.into_iter().copied().collect();
        // By the first address, the wider one first: behind a block come all that lie in it.
        apart.sort_unstable();
        apart.dedup_by(|block, kept| kept.covers(block));
        Self { apart }
    }

    /// No two of the blocks overlap, so only the last one that begins at the address or before it can contain it.
    pub(in crate::policy) fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let behind = self.apart.partition_point(|block| block.address() <= ip);
        let last = behind.checked_sub(1).and_then(|at| self.apart.get(at));
        last.is_some_and(|block| block.contains(ip))
    }
}

impl PortIndex {
    pub(in crate::policy) fn new<'a>(list: impl IntoIterator<Item = &'a u16>) -> Self {
        let mut ports: Vec<u16> = list.into_iter().copied().collect();
        ports.sort_unstable();
        ports.dedup();
        Self(ports)
    }

    pub(in crate::policy) fn contains(&self, port: u16) -> bool {
        self.0.binary_search(&port).is_ok()
    }
}

#[cfg(test)]
mod tests;
