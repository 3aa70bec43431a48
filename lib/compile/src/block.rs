//! Blocks of addresses as ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use objects::IpBlock;

/// What is routed nowhere outside of a company or provider, so that many networks have the same (RFC 1918, RFC 6598,
/// RFC 4193).
const PRIVATE: [IpBlock; 5] = [
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v4([100, 64, 0, 0], 10),
    v6(0xfc00, 7),
];
/// What means something else on every node: links and loopback (RFC 3927, RFC 4291, RFC 1122). What gives pods of clouds
/// their credentials has an address of these.
const OF_NODES: [IpBlock; 4] = [
    v4([169, 254, 0, 0], 16),
    v4([127, 0, 0, 0], 8),
    v6(0xfe80, 10),
    IpBlock {
        address: IpAddr::V6(Ipv6Addr::LOCALHOST),
        length: 128,
    },
];

/// How many bits an address of the block's family has.
pub(crate) fn widest(block: &IpBlock) -> u8 {
    if block.address.is_ipv4() { 32 } else { 128 }
}

/// The address, where it is one alone.
pub(crate) fn single(block: &IpBlock) -> Option<IpAddr> {
    (block.length == widest(block)).then_some(block.address)
}

/// The first address of a block.
pub(crate) fn first(block: &IpBlock) -> IpAddr {
    match block.address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) & !host_bits_v4(block.length)).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !host_bits_v6(block.length)).into(),
    }
}

/// The last address of a block.
pub(crate) fn last(block: &IpBlock) -> IpAddr {
    match block.address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) | host_bits_v4(block.length)).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) | host_bits_v6(block.length)).into(),
    }
}

/// Whether the whole of a block lies in another.
pub(crate) fn is_inside(block: &IpBlock, outer: &IpBlock) -> bool {
    block.length >= outer.length && outer.contains(block.address)
}

/// Whether all of it is in a range that networks of companies use as they like.
pub(crate) fn is_private(block: &IpBlock) -> bool {
    PRIVATE.iter().any(|private| is_inside(block, private))
}

/// Whether something in it means something else on every node.
pub(crate) fn is_of_nodes(block: &IpBlock) -> bool {
    let overlaps = |of_nodes: &IpBlock| is_inside(block, of_nodes) || is_inside(of_nodes, block);
    OF_NODES.iter().any(overlaps)
}

/// The block of one address.
pub(crate) fn of(address: IpAddr) -> IpBlock {
    let length = if address.is_ipv4() { 32 } else { 128 };
    IpBlock { address, length }
}

const fn v4(bytes: [u8; 4], length: u8) -> IpBlock {
    let address = IpAddr::V4(Ipv4Addr::from_octets(bytes));
    IpBlock { address, length }
}

const fn v6(first: u16, length: u8) -> IpBlock {
    let address = IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0));
    IpBlock { address, length }
}

fn host_bits_v4(length: u8) -> u32 {
    u32::MAX.checked_shr(length.into()).unwrap_or(0)
}

fn host_bits_v6(length: u8) -> u128 {
    u128::MAX.checked_shr(length.into()).unwrap_or(0)
}
