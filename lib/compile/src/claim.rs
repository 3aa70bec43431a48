//! Whose the addresses are that authors of ServiceEntries choose. Everybody who sees an entry would send there what is
//! meant for the address, so nobody gets an address of another namespace by writing it down: that of a Service or pod
//! stays theirs, and of one that another entry has, callers of other namespaces keep meaning the older.

use std::net::IpAddr;

use objects::{IpBlock, Object, ObjectKey, ServiceEntry};

use crate::condition::{ADDRESSES_ACCEPTED, CONFLICTED, Condition};
use crate::index::Index;
use crate::service_entry::Visibility;
use crate::settings::Settings;
use crate::vip;

/// The address, where it is one alone.
pub(crate) fn single(block: &IpBlock) -> Option<IpAddr> {
    let widest = if block.address.is_ipv4() { 32 } else { 128 };
    (block.length == widest).then_some(block.address)
}

/// The Service or pod of another namespace that has the address.
pub(crate) fn holder<'a>(index: &'a Index, object: &Object, address: IpAddr) -> Option<&'a ObjectKey> {
    let mut holders = index.holders(address);
    holders.find(|holder| holder.namespace != object.metadata.namespace)
}

/// An address of the entry that an older one of another namespace has, which everybody sees; and that one.
pub(crate) fn disputed<'a>(
    index: &'a Index,
    settings: &Settings,
    object: &Object,
    entry: &ServiceEntry,
) -> Option<(IpAddr, &'a Object)> {
    let mut addresses = entry.addresses.iter().filter_map(single);
    addresses.find_map(|address| {
        let mut others = index.entries_with_address(address);
        let older = others.find(|(other, content)| {
            let (theirs, ours) = (&other.metadata, &object.metadata);
            let is_given = || {
                content
                    .addresses
                    .iter()
                    .any(|block| single(block) == Some(address))
            };
            let is_held = || {
                let held = vip::held(index, other, content);
                held.iter().any(|one| one.address == address)
            };
            theirs.namespace != ours.namespace
                && theirs.by_age(ours).is_lt()
                && Visibility::of(settings, &other.metadata, content) == Visibility::Public
                && (is_given() || is_held())
        });
        older.map(|(other, _)| (address, other))
    })
}

/// What the author is told where an address is somebody else's.
pub(crate) fn condition(
    index: &Index,
    settings: &Settings,
    object: &Object,
    entry: &ServiceEntry,
) -> Option<Condition> {
    let mut single = entry.addresses.iter().filter_map(single);
    let held = single.find_map(|address| Some((address, holder(index, object, address)?)));
    let message = match (held, disputed(index, settings, object, entry)) {
        (Some((address, holder)), _) => {
            format!("{address} is the address of {holder}, of another namespace: the entry does not get it")
        }
        (None, Some((address, other))) => format!(
            "{address} is an address of {}, which is older: callers of other namespaces mean that one",
            other.key()
        ),
        (None, None) => return None,
    };
    Some(Condition {
        kind: ADDRESSES_ACCEPTED,
        status: false,
        reason: CONFLICTED,
        message,
        observed_generation: object.metadata.generation,
    })
}

#[cfg(test)]
mod tests;
