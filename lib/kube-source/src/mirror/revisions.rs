//! The numbers of batches. Pure.
//!
//! The resource versions of several kinds cannot be compared, so batches are counted. A writer wants to know from
//! which batch on its write is known; but the write comes back by a watch that may be slow, while other batches pass.
//! So a write gets a number far ahead, batches stay below it until the write has come back, and then jump to it.

use std::collections::HashMap;

use objects::ObjectKey;

/// How far ahead the number of a write is: so many batches may pass before it comes back. Beyond, batches that pass
/// share a number.
const AHEAD: u64 = 1 << 20;

/// The numbers given so far.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    /// Of the last batch.
    last: u64,
    /// The highest that was promised.
    promised: u64,
    /// Of the writes that came back since the last batch.
    returned: u64,
    /// The writes that have not come back, at most one for each object that exists: version and number.
    awaited: HashMap<ObjectKey, (u64, u64)>,
}

impl Revisions {
    /// The number of the next batch.
    pub(super) fn next(&mut self) -> u64 {
        let next = (self.last + 1).max(self.returned);
        let bound = self.awaited.values().map(|(_, number)| number - 1).min();
        self.last = bound.map_or(next, |bound| next.min(bound)).max(self.last);
        self.last
    }

    /// Whether there must be another batch, be it an empty one, for a write that came back.
    pub(super) fn is_owed(&self) -> bool {
        let bound = self.awaited.values().map(|(_, number)| *number).min();
        self.returned > self.last && bound.is_none_or(|bound| bound > self.returned)
    }

    /// Something is known already, or will be with the next batch.
    pub(super) fn told(&self, is_owed: bool) -> u64 {
        self.last + u64::from(is_owed)
    }

    /// A number for a write that will come back with this version.
    pub(super) fn reserve(&mut self, key: &ObjectKey, version: u64) -> u64 {
        self.promised = self.promised.max(self.last) + AHEAD;
        let number = self.promised;
        // An earlier write of the same object is known with the later one; what waits for its number waits longer.
        self.awaited.insert(key.clone(), (version, number));
        number
    }

    /// An object was told of in this version.
    pub(super) fn seen(&mut self, key: &ObjectKey, version: Option<u64>) {
        let Some((awaited, _)) = self.awaited.get(key) else {
            return;
        };
        if version.is_none_or(|version| version >= *awaited) {
            self.gone(key);
        }
    }

    /// An object does not exist any more, and nothing of it will come back.
    pub(super) fn gone(&mut self, key: &ObjectKey) {
        if let Some((_, number)) = self.awaited.remove(key) {
            self.returned = self.returned.max(number);
        }
    }
}
