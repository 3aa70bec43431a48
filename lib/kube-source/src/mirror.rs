//! The latest state of every object, and what the reader has not been told yet. Pure.
//!
//! A reader that is slow finds each object once, however often it changed. What is held is one version of every
//! object that exists and a mark for each that the reader is owed: never a queue.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use object_store::{Batch, Position, SourceError, StoreChange};
use objects::{Kind, Object, ObjectKey};

use crate::error::{Failure, Sort};
use crate::kinds;
use crate::read::{Seen, same};
use revisions::Revisions;

mod revisions;

/// Where the objects of a kind stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindState {
    /// They have not been listed yet.
    Waiting,
    /// They are known.
    Present,
    /// The cluster has no such kind: its custom resource definition is not there (yet).
    Absent,
}

/// How it is with one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindStatus {
    /// The kind.
    pub kind: Kind,
    /// Where it stands.
    pub state: KindState,
    /// How many objects are known.
    pub objects: usize,
    /// How many of them cannot be read as they are now.
    pub unreadable: usize,
    /// Why they are not kept up to date at the moment, in one word.
    pub reason: Option<&'static str>,
    /// Why, in the server's words.
    pub problem: Option<String>,
}

/// What was found out about a stored object that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) key: ObjectKey,
    pub(crate) problem: String,
    /// Whether an older version of it stays in force.
    pub(crate) kept: bool,
}

/// The custom resource definitions, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Definitions {
    /// They have not been listed yet.
    #[default]
    Unknown,
    /// They may not be read, or the server has none: a 404 is all that can be known of a kind.
    Unavailable,
    /// These there are, by name.
    Known(BTreeSet<String>),
}

/// The objects of a source.
#[derive(Debug)]
pub(crate) struct Mirror {
    kinds: BTreeMap<Kind, Known>,
    definitions: Definitions,
    /// What the reader is owed, with whether it knows the object already.
    owed: BTreeMap<ObjectKey, bool>,
    /// Failures that the reader is owed, the latest of each kind.
    failures: BTreeMap<Kind, String>,
    revisions: Revisions,
    is_initial: bool,
    /// How far the reader was with the last batch.
    position: Option<Position>,
}

#[derive(Debug)]
struct Known {
    state: KindState,
    /// The last answer was that there is no such kind.
    is_missing: bool,
    /// Which list an object was last seen in.
    list: u64,
    /// The highest version that the watch has told of, or the list has.
    highest: u64,
    /// Up to this version everything was told, by list, watch or bookmark.
    reached: Option<u64>,
    objects: HashMap<ObjectKey, Entry>,
    unreadable: usize,
    problem: Option<(Sort, String)>,
    /// Which of its versions the server has.
    served: usize,
}

#[derive(Debug)]
struct Entry {
    uid: String,
    version: Option<u64>,
    list: u64,
    /// The object; none where it never could be read.
    object: Option<Arc<Object>>,
    problem: Option<String>,
}

impl Mirror {
    pub(crate) fn new(kinds: impl IntoIterator<Item = Kind>) -> Mirror {
        let known = || Known {
            state: KindState::Waiting,
            is_missing: false,
            list: 0,
            highest: 0,
            reached: None,
            objects: HashMap::new(),
            unreadable: 0,
            problem: None,
            served: 0,
        };
        Mirror {
            kinds: kinds.into_iter().map(|kind| (kind, known())).collect(),
            definitions: Definitions::default(),
            owed: BTreeMap::new(),
            failures: BTreeMap::new(),
            revisions: Revisions::default(),
            is_initial: true,
            position: None,
        }
    }

    /// The first page of a list comes.
    pub(crate) fn list_begins(&mut self, kind: Kind) {
        if let Some(known) = self.kinds.get_mut(&kind) {
            known.list += 1;
        }
    }

    /// An object of a list. It counts at once; only what a list does not have is known when it ends.
    pub(crate) fn listed(&mut self, seen: Seen) -> Option<Complaint> {
        self.put(seen)
    }

