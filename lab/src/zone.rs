//! The names that pods find each other by, as a Kubernetes cluster's DNS gives them out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use objects::{Object, ServiceType};

use crate::controllers::Cluster;

/// The zone that the lab answers for.
pub(crate) const DOMAIN: &str = "cluster.local";

/// The names of one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Zone {
    names: BTreeMap<String, Vec<IpAddr>>,
}

impl Zone {
    /// The names that follow from the objects: a Service's address, the ready pods of a headless one, and those of its
    /// pods that have a `hostname` and the Service's name as `subdomain`.
    pub(crate) fn new(objects: &[Arc<Object>]) -> Zone {
        let cluster = Cluster::new(objects);
        let mut names: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (object, service) in &cluster.services {
            let name = format!(
                "{}.{}.svc.{DOMAIN}",
                object.metadata.name, object.metadata.namespace
            );
            if service.service_type == ServiceType::ExternalName {
                continue;
            }
            if !service.headless {
                names.insert(name, service.cluster_ips.clone());
                continue;
            }
            let mut addresses = Vec::new();
            for (pod_object, pod) in cluster.backing(object, service) {
                let leaving = pod_object.metadata.deletion_timestamp.is_some();
                if !(service.publish_not_ready_addresses || (pod.is_ready() && !leaving)) {
                    continue;
                }
                addresses.extend(&pod.status.pod_ips);
                if let Some(host) = hostname_in(pod_object, &object.metadata.name) {
                    names
                        .entry(format!("{host}.{name}"))
                        .or_default()
                        .extend(&pod.status.pod_ips);
                }
            }
            // Slices made by hand, for a Service without a selector.
            for (slice_object, slice) in &cluster.slices {
                let ours = slice_object.metadata.namespace == object.metadata.namespace
                    && slice_object.metadata.labels.get(objects::SERVICE_NAME_LABEL)
                        == Some(&object.metadata.name);
                if ours && service.selector.is_empty() {
                    let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
                    addresses.extend(ready.flat_map(|endpoint| &endpoint.addresses));
                }
            }
            names.insert(name, addresses);
        }
        Zone { names }
    }

    pub(crate) fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.names.get(name).cloned()
    }
}

fn hostname_in<'a>(pod: &'a Object, service: &str) -> Option<&'a str> {
    let text = |field: &str| pod.raw().pointer(field).and_then(serde_json::Value::as_str);
    (text("/spec/subdomain") == Some(service))
        .then(|| text("/spec/hostname"))
        .flatten()
}

/// The present zone, read by the DNS servers of all nodes.
#[derive(Clone, Default)]
pub(crate) struct SharedZone(Arc<RwLock<Arc<Zone>>>);

impl SharedZone {
    pub(crate) fn replace(&self, zone: Zone) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }

    fn now(&self) -> Arc<Zone> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl dns::Resolver for SharedZone {
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.now().lookup(name)
    }

    /// Nothing lies outside of the lab, so nothing is forwarded: what is unknown does not exist.
    fn zone_authoritative(&self, _name: &str) -> bool {
        true
    }

    fn zone<'n>(&'n self, name: &'n str) -> &'n str {
        if name.ends_with(&format!(".{DOMAIN}")) {
            DOMAIN
        } else {
            name
        }
    }
}

#[cfg(test)]
mod tests;
