//! What a name stands for, as one pod sees it.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use crate::service::{IpFamilies, Service};
use crate::snapshot::{Snapshot, Viewpoint};

/// Who asks for a name.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Its pod's namespace, and what decides between services of others.
    pub viewpoint: Viewpoint<'a>,
    /// The network it is on.
    pub network: &'a str,
}

/// The addresses that a name stands for, both families: a service's own, else those of its endpoints. `None`: the mesh
/// does not answer for this name, or not to this pod, and a name server has to be asked.
///
/// `name` is a whole name, lower case and without a trailing dot; short names are their askers' business. The host name
/// itself counts first, then wildcards (`*.example.com`, which stand for one or more labels) from the longest to the
/// shortest. A service that the asker cannot see is as good as none. So is one that has no address on the asker's
/// network and no endpoint: a name server may know more, and says in its own way that there is nothing.
pub fn addresses_of_name(snapshot: &Snapshot, name: &str, asker: Asker<'_>) -> Option<Vec<IpAddr>> {
    let service = service_of_name(snapshot, name, asker.viewpoint)?;
    let mut addresses: Vec<IpAddr> = service
        .addresses
        .iter()
        .filter(|address| address.prefix.is_host() && *address.network == *asker.network)
        .map(|address| address.prefix.address())
        .collect();
    if service.addresses.is_empty() {
        addresses = endpoint_addresses(snapshot, service, asker.network);
    }
    (!addresses.is_empty()).then_some(addresses)
}

fn service_of_name<'s>(snapshot: &'s Snapshot, name: &str, from: Viewpoint<'_>) -> Option<&'s Arc<Service>> {
    snapshot
        .service_by_hostname(name, from)
        .or_else(|| wildcards(name).find_map(|wildcard| snapshot.service_by_hostname(&wildcard, from)))
}

/// `a.b.c` lies below `*.b.c` and `*.c`.
fn wildcards(name: &str) -> impl Iterator<Item = String> {
    name.match_indices('.')
        .map(move |(dot, _)| format!("*{}", &name[dot..]))
}

/// Endpoints on other networks cannot be reached by their addresses.
fn endpoint_addresses(snapshot: &Snapshot, service: &Service, network: &str) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = snapshot
        .endpoints(service.key())
        .filter(|endpoint| endpoint.healthy || service.load_balancing.allow_unhealthy)
        .filter(|endpoint| *endpoint.network == *network)
        .flat_map(|endpoint| endpoint.addresses.iter().copied())
        .filter(|address| match service.ip_families {
            IpFamilies::V4 => address.is_ipv4(),
            IpFamilies::V6 => address.is_ipv6(),
            IpFamilies::Automatic | IpFamilies::Dual => true,
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
