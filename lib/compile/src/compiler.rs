//! Keeps the objects and what was made of them, and makes again what a change can have touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use objects::{AllocatedAddress, Kind, Object, ObjectKey, Spec, Warning};
use proto::security::Authorization;
use proto::workload::{Address, Workload, address::Type};

use crate::condition::Condition;
use crate::index::Index;
use crate::peer_authentication::EffectiveMtls;
use crate::settings::Settings;
use crate::waypoint::{self, InFront};
use crate::{
    authorization_policy, endpoint, entry, network, peer_authentication, service, service_entry,
    trust_domain, vip, workload,
};

mod dirty;

use dirty::Dirty;

/// Holds the objects and what was made of them.
#[derive(Debug, Default)]
pub struct Compiler {
    settings: Settings,
    index: Index,
    addresses: BTreeMap<String, Address>,
    policies: BTreeMap<String, Authorization>,
    conditions: BTreeMap<ObjectKey, Vec<Condition>>,
    choices: vip::Choices,
    made: u64,
}

/// What changes on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// Workloads by uid and services by `namespace/hostname` that are new or other than before.
    pub addresses: BTreeMap<String, Address>,
    /// Policies by `namespace/name` that are new or other than before.
    pub policies: BTreeMap<String, Authorization>,
    /// Names of addresses that are gone.
    pub removed_addresses: BTreeSet<String>,
    /// Names of policies that are gone.
    pub removed_policies: BTreeSet<String>,
    /// The whole set of conditions of each policy, Service, ServiceEntry and WorkloadEntry that was given this time, and
    /// of others whose conditions are other than before. Empty where there is nothing to be told, as of a policy that
    /// is no affair of node proxies, and once for an object that is gone: it may be there still, as another control
    /// plane's.
    pub conditions: BTreeMap<ObjectKey, Vec<Condition>>,
    /// The addresses that the statuses of ServiceEntries are to list (`status.addresses`) and do not. They count from
    /// when they do: nothing else makes an address a host's.
    pub allocations: BTreeMap<ObjectKey, Vec<AllocatedAddress>>,
    /// What objects that were given this time mean other than their authors may think, as far as it takes the mesh
    /// to know it. [`objects::warnings`] tells what an object shows by itself.
    pub warnings: Vec<Warning>,
}

impl Output {
    /// Whether nothing changes on the wire.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
            && self.policies.is_empty()
            && self.removed_addresses.is_empty()
            && self.removed_policies.is_empty()
    }
}

impl Compiler {
    /// A compiler that knows no object.
    pub fn new(settings: Settings) -> Compiler {
        Compiler {
            settings,
            ..Compiler::default()
        }
    }

    /// What is the same for the whole mesh.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Every workload by uid and every service by `namespace/hostname`, as they are now.
    pub fn addresses(&self) -> &BTreeMap<String, Address> {
        &self.addresses
    }

    /// Every policy by `namespace/name`, as they are now.
    pub fn policies(&self) -> &BTreeMap<String, Authorization> {
        &self.policies
    }

    /// The conditions of every policy, as they are now.
    pub fn conditions(&self) -> &BTreeMap<ObjectKey, Vec<Condition>> {
        &self.conditions
    }

    /// Whether a port of a pod takes plaintext, and which PeerAuthentication says so; `None` asks for every port that
    /// no policy names. The pod itself need not be known here.
    pub fn effective_mtls(&self, pod: &Object, port: Option<u16>) -> EffectiveMtls {
        peer_authentication::effective(&self.index, &self.settings.root_namespace, pod, port)
    }

    /// The PeerAuthentication that counts for a pod instead of others that select it by its labels.
    pub fn peer_authentication_of(&self, pod: &Object) -> Option<ObjectKey> {
        let root = &self.settings.root_namespace;
        peer_authentication::deciding_for_pod(&self.index, root, pod).map(Object::key)
    }

    /// The PeerAuthentication that counts in a namespace instead of others without a selector; of the root namespace,
    /// the one that counts for the mesh.
    pub fn peer_authentication_of_namespace(&self, namespace: &str) -> Option<ObjectKey> {
        let root = &self.settings.root_namespace;
        peer_authentication::deciding_for_namespace(&self.index, root, namespace).map(Object::key)
    }

    /// How many objects, hosts and networks were made again by now: what all changes cost.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// What stands in front of a Pod, Service, ServiceEntry or WorkloadEntry that is known here.
    pub fn in_front_of(&self, key: &ObjectKey) -> InFront {
        waypoint::in_front_of(&self.index, &self.settings, key)
    }

