//! The directory as an [`ObjectWriter`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use objects::{Object, ObjectKey};
use serde_json::{Map, Value};

use super::Directory;
use super::txn::reread;
use crate::{ObjectWriter, StatusWrite, StoreError, WriteError};

impl ObjectWriter for Directory {
    fn patch_annotation(
        &self,
        key: &ObjectKey,
        uid: &str,
        annotation: &str,
        value: Option<&str>,
    ) -> BoxFuture<'static, Result<u64, WriteError>> {
        let change = Map::from_iter([(annotation.to_owned(), value.map_or(Value::Null, Value::from))]);
        let patch = serde_json::json!({ "metadata": { "annotations": change } });
        self.patch(key.clone(), uid.to_owned(), move |_| patch)
    }

    fn write_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: StatusWrite,
    ) -> BoxFuture<'static, Result<u64, WriteError>> {
        self.patch(key.clone(), uid.to_owned(), move |object| {
            let present = object
                .status()
                .and_then(|status| status.get("conditions"))
                .and_then(Value::as_array);
            let present = present.map_or(&[][..], Vec::as_slice);
            let mut fields = status.fields.clone();
            let conditions = status.conditions_among(present);
            fields.insert("conditions".to_owned(), Value::Array(conditions));
            serde_json::json!({ "status": fields })
        })
    }
}

impl Directory {
    /// Merges into the status of an object by RFC 7386 (JSON merge patch): objects are merged, `null` removes, everything
    /// else (lists too) replaces. Returns the revision as [`ObjectWriter`] does.
    pub fn patch_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: Value,
    ) -> BoxFuture<'static, Result<u64, WriteError>> {
        let patch = serde_json::json!({ "status": status });
        self.patch(key.clone(), uid.to_owned(), move |_| patch)
    }

    /// `make` is given the object as it is, and makes the patch.
    fn patch(
        &self,
        key: ObjectKey,
        uid: String,
        make: impl FnOnce(&Object) -> Value + Send + 'static,
    ) -> BoxFuture<'static, Result<u64, WriteError>> {
        let directory = self.clone();
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || directory.patch_now(key, uid, make));
            match task.await {
                Ok(result) => result,
                // The runtime is shutting down, or the closure panicked: either way nothing was committed.
                Err(error) => Err(StoreError::Refused(format!("the write was abandoned: {error}")).into()),
            }
        })
    }

    fn patch_now(
        &self,
        key: ObjectKey,
        uid: String,
        make: impl FnOnce(&Object) -> Value,
    ) -> Result<u64, WriteError> {
        let ((), revision) = self.try_transaction(|txn| {
            // What only stands for a damaged file must not be written over it.
            let is_meant = |object: &Arc<Object>| object.metadata.uid == uid && !object.is_placeholder();
            let old: Option<Arc<Object>> = txn.get(&key)?.filter(is_meant);
            let Some(old) = old else {
                return Err(WriteError::Gone { key, uid });
            };
            let mut raw = old.raw().clone();
            merge(&mut raw, &make(&old));
            let object = reread(raw, Some(&old)).map_err(|errors| StoreError::Invalid { key, errors })?;
            txn.put(object)?;
            Ok(())
        })?;
        Ok(revision)
    }
}

/// JSON merge patch (RFC 7386 §2), with one addition: an object that a removal leaves empty where there was nothing
/// before is not made.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else {
        return;
    };
    for (name, change) in patch {
        match change {
            Value::Null => {
                fields.remove(name);
            }
            Value::Object(inner) if inner.values().all(Value::is_null) && !fields.contains_key(name) => {}
            change => merge(fields.entry(name.clone()).or_insert(Value::Null), change),
        }
    }
}
