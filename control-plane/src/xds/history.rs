//! The recent views of the mesh, each one change after the one before, so that a proxy can be led through the changes
//! one by one.

use std::collections::VecDeque;
use std::sync::Arc;

use super::table::View;

/// How many views are remembered. A proxy that is further behind is told of the whole difference at once.
pub(crate) const MAX_VIEWS: usize = 256;
/// How many views more, that were remembered as one with the next, are known again when a proxy comes back with them.
const MAX_MERGED: usize = 256;

/// Never empty. Cheap enough to clone for every change: the views share what they have in common.
#[derive(Clone)]
pub(crate) struct History {
    remembered: VecDeque<Remembered>,
    merged: VecDeque<Arc<View>>,
    latest: Arc<View>,
}

#[derive(Clone)]
struct Remembered {
    view: Arc<View>,
    /// The generation of the view from which this one is one change away.
    follows: u64,
}

impl History {
    /// A history that begins with this view.
    pub(crate) fn new(view: Arc<View>) -> History {
        let mut history = History {
            remembered: VecDeque::new(),
            merged: VecDeque::new(),
            latest: view.clone(),
        };
        let follows = view.generation;
        history.remembered.push_back(Remembered { view, follows });
        history
    }

    /// Adds the view that one change made of the latest. Changes that touch addresses alone need no order among
    /// them: several in a row are remembered as one.
    pub(crate) fn push(&mut self, view: Arc<View>) {
        let follows = self.latest.generation;
        self.latest = view.clone();
        if !self.merges(&view) {
            self.remembered.push_back(Remembered { view, follows });
            if self.remembered.len() > MAX_VIEWS {
                self.remembered.pop_front();
            }
        } else if let Some(last) = self.remembered.back_mut() {
            self.merged.push_back(std::mem::replace(&mut last.view, view));
            if self.merged.len() > MAX_MERGED {
                self.merged.pop_front();
            }
        }
    }

    /// The view of now.
    pub(crate) fn latest(&self) -> &Arc<View> {
        &self.latest
    }

    /// The view that whoever was told of a generation is told of next; `None` when that was the latest, or so long
    /// ago that it is not known what came next.
    pub(crate) fn after(&self, generation: u64) -> Option<&Arc<View>> {
        let next = self
            .remembered
            .partition_point(|one| one.view.generation <= generation);
        let next = self.remembered.get(next)?;
        (next.follows <= generation).then_some(&next.view)
    }

    /// The latest view of those that are so.
    pub(crate) fn find(&self, is_so: impl Fn(&View) -> bool) -> Option<&Arc<View>> {
        let remembered = self.remembered.iter().map(|one| &one.view);
        let all = remembered.chain(&self.merged).filter(|view| is_so(view));
        all.max_by_key(|view| view.generation)
    }

    /// Whether this view and the last that is remembered need no order between them.
    fn merges(&self, view: &View) -> bool {
        let mut newest_first = self.remembered.iter().rev().map(|one| &one.view);
        let (Some(last), before) = (newest_first.next(), newest_first.next()) else {
            return false;
        };
        let same_policies = |one: &View, other: &View| one.policies.sequence() == other.policies.sequence();
        let same_addresses = last.addresses.sequence() == view.addresses.sequence();
        let last_is_of_addresses = before.is_some_and(|before| same_policies(before, last));
        same_policies(last, view) && (same_addresses || last_is_of_addresses)
    }
}

#[cfg(test)]
mod tests;
