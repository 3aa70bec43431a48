//! Who has how many of something that all share: connections and reviews of an address, streams of a pod.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts places that are taken, by whom. Cheap to clone; every clone counts the same.
#[derive(Clone, Debug)]
pub(crate) struct Places<K> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K> Default for Places<K> {
    fn default() -> Places<K> {
        Places {
            taken: Arc::default(),
        }
    }
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    places: Places<K>,
    by: K,
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// A place, unless `most` are taken by the same.
    pub(crate) fn take(&self, by: K, most: usize) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&by).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        taken.insert(by.clone(), count + 1);
        let places = Places {
            taken: self.taken.clone(),
        };
        Some(Place { places, by })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.by) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.by)),
        }
    }
}
