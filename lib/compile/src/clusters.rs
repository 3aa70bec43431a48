//! Several clusters as one mesh: of the objects of other clusters, what this one's proxies are told.
//!
//! A Service that is there under the same name and namespace here and elsewhere, and for all clusters in both places
//! ([`objects::ServiceScopes`]), is one: all its endpoints on another network that take tunnels become one workload, which
//! is reached through that network's gateway and counts for as many as are ready. Whoever may write in another cluster
//! takes nothing by a name that is not given out here as well.
//!
//! The objects of each cluster are compiled by a [`Compiler`] of their own, and what comes out of it is only counted
//! (`remote`), so that a pod that changes there costs that pod and its services.

mod join;
mod remote;
mod report;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use objects::{Kind, Object, ObjectKey, ServiceScopes};
use proto::workload::{Address, address::Type};

use crate::compiler::{Compiler, Output};
use crate::index::Index;
use crate::settings::Settings;
use crate::{network, service};

use self::join::{Joined, Way};
use self::remote::Remote;
pub use self::report::{ClusterReport, Hindrance};

/// How many clusters there may be beside this one.
pub const MAX_CLUSTERS: usize = 100;

/// The objects of this cluster and of others, and what was made of them for the proxies of this one.
#[derive(Debug, Default)]
pub struct Clusters {
    local: Compiler,
    scopes: ServiceScopes,
    remotes: BTreeMap<String, Remote>,
    /// How other networks are reached, where that is known.
    ways: BTreeMap<String, Way>,
    /// What other clusters add to services of this one, where they add something.
    joined: BTreeMap<String, Joined>,
    /// To how many services of this one a cluster adds something.
    counts: BTreeMap<String, usize>,
    made: u64,
}

/// What a change can touch.
#[derive(Debug, Default)]
struct Touched {
    /// By `namespace/hostname`.
    services: BTreeSet<String>,
    /// Gateways of networks.
    ways: bool,
}

/// A changed object; `None`: gone.
type Change = (ObjectKey, Option<Arc<Object>>);

impl Clusters {
    /// This cluster alone, without objects.
    pub fn new(settings: Settings) -> Clusters {
        Clusters {
            local: Compiler::new(settings),
            ..Clusters::default()
        }
    }

    /// The objects of this cluster.
    pub fn local(&self) -> &Compiler {
        &self.local
    }

