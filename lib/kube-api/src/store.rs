//! Objects in memory, with the revision of each change and a bounded history of them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::backing::{Backing, Elsewhere, Exchange};
use crate::status::StatusError;

/// How many changes are remembered, unless [`Store::with_history`] says otherwise. A watch or a list that needs an
/// older one is answered 410.
pub const EVENTS_KEPT: usize = 20_000;
/// The largest object, in bytes of JSON: 1.5 MiB, as etcd has it.
pub const MAX_OBJECT_BYTES: usize = 1536 * 1024;

/// Objects of all resources. Cheap to clone; clones are the same store. A server that is started over the store of
/// one that was stopped goes on where that one ended, as an API server does whose etcd outlived it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// Which object is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `pods`, `peerauthentications.security.istio.io`.
    pub resource: String,
    /// Empty for kinds without namespaces.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key; `resource` is the plural name, followed by a dot and the group where there is one.
    pub fn new(resource: &str, namespace: &str, name: &str) -> Key {
        Key {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// An object as it is kept: without `apiVersion` and `kind`, which depend on who asks.
#[derive(Debug)]
pub struct Stored {
    value: Value,
    encoded: OnceLock<Bytes>,
}

impl Stored {
    pub(crate) fn new(value: Value) -> Arc<Stored> {
        Arc::new(Stored {
            value,
            encoded: OnceLock::new(),
        })
    }

    /// The object without `apiVersion` and `kind`.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The JSON text of [`Stored::value`], encoded once for all who ask.
    pub(crate) fn encoded(&self) -> Bytes {
        self.encoded
            .get_or_init(|| Bytes::from(self.value.to_string()))
            .clone()
    }
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Stored>>,
    pub(crate) after: Option<Arc<Stored>>,
}

/// What a transaction does with its object.
pub(crate) enum Change {
    /// Nothing; the answer is what there is.
    Keep,
    /// Stores this; its `metadata.resourceVersion` is set.
    Put(Value),
    /// Removes it.
    Remove,
}

/// The wanted revision is no longer known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Compacted {
    pub(crate) oldest: u64,
}

/// A part of a list.
pub(crate) struct Page {
    pub(crate) revision: u64,
    pub(crate) items: Vec<Arc<Stored>>,
    /// The last key of this page, when there is more.
    pub(crate) next: Option<(String, String)>,
    /// How many keys follow.
    pub(crate) remaining: usize,
}

/// Which part of which list.
pub(crate) struct PageRequest<'a> {
    pub(crate) resource: &'a str,
    /// All namespaces when there is none.
    pub(crate) namespace: Option<&'a str>,
    /// Now, when there is none.
    pub(crate) at: Option<u64>,
    /// Begins after this key.
    pub(crate) after: Option<&'a (String, String)>,
    pub(crate) limit: Option<usize>,
}

struct Shared {
    state: Mutex<State>,
    tail: watch::Sender<u64>,
    elsewhere: Elsewhere,
    /// Held through each step on an object that is kept elsewhere, so that what is told of it is in order.
    turn: Mutex<()>,
}

struct State {
    revision: u64,
    objects: BTreeMap<Key, Arc<Stored>>,
    events: VecDeque<Event>,
    events_kept: usize,
    /// Events up to this revision are gone.
    compacted: u64,
}

impl Default for Store {
    fn default() -> Store {
        Store::with_history(EVENTS_KEPT)
    }
}

impl Store {
    /// An empty store that remembers `events_kept` changes.
    pub fn with_history(events_kept: usize) -> Store {
        Store::new(events_kept, Elsewhere::default())
    }

    /// A store of which `backing` keeps a part. What is there already is not known before it was looked at
    /// ([`Store::refresh`]).
    ///
    /// A step on what is kept there blocks its thread as long as the backing does: serve such a store in a runtime of
    /// its own.
    pub fn over(backing: Arc<dyn Backing>) -> Store {
        Store::new(EVENTS_KEPT, Elsewhere(Some(backing)))
    }