    /// The list is complete: what was not in it is gone. `version` is the list's own.
    pub(crate) fn list_ends(&mut self, kind: Kind, version: Option<u64>) {
        let Some(known) = self.kinds.get_mut(&kind) else {
            return;
        };
        known.state = KindState::Present;
        known.is_missing = false;
        // The history may be another than before: its versions may be lower.
        known.highest = version.unwrap_or(0);
        known.reached = version;
        let list = known.list;
        let gone: Vec<_> = known
            .objects
            .iter()
            .filter(|(_, entry)| entry.list != list)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.remove(&key);
        }
        self.recovered(kind);
    }

    /// The watch tells of an object that is new or has changed.
    pub(crate) fn changed(&mut self, seen: Seen) -> Option<Complaint> {
        if !self.advances(seen.key.kind, seen.version) {
            return None;
        }
        self.recovered(seen.key.kind);
        self.put(seen)
    }

    /// The watch tells that an object is gone.
    pub(crate) fn deleted(&mut self, seen: &Seen) {
        if !self.advances(seen.key.kind, seen.version) {
            return;
        }
        self.recovered(seen.key.kind);
        let known = self.kinds.get(&seen.key.kind);
        let entry = known.and_then(|known| known.objects.get(&seen.key));
        if entry.is_some_and(|entry| entry.uid == seen.uid) {
            self.remove(&seen.key);
        }
    }

    /// The watch says that it has told everything up to this version.
    pub(crate) fn marked(&mut self, kind: Kind, version: Option<u64>) {
        if let Some(known) = self.kinds.get_mut(&kind) {
            known.reached = known.reached.max(version);
        }
    }

    /// How far the reader is with its last batch.
    pub(crate) fn position(&self) -> Option<Position> {
        let last = self.position.as_ref()?;
        // While nothing is owed, the last batch has everything that was told since.
        Some(if self.owed.is_empty() {
            self.reached(last.revision)
        } else {
            last.clone()
        })
    }

    fn reached(&self, revision: u64) -> Position {
        let versions = self.kinds.iter().filter_map(|(kind, known)| {
            let version = known.reached.filter(|_| known.state == KindState::Present)?;
            Some((kind.plural(), version))
        });
        Position {
            revision,
            versions: versions.collect(),
        }
    }

    /// Which of the versions of a kind the server has.
    pub(crate) fn serves(&mut self, kind: Kind, version: usize) {
        if let Some(known) = self.kinds.get_mut(&kind) {
            known.served = version;
        }
    }

    pub(crate) fn served(&self, kind: Kind) -> usize {
        self.kinds.get(&kind).map_or(0, |known| known.served)
    }

    /// A request for a kind failed. True when that is news.
    pub(crate) fn failed(&mut self, kind: Kind, failure: &Failure) -> bool {
        let Some(known) = self.kinds.get_mut(&kind) else {
            return false;
        };
        let news = known
            .problem
            .as_ref()
            .is_none_or(|(sort, _)| *sort != failure.sort);
        known.problem = Some((failure.sort, failure.problem.clone()));
        if let (Sort::Absent, Some(name)) = (failure.sort, kinds::definition(kind)) {
            known.is_missing = true;
            let is_defined = matches!(&self.definitions, Definitions::Known(names) if names.contains(&name));
            if news && is_defined {
                let problem = format!("{name} is defined, but not served in a version that is read here");
                self.failures.insert(kind, problem);
            }
            return self.settle_absence(kind);
        }
        // What has expired is listed again right away.
        if news && failure.sort != Sort::Expired {
            self.failures.insert(kind, failure.problem.clone());
        }
        news
    }

    /// What is known of the custom resource definitions now. True when that is news.
    pub(crate) fn define(&mut self, definitions: Definitions) -> bool {
        if self.definitions == definitions {
            return false;
        }
        self.definitions = definitions;
        let missing = self.kinds.iter().filter(|(_, known)| known.is_missing);
        let missing: Vec<_> = missing.map(|(kind, _)| *kind).collect();
        for kind in missing {
            self.settle_absence(kind);
        }
        true
    }

    /// What the reader is to be told now, if anything: everything once every kind is known, and then what changed.
    pub(crate) fn take(&mut self) -> Option<Result<Batch, SourceError>> {
        if let Some((kind, problem)) = self.failures.pop_first() {
            let what = kind.plural().to_owned();
            return Some(Err(SourceError::Remote { what, problem }));
        }
        if self.is_initial {
            let waiting = |known: &Known| known.state == KindState::Waiting;
            if self.kinds.values().any(waiting) {
                return None;
            }
        } else if self.owed.is_empty() && !self.revisions.is_owed() {
            return None;
        }
        let changes = if self.is_initial {
            self.everything()
        } else {
            self.take_owed()
        };
        self.owed.clear();
        let revision = self.revisions.next();
        self.position = Some(self.reached(revision));
        Some(Ok(Batch {
            revision,
            changes,
            initial: std::mem::replace(&mut self.is_initial, false),
        }))
    }

    /// An object was written, and has this version since. Returns the revision of a batch by which the reader knows
    /// it.
    pub(crate) fn wrote(&mut self, key: &ObjectKey, uid: &str, version: Option<u64>) -> u64 {
        let entry = self.kinds.get(&key.kind).and_then(|known| known.objects.get(key));
        match (entry, version) {
            (Some(entry), Some(version)) if entry.uid == uid => {
                if entry.version.is_some_and(|known| known >= version) {
                    self.revisions
                        .told(self.owed.contains_key(key) || self.is_initial)
                } else {
                    self.revisions.reserve(key, version)
                }
            }
            _ => self.revisions.told(!self.owed.is_empty() || self.is_initial),
        }
    }

    /// How it is with every kind.
    pub(crate) fn status(&self) -> Vec<KindStatus> {
        let status = |(kind, known): (&Kind, &Known)| KindStatus {
            kind: *kind,
            state: known.state,
            objects: known.objects.len(),
            unreadable: known.unreadable,
            reason: known.problem.as_ref().map(|(sort, _)| sort.word()),
            problem: known.problem.as_ref().map(|(_, problem)| problem.clone()),
        };
        self.kinds.iter().map(status).collect()
    }

    fn put(&mut self, seen: Seen) -> Option<Complaint> {
        let known = self.kinds.get_mut(&seen.key.kind)?;
        let list = known.list;
        let old = known.objects.remove(&seen.key);
        let existed = old.as_ref().is_some_and(|old| old.object.is_some());
        let old_problem = old.as_ref().and_then(|old| old.problem.clone());
        let old_object = old
            .as_ref()
            .filter(|old| old.uid == seen.uid)
            .and_then(|old| old.object.clone());
        let was_other = old.is_some_and(|old| old.uid != seen.uid);
        let (object, problem) = match seen.object {
            Ok(object) => (Some(object), None),
            Err(problem) => (old_object.clone(), Some(problem)),
        };
        let is_change = match (&old_object, &object) {
            (Some(old), Some(new)) => !Arc::ptr_eq(old, new) && !same(old, new),
            (None, None) => was_other && existed,
            _ => true,
        };
        // Who says the same stays the same, also for who compares pointers.
        let object = if is_change { object } else { old_object.or(object) };
        known.unreadable += usize::from(problem.is_some());
        known.unreadable -= usize::from(old_problem.is_some());
        let complaint = problem
            .as_ref()
            .filter(|problem| Some(*problem) != old_problem.as_ref())
            .map(|problem| Complaint {
                key: seen.key.clone(),
                problem: problem.clone(),
                kept: object.is_some(),
            });
        let entry = Entry {
            uid: seen.uid,
            version: seen.version,
            list,
            object,
            problem,
        };
        known.objects.insert(seen.key.clone(), entry);
        self.revisions.seen(&seen.key, seen.version);
        if is_change {
            self.owe(seen.key, existed);
        }
        complaint
    }

    fn remove(&mut self, key: &ObjectKey) {
        let Some(known) = self.kinds.get_mut(&key.kind) else {
            return;
        };
        let Some(old) = known.objects.remove(key) else {
            return;
        };
        known.unreadable -= usize::from(old.problem.is_some());
        self.revisions.gone(key);
        if old.object.is_some() {
            self.owe(key.clone(), true);
        }
    }

    fn owe(&mut self, key: ObjectKey, existed: bool) {
        // Before the first batch the reader knows nothing, and is told everything.
        if !self.is_initial {
            self.owed.entry(key).or_insert(existed);
        }
    }

    /// Whether an event of a watch is later than what was told before. One that is not has been told already: it was
    /// sent again, or comes from a server that is behind.
    fn advances(&mut self, kind: Kind, version: Option<u64>) -> bool {
        let (Some(known), Some(version)) = (self.kinds.get_mut(&kind), version) else {
            return true;
        };
        let advances = version >= known.highest;
        known.highest = known.highest.max(version);
        known.reached = known.reached.max(Some(known.highest));
        advances
    }

    fn recovered(&mut self, kind: Kind) {
        if let Some(known) = self.kinds.get_mut(&kind) {
            known.problem = None;
        }
    }

    /// Takes a kind for absent if that is certain. The server says 404 also while it does not know yet what it has,
    /// and then no policy may vanish: so its custom resource definition must be known not to be there.
    fn settle_absence(&mut self, kind: Kind) -> bool {
        let certain = match (&self.definitions, kinds::definition(kind)) {
            (Definitions::Known(names), Some(name)) => !names.contains(&name),
            // All there is to know; but what was there before stays.
            (Definitions::Unavailable, Some(_)) => self
                .kinds
                .get(&kind)
                .is_some_and(|known| known.objects.is_empty()),
            _ => false,
        };
        let Some(known) = self.kinds.get_mut(&kind) else {
            return false;
        };
        if !certain {
            return false;
        }
        let news = known.state != KindState::Absent;
        known.state = KindState::Absent;
        known.problem = None;
        let gone: Vec<_> = known.objects.keys().cloned().collect();
        for key in gone {
            self.remove(&key);
        }
        news
    }

    fn everything(&self) -> Vec<StoreChange> {
        let mut objects: Vec<_> = self
            .kinds
            .values()
            .flat_map(|known| &known.objects)
            .filter_map(|(key, entry)| Some((key, entry.object.as_ref()?)))
            .collect();
        objects.sort_unstable_by_key(|(key, _)| *key);
        let put = |(_, object): (_, &Arc<Object>)| StoreChange::Put(object.clone());
        objects.into_iter().map(put).collect()
    }

    fn take_owed(&mut self) -> Vec<StoreChange> {
        let owed = std::mem::take(&mut self.owed);
        let change = |(key, is_known): (ObjectKey, bool)| {
            let known = self.kinds.get(&key.kind)?;
            match known.objects.get(&key).and_then(|entry| entry.object.as_ref()) {
                Some(object) => Some(StoreChange::Put(object.clone())),
                None => is_known.then_some(StoreChange::Delete(key)),
            }
        };
        owed.into_iter().filter_map(change).collect()
    }
}

#[cfg(test)]
mod tests;