    /// Takes objects that changed (`None`: gone) and answers what changes on the wire. All of them are taken before
    /// anything is made, so the answer shows no state in between.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = (ObjectKey, Option<Arc<Object>>)>) -> Output {
        self.apply_for(None, changes)
    }

    /// The same for somebody who looks at nothing but the policies, the services and these pods, and then takes the
    /// changes back by this method and for the same pods: other workloads stay as they were before, and the cost does
    /// not grow with them.
    ///
    /// The changes must be of AuthorizationPolicies and PeerAuthentications: what a workload is besides the policies
    /// that it lists must not change.
    pub fn apply_policies_for(
        &mut self,
        pods: &BTreeSet<ObjectKey>,
        changes: impl IntoIterator<Item = (ObjectKey, Option<Arc<Object>>)>,
    ) -> Output {
        self.apply_for(Some(pods), changes)
    }

    fn apply_for(
        &mut self,
        pods: Option<&BTreeSet<ObjectKey>>,
        changes: impl IntoIterator<Item = (ObjectKey, Option<Arc<Object>>)>,
    ) -> Output {
        let mut dirty = Dirty::default();
        let mut given = BTreeSet::new();
        for (key, object) in changes {
            let old = self.index.set(key.clone(), object.clone());
            dirty.mark(&self.settings, old.as_deref(), object.as_deref());
            given.insert(key);
        }
        dirty.mark_flipped(&self.index.take_flipped());
        let mut output = Output::default();
        let has_peer_authentications = dirty.peer_authentications();
        let stale = dirty.stale(&self.index, &self.settings, pods);
        let made = stale.sources.len() + stale.hosts.len() + stale.networks.len();
        self.made = self.made.saturating_add(made as u64);
        for key in &stale.sources {
            let object = self.index.get_key(key).cloned();
            self.make(key, object.as_deref(), &mut output);
        }
        for (namespace, host) in &stale.hosts {
            self.make_host(namespace, host, &mut output);
        }
        for network in &stale.networks {
            let made = network::workloads(&self.index, &self.settings, network);
            self.put_workloads(&network::uid_prefix(network), made, &mut output);
        }
        if has_peer_authentications {
            let root = &self.settings.root_namespace;
            let any = self.index.all(objects::Kind::PeerAuthentication).next().is_some();
            let name = format!("{root}/{}", peer_authentication::STATIC_STRICT_POLICY);
            let policy = any.then(|| peer_authentication::static_strict(root));
            self.put_policy(name, policy, &mut output);
        }
        for key in &given {
            if let Some(conditions) = self.conditions.get(key) {
                output.conditions.insert(key.clone(), conditions.clone());
            }
        }
        output.warnings = self.warnings(&given);
        let entries = stale.sources.into_iter().chain(given);
        let entries: BTreeSet<ObjectKey> = entries.filter(|key| key.kind == Kind::ServiceEntry).collect();
        if !entries.is_empty() {
            let chosen = self.choices.update(&self.index, entries);
            output.allocations = chosen.wanted;
            let without = chosen.without.into_iter().map(|(object, host)| Warning {
                object,
                field: "spec.hosts".to_owned(),
                message: format!("no address is left for {host}: give one in spec.addresses"),
            });
            output.warnings.extend(without);
        }
        output
    }

    /// Makes everything that stems from one object.
    fn make(&mut self, key: &ObjectKey, object: Option<&Object>, output: &mut Output) {
        let (index, settings) = (&self.index, &self.settings);
        let spec = object.map(|object| (object, &object.spec));
        match key.kind {
            Kind::Pod => {
                let made = match spec {
                    Some((object, Spec::Pod(pod))) => workload::convert(index, settings, object, pod),
                    _ => None,
                };
                let made = made.map(|workload| Address {
                    r#type: Some(Type::Workload(workload)),
                });
                self.put_address(workload::uid(settings, &key.namespace, &key.name), made, output);
            }
            Kind::Service => {
                let conditions = match spec {
                    Some((object, Spec::Service(content))) => {
                        Some(service::conditions(index, settings, object, content))
                    }
                    _ => None,
                };
                self.put_conditions(key, conditions, output);
            }
            Kind::ServiceEntry => {
                let made = match spec {
                    Some((object, Spec::ServiceEntry(content))) => {
                        let (workloads, told) = service_entry::workloads(index, settings, object, content);
                        let conditions = service_entry::conditions(index, settings, object, content, told);
                        Some((workloads, conditions))
                    }
                    _ => None,
                };
                let (workloads, conditions) = made.unzip();
                let prefix = service_entry::uid_prefix(settings, &key.namespace, &key.name);
                self.put_workloads(&prefix, workloads.unwrap_or_default(), output);
                self.put_conditions(key, conditions, output);
            }
            Kind::WorkloadEntry => {
                let made = match spec {
                    Some((object, Spec::WorkloadEntry(content))) => {
                        Some(entry::convert(index, settings, object, content))
                    }
                    _ => None,
                };
                let (workload, conditions) = made.unzip();
                let address = workload.flatten().map(|workload| Address {
                    r#type: Some(Type::Workload(workload)),
                });
                self.put_address(entry::uid(settings, &key.namespace, &key.name), address, output);
                self.put_conditions(key, conditions, output);
            }
            Kind::EndpointSlice => {
                let made = object
                    .map(|object| endpoint::convert(index, settings, object))
                    .unwrap_or_default();
                let prefix = endpoint::uid_prefix(settings, &key.namespace, &key.name);
                self.put_workloads(&prefix, made, output);
            }
            Kind::AuthorizationPolicy => {
                let made =
                    match spec {
                        Some((object, Spec::AuthorizationPolicy(policy))) => Some(
                            authorization_policy::convert(object, policy, &settings.root_namespace),
                        ),
                        _ => None,
                    };
                let (policy, condition) = made.map(|made| (made.policy, made.condition)).unzip();
                let bound = match spec {
                    Some((object, Spec::AuthorizationPolicy(policy))) => {
                        waypoint::targets::condition(index, settings, object, policy)
                    }
                    _ => None,
                };
                let conditions = condition.map(|condition| condition.into_iter().chain(bound).collect());
                let policy = policy
                    .flatten()
                    .map(|policy| trust_domain::with_aliases(settings, policy));
                self.put_policy(format!("{}/{}", key.namespace, key.name), policy, output);
                self.put_conditions(key, conditions, output);
            }
            Kind::PeerAuthentication => {
                let root = &settings.root_namespace;
                let made = match spec {
                    Some((object, Spec::PeerAuthentication(policy))) => Some((
                        peer_authentication::convert(index, root, object, policy),
                        peer_authentication::condition(index, root, object, policy),
                    )),
                    _ => None,
                };
                let (policy, condition) = made.unzip();
                let name = peer_authentication::converted_key(&key.namespace, &key.name);
                self.put_policy(name, policy.flatten(), output);
                self.put_conditions(key, condition.map(|condition| vec![condition]), output);
            }
            Kind::Namespace
            | Kind::ServiceAccount
            | Kind::Deployment
            | Kind::Node
            | Kind::NetworkPolicy
            | Kind::Gateway
            | Kind::GatewayClass
            | Kind::WorkloadGroup
            | Kind::ConfigMap => {}
        }
    }

    /// Makes the service of a host in a namespace: a Service stands before ServiceEntries.
    fn make_host(&mut self, namespace: &str, host: &str, output: &mut Output) {
        let (index, settings) = (&self.index, &self.settings);
        let of_service = service::of_hostname(index, settings, host);
        let made = match of_service.filter(|(object, _)| object.metadata.namespace == namespace) {
            Some((object, content)) => service::convert(index, settings, object, content),
            None => service_entry::service(index, settings, namespace, host),
        };
        let made = made.map(|service| Address {
            r#type: Some(Type::Service(service)),
        });
        self.put_address(service_entry::service_key(namespace, host), made, output);
    }

    /// Puts all workloads whose names begin so; those that are not given are gone.
    fn put_workloads(&mut self, prefix: &str, mut made: BTreeMap<String, Workload>, output: &mut Output) {
        let mut names: BTreeSet<String> = made.keys().cloned().collect();
        let known = self.addresses.range(prefix.to_owned()..).map(|(name, _)| name);
        names.extend(known.take_while(|name| name.starts_with(prefix)).cloned());
        for name in names {
            let made = made.remove(&name).map(|workload| Address {
                r#type: Some(Type::Workload(workload)),
            });
            self.put_address(name, made, output);
        }
    }

    fn put_address(&mut self, name: String, made: Option<Address>, output: &mut Output) {
        if self.addresses.get(&name) == made.as_ref() {
            return;
        }
        match made {
            Some(made) => {
                self.addresses.insert(name.clone(), made.clone());
                output.addresses.insert(name, made);
            }
            None => {
                self.addresses.remove(&name);
                output.removed_addresses.insert(name);
            }
        }
    }

    fn put_policy(&mut self, name: String, made: Option<Authorization>, output: &mut Output) {
        if self.policies.get(&name) == made.as_ref() {
            return;
        }
        match made {
            Some(made) => {
                self.policies.insert(name.clone(), made.clone());
                output.policies.insert(name, made);
            }
            None => {
                self.policies.remove(&name);
                output.removed_policies.insert(name);
            }
        }
    }

    fn put_conditions(&mut self, key: &ObjectKey, made: Option<Vec<Condition>>, output: &mut Output) {
        if self.conditions.get(key) == made.as_ref() {
            return;
        }
        match made {
            Some(made) => {
                self.conditions.insert(key.clone(), made.clone());
                output.conditions.insert(key.clone(), made);
            }
            None => {
                self.conditions.remove(key);
                output.conditions.insert(key.clone(), Vec::new());
            }
        }
    }

    fn warnings(&self, given: &BTreeSet<ObjectKey>) -> Vec<Warning> {
        let known = |key: &ObjectKey| Some((key.clone(), self.conditions.get(key)?));
        let gateways = given.iter().filter(|key| key.kind == Kind::Gateway);
        let gateways = gateways.filter_map(|key| self.index.get_key(key));
        let mut found: Vec<Warning> = gateways
            .filter_map(|object| network::warning(&self.settings, object))
            .collect();
        for (object, conditions) in given.iter().filter_map(known) {
            let unclean = conditions.iter().filter(|condition| !condition.is_clean());
            found.extend(unclean.map(|condition| Warning {
                object: object.clone(),
                field: "spec".to_owned(),
                message: condition.message.clone(),
            }));
        }
        found
    }
}

#[cfg(test)]
mod tests;
