//! Several batches as one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use object_store::{Batch, StoreChange};
use objects::{Kind, Object, ObjectKey};

use super::others::Works;

/// Changes that wait to be compiled, each object once.
#[derive(Default)]
pub(super) struct Merged {
    waiting: Work,
    /// Every object that exists, as far as was told.
    known: HashSet<ObjectKey>,
    /// How many of them there are, by kind.
    objects: BTreeMap<Kind, usize>,
    /// What a source that was begun anew and counts from one has counted before.
    before: u64,
}

/// What the compiler is given; `None`: gone.
#[derive(Default)]
pub(super) struct Work {
    pub(super) changes: BTreeMap<ObjectKey, Option<Arc<Object>>>,
    pub(super) revision: u64,
    /// What other clusters bring.
    pub(super) others: Works,
}

impl Merged {
    /// Takes a batch over; returns its changes, and with a batch that holds everything also the deletions that it
    /// implies.
    pub(super) fn add(&mut self, batch: Batch) -> Vec<StoreChange> {
        let mut changes = batch.changes;
        if batch.initial {
            let mut gone = self.known.clone();
            for change in &changes {
                if let StoreChange::Put(object) = change {
                    gone.remove(&object.key());
                }
            }
            changes.extend(gone.into_iter().map(StoreChange::Delete));
        }
        if batch.initial && batch.revision < self.waiting.revision {
            self.before = self.waiting.revision;
        }
        self.waiting.revision = batch.revision + self.before;
        for change in &changes {
            match change {
                StoreChange::Put(object) => {
                    let key = object.key();
                    if self.known.insert(key.clone()) {
                        *self.objects.entry(key.kind).or_insert(0) += 1;
                    }
                    self.waiting.changes.insert(key, Some(object.clone()));
                }
                StoreChange::Delete(key) => {
                    if self.known.remove(key)
                        && let Some(count) = self.objects.get_mut(&key.kind)
                    {
                        *count -= 1;
                    }
                    self.waiting.changes.insert(key.clone(), None);
                }
            }
        }
        changes
    }

    /// How many changes wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.changes.len()
    }

    /// How many objects there are, by kind.
    pub(super) fn objects(&self) -> &BTreeMap<Kind, usize> {
        &self.objects
    }

    pub(super) fn take(&mut self) -> Work {
        let revision = self.waiting.revision;
        std::mem::replace(
            &mut self.waiting,
            Work {
                revision,
                ..Work::default()
            },
        )
    }
}
