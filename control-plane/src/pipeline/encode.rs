//! Compiled messages as resources.

use std::net::IpAddr;
use std::sync::Arc;

use prost::Message;
use proto::security::{Authorization, Scope};
use proto::workload::address::Type;
use proto::workload::{Address, NetworkAddress, NetworkMode, Service, Workload};

use crate::xds::ResourceKind;
use crate::xds::resource::{Links, Resource};

pub(super) fn policy(name: &str, policy: &Authorization) -> Resource {
    let links = Links {
        is_wide: matches!(policy.scope(), Scope::Global | Scope::Namespace),
        is_dry_run: policy.dry_run,
        ..Links::default()
    };
    Resource::new(ResourceKind::Authorization, name, policy.encode_to_vec(), links)
}

pub(super) fn address(name: &str, address: &Address) -> Resource {
    let links = match &address.r#type {
        Some(Type::Workload(workload)) => of_workload(workload),
        Some(Type::Service(service)) => of_service(service),
        None => Links::default(),
    };
    Resource::new(ResourceKind::Address, name, address.encode_to_vec(), links)
}

fn of_workload(workload: &Workload) -> Links {
    // A pod on the host's network does not own its address.
    let owned = workload.network_mode() != NetworkMode::HostNetwork;
    let addresses = workload.addresses.iter().filter(|_| owned);
    Links {
        aliases: addresses
            .filter_map(|address| alias(&workload.network, address, None))
            .collect(),
        node: (!workload.node.is_empty()).then(|| workload.node.as_str().into()),
        services: workload
            .services
            .keys()
            .map(|service| service.as_str().into())
            .collect(),
        listed: workload
            .authorization_policies
            .iter()
            .map(|policy| policy.as_str().into())
            .collect(),
        ..Links::default()
    }
}

fn of_service(service: &Service) -> Links {
    let alias = |NetworkAddress {
                     network,
                     address,
                     length,
                 }: &NetworkAddress| alias(network, address, *length);
    Links {
        aliases: service.addresses.iter().filter_map(alias).collect(),
        is_service: true,
        ..Links::default()
    }
}

/// `network/ip`, or `network/ip/length` for a range.
fn alias(network: &str, address: &[u8], length: Option<u32>) -> Option<Arc<str>> {
    let ip = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(match length {
        Some(length) => format!("{network}/{ip}/{length}").into(),
        None => format!("{network}/{ip}").into(),
    })
}
