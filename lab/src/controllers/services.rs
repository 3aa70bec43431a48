//! Which addresses Services have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use objects::{IpFamily, IpFamilyPolicy, Object, ObjectKey, Service, ServiceType};
use serde_json::{Value, json};

use super::{Cluster, Surroundings, Write, set};
use crate::plan;

/// Gives an address to every Service that should have one and has none.
pub(super) fn reconcile(cluster: &Cluster<'_>, around: &Surroundings<'_>) -> Vec<Write> {
    let mut taken: BTreeSet<u16> = cluster
        .services
        .iter()
        .flat_map(|(_, service)| &service.cluster_ips)
        .filter_map(|address| plan::service_index(*address))
        .collect();
    let mut writes = Vec::new();
    for (object, service) in &cluster.services {
        if service.headless
            || service.service_type == ServiceType::ExternalName
            || !service.cluster_ips.is_empty()
        {
            continue;
        }
        let free = (plan::SERVICE_INDEX_MIN..u16::MAX).find(|index| !taken.contains(index));
        // 65 000 Services are more than the store's own bound lets a lab have in practice; the rest stay without.
        let Some(index) = free else { continue };
        taken.insert(index);
        writes.push(Write::Put(addressed(object, service, index, around.ipv6)));
    }
    writes
}

/// Two Services that want the same address, or one that wants an address outside of the range: the later one, and what
/// is wrong.
pub(crate) fn clash<'a>(
    services: impl Iterator<Item = (&'a Object, &'a Service)>,
) -> Option<(ObjectKey, String)> {
    let mut owners: BTreeMap<IpAddr, &Object> = BTreeMap::new();
    for (object, service) in services {
        for address in &service.cluster_ips {
            if plan::service_index(*address).is_none() {
                let ((v4, v4_length), (v6, v6_length)) = (plan::SERVICE_PREFIX_V4, plan::SERVICE_PREFIX_V6);
                let problem = format!(
                    "{address} lies outside of {v4}/{v4_length} and {v6}/{v6_length}, which the lab gives to Services"
                );
                return Some((object.key(), problem));
            }
            if let Some(other) = owners.insert(*address, object) {
                return Some((
                    object.key(),
                    format!("{address} is already the address of {}", other.key()),
                ));
            }
        }
    }
    None
}

fn addressed(object: &Object, service: &Service, index: u16, ipv6: bool) -> Value {
    let both = matches!(
        service.ip_family_policy,
        Some(IpFamilyPolicy::PreferDualStack | IpFamilyPolicy::RequireDualStack)
    );
    let mut families = service.ip_families.clone();
    if families.is_empty() {
        families.push(IpFamily::V4);
    }
    if both && families.len() == 1 {
        families.push(if families[0] == IpFamily::V4 {
            IpFamily::V6
        } else {
            IpFamily::V4
        });
    }
    if !ipv6 {
        families = vec![IpFamily::V4];
    }
    let addresses: Vec<String> = families
        .iter()
        .map(|family| match family {
            IpFamily::V4 => plan::service_v4(index).to_string(),
            IpFamily::V6 => plan::service_v6(index).to_string(),
        })
        .collect();
    let names: Vec<&str> = families
        .iter()
        .map(|family| if *family == IpFamily::V4 { "IPv4" } else { "IPv6" })
        .collect();
    let mut raw = object.raw().clone();
    set(&mut raw, &["spec", "clusterIP"], json!(addresses[0]));
    set(&mut raw, &["spec", "clusterIPs"], json!(addresses));
    set(&mut raw, &["spec", "ipFamilies"], json!(names));
    raw
}
