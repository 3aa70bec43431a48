//! What a change can touch. Too much only costs time; too little would leave something stale, which the test of
//! incremental against whole compilation looks for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use objects::{
    IpBlock, Kind, NETWORK_LABEL, Object, ObjectKey, Spec, TRAFFIC_DISTRIBUTION_ANNOTATION, TargetRef,
    WAYPOINT_CLASS,
};

use crate::block;
use crate::index::{Index, blocks, endpoints, given, held, slice_of_service, target_pods, wanted};
use crate::settings::Settings;
use crate::workload::locality;
use crate::{authorization_policy, network, service, waypoint};

/// The kinds that workloads are made from.
const WORKLOADS: [Kind; 3] = [Kind::Pod, Kind::WorkloadEntry, Kind::ServiceEntry];
/// The kinds in front of which waypoints stand.
const BEHIND_WAYPOINTS: [Kind; 4] = [Kind::Service, Kind::Pod, Kind::WorkloadEntry, Kind::ServiceEntry];

/// What has to be made again.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// These objects.
    keys: BTreeSet<ObjectKey>,
    /// All objects of the kind in the namespace.
    namespaces: BTreeSet<(Kind, String)>,
    /// All objects of the kind.
    kinds: BTreeSet<Kind>,
    /// The pods on these nodes.
    nodes: BTreeSet<String>,
    /// The slices of these Services, by namespace and name.
    services: BTreeSet<(String, String)>,
    /// The services of these hosts, in these namespaces and in all that have ServiceEntries for them.
    hosts: BTreeSet<(String, String)>,
    /// The ServiceEntries that have these addresses, and what has an endpoint there.
    addresses: BTreeSet<IpAddr>,
    /// The entries that have addresses, blocks or endpoints in these.
    blocks: BTreeSet<IpBlock>,
    /// The same of these entries' addresses and blocks.
    claims: BTreeSet<ObjectKey>,
    /// The same of those of all entries of these namespaces.
    relabelled: BTreeSet<String>,
    /// What names these waypoints, by namespace and name.
    waypoints: BTreeSet<(String, String)>,
    /// What names the waypoints of these classes.
    classes: BTreeSet<String>,
    /// The gateways of these networks, and the workloads on them.
    networks: BTreeSet<String>,
    peer_authentications: bool,
}

/// What is made again.
#[derive(Debug, Default)]
pub(super) struct Stale {
    /// What stems from these objects, gone ones included.
    pub(super) sources: BTreeSet<ObjectKey>,
    /// The services of these namespaces and hosts.
    pub(super) hosts: BTreeSet<(String, String)>,
    /// The gateways of these networks.
    pub(super) networks: BTreeSet<String>,
}

