//! What is named, with the objects that name it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use objects::ObjectKey;

/// What is named, with the objects that name it.
#[derive(Debug)]
pub(crate) struct Links<T>(BTreeMap<T, BTreeSet<ObjectKey>>);

impl<T> Default for Links<T> {
    fn default() -> Links<T> {
        Links(BTreeMap::new())
    }
}

impl<T: Ord> Links<T> {
    /// The object named the old things and names the new ones now.
    pub(super) fn change(&mut self, by: &ObjectKey, old: Vec<T>, new: Vec<T>) {
        for named in old {
            if let Some(names) = self.0.get_mut(&named) {
                names.remove(by);
                if names.is_empty() {
                    self.0.remove(&named);
                }
            }
        }
        for named in new {
            self.0.entry(named).or_default().insert(by.clone());
        }
    }

    /// What is named within a range, each with one that names it.
    pub(super) fn within(&self, range: RangeInclusive<T>) -> impl Iterator<Item = (&T, &ObjectKey)> {
        let named = self.0.range(range);
        named.flat_map(|(named, by)| by.iter().map(move |key| (named, key)))
    }

    /// Who names it, in the order of their keys.
    pub(crate) fn naming<'a, Q>(&'a self, named: &Q) -> impl Iterator<Item = &'a ObjectKey> + use<'a, T, Q>
    where
        T: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.get(named).into_iter().flatten()
    }
}
