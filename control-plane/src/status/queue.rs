//! What is to be written, once for each object, without I/O: objects, conditions and the time go in, writes come out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use compile::Condition;
use object_store::StatusWrite;
use objects::{AllocatedAddress, Kind, Object, ObjectKey};
use serde_json::{Map, Value, json};

use super::conditions;

/// How many objects may wait to be written. More are not: they are next time that they are compiled.
pub(super) const MAX_WAITING: usize = 100_000;
/// How long the first attempt after a failure waits; each further one twice as long.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long an attempt waits at most.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Queue {
    /// The objects of kinds with a status of ours that exist, as many as the source holds.
    known: HashMap<ObjectKey, Known>,
    /// Nothing is written: what was told of an object stays told as long as it is there.
    pub(super) only_tells: bool,
    waiting: BTreeMap<ObjectKey, Waiting>,
    /// Objects that are not ours, or not any more, from which ours is to be taken away: when nothing else is to be done.
    leaving: BTreeMap<ObjectKey, Attempts>,
}

/// An object, as the source told of it or as it was written after.
struct Known {
    uid: String,
    /// Those of ours.
    conditions: Vec<Value>,
    /// The addresses that a ServiceEntry's status lists.
    addresses: Vec<Value>,
}

#[derive(Default)]
struct Waiting {
    /// `None`: as they are.
    conditions: Option<Vec<Condition>>,
    /// `None`: as they are.
    addresses: Option<Vec<Value>>,
    attempts: Attempts,
}

/// Those that failed.
#[derive(Default)]
struct Attempts {
    failures: u32,
    not_before: Option<Instant>,
}

/// One write.
#[derive(Debug, PartialEq)]
pub(super) struct Write {
    pub(super) key: ObjectKey,
    pub(super) uid: String,
    /// Those of ours that the object is to have.
    pub(super) conditions: Vec<Value>,
    /// All addresses of a ServiceEntry; empty for other kinds. What one writer leaves out in a server-side apply it
    /// takes away.
    pub(super) addresses: Vec<Value>,
    /// The object is somebody else's: what is ours of it alone goes.
    pub(super) gives_back: bool,
}

