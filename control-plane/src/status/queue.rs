//! What is to be written, once for each object, without I/O: objects, conditions and the time go in, writes come out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use compile::Condition;
use objects::{Kind, Object, ObjectKey};
use serde_json::Value;

use super::conditions;

/// How many objects may wait to be written. More are not: they are next time that they are compiled.
pub(super) const MAX_WAITING: usize = 100_000;
/// How long the first attempt after a failure waits; each further one twice as long.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long an attempt waits at most.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Queue {
    /// The policies that exist, as many as the source holds.
    known: HashMap<ObjectKey, Known>,
    waiting: BTreeMap<ObjectKey, Waiting>,
}

/// A policy, as the source told of it or as it was written after.
struct Known {
    uid: String,
    conditions: Vec<Value>,
}

struct Waiting {
    conditions: Vec<Condition>,
    failures: u32,
    not_before: Option<Instant>,
}

/// One write.
#[derive(Debug, PartialEq)]
pub(super) struct Write {
    pub(super) key: ObjectKey,
    pub(super) uid: String,
    /// All conditions of the object, also those of others.
    pub(super) conditions: Vec<Value>,
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
        if !matches!(
            object.kind(),
            Kind::AuthorizationPolicy | Kind::PeerAuthentication
        ) || object.is_placeholder()
        {
            return;
        }
        let known = Known {
            uid: object.metadata.uid.clone(),
            conditions: conditions::of(object),
        };
        self.known.insert(object.key(), known);
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) {
        self.known.remove(key);
        self.waiting.remove(key);
    }

    /// False when there is no room.
    pub(super) fn want(&mut self, key: &ObjectKey, conditions: Vec<Condition>) -> bool {
        if self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(key) {
            return false;
        }
        let waiting = Waiting {
            conditions,
            failures: 0,
            not_before: None,
        };
        self.waiting.insert(key.clone(), waiting);
        true
    }

    /// What to do now. `time` is what the conditions say when they changed.
    pub(super) fn next(&mut self, now: Instant, time: SystemTime) -> Next {
        let is_due = |waiting: &Waiting| waiting.not_before.is_none_or(|until| until <= now);
        while let Some((key, waiting)) = self.waiting.iter().find(|(_, waiting)| is_due(waiting)) {
            let key = key.clone();
            let write = self.known.get(&key).and_then(|known| {
                let conditions = conditions::merged(&known.conditions, &waiting.conditions, time)?;
                Some((known.uid.clone(), conditions))
            });
            match write {
                Some((uid, conditions)) => {
                    return Next::Write(Write { key, uid, conditions });
                }
                None => drop(self.waiting.remove(&key)),
            }
        }
        Next::Wait(
            self.waiting
                .values()
                .filter_map(|waiting| waiting.not_before)
                .min(),
        )
    }

    /// It is written. What was wanted meanwhile is compared with that, and the source has not told of it yet.
    pub(super) fn written(&mut self, write: Write) {
        if let Some(known) = self
            .known
            .get_mut(&write.key)
            .filter(|known| known.uid == write.uid)
        {
            known.conditions = write.conditions;
        }
    }

    /// The object is written no more, until something is wanted of it again.
    pub(super) fn give_up(&mut self, key: &ObjectKey) {
        self.waiting.remove(key);
    }

    /// Returns when it is tried again.
    pub(super) fn failed(&mut self, write: &Write, now: Instant) -> Option<Duration> {
        let waiting = self.waiting.get_mut(&write.key)?;
        let pause = FIRST_RETRY
            .saturating_mul(2u32.saturating_pow(waiting.failures))
            .min(LAST_RETRY);
        waiting.failures += 1;
        waiting.not_before = Some(now + pause);
        Some(pause)
    }
}
