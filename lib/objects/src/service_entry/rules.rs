//! What must not stand together in a ServiceEntry, as the API's documentation has it.

use super::{Resolution, ServiceEntry};
use crate::read::Field;
use crate::workload_entry::EntryAddress;

/// Where problems are told.
pub(super) struct Places<'f, 'a> {
    pub(super) spec: &'f Field<'a>,
    pub(super) hosts: Option<&'f Field<'a>>,
    pub(super) addresses: Option<&'f Field<'a>>,
    pub(super) endpoints: Option<&'f Field<'a>>,
}

pub(super) fn check(entry: &ServiceEntry, places: &Places<'_, '_>) {
    if entry.workload_selector.is_some() && !entry.endpoints.is_empty() {
        places
            .spec
            .error("has both endpoints and workloadSelector: give one of them");
    }
    if let Some(field) = places.addresses
        && entry.resolution.is_dns()
    {
        let is_prefix =
            |block: &&crate::IpBlock| block.length != if block.address.is_ipv4() { 32 } else { 128 };
        if let Some(block) = entry.addresses.iter().find(is_prefix) {
            field.error(format!(
                "{block} is a prefix: with a resolution by DNS only single addresses are accepted"
            ));
        }
    }
    if let Some(field) = places.endpoints {
        endpoints(entry, field);
    }
    if let Some(field) = places.hosts {
        hosts(entry, field);
    }
}

fn endpoints(entry: &ServiceEntry, field: &Field<'_>) {
    if entry.endpoints.is_empty() {
        return;
    }
    match entry.resolution {
        Resolution::None => {
            field.error("are not used with resolution NONE: use STATIC or DNS, or leave them out");
        }
        Resolution::DynamicDns => field.error("are not used with resolution DYNAMIC_DNS: leave them out"),
        Resolution::DnsRoundRobin if entry.endpoints.len() > 1 => {
            field.error("may be only one with resolution DNS_ROUND_ROBIN");
        }
        _ => {}
    }
    for endpoint in &entry.endpoints {
        match (&endpoint.address, entry.resolution) {
            (Some(EntryAddress::Name(name)), Resolution::Static) => field.error(format!(
                "{name} is a name: with resolution STATIC every endpoint needs an IP address; use DNS for names"
            )),
            (Some(EntryAddress::Socket(_)), resolution) if resolution.is_dns() => {
                field.error("a Unix socket cannot be resolved: use STATIC");
            }
            (None, _) if endpoint.network.is_empty() => field.error(
                "an endpoint has no address: without it, network must say through which gateway it is reached",
            ),
            _ => {}
        }
    }
}

fn hosts(entry: &ServiceEntry, field: &Field<'_>) {
    let is_pattern = |host: &&String| host.starts_with('*');
    let resolves_hosts = matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
        && entry.endpoints.is_empty()
        && entry.workload_selector.is_none();
    if resolves_hosts && let Some(host) = entry.hosts.iter().find(is_pattern) {
        field.error(format!(
            "{host} is a pattern and cannot be resolved: give endpoints, or use resolution NONE or DYNAMIC_DNS"
        ));
    }
}
