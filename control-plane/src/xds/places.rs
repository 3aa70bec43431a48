//! How many places one pod, or one address, has taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts places that are taken, by whom. Cheap to clone; every clone counts the same.
#[derive(Clone, Default)]
pub(crate) struct Places {
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// One place; dropping it gives it back.
pub(crate) struct Place {
    places: Places,
    by: String,
}

impl Places {
    /// A place, unless `most` are taken by the same.
    pub(crate) fn take(&self, by: String, most: usize) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&by).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        taken.insert(by.clone(), count + 1);
        let places = self.clone();
        Some(Place { places, by })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.by) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.by)),
        }
    }
}