    /// How many services and gateways were joined again by now: what changes of other clusters cost here.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Takes objects of this cluster that changed, as [`Compiler::apply`] does.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Output {
        if self.remotes.is_empty() {
            return self.local.apply(changes);
        }
        let changes: Vec<Change> = changes.into_iter().collect();
        let mut touched = Touched::default();
        touched.note(self.local.index(), self.local.settings(), &changes);
        let before = self.own_network().to_owned();
        let mut output = self.local.apply(changes);
        // What is joined to them is not to be lost.
        let services = output.addresses.iter().filter(|(_, address)| is_service(address));
        touched.services.extend(services.map(|(name, _)| name.clone()));
        if before != self.own_network() {
            touched.ways = true;
            touched.services.extend(self.all_services());
        }
        self.finish(touched, &mut output);
        output
    }

    /// Takes objects of another cluster that changed. The first of a cluster's make it known. Beyond [`MAX_CLUSTERS`] no
    /// further cluster is.
    ///
    /// Of them only Namespaces, Services, Pods, EndpointSlices, WorkloadEntries and Gateways count. Nothing is told about
    /// them to their authors: they are another control plane's.
    pub fn apply_remote(&mut self, cluster: &str, changes: impl IntoIterator<Item = Change>) -> Output {
        let mut output = Output::default();
        if !self.remotes.contains_key(cluster) && self.remotes.len() >= MAX_CLUSTERS {
            return output;
        }
        let settings = self.local.settings();
        let remote = self.remotes.entry(cluster.to_owned());
        let remote = remote.or_insert_with(|| Remote::new(settings, cluster));
        let before = remote.network().to_owned();
        let changes: Vec<Change> = changes.into_iter().collect();
        let mut touched = Touched::default();
        touched.note(remote.index(), settings, &changes);
        touched.services.extend(remote.apply(changes));
        if before != remote.network() {
            touched.ways = true;
            touched.services.extend(remote.services().cloned());
        }
        self.finish(touched, &mut output);
        output
    }

    /// Forgets another cluster.
    pub fn remove(&mut self, cluster: &str) -> Output {
        let mut output = Output::default();
        if let Some(remote) = self.remotes.remove(cluster) {
            let touched = Touched {
                services: remote.services().cloned().collect(),
                ways: true,
            };
            self.finish(touched, &mut output);
        }
        output
    }

    /// From now on these Services are for all clusters.
    pub fn set_scopes(&mut self, scopes: ServiceScopes) -> Output {
        let mut output = Output::default();
        if self.scopes != scopes {
            self.scopes = scopes;
            let touched = Touched {
                services: self.all_services(),
                ways: false,
            };
            self.finish(touched, &mut output);
        }
        output
    }

    /// How it stands with each of the other clusters, by name.
    pub fn report(&self) -> BTreeMap<String, ClusterReport> {
        let report = |(name, remote): (&String, &Remote)| (name.clone(), report::of(self, name, remote));
        self.remotes.iter().map(report).collect()
    }

    fn own_network(&self) -> &str {
        network::of_mesh(self.local.index(), self.local.settings())
    }

    fn all_services(&self) -> BTreeSet<String> {
        let counted = self.remotes.values().flat_map(Remote::services);
        counted.chain(self.joined.keys()).cloned().collect()
    }

    fn finish(&mut self, mut touched: Touched, output: &mut Output) {
        if touched.ways {
            let changed = self.refresh_ways(output);
            let behind = self
                .remotes
                .values()
                .filter(|remote| changed.contains(remote.network()));
            touched
                .services
                .extend(behind.flat_map(Remote::services).cloned());
        }
        for key in &touched.services {
            self.join(key, output);
        }
    }

    /// Looks anew how networks are reached; gives those of which that changed.
    fn refresh_ways(&mut self, output: &mut Output) -> BTreeSet<String> {
        let own = self.own_network();
        let networks: BTreeSet<&str> = self.remotes.values().map(Remote::network).collect();
        let others = networks
            .into_iter()
            .filter(|network| !network.is_empty() && *network != own);
        let ways: BTreeMap<String, Way> = others
            .filter_map(|network| Some((network.to_owned(), self.way(network)?)))
            .collect();
        let before = std::mem::replace(&mut self.ways, ways);
        let networks = before.keys().chain(self.ways.keys());
        let changed: BTreeSet<String> = networks
            .filter(|network| before.get(*network) != self.ways.get(*network))
            .cloned()
            .collect();
        self.made = self.made.saturating_add(changed.len() as u64);
        let told = |ways: &BTreeMap<String, Way>, network: &String| {
            let way = ways.get(network)?;
            way.workload.clone()
        };
        for network in &changed {
            let (old, new) = (told(&before, network), told(&self.ways, network));
            if let Some(old) = old.filter(|old| new.as_ref().is_none_or(|new| new.uid != old.uid)) {
                self.take_back(old.uid, output);
            }
            if let Some(new) = new {
                put(new.uid.clone(), Type::Workload(new), output);
            }
        }
        changed
    }

    /// By the Gateway that somebody wrote for the network here, or else by that of the first cluster on it that has one.
    fn way(&self, network: &str) -> Option<Way> {
        let (index, settings) = (self.local.index(), self.local.settings());
        if let Some((object, address, port)) = network::first(index, settings, network) {
            return Some(Way {
                gateway: join::name_of(object),
                address: network::reached_at(network, object, address, port),
                // The local compiler tells it.
                workload: None,
            });
        }
        let on_it = |remote: &&Remote| remote.network() == network;
        self.remotes.values().filter(on_it).find_map(Remote::way)
    }

    /// Makes anew what other clusters add to a service.
    fn join(&mut self, key: &str, output: &mut Output) {
        self.made = self.made.saturating_add(1);
        let joined = self.make(key);
        let before = match joined.is_empty() {
            true => self.joined.remove(key),
            false => self.joined.insert(key.to_owned(), joined.clone()),
        };
        let before = before.unwrap_or_default();
        for cluster in joined.from.difference(&before.from) {
            *self.counts.entry(cluster.clone()).or_default() += 1;
        }
        for cluster in before.from.difference(&joined.from) {
            if let Some(count) = self.counts.get_mut(cluster) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(cluster);
                }
            }
        }
        for uid in before.workloads.keys() {
            if !joined.workloads.contains_key(uid) {
                self.take_back(uid.clone(), output);
            }
        }
        for (uid, workload) in &joined.workloads {
            if before.workloads.get(uid) != Some(workload) {
                put(uid.clone(), Type::Workload(workload.clone()), output);
            }
        }
        let plain = self.local.addresses().get(key);
        if let Some(Type::Service(plain)) = plain.and_then(|address| address.r#type.as_ref())
            && (before.accounts != joined.accounts || output.addresses.contains_key(key))
        {
            let told = Type::Service(joined.decorate(plain.clone()));
            put(key.to_owned(), told, output);
        }
    }

    fn make(&self, key: &str) -> Joined {
        let mut joined = Joined::default();
        if !is_global(self.local.index(), self.local.settings(), &self.scopes, key) {
            return joined;
        }
        let settings = self.local.settings();
        for (network, way) in &self.ways {
            let on_it = self
                .remotes
                .iter()
                .filter(|(_, remote)| remote.network() == network);
            let shares = on_it.filter_map(|(name, remote)| Some((name, remote.share(key, &self.scopes)?)));
            joined.add(settings, key, network, way, shares);
        }
        joined
    }

    /// The local compiler may have a resource of the same name, which then counts.
    fn take_back(&self, name: String, output: &mut Output) {
        match self.local.addresses().get(&name) {
            Some(local) => drop(output.addresses.insert(name, local.clone())),
            None => {
                output.addresses.remove(&name);
                output.removed_addresses.insert(name);
            }
        }
    }
}

