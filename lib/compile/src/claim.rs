//! Whose the addresses are that authors of ServiceEntries and WorkloadEntries write down. Everybody who sees an entry would
//! send there what is meant for the address, so nobody gets an address of another namespace by writing it down: that of a
//! Service, pod or node stays theirs, and of one that an older entry has, callers of other namespaces keep meaning the older.
//!
//! What the mesh knows nothing of is whose entry is the oldest; but no more of it than a company has, unless the entry
//! leaves connections where they were addressed, or its namespace may speak for the mesh.

use std::cmp::Ordering;
use std::net::IpAddr;

use objects::{IpBlock, Kind, Metadata, Object, ObjectKey, Resolution, ServiceEntry, USE_WAYPOINT_LABEL};

use crate::block;
use crate::condition::{ADDRESSES_ACCEPTED, CONFLICTED, Condition};
use crate::index::Index;
use crate::service_entry::Visibility;
use crate::settings::Settings;
use crate::{vip, waypoint};

pub(crate) mod endpoint;

/// To others one entry stands for no more public addresses than a prefix of so many bits has, as the largest networks of
/// companies do.
const LARGEST_V4: u8 = 8;
const LARGEST_V6: u8 = 16;
/// A prefix of fewer bits than these that leaves connections where they were addressed is kept from nobody: it is the way
/// out, and others have what is theirs in it.
const KEPT_V4: u8 = 16;
const KEPT_V6: u8 = 48;

/// The Service, pod or node of another namespace that has the address, or the Service whose author wanted it before.
pub(crate) fn holder<'a>(index: &'a Index, object: &Object, address: IpAddr) -> Option<&'a ObjectKey> {
    let addresses = index.addresses();
    let is_older = |key: &&ObjectKey| {
        let service = index.get_key(key);
        service.is_some_and(|service| service.metadata.by_age(&object.metadata).is_lt())
    };
    let mut holders = addresses
        .holders(address)
        .chain(addresses.wanted(address).filter(is_older));
    holders.find(|holder| holder.namespace != object.metadata.namespace)
}

/// An address or block of the entry that lies in what an older one of another namespace has, which everybody sees.
#[derive(Debug)]
pub(crate) struct Dispute<'a> {
    wanted: IpBlock,
    /// What the older one has: the same address, or a block.
    given: IpBlock,
    other: &'a Object,
}

impl Dispute<'_> {
    /// An address or longer prefix would win over the block, and has to be kept from others altogether.
    fn is_of_block(&self) -> bool {
        block::single(&self.given).is_none()
    }
}

/// Where an older entry of another namespace has what the entry wants.
pub(crate) fn disputed<'a>(
    index: &'a Index,
    settings: &'a Settings,
    object: &'a Object,
    entry: &'a ServiceEntry,
) -> impl Iterator<Item = Dispute<'a>> {
    entry.addresses.iter().flat_map(move |wanted| {
        let single = block::single(wanted).and_then(|address| {
            let other = older_with(index, settings, object, address)?;
            let given = *wanted;
            Some(Dispute {
                wanted: *wanted,
                given,
                other,
            })
        });
        let around = owners_around(index, settings, &object.metadata, *wanted);
        let around = around.map(|(given, other)| Dispute {
            wanted: *wanted,
            given,
            other,
        });
        single.into_iter().chain(around)
    })
}

/// Whether the entry is for its own namespace alone, though its author wants everybody to see it: others would send it what
/// is not its own.
pub(crate) fn is_kept_from_others(
    index: &Index,
    settings: &Settings,
    object: &Object,
    entry: &ServiceEntry,
) -> bool {
    limit(index, settings, object, entry).is_some()
        || disputed(index, settings, object, entry).any(|dispute| dispute.is_of_block())
}

/// What the author is told where an address is somebody else's.
pub(crate) fn condition(
    index: &Index,
    settings: &Settings,
    object: &Object,
    entry: &ServiceEntry,
) -> Option<Condition> {
    let mut single = entry.addresses.iter().filter_map(block::single);
    let held = single.find_map(|address| Some((address, holder(index, object, address)?)));
    if let Some((address, holder)) = held {
        let owner = match holder.kind {
            Kind::Node => String::new(),
            _ => ", of another namespace".to_owned(),
        };
        let message = format!("{address} is the address of {holder}{owner}: the entry does not get it");
        return Some(refused(object, message));
    }
    let is_public = Visibility::of(settings, &object.metadata, entry) == Visibility::Public;
    let limit = limit(index, settings, object, entry).filter(|_| is_public);
    if let Some(why) = limit {
        let namespace = &object.metadata.namespace;
        return Some(refused(
            object,
            format!(
                "{why}, so only {namespace} sees this entry; for others, write it in the namespace {}, or in one that the \
                 control plane's --trusted-entry-namespace names",
                settings.root_namespace
            ),
        ));
    }
    let disputes: Vec<Dispute<'_>> = disputed(index, settings, object, entry).collect();
    let of_block = disputes.iter().find(|dispute| dispute.is_of_block() && is_public);
    let dispute = of_block.or(disputes.first())?;
    let other = dispute.other.key();
    let wanted = in_words(&dispute.wanted);
    let message = if dispute.is_of_block() {
        format!(
            "{wanted} lies in {} of {other}, which is older: callers of other namespaces mean that one, and do not see this \
             entry",
            dispute.given
        )
    } else {
        format!(
            "{wanted} is an address of {other}, which is older: callers of other namespaces mean that one"
        )
    };
    Some(refused(object, message))
}

/// That an address is somebody else's.
fn refused(object: &Object, message: String) -> Condition {
    Condition {
        kind: ADDRESSES_ACCEPTED,
        status: false,
        reason: CONFLICTED,
        message,
        observed_generation: object.metadata.generation,
    }
}