impl Write {
    /// What is written.
    pub(super) fn status(&self) -> StatusWrite {
        let mut fields = Map::new();
        if self.key.kind == Kind::ServiceEntry {
            fields.insert("addresses".to_owned(), json!(self.addresses));
        }
        StatusWrite {
            conditions: self.conditions.clone(),
            types: conditions::OURS,
            fields,
            gives_back: self.gives_back,
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Write(Write),
    /// Until something is wanted or this time has come.
    Wait(Option<Instant>),
}

impl Queue {
    pub(super) fn put(&mut self, object: &Arc<Object>) {
        // What only stands for an object is not there to be written.
        if !has_status(object.kind()) || object.is_placeholder() {
            return;
        }
        if self.only_tells {
            let told = self.known.get(&object.key());
            if told.is_some_and(|told| told.uid == object.metadata.uid) {
                return;
            }
        }
        let known = Known {
            uid: object.metadata.uid.clone(),
            conditions: conditions::of(object),
            addresses: list(object, "addresses"),
        };
        self.known.insert(object.key(), known);
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) {
        self.known.remove(key);
        self.give_up(key);
    }

    /// False when there is no room.
    pub(super) fn want(&mut self, key: &ObjectKey, conditions: Vec<Condition>) -> bool {
        // Most Services have nothing to be told; a replica that does not lead must not keep them all waiting.
        let has_none =
            |known: &Known| conditions::dated(&known.conditions, &[], SystemTime::UNIX_EPOCH).is_none();
        if conditions.is_empty()
            && !self.waiting.contains_key(key)
            && self.known.get(key).is_none_or(has_none)
        {
            self.leaving.remove(key);
            return true;
        }
        self.wait(key, |waiting| waiting.conditions = Some(conditions))
    }

    /// The object is not ours: conditions of ours are to be taken away, as far as nobody else has written them. False
    /// when there is no room.
    pub(super) fn leave(&mut self, key: &ObjectKey) -> bool {
        self.waiting.remove(key);
        let has_some = self
            .known
            .get(key)
            .is_some_and(|known| !known.conditions.is_empty());
        if self.only_tells || !has_some {
            return true;
        }
        if self.leaving.len() >= MAX_WAITING && !self.leaving.contains_key(key) {
            return false;
        }
        self.leaving.insert(key.clone(), Attempts::default());
        true
    }

    /// The objects that have conditions of ours.
    pub(super) fn with_conditions(&self) -> impl Iterator<Item = &ObjectKey> {
        let known = self.known.iter();
        known
            .filter(|(_, known)| !known.conditions.is_empty())
            .map(|(key, _)| key)
    }

    /// The addresses that a ServiceEntry's status is to list. False when there is no room.
    pub(super) fn want_addresses(&mut self, key: &ObjectKey, addresses: &[AllocatedAddress]) -> bool {
        if self.only_tells {
            return true;
        }
        let written = |one: &AllocatedAddress| json!({ "host": one.host, "value": one.address.to_string() });
        let addresses = addresses.iter().map(written).collect();
        self.wait(key, |waiting| waiting.addresses = Some(addresses))
    }

    fn wait(&mut self, key: &ObjectKey, what: impl FnOnce(&mut Waiting)) -> bool {
        if self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(key) {
            return false;
        }
        self.leaving.remove(key);
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.attempts = Attempts::default();
        what(waiting);
        true
    }

    /// What to do now. `time` is what the conditions say when they changed.
    pub(super) fn next(&mut self, now: Instant, time: SystemTime) -> Next {
        let is_due = |waiting: &Waiting| waiting.attempts.is_due(now);
        while let Some((key, waiting)) = self.waiting.iter().find(|(_, waiting)| is_due(waiting)) {
            let key = key.clone();
            let write = self.known.get(&key).and_then(|known| {
                let wanted = waiting.conditions.as_ref();
                let conditions = wanted.and_then(|wanted| conditions::dated(&known.conditions, wanted, time));
                let addresses = waiting
                    .addresses
                    .clone()
                    .filter(|wanted| *wanted != known.addresses);
                (conditions.is_some() || addresses.is_some()).then(|| Write {
                    key: key.clone(),
                    uid: known.uid.clone(),
                    conditions: conditions.unwrap_or_else(|| known.conditions.clone()),
                    addresses: addresses.unwrap_or_else(|| known.addresses.clone()),
                    gives_back: false,
                })
            });
            match write {
                Some(write) => return Next::Write(write),
                None => drop(self.waiting.remove(&key)),
            }
        }
        while let Some((key, _)) = self.leaving.iter().find(|(_, attempts)| attempts.is_due(now)) {
            let key = key.clone();
            match self.known.get(&key).filter(|known| !known.conditions.is_empty()) {
                Some(known) => {
                    return Next::Write(Write {
                        key,
                        uid: known.uid.clone(),
                        conditions: Vec::new(),
                        addresses: known.addresses.clone(),
                        gives_back: true,
                    });
                }
                None => drop(self.leaving.remove(&key)),
            }
        }
        let waiting = self.waiting.values().map(|waiting| &waiting.attempts);
        let all = waiting.chain(self.leaving.values());
        Next::Wait(all.filter_map(|attempts| attempts.not_before).min())
    }

    /// It is written. What was wanted meanwhile is compared with that, and the source has not told of it yet.
    pub(super) fn written(&mut self, write: Write) {
        if write.gives_back {
            // Once is enough. What is on it now the source tells: others may have some there.
            self.leaving.remove(&write.key);
            return;
        }
        if let Some(known) = self
            .known
            .get_mut(&write.key)
            .filter(|known| known.uid == write.uid)
        {
            known.conditions = write.conditions;
            known.addresses = write.addresses;
        }
    }

    /// The object is written no more, until something is wanted of it again.
    pub(super) fn give_up(&mut self, key: &ObjectKey) {
        self.waiting.remove(key);
        self.leaving.remove(key);
    }

    /// Returns when it is tried again.
    pub(super) fn failed(&mut self, write: &Write, now: Instant) -> Option<Duration> {
        let attempts = if write.gives_back {
            self.leaving.get_mut(&write.key)?
        } else {
            &mut self.waiting.get_mut(&write.key)?.attempts
        };
        Some(attempts.failed(now))
    }
}

impl Attempts {
    fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|until| until <= now)
    }

    /// One more; returns the pause before the next.
    fn failed(&mut self, now: Instant) -> Duration {
        let pause = FIRST_RETRY
            .saturating_mul(2u32.saturating_pow(self.failures))
            .min(LAST_RETRY);
        self.failures += 1;
        self.not_before = Some(now + pause);
        pause
    }
}

/// The kinds whose authors are told something.
fn has_status(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::AuthorizationPolicy
            | Kind::PeerAuthentication
            | Kind::Service
            | Kind::ServiceEntry
            | Kind::WorkloadEntry
    )
}

fn list(object: &Object, name: &str) -> Vec<Value> {
    let list = object.status().and_then(|status| status.get(name));
    list.and_then(Value::as_array).cloned().unwrap_or_default()
}
