//! The objects, found by kind, namespace and what they name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use objects::selector::{self, Labels};
use objects::{EndpointSlice, Kind, Object, ObjectKey, ServiceEntry, Spec};

use crate::{network, waypoint};

mod addresses;
mod blocks;
mod links;
mod selectors;

use addresses::Addresses;
pub(crate) use addresses::{blocks, endpoints, given, held, wanted};
use links::Links;
use selectors::{Selectors, selector_of};

/// The objects. Lists come in the order of their names, so that nothing depends on the order of events.
#[derive(Debug, Default)]
pub(crate) struct Index {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// Namespace and name of a pod to the slices (of the same namespace) that name it.
    slices_of_pod: BTreeMap<(String, String), BTreeSet<String>>,
    selectors: Selectors,
    /// Hosts to the ServiceEntries that stand for them.
    hosts: Links<String>,
    addresses: Addresses,
    /// Waypoints, by namespace and name, to the objects whose labels name them.
    waypoints: Links<(String, String)>,
    /// What policies are attached to, to those policies.
    targets: Links<ObjectKey>,
    /// Networks to the Gateways that are their gateways.
    gateways: Links<String>,
}

impl Index {
    /// Puts or removes an object; gives the one that was there.
    pub(crate) fn set(&mut self, key: ObjectKey, object: Option<Arc<Object>>) -> Option<Arc<Object>> {
        let old = match &object {
            Some(object) => self.objects.insert(key.clone(), Arc::clone(object)),
            None => self.objects.remove(&key),
        };
        old.iter().for_each(|old| self.selectors.remove(old));
        object.iter().for_each(|new| self.selectors.insert(new));
        for pod in old.iter().flat_map(|old| target_pods(old)) {
            if let Some(slices) = self.slices_of_pod.get_mut(&pod) {
                slices.remove(&key.name);
                if slices.is_empty() {
                    self.slices_of_pod.remove(&pod);
                }
            }
        }
        for pod in object.iter().flat_map(|new| target_pods(new)) {
            self.slices_of_pod
                .entry(pod)
                .or_default()
                .insert(key.name.clone());
        }
        let (before, after) = (old.as_deref(), object.as_deref());
        self.hosts.change(&key, hosts(before), hosts(after));
        self.addresses.change(&key, before, after);
        let waypoints = |object| waypoint::names(object).collect();
        self.waypoints.change(
            &key,
            before.map(waypoints).unwrap_or_default(),
            after.map(waypoints).unwrap_or_default(),
        );
        let targets = |object: Option<&Object>| object.map(waypoint::targets::named_by).unwrap_or_default();
        self.targets.change(&key, targets(before), targets(after));
        let networks = |object: Option<&Object>| object.and_then(network::of_gateway).into_iter().collect();
        self.gateways.change(&key, networks(before), networks(after));
        old
    }

    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&ObjectKey::new(kind, namespace, name))
    }

    pub(crate) fn get_key(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// Every object of a kind.
    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        let from = ObjectKey {
            kind,
            namespace: String::new(),
            name: String::new(),
        };
        self.objects
            .range(from..)
            .take_while(move |(key, _)| key.kind == kind)
            .map(|(_, object)| object)
    }

    /// Every object of a kind in a namespace.
    pub(crate) fn of<'a>(&'a self, kind: Kind, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Object>> {
        let from = ObjectKey {
            kind,
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let inside = move |key: &ObjectKey| key.kind == kind && key.namespace == namespace;
        self.objects
            .range(from..)
            .take_while(move |(key, _)| inside(key))
            .map(|(_, object)| object)
    }

    /// The objects of a kind in a namespace whose selector selects these labels, in the order of their names; those
    /// without a selector are not among them.
    pub(crate) fn selecting(&self, kind: Kind, namespace: &str, labels: &Labels) -> Vec<&Object> {
        let names = self.selectors.candidates(kind, namespace, labels);
        let objects = names
            .into_iter()
            .filter_map(|name| self.get(kind, namespace, name));
        objects
            .map(Arc::as_ref)
            .filter(|object| selector_of(object).is_some_and(|wanted| selector::matches(labels, wanted)))
            .collect()
    }

    /// The objects of a kind in a namespace that have no selector, in the order of their names.
    pub(crate) fn without_selector<'a>(
        &'a self,
        kind: Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Object> {
        let names = self.selectors.without(kind, namespace);
        names.filter_map(move |name| self.get(kind, namespace, name).map(Arc::as_ref))
    }

    /// The ServiceEntries that stand for a host.
    pub(crate) fn entries_of_host<'a>(
        &'a self,
        host: &str,
    ) -> impl Iterator<Item = (&'a Object, &'a ServiceEntry)> + use<'a> {
        let keys = self.hosts.naming(host);
        keys.filter_map(|key| service_entry(self.get_key(key)?))
    }

    /// The ServiceEntries that have an address, chosen by their author or for them.
    pub(crate) fn entries_with_address(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = (&Object, &ServiceEntry)> {
        let keys = self.addresses.given(address);
        keys.filter_map(|key| service_entry(self.get_key(key)?))
    }

    /// Who has which addresses, and who wrote them down.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The entries in whose blocks there is something of another namespace now and was nothing, or the other way around,
    /// since this was asked last.
    pub(crate) fn take_flipped(&mut self) -> BTreeSet<ObjectKey> {
        self.addresses.take_flipped()
    }

    /// The objects whose labels name a waypoint, Namespaces among them.
    pub(crate) fn users_of_waypoint(&self, waypoint: &(String, String)) -> impl Iterator<Item = &ObjectKey> {
        self.waypoints.naming(waypoint)
    }

    /// The policies that are attached to an object, whether it is there or not.
    pub(crate) fn policies_attached_to(&self, target: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.targets.naming(target)
    }

    /// The Gateways of a network.
    pub(crate) fn gateways_of_network(&self, network: &str) -> impl Iterator<Item = &Arc<Object>> {
        let keys = self.gateways.naming(network);
        keys.filter_map(|key| self.get_key(key))
    }

    /// The names of the Services whose slices name this very pod (same uid).
    pub(crate) fn services_naming(&self, pod: &Object) -> BTreeSet<&str> {
        let metadata = &pod.metadata;
        let place = (metadata.namespace.clone(), metadata.name.clone());
        let slices = self.slices_of_pod.get(&place).into_iter().flatten();
        let mut names = BTreeSet::new();
        for slice in slices.filter_map(|name| self.get(Kind::EndpointSlice, &metadata.namespace, name)) {
            let Some((content, service)) = slice_of_service(slice) else {
                continue;
            };
            let mut targets = content
                .endpoints
                .iter()
                .filter_map(|endpoint| endpoint.target.as_ref());
            if targets.any(|target| {
                target.kind == "Pod"
                    && target.namespace == metadata.namespace
                    && target.name == metadata.name
                    && target.uid == metadata.uid
            }) {
                names.insert(service);
            }
        }
        names
    }
}

fn service_entry(object: &Arc<Object>) -> Option<(&Object, &ServiceEntry)> {
    Some((object.as_ref(), object.as_service_entry()?))
}

fn hosts(object: Option<&Object>) -> Vec<String> {
    let entry = object.and_then(Object::as_service_entry);
    entry.map(|entry| entry.hosts.clone()).unwrap_or_default()
}

/// A slice and the name of its Service.
pub(crate) fn slice_of_service(object: &Object) -> Option<(&EndpointSlice, &str)> {
    let Spec::EndpointSlice(slice) = &object.spec else {
        return None;
    };
    let service = object.metadata.labels.get(objects::SERVICE_NAME_LABEL)?;
    Some((slice, service))
}

/// The pods that a slice names.
pub(crate) fn target_pods(object: &Object) -> Vec<(String, String)> {
    let Spec::EndpointSlice(slice) = &object.spec else {
        return Vec::new();
    };
    let targets = slice
        .endpoints
        .iter()
        .filter_map(|endpoint| endpoint.target.as_ref());
    let pods = targets.filter(|target| target.kind == "Pod" && target.namespace == object.metadata.namespace);
    pods.map(|target| (target.namespace.clone(), target.name.clone()))
        .collect()
}
