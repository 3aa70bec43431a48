//! How many requests one caller may have under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts requests under way by key.
#[derive(Clone, Default)]
pub(super) struct Limit {
    under_way: Arc<Mutex<HashMap<String, usize>>>,
}

/// One request under way; dropping it ends it.
pub(super) struct Permit {
    limit: Limit,
    key: String,
}

impl Limit {
    /// Admits a request, unless `most` of the same key are under way.
    pub(super) fn admit(&self, key: String, most: usize) -> Option<Permit> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(key.clone()).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Permit {
            limit: self.clone(),
            key,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut under_way = self
            .limit
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
