//! Lists of values that are searched without walking them.

mod numbers;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{ServiceAccountMatch, StringMatch};
use crate::identity::Identity;
pub(super) use numbers::{BlockIndex, PortIndex};

/// Lists of fewer values are walked: that is faster and takes no memory.
pub(super) const INDEXED_FROM: usize = 8;

/// What a list of string matches accepts. The sets are only asked, never iterated.
#[derive(Debug, Clone, Default)]
pub(super) struct StringIndex {
    exact: HashSet<Arc<str>>,
    /// Sorted, and none begins with another.
    prefixes: Vec<Arc<str>>,
    /// Sorted as if written backwards, and none ends with another.
    suffixes: Vec<Arc<str>>,
    presence: bool,
}

/// What a list of accounts accepts: names by namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct AccountIndex {
    names: HashMap<Arc<str>, HashSet<Arc<str>>>,
}

impl StringIndex {
    pub(super) fn new<'a>(list: impl IntoIterator<Item = &'a StringMatch>) -> Self {
        let mut index = Self::default();
        for value in list {
            match value {
                StringMatch::Exact(text) => {
                    index.exact.insert(text.clone());
                }
                StringMatch::Prefix(text) => index.prefixes.push(text.clone()),
                StringMatch::Suffix(text) => index.suffixes.push(text.clone()),
                StringMatch::Presence => index.presence = true,
            }
        }
        // Behind a text come all that begin with it, so one look at the last one kept is enough.
        index.prefixes.sort_unstable();
        index.prefixes.dedup_by(|text, kept| text.starts_with(&**kept));
        index.suffixes.sort_unstable_by(|a, b| backwards(a, b));
        index.suffixes.dedup_by(|text, kept| text.ends_with(&**kept));
        index
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        let exact = || self.exact.contains(value);
        (self.presence && !value.is_empty())
            || exact()
            || self.has_prefix_of(value)
            || self.has_suffix_of(value)
    }

    /// A prefix of `value` sorts before it, and whatever stands between the two begins with that prefix too. As no
    /// kept one begins with another, only the last one that is not behind `value` can be a prefix of it.
    fn has_prefix_of(&self, value: &str) -> bool {
        let behind = self.prefixes.partition_point(|prefix| &**prefix <= value);
        let last = behind.checked_sub(1).and_then(|at| self.prefixes.get(at));
        last.is_some_and(|prefix| value.starts_with(&**prefix))
    }

    fn has_suffix_of(&self, value: &str) -> bool {
        let behind = self
            .suffixes
            .partition_point(|suffix| backwards(suffix, value) != Ordering::Greater);
        let last = behind.checked_sub(1).and_then(|at| self.suffixes.get(at));
        last.is_some_and(|suffix| value.ends_with(&**suffix))
    }
}

impl AccountIndex {
    pub(super) fn new<'a>(list: impl IntoIterator<Item = &'a ServiceAccountMatch>) -> Self {
        let mut index = Self::default();
        for account in list {
            let names = index.names.entry(account.namespace.clone()).or_default();
            names.insert(account.service_account.clone());
        }
        index
    }

    pub(super) fn matches(&self, identity: &Identity) -> bool {
        self.names
            .get(identity.namespace())
            .is_some_and(|names| names.contains(identity.service_account()))
    }
}

/// The order of texts that are read from their ends.
fn backwards(a: &str, b: &str) -> Ordering {
    a.bytes().rev().cmp(b.bytes().rev())
}

#[cfg(test)]
mod tests;