impl Dirty {
    /// Notes what a change from `old` to `new` can touch.
    pub(super) fn mark(&mut self, settings: &Settings, old: Option<&Object>, new: Option<&Object>) {
        let root = &settings.root_namespace;
        let Some(any) = new.or(old) else { return };
        let key = any.key();
        let namespace = key.namespace.clone();
        let both = || old.into_iter().chain(new);
        let same_spec = old.map(|object| &object.spec) == new.map(|object| &object.spec);
        // No entry of another namespace may have these; of those that its author wants, no younger one.
        if old.map(held) != new.map(held) {
            self.addresses.extend(both().flat_map(held));
        }
        let is_other = |object: &Object| (wanted(object), object.metadata.creation_timestamp.clone());
        if old.map(is_other) != new.map(is_other) {
            self.addresses.extend(both().flat_map(wanted));
        }
        self.addresses.extend(both().flat_map(endpoints));
        match key.kind {
            Kind::Pod | Kind::WorkloadEntry => {}
            Kind::Service => {
                let hostname = service::hostname(settings, &namespace, &key.name);
                self.hosts.insert((namespace.clone(), hostname));
                if !same_spec {
                    for kind in [Kind::Pod, Kind::WorkloadEntry] {
                        self.namespaces.insert((kind, namespace.clone()));
                    }
                    self.services.insert((namespace, key.name.clone()));
                }
            }
            Kind::EndpointSlice => {
                for (namespace, name) in both().flat_map(target_pods) {
                    self.keys.insert(ObjectKey::new(Kind::Pod, &namespace, &name));
                }
            }
            Kind::Node => {
                if old.and_then(locality) != new.and_then(locality) {
                    self.nodes.insert(key.name.clone());
                }
            }
            Kind::Namespace => self.mark_namespace(root, &key.name, old, new),
            Kind::AuthorizationPolicy => {
                if old.and_then(listing) != new.and_then(listing) {
                    self.widen(&WORKLOADS, root, &namespace);
                }
                if targets(old) != targets(new) {
                    for target in [old, new].into_iter().flat_map(targets) {
                        self.mark_target(&namespace, target);
                    }
                }
            }
            Kind::PeerAuthentication => {
                self.peer_authentications = true;
                self.widen(&WORKLOADS, root, &namespace);
                self.widen(&[Kind::PeerAuthentication], root, &namespace);
            }
            Kind::ServiceEntry => {
                if !same_spec || labels(old) != labels(new) || created(old) != created(new) {
                    self.blocks.extend(both().flat_map(blocks));
                }
                for entry in both().filter_map(Object::as_service_entry) {
                    let host = |host: &String| (namespace.clone(), host.clone());
                    self.hosts.extend(entry.hosts.iter().map(host));
                    let given = entry.addresses.iter().filter_map(block::single);
                    self.addresses.extend(given);
                    let chosen = entry.allocated.iter().map(|one| one.address);
                    self.addresses.extend(chosen);
                    if entry.workload_selector.is_some() && (!same_spec || created(old) != created(new)) {
                        for kind in [Kind::Pod, Kind::WorkloadEntry] {
                            self.namespaces.insert((kind, namespace.clone()));
                        }
                    }
                }
            }
            Kind::Gateway => {
                let is_other = !same_spec || labels(old) != labels(new);
                if is_other {
                    self.waypoints.insert((namespace.clone(), key.name.clone()));
                }
                if is_other
                    || old.map(network::account_of_gateway) != new.map(network::account_of_gateway)
                    || created(old) != created(new)
                {
                    self.networks.extend(both().filter_map(network::of_gateway));
                }
                let binding = |object: &Object| {
                    let annotations = &object.metadata.annotations;
                    annotations.get(waypoint::BINDING_ANNOTATION).cloned()
                };
                if !same_spec || old.and_then(binding) != new.and_then(binding) {
                    self.namespaces.insert((Kind::Pod, namespace));
                }
                // Nothing stems from it by itself.
                return;
            }
            Kind::GatewayClass => {
                self.classes.insert(key.name);
                return;
            }
            Kind::ServiceAccount
            | Kind::Deployment
            | Kind::NetworkPolicy
            | Kind::WorkloadGroup
            | Kind::ConfigMap => return,
        }
        self.keys.insert(key);
    }

    /// Notes the entries in whose blocks there is something of others now and was nothing, or the other way around.
    pub(super) fn mark_flipped(&mut self, entries: &BTreeSet<ObjectKey>) {
        self.keys.extend(entries.iter().cloned());
        self.claims.extend(entries.iter().cloned());
    }

    /// Whether a PeerAuthentication changed.
    pub(super) fn peer_authentications(&self) -> bool {
        self.peer_authentications
    }