impl Touched {
    /// Before the changes are taken.
    fn note(&mut self, index: &Index, settings: &Settings, changes: &[Change]) {
        for (key, new) in changes {
            let old = index.get_key(key);
            match key.kind {
                Kind::Service => {
                    let name = service::key(settings, &key.namespace, &key.name);
                    self.services.insert(name);
                }
                Kind::Namespace => {
                    let labels = |object: &Arc<Object>| object.metadata.labels.clone();
                    if old.map(labels) != new.as_ref().map(labels) {
                        let services = index.of(Kind::Service, &key.name);
                        let name = |object: &Arc<Object>| {
                            service::key(settings, &object.metadata.namespace, &object.metadata.name)
                        };
                        self.services.extend(services.map(name));
                    }
                }
                Kind::Gateway => self.ways = true,
                _ => {}
            }
        }
    }
}

/// Whether a Service is for all clusters where it is.
fn is_global(index: &Index, settings: &Settings, scopes: &ServiceScopes, key: &str) -> bool {
    let found = key.split_once('/').and_then(|(namespace, host)| {
        let (object, _) = service::of_hostname(index, settings, host)?;
        (object.metadata.namespace == namespace).then_some(object)
    });
    let Some(object) = found else { return false };
    let namespace = index.get(Kind::Namespace, "", &object.metadata.namespace);
    let none = objects::selector::Labels::new();
    let labels = namespace.map_or(&none, |namespace| &namespace.metadata.labels);
    scopes.is_global(&object.metadata.labels, labels)
}

fn is_service(address: &Address) -> bool {
    matches!(address.r#type, Some(Type::Service(_)))
}

fn put(name: String, told: Type, output: &mut Output) {
    output.removed_addresses.remove(&name);
    output.addresses.insert(name, Address { r#type: Some(told) });
}

#[cfg(test)]
mod tests;
