//! Who set which field: `metadata.managedFields` (Kubernetes documentation, "Server-Side Apply").

mod apply;
mod entry;
mod fields;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::kinds::Resource;
use crate::shape::Shape;
use crate::status::StatusError;

pub(crate) use self::apply::apply;
use self::entry::{Entries, Operation};
use self::fields::Fields;

/// Who writes, and through what.
#[derive(Clone, Debug)]
pub(crate) struct Manager<'a> {
    pub(crate) name: &'a str,
    pub(crate) api_version: &'a str,
    /// Empty, or `status`.
    pub(crate) subresource: &'a str,
    /// The present time in RFC 3339.
    pub(crate) now: &'a str,
}

/// Records in `new` what an update (or create, or patch that is not apply) changed.
pub(crate) fn record_update(
    resource: &Resource,
    old: Option<&Value>,
    new: &mut Value,
    manager: &Manager<'_>,
) -> Result<(), StatusError> {
    let given = new["metadata"]["managedFields"].clone();
    let kept = || old.map(|old| old["metadata"]["managedFields"].clone());
    let mut entries = match &given {
        Value::Null => Entries::parse(&kept().unwrap_or_default())?,
        // Says that everything is to be forgotten.
        Value::Array(items) if items.iter().all(|item| *item == serde_json::json!({})) => Entries::default(),
        given => Entries::parse(given)?,
    };
    let shape = Shape::of(resource);
    let (before, after) = (old.map(tracked), tracked(new));
    let changed = Fields::changed(before.as_ref(), &after, &shape);
    for entry in entries.iter_mut() {
        if !entry.is(manager, Operation::Update) {
            entry.fields = entry.fields.without(&changed);
        }
        entry.fields.keep_existing(&after, &shape);
    }
    if !changed.is_empty() {
        entries.add(manager, Operation::Update, &changed);
    }
    entries.tidy();
    write(new, &entries);
    Ok(())
}

fn write(object: &mut Value, entries: &Entries) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        match entries.to_value() {
            Some(value) => metadata.insert("managedFields".to_owned(), value),
            None => metadata.remove("managedFields"),
        };
    }
}

/// The object without what belongs to the system and is never tracked.
fn tracked(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            for system in SYSTEM_METADATA {
                metadata.remove(*system);
            }
            if metadata.is_empty() {
                fields.remove("metadata");
            }
        }
    }
    object
}

const SYSTEM_METADATA: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "managedFields",
];