    /// What to make again. Where `pods` are given, policies changed, and of the workloads that are widely touched only
    /// these are.
    pub(super) fn stale(
        mut self,
        index: &Index,
        settings: &Settings,
        pods: Option<&BTreeSet<ObjectKey>>,
    ) -> Stale {
        self.follow(index, settings);
        let mut sources = self.keys;
        if let Some(pods) = pods {
            let is_touched = |key: &&ObjectKey| {
                self.kinds.contains(&Kind::Pod)
                    || self.namespaces.contains(&(Kind::Pod, key.namespace.clone()))
                    || sources.contains(key)
            };
            let touched: Vec<ObjectKey> = pods.iter().filter(is_touched).cloned().collect();
            sources.retain(|key| key.kind != Kind::Pod);
            sources.extend(touched);
            self.kinds.retain(|kind| !WORKLOADS.contains(kind));
            self.namespaces.retain(|(kind, _)| !WORKLOADS.contains(kind));
        }
        for kind in &self.kinds {
            sources.extend(index.all(*kind).map(|object| object.key()));
        }
        for (kind, namespace) in self
            .namespaces
            .iter()
            .filter(|(kind, _)| !self.kinds.contains(kind))
        {
            sources.extend(index.of(*kind, namespace).map(|object| object.key()));
        }
        if !self.nodes.is_empty() && !self.kinds.contains(&Kind::Pod) {
            let on_node = |pod: &&std::sync::Arc<Object>| {
                pod.as_pod()
                    .is_some_and(|pod| self.nodes.contains(&pod.spec.node_name))
            };
            sources.extend(index.all(Kind::Pod).filter(on_node).map(|object| object.key()));
        }
        for (namespace, service) in &self.services {
            let slices = index.of(Kind::EndpointSlice, namespace);
            let own = slices.filter(|slice| slice_of_service(slice).is_some_and(|(_, name)| name == service));
            sources.extend(own.map(|object| object.key()));
        }
        let attached = attached(index, &sources, &self.waypoints, &self.classes);
        sources.extend(attached);
        let mut hosts = self.hosts.clone();
        for (_, host) in &self.hosts {
            let others = index.entries_of_host(host);
            hosts.extend(others.map(|(object, _)| (object.metadata.namespace.clone(), host.clone())));
        }
        for key in &sources {
            let host = |host: String| (key.namespace.clone(), host);
            match key.kind {
                Kind::Service => {
                    let hostname = service::hostname(settings, &key.namespace, &key.name);
                    hosts.insert(host(hostname));
                }
                Kind::ServiceEntry => {
                    let entry = index.get_key(key).and_then(|object| object.as_service_entry());
                    // Another one may have to speak for the name now.
                    for name in entry.into_iter().flat_map(|entry| &entry.hosts) {
                        let others = index.entries_of_host(name);
                        let others = others.map(|(other, _)| other.metadata.namespace.clone());
                        hosts.extend(others.map(|namespace| (namespace, name.clone())));
                    }
                }
                _ => {}
            }
        }
        Stale {
            sources,
            hosts,
            networks: self.networks,
        }
    }

    /// From what is named to the objects that name it.
    fn follow(&mut self, index: &Index, settings: &Settings) {
        for class in &self.classes {
            let of_class = index.all(Kind::Gateway).filter(|object| {
                object
                    .as_gateway()
                    .is_some_and(|gateway| gateway.class_name == *class)
            });
            for gateway in of_class {
                let metadata = &gateway.metadata;
                self.waypoints
                    .insert((metadata.namespace.clone(), metadata.name.clone()));
                self.namespaces.insert((Kind::Pod, metadata.namespace.clone()));
            }
        }
        for user in self
            .waypoints
            .iter()
            .flat_map(|waypoint| index.users_of_waypoint(waypoint))
        {
            if user.kind == Kind::Namespace {
                let kinds = BEHIND_WAYPOINTS.map(|kind| (kind, user.name.clone()));
                self.namespaces.extend(kinds);
            } else {
                self.keys.insert(user.clone());
            }
        }
        if !self.networks.is_empty() {
            self.kinds.extend([Kind::WorkloadEntry, Kind::ServiceEntry]);
            if self.networks.contains(network::of_mesh(index, settings)) {
                self.kinds.insert(Kind::Pod);
            }
        }
        let addresses = index.addresses();
        // What an entry may keep from others decides about what lies in its blocks, and about the younger with an address
        // of its own; nothing decides about that in turn.
        let claims = self.claims.iter().filter_map(|key| index.get_key(key));
        let relabelled = self
            .relabelled
            .iter()
            .flat_map(|namespace| index.of(Kind::ServiceEntry, namespace));
        for object in claims.chain(relabelled) {
            self.blocks.extend(blocks(object));
            self.addresses.extend(given(object));
        }
        for address in &self.addresses {
            self.keys.extend(addresses.given(*address).cloned());
            self.keys.extend(addresses.endpoints(*address).cloned());
        }
        for block in &self.blocks {
            self.keys.extend(addresses.inside(*block).cloned());
        }
    }

