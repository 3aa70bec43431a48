//! Series by label set, with a cap.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// At most `limit` series, and beyond them those of the overflow label sets.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    series: RwLock<HashMap<Arc<K>, Arc<V>>>,
    limit: usize,
    folded: AtomicU64,
}

impl<K: Eq + Hash + Clone, V> Table<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            series: RwLock::default(),
            limit,
            folded: AtomicU64::new(0),
        }
    }

    /// The series of `key`, made when it is new. When the table is full, that of `overflow(key)`: there are few of
    /// those, so they are kept beyond the limit.
    pub(crate) fn get(&self, key: &K, overflow: impl FnOnce(&K) -> K, make: impl FnOnce() -> V) -> Arc<V> {
        if let Some(series) = self
            .series
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
        {
            return series.clone();
        }
        let mut table = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = table.get(key) {
            return series.clone();
        }
        let key = if table.len() < self.limit {
            key.clone()
        } else {
            self.folded.fetch_add(1, Ordering::Relaxed);
            overflow(key)
        };
        table
            .entry(Arc::new(key))
            .or_insert_with(|| Arc::new(make()))
            .clone()
    }

    /// Drops the series whose key is not to be kept.
    pub(crate) fn retain(&self, keep: impl Fn(&K) -> bool) {
        self.series
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|key, _| keep(key));
    }

    /// Every series there is. The table is locked only while the list is made.
    pub(crate) fn all(&self) -> Vec<(Arc<K>, Arc<V>)> {
        let table = self.series.read().unwrap_or_else(PoisonError::into_inner);
        table
            .iter()
            .map(|(key, series)| (key.clone(), series.clone()))
            .collect()
    }

    /// How many times a series was wanted that the table had no room for.
    pub(crate) fn folded(&self) -> u64 {
        self.folded.load(Ordering::Relaxed)
    }
}
