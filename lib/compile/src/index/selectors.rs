//! Which objects select given labels, found by one label of each selector: the cost does not grow with the objects
//! whose selectors ask for other labels.

use std::collections::{BTreeSet, HashMap};

use objects::selector::Labels;
use objects::{Kind, Object, Spec};

/// The names of objects that have a selector, by kind and namespace.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    places: HashMap<(Kind, String), Place>,
}

/// The objects of one kind in one namespace. Each is in exactly one of the sets.
#[derive(Debug, Default)]
struct Place {
    /// By one label that the selector asks for, and its value.
    by_label: HashMap<String, HashMap<String, BTreeSet<String>>>,
    /// Those whose selector asks for nothing.
    without: BTreeSet<String>,
}

impl Selectors {
    pub(super) fn insert(&mut self, object: &Object) {
        let Some(selector) = selector_of(object) else {
            return;
        };
        let metadata = &object.metadata;
        let place = (object.kind(), metadata.namespace.clone());
        let place = self.places.entry(place).or_default();
        // The rarest of its labels is the one that finds it least often in vain.
        let rarest = selector
            .iter()
            .min_by_key(|(label, value)| place.asking(label, value).map_or(0, BTreeSet::len));
        let names = match rarest {
            Some((label, value)) => {
                let values = place.by_label.entry(label.clone()).or_default();
                values.entry(value.clone()).or_default()
            }
            None => &mut place.without,
        };
        names.insert(metadata.name.clone());
    }

    pub(super) fn remove(&mut self, object: &Object) {
        let Some(selector) = selector_of(object) else {
            return;
        };
        let metadata = &object.metadata;
        let key = (object.kind(), metadata.namespace.clone());
        let Some(place) = self.places.get_mut(&key) else {
            return;
        };
        place.without.remove(&metadata.name);
        for (label, value) in selector {
            place.remove(label, value, &metadata.name);
        }
        if place.without.is_empty() && place.by_label.is_empty() {
            self.places.remove(&key);
        }
    }

    /// The names of the objects whose selector may select these labels; those without a selector are not among them.
    pub(super) fn candidates(&self, kind: Kind, namespace: &str, labels: &Labels) -> BTreeSet<&str> {
        let place = self.places.get(&(kind, namespace.to_owned()));
        let found = place.into_iter().flat_map(|place| {
            labels
                .iter()
                .filter_map(|(label, value)| place.asking(label, value))
        });
        found.flatten().map(String::as_str).collect()
    }

    /// The names of the objects whose selector asks for nothing, in order.
    pub(super) fn without(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &str> {
        let place = self.places.get(&(kind, namespace.to_owned()));
        place
            .into_iter()
            .flat_map(|place| place.without.iter().map(String::as_str))
    }
}

impl Place {
    fn asking(&self, label: &str, value: &str) -> Option<&BTreeSet<String>> {
        self.by_label.get(label)?.get(value)
    }

    fn remove(&mut self, label: &str, value: &str, name: &str) {
        let Some(values) = self.by_label.get_mut(label) else {
            return;
        };
        if let Some(names) = values.get_mut(value) {
            names.remove(name);
            if names.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.by_label.remove(label);
        }
    }
}

/// The labels that an object selects workloads by; `None` for kinds that select none.
pub(super) fn selector_of(object: &Object) -> Option<&Labels> {
    match &object.spec {
        Spec::AuthorizationPolicy(policy) => Some(&policy.selector),
        Spec::PeerAuthentication(policy) => Some(&policy.selector),
        Spec::Service(service) => Some(&service.selector),
        Spec::ServiceEntry(entry) => entry.workload_selector.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