/// Whether a namespace may speak for the mesh: whoever may write only in another one must not turn aside what the whole
/// mesh sends elsewhere.
pub(crate) fn is_trusted(settings: &Settings, namespace: &str) -> bool {
    let mut others = settings.trusted_entry_namespaces.iter();
    namespace == settings.root_namespace || others.any(|other| other == "*" || other == namespace)
}

/// Who goes before: those who may speak for the mesh, then the older.
fn by_precedence(settings: &Settings, one: &Metadata, other: &Metadata) -> Ordering {
    let is_other = |metadata: &Metadata| !is_trusted(settings, &metadata.namespace);
    is_other(one)
        .cmp(&is_other(other))
        .then_with(|| one.by_age(other))
}

/// The older entry of another namespace that has just this address.
fn older_with<'a>(
    index: &'a Index,
    settings: &Settings,
    object: &Object,
    address: IpAddr,
) -> Option<&'a Object> {
    let mut others = index.entries_with_address(address);
    let older = others.find(|(other, content)| {
        let (theirs, ours) = (&other.metadata, &object.metadata);
        let is_given = || {
            let mut given = content.addresses.iter().filter_map(block::single);
            given.any(|given| given == address)
        };
        let is_held = || {
            let held = vip::held(index, other, content);
            held.iter().any(|one| one.address == address)
        };
        theirs.namespace != ours.namespace
            && theirs.by_age(ours).is_lt()
            && Visibility::of(settings, theirs, content) == Visibility::Public
            && (is_given() || is_held())
            && limit(index, settings, other, content).is_none()
    });
    older.map(|(other, _)| other)
}

/// The entries of other namespaces that go before, and have a block that all of this one lies in; with that block.
fn owners_around<'a>(
    index: &'a Index,
    settings: &'a Settings,
    ours: &'a Metadata,
    inner: IpBlock,
) -> impl Iterator<Item = (IpBlock, &'a Object)> {
    let around = index.addresses().blocks_around(inner);
    let foreign = around.filter(|(_, key)| key.namespace != ours.namespace);
    foreign.filter_map(move |(outer, key)| {
        let other = index.get_key(key)?.as_ref();
        let content = other.as_service_entry()?;
        let goes_before = by_precedence(settings, &other.metadata, ours).is_lt();
        (goes_before && is_owner(index, settings, other, content, &outer)).then_some((outer, other))
    })
}

/// Whether others have to keep off a block of an entry: it is for everybody, and it is not merely the wide way out.
fn is_owner(
    index: &Index,
    settings: &Settings,
    object: &Object,
    entry: &ServiceEntry,
    outer: &IpBlock,
) -> bool {
    let kept = if outer.address.is_ipv4() { KEPT_V4 } else { KEPT_V6 };
    Visibility::of(settings, &object.metadata, entry) == Visibility::Public
        && (outer.length >= kept || is_redirecting(index, object, entry))
        && limit(index, settings, object, entry).is_none()
}

/// Why an entry is for its own namespace alone, whatever other entries there are. It does not look at them, so that who is
/// limited limits nobody.
fn limit(index: &Index, settings: &Settings, object: &Object, entry: &ServiceEntry) -> Option<String> {
    let metadata = &object.metadata;
    if is_trusted(settings, &metadata.namespace) || !is_redirecting(index, object, entry) {
        return None;
    }
    if let Some(of_nodes) = entry.addresses.iter().find(|one| {
        // A part of the world that has these in it is too large anyway.
        block::is_of_nodes(one) && one.length >= largest(one)
    }) {
        let of_nodes = in_words(of_nodes);
        return Some(format!("{of_nodes} means something else on every node"));
    }
    for is_v4 in [true, false] {
        let blocks = entry.addresses.iter();
        let public = blocks.filter(|one| one.address.is_ipv4() == is_v4 && !block::is_private(one));
        let sizes = public.map(|one| 1_u128.checked_shl((block::widest(one) - one.length).into()));
        let total = sizes.fold(0_u128, |total, size| {
            total.saturating_add(size.unwrap_or(u128::MAX))
        });
        let (length, most) = match is_v4 {
            true => (LARGEST_V4, 1 << (32 - LARGEST_V4)),
            false => (LARGEST_V6, 1 << (128 - LARGEST_V6)),
        };
        if total > most {
            return Some(format!(
                "its addresses are more than a prefix of {length} bits has"
            ));
        }
    }
    // Which ones is left out: they come and go.
    index
        .addresses()
        .covers_others(&object.key())
        .then(|| "in its blocks are addresses of other namespaces' Services and pods, or of nodes".to_owned())
}

fn largest(block: &IpBlock) -> u8 {
    if block.address.is_ipv4() {
        LARGEST_V4
    } else {
        LARGEST_V6
    }
}

/// Whether connections to the entry go elsewhere than where they were addressed: to endpoints, or by a waypoint.
fn is_redirecting(index: &Index, object: &Object, entry: &ServiceEntry) -> bool {
    let metadata = &object.metadata;
    let names_waypoint = || {
        if metadata.labels.contains_key(USE_WAYPOINT_LABEL) {
            return waypoint::names(object).next().is_some();
        }
        let namespace = index.get(Kind::Namespace, "", &metadata.namespace);
        namespace.is_some_and(|namespace| waypoint::names(namespace).next().is_some())
    };
    entry.resolution != Resolution::None || names_waypoint()
}

fn in_words(block: &IpBlock) -> String {
    match block::single(block) {
        Some(address) => address.to_string(),
        None => block.to_string(),
    }
}

#[cfg(test)]
mod tests;
