//! Another cluster: its objects, and the endpoints of its services counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use objects::{EAST_WEST_CLASS, Kind, NETWORK_LABEL, Object, ObjectKey, ServiceScopes};
use proto::workload::{Service, address::Type};

use super::join::{Way, name_of};
use super::tally::{Contribution, Tally};
use super::{Change, is_global};
use crate::compiler::Compiler;
use crate::index::Index;
use crate::network;
use crate::settings::Settings;

/// The kinds that are compiled; of Gateways, only those that let other networks in are kept.
const COMPILED: [Kind; 5] = [
    Kind::Namespace,
    Kind::Service,
    Kind::Pod,
    Kind::EndpointSlice,
    Kind::WorkloadEntry,
];

#[derive(Debug)]
pub(super) struct Remote {
    compiler: Compiler,
    gateways: BTreeMap<ObjectKey, Arc<Object>>,
    /// By the names of workloads.
    contributions: BTreeMap<String, Contribution>,
    /// By the names of services.
    tallies: BTreeMap<String, Tally>,
}

/// What a cluster has of a service.
pub(super) struct Share<'a> {
    pub(super) service: &'a Service,
    pub(super) tally: &'a Tally,
}

impl Remote {
    /// It shares the settings of the mesh; its network is named by a label of its own.
    pub(super) fn new(settings: &Settings, cluster: &str) -> Remote {
        let own = Settings {
            cluster_id: cluster.to_owned(),
            network: String::new(),
            ..settings.clone()
        };
        Remote {
            compiler: Compiler::new(own),
            gateways: BTreeMap::new(),
            contributions: BTreeMap::new(),
            tallies: BTreeMap::new(),
        }
    }

    pub(super) fn index(&self) -> &Index {
        self.compiler.index()
    }

    /// Empty where nothing names it.
    pub(super) fn network(&self) -> &str {
        network::of_mesh(self.compiler.index(), self.compiler.settings())
    }

    /// The names of the services that have endpoints here.
    pub(super) fn services(&self) -> impl ExactSizeIterator<Item = &String> {
        self.tallies.keys()
    }

    /// What there is of a service that is for all clusters.
    pub(super) fn share(&self, key: &str, scopes: &ServiceScopes) -> Option<Share<'_>> {
        let tally = self.tallies.get(key)?;
        let Some(Type::Service(service)) = &self.compiler.addresses().get(key)?.r#type else {
            return None;
        };
        is_global(self.compiler.index(), self.compiler.settings(), scopes, key)
            .then_some(Share { service, tally })
    }

    /// How the cluster's network is reached by its own gateway: the oldest that has an address; those of the root namespace
    /// go before.
    pub(super) fn way(&self) -> Option<Way> {
        let settings = self.compiler.settings();
        let network = self.network();
        let usable = self.gateways.values().filter_map(|object| {
            let gateway = object.as_gateway()?;
            let is_of_network =
                object.metadata.labels.get(NETWORK_LABEL).map(String::as_str) == Some(network);
            let is_trusted = network::is_trusted(settings, &object.metadata.namespace);
            let port = gateway.hbone_listener(None)?.port;
            // By address if there is one: whose name it is otherwise, a ServiceEntry here has to say.
            let mut addresses = gateway.addresses.iter();
            let by_ip = addresses.find(|address| matches!(address, objects::GatewayAddress::Ip(_)));
            let address = by_ip.or(gateway.addresses.first())?;
            (is_of_network && is_trusted).then_some((object, address, port))
        });
        let root = &settings.root_namespace;
        let first = usable.min_by(|(one, ..), (other, ..)| {
            let (one, other) = (&one.metadata, &other.metadata);
            let foreign = (one.namespace != *root, other.namespace != *root);
            foreign.0.cmp(&foreign.1).then_with(|| one.by_age(other))
        });
        let (object, address, port) = first?;
        Some(Way {
            gateway: name_of(object),
            address: network::reached_at(network, object, address, port),
            workload: Some(network::workload_of(settings, network, object, address, port)),
        })
    }

    /// What compiling its objects cost by now.
    #[cfg(test)]
    pub(super) fn cost(&self) -> u64 {
        self.compiler.made()
    }

    /// Takes changes; gives the services whose endpoints are others.
    pub(super) fn apply(&mut self, changes: Vec<Change>) -> BTreeSet<String> {
        let mut compiled = Vec::new();
        for (key, object) in changes {
            if key.kind == Kind::Gateway {
                let is_way_in = |object: &Arc<Object>| {
                    let gateway = object.as_gateway();
                    gateway.is_some_and(|gateway| gateway.class_name == EAST_WEST_CLASS)
                };
                match object.filter(is_way_in) {
                    Some(object) => drop(self.gateways.insert(key, object)),
                    None => drop(self.gateways.remove(&key)),
                }
            } else if COMPILED.contains(&key.kind) {
                compiled.push((key, object));
            }
        }
        let output = self.compiler.apply(compiled);
        let trust_domain = self.compiler.settings().trust_domain.clone();
        let mut touched = BTreeSet::new();
        for (name, address) in output.addresses {
            match address.r#type {
                Some(Type::Workload(workload)) => {
                    let new = Contribution::of(&trust_domain, &workload);
                    self.count(name, new, &mut touched);
                }
                _ => drop(touched.insert(name)),
            }
        }
        for name in output.removed_addresses {
            self.count(name.clone(), None, &mut touched);
            if name.split('/').count() == 2 {
                // A service, and no workload.
                touched.insert(name);
            }
        }
        touched
    }

    fn count(&mut self, uid: String, new: Option<Contribution>, touched: &mut BTreeSet<String>) {
        let old = match &new {
            Some(new) => self.contributions.insert(uid, new.clone()),
            None => self.contributions.remove(&uid),
        };
        if old == new {
            return;
        }
        if let Some(contribution) = &old {
            for service in &contribution.services {
                if let Some(tally) = self.tallies.get_mut(service) {
                    tally.remove(contribution);
                    if tally.is_empty() {
                        self.tallies.remove(service);
                    }
                }
                touched.insert(service.clone());
            }
        }
        if let Some(contribution) = &new {
            for service in &contribution.services {
                let tally = self.tallies.entry(service.clone()).or_default();
                tally.add(contribution);
                touched.insert(service.clone());
            }
        }
    }
}