    fn new(events_kept: usize, elsewhere: Elsewhere) -> Store {
        Store {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    revision: 1,
                    objects: BTreeMap::new(),
                    events: VecDeque::new(),
                    events_kept,
                    compacted: 0,
                }),
                tail: watch::Sender::new(1),
                elsewhere,
                turn: Mutex::new(()),
            }),
        }
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// One object as it is now.
    pub fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.lock().objects.get(key).cloned()
    }

    /// Forgets the history: a watch from any earlier revision, and a continued list, are answered 410.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.compacted = state.revision;
        state.events.clear();
    }

    /// All objects of a resource.
    pub fn all(&self, resource: &str) -> Vec<Arc<Stored>> {
        let state = self.lock();
        let from = Key::new(resource, "", "");
        state
            .objects
            .range(from..)
            .take_while(|(key, _)| key.resource == resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// All keys in a namespace.
    pub(crate) fn keys_in(&self, namespace: &str) -> Vec<Key> {
        let state = self.lock();
        state
            .objects
            .keys()
            .filter(|key| key.namespace == namespace)
            .cloned()
            .collect()
    }

    /// Looks at an object that somebody else keeps ([`Backing`]): what has become of it is told by watches.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn refresh(&self, key: &Key) -> Result<(), StatusError> {
        self.transact(key, |_, _| Ok(Change::Keep)).map(drop)
    }

    /// Reads and writes one object as one step. The closure gets the object and the revision that a write will have.
    /// Returns the object after the step, or the removed one with the revision of its removal.
    pub(crate) fn transact(
        &self,
        key: &Key,
        body: impl FnOnce(Option<&Arc<Stored>>, u64) -> Result<Change, StatusError>,
    ) -> Result<Option<Arc<Stored>>, StatusError> {
        match self.shared.elsewhere.of(key) {
            Some(backing) => self.transact_elsewhere(&*backing, key, body),
            None => self.transact_here(key, body),
        }
    }

    fn transact_here(
        &self,
        key: &Key,
        body: impl FnOnce(Option<&Arc<Stored>>, u64) -> Result<Change, StatusError>,
    ) -> Result<Option<Arc<Stored>>, StatusError> {
        let mut state = self.lock();
        let before = state.objects.get(key).cloned();
        let after = match body(before.as_ref(), state.revision + 1)? {
            Change::Keep => return Ok(before),
            Change::Put(value) => {
                check_size(&value)?;
                Some(value)
            }
            Change::Remove => None,
        };
        let answer = state.record(key, after);
        let revision = state.revision;
        drop(state);
        self.shared.tail.send_replace(revision);
        Ok(answer)
    }

    /// The step is made where the object is kept, and what is there afterwards is told.
    fn transact_elsewhere(
        &self,
        backing: &dyn Backing,
        key: &Key,
        body: impl FnOnce(Option<&Arc<Stored>>, u64) -> Result<Change, StatusError>,
    ) -> Result<Option<Arc<Stored>>, StatusError> {
        let _turn = self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut body = Some(body);
        let mut removed = None;
        let there = backing.exchange(key, &mut |there| {
            self.take_over(key, there);
            let current = self.get(key);
            let Some(body) = body.take() else {
                return Err(StatusError::internal("a step was asked for twice"));
            };
            Ok(match body(current.as_ref(), self.revision() + 1)? {
                Change::Keep => Exchange::Keep,
                Change::Put(value) => {
                    check_size(&value)?;
                    Exchange::Put(value)
                }
                Change::Remove => {
                    removed = current;
                    Exchange::Remove
                }
            })
        })?;
        self.take_over(key, there.as_ref());
        Ok(match removed {
            Some(removed) => Some(at_revision(&removed, self.revision())),
            None => self.get(key),
        })
    }

    /// Makes an object what it is elsewhere. Says nothing when it is the same but for its version.
    fn take_over(&self, key: &Key, there: Option<&Value>) {
        let there = there.map(untyped);
        let mut state = self.lock();
        let before = state.objects.get(key).cloned();
        match (&before, &there) {
            (None, None) => return,
            (Some(before), Some(there)) if same_but_for_version(before.value(), there) => return,
            // Another object of that name: the one before is gone first.
            (Some(before), Some(there)) if uid_of(before.value()) != uid_of(there) => {
                state.record(key, None);
            }
            _ => {}
        }
        let is_gone = there.is_none();
        state.record(key, there);
        if is_gone && key.resource == NAMESPACES {
            // What is kept here went with its namespace.
            let inside = |inner: &&Key| inner.namespace == key.name;
            let left: Vec<Key> = state.objects.keys().filter(inside).cloned().collect();
            for inner in left {
                if self.shared.elsewhere.of(&inner).is_none() {
                    state.record(&inner, None);
                }
            }
        }
        let revision = state.revision;
        drop(state);
        self.shared.tail.send_replace(revision);
    }

    /// A page of a list, as it was at one revision, of the objects that `wanted` accepts.
    pub(crate) fn page(
        &self,
        request: &PageRequest<'_>,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Page, Compacted> {
        let state = self.lock();
        let revision = request.at.unwrap_or(state.revision);
        // What was different then.
        let mut past: BTreeMap<&Key, Option<&Arc<Stored>>> = BTreeMap::new();
        if revision < state.revision {
            if revision < state.compacted {
                return Err(Compacted {
                    oldest: state.compacted,
                });
            }
            for event in state.events.iter().rev() {
                if event.revision <= revision {
                    break;
                }
                past.insert(&event.key, event.before.as_ref());
            }
        }
        let start = match request.after {
            Some((namespace, name)) => Bound::Excluded(Key::new(request.resource, namespace, name)),
            None => Bound::Included(Key::new(
                request.resource,
                request.namespace.unwrap_or_default(),
                "",
            )),
        };
        let inside = |key: &Key| {
            key.resource == request.resource
                && request
                    .namespace
                    .is_none_or(|namespace| key.namespace == namespace)
        };
        let mut now = state
            .objects
            .range((start.clone(), Bound::Unbounded))
            .take_while(|(key, _)| inside(key))
            .peekable();
        let mut then = past
            .range((start, Bound::Unbounded))
            .map(|(key, object)| (*key, *object))
            .take_while(|(key, _)| inside(key))
            .peekable();
        let limit = request.limit.unwrap_or(usize::MAX);
        let (mut items, mut last, mut next, mut remaining) = (Vec::new(), None, None, 0);
        loop {
            // The next key of either; the past wins where both have it.
            let take_past = match (now.peek(), then.peek()) {
                (None, None) => break,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some((a, _)), Some((b, _))) => {
                    if a == b {
                        now.next();
                        true
                    } else {
                        a > b
                    }
                }
            };
            let (key, object) = if take_past {
                match then.next() {
                    Some((key, Some(object))) => (key, object),
                    _ => continue,
                }
            } else {
                match now.next() {
                    Some(entry) => entry,
                    None => break,
                }
            };
            if !wanted(object.value()) {
                continue;
            }
            if items.len() < limit {
                items.push(object.clone());
                last = Some((key.namespace.clone(), key.name.clone()));
            } else {
                remaining += 1;
                next.clone_from(&last);
            }
        }
        Ok(Page {
            revision,
            items,
            next,
            remaining,
        })
    }

    /// At most `limit` changes after `revision`, oldest first.
    pub(crate) fn events_after(&self, revision: u64, limit: usize) -> Result<Vec<Event>, Compacted> {
        let state = self.lock();
        if revision < state.compacted {
            return Err(Compacted {
                oldest: state.compacted,
            });
        }
        let from = state.events.partition_point(|event| event.revision <= revision);
        Ok(state.events.iter().skip(from).take(limit).cloned().collect())
    }

    /// Tells of each new revision.
    pub(crate) fn tail(&self) -> watch::Receiver<u64> {
        self.shared.tail.subscribe()
    }

    /// Wakes the watches without a change.
    pub(crate) fn nudge(&self) {
        self.shared.tail.send_modify(|_| {});
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each step leaves the state whole before anything in it can panic.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One change, and its place in the history. Returns the object afterwards, or the removed one with the revision
    /// of its removal.
    fn record(&mut self, key: &Key, after: Option<Value>) -> Option<Arc<Stored>> {
        let before = self.objects.get(key).cloned();
        let revision = self.revision + 1;
        let after = after.map(|mut value| {
            value["metadata"]["resourceVersion"] = json!(revision.to_string());
            let stored = Stored::new(value);
            // Whoever asks finds it done.
            stored.encoded();
            stored
        });
        let answer = match (&after, &before) {
            (Some(after), _) => {
                self.objects.insert(key.clone(), after.clone());
                after.clone()
            }
            (None, Some(before)) => {
                self.objects.remove(key);
                at_revision(before, revision)
            }
            (None, None) => return None,
        };
        self.revision = revision;
        self.events.push_back(Event {
            revision,
            key: key.clone(),
            before,
            after,
        });
        while self.events.len() > self.events_kept {
            if let Some(event) = self.events.pop_front() {
                self.compacted = event.revision;
            }
        }
        Some(answer)
    }
}

/// The resource of namespaces.
const NAMESPACES: &str = "namespaces";

fn check_size(value: &Value) -> Result<(), StatusError> {
    let size = value.to_string().len();
    if size > MAX_OBJECT_BYTES {
        return Err(StatusError::too_large(format!(
            "the object has {size} bytes of JSON; at most {MAX_OBJECT_BYTES} are stored"
        )));
    }
    Ok(())
}

fn untyped(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    value
}

fn uid_of(value: &Value) -> &str {
    value["metadata"]["uid"].as_str().unwrap_or_default()
}

fn same_but_for_version(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return one == other;
    };
    let of_metadata = |value: &Value| {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("resourceVersion");
        }
        value
    };
    one.len() == other.len()
        && one.iter().all(|(name, value)| match other.get(name) {
            Some(there) if name == "metadata" => of_metadata(value) == of_metadata(there),
            there => there == Some(value),
        })
}

/// The object with another resource version, as a deletion shows it.
pub(crate) fn at_revision(object: &Stored, revision: u64) -> Arc<Stored> {
    let mut value = object.value().clone();
    value["metadata"]["resourceVersion"] = json!(revision.to_string());
    Stored::new(value)
}

#[cfg(test)]
mod tests;
