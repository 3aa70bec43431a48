//! Several reads and writes as one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use objects::{Object, ObjectKey, ParseErrors};
use serde_json::{Map, Value};

use super::journal::Journal;
use super::lock::Lock;
use super::{Inner, MAX_OBJECT_BYTES, MAX_OBJECTS, scan};
use crate::StoreError;

/// A transaction in the making. It reads its own writes; others see nothing of it before it is committed.
pub struct Txn<'a> {
    inner: &'a Inner,
    before: u64,
    /// `None` is a deletion.
    changes: BTreeMap<ObjectKey, Option<Arc<Object>>>,
}

impl Txn<'_> {
    pub(super) fn new(inner: &Inner, before: u64) -> Txn<'_> {
        Txn {
            inner,
            before,
            changes: BTreeMap::new(),
        }
    }

    /// The revision that the store has once this transaction has changed something.
    pub fn next_revision(&self) -> u64 {
        self.before + 1
    }

    /// One object.
    pub fn get(&mut self, key: &ObjectKey) -> Result<Option<Arc<Object>>, StoreError> {
        self.inner.layout.check(key)?;
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.inner.load(key),
        }
    }

    /// All objects, in the order of their keys.
    pub fn list(&mut self) -> Result<Vec<Arc<Object>>, StoreError> {
        let mut objects = scan::everything(self.inner)?;
        for (key, change) in &self.changes {
            match change {
                Some(object) => objects.insert(key.clone(), object.clone()),
                None => objects.remove(key),
            };
        }
        Ok(objects.into_values().collect())
    }

    /// Stores an object in place of what was there, and returns it as stored: with the `resourceVersion` of this
    /// transaction, with the next `generation` if it asks for something else than before, and with `uid` and
    /// `creationTimestamp`, taken from the object in place or else made.
    /// An object that is the same as the one in place is not written.
    pub fn put(&mut self, object: Object) -> Result<Arc<Object>, StoreError> {
        let key = object.key();
        let old = self.get(&key)?;
        let mut raw = object.raw().clone();
        let resource_version = self.next_revision().to_string();
        stamp(&mut raw, old.as_deref(), &resource_version);
        count(&mut raw, old.as_deref());
        if let Some(old) = &old
            && same_but_for_version(old.raw(), &raw)
        {
            return Ok(Arc::clone(old));
        }
        let object = reread(raw, old.as_deref()).map_err(|errors| StoreError::Invalid {
            key: key.clone(),
            errors,
        })?;
        let object = Arc::new(object);
        self.changes.insert(key, Some(object.clone()));
        Ok(object)
    }

    /// Deletes an object; false when there was none.
    pub fn delete(&mut self, key: &ObjectKey) -> Result<bool, StoreError> {
        let existed = self.get(key)?.is_some();
        if existed {
            self.changes.insert(key.clone(), None);
        }
        Ok(existed)
    }

    /// Writes everything, and returns the revision of the store afterwards.
    pub(super) fn commit(self, _held: &Lock) -> Result<u64, StoreError> {
        let layout = &self.inner.layout;
        let revision = self.next_revision();
        let mut journal = Journal::new(revision);
        let mut written = Vec::new();
        let mut changed = false;
        for (key, change) in self.changes {
            match change {
                Some(object) => {
                    let text = object.to_yaml();
                    if text.len() > MAX_OBJECT_BYTES {
                        return Err(StoreError::TooLarge {
                            key,
                            size: text.len(),
                            limit: MAX_OBJECT_BYTES,
                        });
                    }
                    journal.stage(layout, &key, &text)?;
                    written.push((key, object));
                    changed = true;
                }
                // Made and deleted in this same transaction is nothing.
                None if self.inner.load(&key)?.is_none() => {}
                None => {
                    journal.delete(&key);
                    changed = true;
                }
            }
        }
        if !changed {
            return Ok(self.before);
        }
        if self.inner.cache().len() + written.len() > MAX_OBJECTS {
            return Err(StoreError::TooMany { limit: MAX_OBJECTS });
        }
        journal.commit(layout)?;
        let mut cache = self.inner.cache();
        for (key, object) in &written {
            cache.written(layout, key, object);
        }
        Ok(revision)
    }
}

/// Gives the metadata that the store is responsible for.
fn stamp(raw: &mut Value, old: Option<&Object>, resource_version: &str) {
    let Some(metadata) = metadata_of(raw) else { return };
    metadata.insert("resourceVersion".to_owned(), Value::from(resource_version));
    for (field, make) in [
        ("uid", new_uid as fn() -> String),
        ("creationTimestamp", || objects::timestamp(SystemTime::now())),
    ] {
        if metadata
            .get(field)
            .is_none_or(|value| value.is_null() || value == "")
        {
            let kept = old.and_then(|old| old.raw().get("metadata")?.get(field).cloned());
            metadata.insert(field.to_owned(), kept.unwrap_or_else(|| Value::from(make())));
        }
    }
}

/// The object as it will be read. What is stored already may stay as wrong as it is while other parts of the object
/// change; nothing else that is wrong gets in.
pub(super) fn reread(raw: Value, old: Option<&Object>) -> Result<Object, ParseErrors> {
    let errors = match Object::from_value(raw.clone()) {
        Ok(object) => return Ok(object),
        Err(errors) => errors,
    };
    let Some(old) = old else { return Err(errors) };
    let known = Object::from_value(old.raw().clone()).err();
    let is_known = |error| known.as_ref().is_some_and(|known| known.0.contains(error));
    if !errors.0.iter().all(is_known) {
        return Err(errors);
    }
    Object::from_stored_value(&raw, &old.key())
}

/// Counts the versions of what an object asks for, as Kubernetes does: neither its metadata nor its status count.
fn count(raw: &mut Value, old: Option<&Object>) {
    let asked = |value: &Value| {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            for other in ["metadata", "status"] {
                fields.remove(other);
            }
        }
        value
    };
    let generation = match old {
        Some(old) if asked(old.raw()) == asked(raw) => old.metadata.generation,
        Some(old) => old.metadata.generation + 1,
        None => 1,
    };
    if let Some(metadata) = metadata_of(raw) {
        metadata.insert("generation".to_owned(), Value::from(generation));
    }
}

fn same_but_for_version(old: &Value, new: &Value) -> bool {
    let without = |value: &Value| {
        let mut value = value.clone();
        if let Some(metadata) = metadata_of(&mut value) {
            metadata.remove("resourceVersion");
        }
        value
    };
    without(old) == without(new)
}

fn metadata_of(raw: &mut Value) -> Option<&mut Map<String, Value>> {
    raw.get_mut("metadata")?.as_object_mut()
}

/// A random UUID (RFC 9562, version 4).
fn new_uid() -> String {
    let random: u128 = rand::random();
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