    fn mark_namespace(&mut self, root: &str, name: &str, old: Option<&Object>, new: Option<&Object>) {
        let annotation = |object: &Object| {
            object
                .metadata
                .annotations
                .get(TRAFFIC_DISTRIBUTION_ANNOTATION)
                .cloned()
        };
        if old.and_then(annotation) != new.and_then(annotation) {
            for kind in [Kind::Service, Kind::ServiceEntry] {
                self.namespaces.insert((kind, name.to_owned()));
            }
        }
        // A waypoint may admit Namespaces by any label; the share of a second one is an annotation.
        let named =
            |object: Option<&Object>| object.is_some_and(|object| waypoint::names(object).next().is_some());
        let annotations = |object: Option<&Object>| object.map(|object| object.metadata.annotations.clone());
        if labels(old) != labels(new) || (named(new) && annotations(old) != annotations(new)) {
            let kinds = BEHIND_WAYPOINTS.map(|kind| (kind, name.to_owned()));
            self.namespaces.extend(kinds);
        }
        if labels(old) != labels(new) {
            self.relabelled.insert(name.to_owned());
        }
        let network = |object: Option<&Object>| {
            let metadata = &object?.metadata;
            metadata.labels.get(NETWORK_LABEL).cloned()
        };
        if name == root && network(old) != network(new) {
            self.kinds.extend(BEHIND_WAYPOINTS);
            self.kinds.insert(Kind::EndpointSlice);
        }
    }

    /// What a policy that is attached to a target decides about: whether a waypoint that cannot be used closes the way.
    fn mark_target(&mut self, namespace: &str, target: &TargetRef) {
        let key = |kind| ObjectKey::new(kind, namespace, &target.name);
        match target.kind.as_str() {
            "Service" => drop(self.keys.insert(key(Kind::Service))),
            "ServiceEntry" => drop(self.keys.insert(key(Kind::ServiceEntry))),
            "Gateway" => drop(self.waypoints.insert((namespace.to_owned(), target.name.clone()))),
            "GatewayClass" if target.name == WAYPOINT_CLASS => self.kinds.extend(BEHIND_WAYPOINTS),
            _ => {}
        }
    }

    /// Marks the kinds in the namespace, or everywhere when it is the root namespace.
    fn widen(&mut self, kinds: &[Kind], root: &str, namespace: &str) {
        for kind in kinds {
            if namespace == root {
                self.kinds.insert(*kind);
            } else {
                self.namespaces.insert((*kind, namespace.to_owned()));
            }
        }
    }
}

/// The policies whose targets, or what stands in front of those, may be other than before.
fn attached(
    index: &Index,
    sources: &BTreeSet<ObjectKey>,
    waypoints: &BTreeSet<(String, String)>,
    classes: &BTreeSet<String>,
) -> Vec<ObjectKey> {
    let policies_of = |target: &ObjectKey| index.policies_attached_to(target).cloned().collect::<Vec<_>>();
    let behind = sources.iter().filter(|key| BEHIND_WAYPOINTS.contains(&key.kind));
    let mut found: Vec<ObjectKey> = behind.flat_map(policies_of).collect();
    for (namespace, name) in waypoints {
        found.extend(policies_of(&ObjectKey::new(Kind::Gateway, namespace, name)));
    }
    for class in classes {
        found.extend(policies_of(&ObjectKey::new(Kind::GatewayClass, "", class)));
    }
    found
}

/// What the order by age goes by: an object that was deleted and written again at once is another one.
fn created(object: Option<&Object>) -> Option<&str> {
    object?.metadata.creation_timestamp.as_deref()
}

fn labels(object: Option<&Object>) -> Option<&objects::selector::Labels> {
    object.map(|object| &object.metadata.labels)
}

/// What a policy is attached to, if it is enforced there.
fn targets(object: Option<&Object>) -> &[TargetRef] {
    match object.map(|object| (&object.spec, authorization_policy::is_dry_run(object))) {
        Some((Spec::AuthorizationPolicy(policy), false)) => &policy.target_refs,
        _ => &[],
    }
}

/// The labels by which pods list a policy, and whether they list it as a dry run; `None` when no pod does.
fn listing(object: &Object) -> Option<(&objects::selector::Labels, bool)> {
    match &object.spec {
        Spec::AuthorizationPolicy(policy)
            if authorization_policy::is_sent(policy) && !policy.selector.is_empty() =>
        {
            Some((&policy.selector, authorization_policy::is_dry_run(object)))
        }
        _ => None,
    }
}
