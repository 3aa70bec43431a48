//! Which namespaces take part in the mesh (`discoverySelectors`), and which policies and entries are of this revision
//! (`istio.io/rev`), without I/O: changes of objects go in, and come out
//! as if there were no others than those that are selected. A namespace that comes brings all its objects,
//! one that goes takes them along.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use objects::{Kind, Object, ObjectKey, Selector, is_of_revision};

/// Changed objects; `None`: gone.
pub(crate) type Changes = BTreeMap<ObjectKey, Option<Arc<Object>>>;

pub(crate) struct Scope {
    /// Takes part always: its policies hold for the whole mesh, and must not vanish by a label.
    root_namespace: String,
    /// Empty: objects of all revisions count.
    revision: String,
    /// Any of them must match; none: every namespace takes part.
    selectors: Vec<Selector>,
    /// Every object that lives in a namespace, and the namespaces themselves, by namespace.
    objects: HashMap<String, HashMap<ObjectKey, Arc<Object>>>,
    shown: HashSet<String>,
}

impl Scope {
    /// Every namespace.
    pub(crate) fn new(root_namespace: String, revision: &str) -> Scope {
        Scope {
            root_namespace,
            revision: revision.to_owned(),
            selectors: Vec::new(),
            objects: HashMap::new(),
            shown: HashSet::new(),
        }
    }

    /// From now on these select; what that changes comes out with the next changes.
    pub(crate) fn select(&mut self, selectors: Vec<Selector>) {
        self.selectors = selectors;
    }

    /// What of these changes concerns the mesh, and what else comes and goes with them.
    pub(crate) fn apply(&mut self, changes: Changes) -> Changes {
        let mut told = Changes::new();
        let mut touched: BTreeMap<String, Changes> = BTreeMap::new();
        for (key, object) in changes {
            let object = object.filter(|object| is_of_revision(object, &self.revision));
            match home(&key) {
                Some(home) => {
                    let home = home.to_owned();
                    self.keep(&home, &key, object.as_ref());
                    touched.entry(home).or_default().insert(key, object);
                }
                None => drop(told.insert(key, object)),
            }
        }
        let turned: BTreeSet<String> = self
            .objects
            .keys()
            .chain(touched.keys())
            .filter(|name| self.selects(name) != self.shown.contains(*name))
            .cloned()
            .collect();
        for (name, changes) in touched {
            // Of a namespace that goes, also what was deleted just now; one that comes is told as it is now.
            if self.shown.contains(&name) {
                told.extend(changes);
            }
        }
        for name in turned {
            let comes = self.selects(&name);
            for (key, object) in self.objects.get(&name).into_iter().flatten() {
                told.insert(key.clone(), comes.then(|| object.clone()));
            }
            if comes {
                self.shown.insert(name);
            } else {
                self.shown.remove(&name);
                // Nothing of it is known any more that changed in the same moment.
                for (_, object) in told.iter_mut().filter(|(key, _)| home(key) == Some(&name)) {
                    *object = None;
                }
            }
        }
        self.objects.retain(|_, objects| !objects.is_empty());
        told
    }

    fn keep(&mut self, home: &str, key: &ObjectKey, object: Option<&Arc<Object>>) {
        match object {
            Some(object) => {
                let objects = self.objects.entry(home.to_owned()).or_default();
                objects.insert(key.clone(), object.clone());
            }
            None => {
                if let Some(objects) = self.objects.get_mut(home) {
                    objects.remove(key);
                }
            }
        }
    }

    fn selects(&self, name: &str) -> bool {
        if self.selectors.is_empty() || name == self.root_namespace {
            return true;
        }
        let key = ObjectKey::new(Kind::Namespace, "", name);
        let namespace = self.objects.get(name).and_then(|objects| objects.get(&key));
        // One without an object of its own has no labels.
        let none = BTreeMap::new();
        let labels = namespace.map_or(&none, |namespace| &namespace.metadata.labels);
        self.selectors.iter().any(|selector| selector.matches(labels))
    }
}

/// The namespace that an object lives in, or is.
fn home(key: &ObjectKey) -> Option<&str> {
    if key.kind == Kind::Namespace {
        Some(&key.name)
    } else {
        key.kind.is_namespaced().then_some(key.namespace.as_str())
    }
}

#[cfg(test)]
mod tests;
