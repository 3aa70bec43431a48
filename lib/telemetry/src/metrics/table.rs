//! Series by label set, with a cap.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// For how many sweeps a series is kept that nothing was counted in.
pub(crate) const GRACE_SWEEPS: u64 = 5;

/// At most `limit` series, and beyond them those of the overflow label sets.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    series: RwLock<HashMap<Arc<K>, Arc<Entry<V>>>>,
    limit: usize,
    folded: AtomicU64,
    /// How many sweeps there were.
    generation: AtomicU64,
}

/// A series. Whoever holds one keeps it from being evicted.
#[derive(Debug)]
pub(crate) struct Entry<V> {
    value: V,
    /// The generation in which it was last wanted.
    touched: AtomicU64,
}

impl<V> Deref for Entry<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

impl<K: Eq + Hash + Clone, V> Table<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            series: RwLock::default(),
            limit,
            folded: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    /// The series of `key`, made when it is new. When the table is full, that of `overflow(key)`: there are few of
    /// those, so they are kept beyond the limit.
    pub(crate) fn get(
        &self,
        key: &K,
        overflow: impl FnOnce(&K) -> K,
        make: impl FnOnce() -> V,
    ) -> Arc<Entry<V>> {
        let found = self
            .series
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned();
        let entry = found.unwrap_or_else(|| self.insert(key, overflow, make));
        self.touch(&entry);
        entry
    }

    /// Says that a series is still wanted.
    pub(crate) fn touch(&self, entry: &Entry<V>) {
        entry
            .touched
            .store(self.generation.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Begins another generation, and lists the keys of which nothing was wanted for [`GRACE_SWEEPS`] of them.
    pub(crate) fn idle(&self) -> Vec<Arc<K>> {
        let now = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let table = self.series.read().unwrap_or_else(PoisonError::into_inner);
        table
            .iter()
            .filter(|(_, entry)| is_idle(entry, now))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Drops the idle series that `gone` tells. Says how many.
    pub(crate) fn evict(&self, gone: impl Fn(&K) -> bool) -> usize {
        let now = self.generation.load(Ordering::Relaxed);
        let mut table = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let before = table.len();
        table.retain(|key, entry| !(is_idle(entry, now) && gone(key)));
        before - table.len()
    }

    /// Drops every series.
    pub(crate) fn clear(&self) {
        self.series
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Every series there is. The table is locked only while the list is made.
    pub(crate) fn all(&self) -> Vec<(Arc<K>, Arc<Entry<V>>)> {
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

    fn insert(&self, key: &K, overflow: impl FnOnce(&K) -> K, make: impl FnOnce() -> V) -> Arc<Entry<V>> {
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
            .or_insert_with(|| {
                Arc::new(Entry {
                    value: make(),
                    touched: AtomicU64::new(0),
                })
            })
            .clone()
    }
}

/// Nobody holds it, and nobody wanted it lately.
fn is_idle<V>(entry: &Arc<Entry<V>>, now: u64) -> bool {
    Arc::strong_count(entry) == 1 && entry.touched.load(Ordering::Relaxed) + GRACE_SWEEPS <= now
}
