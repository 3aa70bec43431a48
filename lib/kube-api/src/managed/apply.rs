//! Server-side apply: what the caller names is set and owned, what it no longer names goes.

use serde_json::{Map, Value, json};

use super::entry::{Entries, Operation};
use super::fields::{Fields, key_of, keyed_items};
use super::{Manager, tracked, write};
use crate::kinds::Resource;
use crate::shape::{List, Shape};
use crate::status::StatusError;

/// Applies `wanted` to the object, or makes it where there is none.
///
/// # Errors
/// 409 when a field that another manager owns would change and `force` is not set, 422 when a keyed list has an item
/// without its key.
pub(crate) fn apply(
    resource: &Resource,
    live: Option<&Value>,
    wanted: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, StatusError> {
    let shape = Shape::of(resource);
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let mut config = tracked(wanted);
    drop_nulls(&mut config);
    check_keys(&config, &shape, true).map_err(|(path, problem)| {
        StatusError::invalid(&resource.kind, &resource.group, name, &path, &problem)
    })?;
    let owned = Fields::of(&config, &shape);

    let mut object = live.cloned().unwrap_or_else(|| {
        let mut fresh = json!({ "metadata": {} });
        for field in ["name", "namespace"] {
            if let Some(value) = wanted["metadata"].get(field) {
                fresh["metadata"][field] = value.clone();
            }
        }
        fresh
    });
    let mut entries = Entries::parse(&object["metadata"]["managedFields"])?;
    let before = tracked(&object);
    let after = merged(&before, &config, &shape, true);
    let changed = Fields::changed(Some(&before), &after, &shape);

    let migrated = migrated(live, manager, &shape);
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut() {
        if entry.is(manager, Operation::Apply) {
            continue;
        }
        let taken = entry.fields.common(&changed).common(&owned);
        if taken.is_empty() {
            continue;
        }
        let refused = taken.without(&migrated);
        let who = format!("conflict with {:?} using {}", entry.manager, entry.api_version);
        conflicts.extend(refused.paths().into_iter().map(|path| (who.clone(), path)));
        entry.fields = entry.fields.without(&taken);
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }

    let mut gone = entries
        .iter()
        .find(|entry| entry.is(manager, Operation::Apply))
        .map(|entry| entry.fields.without(&owned))
        .unwrap_or_default();
    for entry in entries
        .iter()
        .filter(|entry| !entry.is(manager, Operation::Apply))
    {
        gone = gone.without(&entry.fields);
    }
    let after = removed(&after, &gone, &shape, true).unwrap_or_else(|| json!({}));
    entries.set(manager, Operation::Apply, owned);
    for entry in entries.iter_mut() {
        entry.fields.keep_existing(&after, &shape);
    }
    entries.tidy();
    put_tracked(&mut object, after);
    write(&mut object, &entries);
    Ok(object)
}

/// What kubectl may take over from its client-side apply without force: the fields in the annotation that this left.
fn migrated(live: Option<&Value>, manager: &Manager<'_>, shape: &Shape<'_>) -> Fields {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let annotation = live
        .filter(|_| manager.name == "kubectl")
        .and_then(|live| live["metadata"]["annotations"][LAST_APPLIED].as_str());
    annotation
        .and_then(|text| serde_json::from_str(text).ok())
        .map(|config: Value| Fields::of(&tracked(&config), shape))
        .unwrap_or_default()
}

fn conflict(conflicts: &[(String, String)]) -> StatusError {
    let count = conflicts.len();
    let plural = if count == 1 { "" } else { "s" };
    let said: Vec<_> = conflicts
        .iter()
        .map(|(who, path)| format!("{who}: {path}"))
        .collect();
    let causes = conflicts
        .iter()
        .map(|(who, path)| json!({ "reason": "FieldManagerConflict", "message": who, "field": path }))
        .collect();
    let message = format!("Apply failed with {count} conflict{plural}: {}", said.join("\n"));
    StatusError::new(409, "Conflict", message).causes(causes)
}

/// Replaces everything that is tracked.
fn put_tracked(object: &mut Value, mut fresh: Value) {
    let mut metadata = object["metadata"].as_object().cloned().unwrap_or_default();
    metadata.retain(|name, _| super::SYSTEM_METADATA.contains(&name.as_str()));
    if let Some(given) = fresh.get("metadata").and_then(Value::as_object) {
        metadata.extend(given.clone());
    }
    fresh["metadata"] = Value::Object(metadata);
    *object = fresh;
}

fn merged(live: &Value, wanted: &Value, shape: &Shape<'_>, root: bool) -> Value {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) if !shape.is_atomic_map() => {
            let mut result = live.clone();
            for (name, inner) in wanted {
                let shape = shape.field(name, root);
                let value = merged(live.get(name).unwrap_or(&Value::Null), inner, &shape, false);
                result.insert(name.clone(), value);
            }
            Value::Object(result)
        }
        (Value::Array(_), Value::Array(_)) => match (keyed_items(live, shape), keyed_items(wanted, shape)) {
            (Some(live), Some(wanted)) => {
                let mut result: Vec<(String, Value)> =
                    live.into_iter().map(|(key, item)| (key, item.clone())).collect();
                for (key, item) in wanted {
                    match result.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, known)) => *known = merged(known, item, &shape.item(), false),
                        None => result.push((key, item.clone())),
                    }
                }
                Value::Array(result.into_iter().map(|(_, item)| item).collect())
            }
            _ => wanted.clone(),
        },
        _ => wanted.clone(),
    }
}

/// The value without the places in `gone`; nothing when nothing is left.
fn removed(value: &Value, gone: &Fields, shape: &Shape<'_>, root: bool) -> Option<Value> {
    if gone.is_empty() {
        return Some(value.clone());
    }
    match value {
        Value::Object(map) => {
            let mut result = Map::new();
            for (name, inner) in map {
                let kept = match gone.child(&format!("f:{name}")) {
                    None => Some(inner.clone()),
                    Some(gone) if gone.own() && !has_parts(inner, shape, name, root) => None,
                    Some(gone) => removed(inner, gone, &shape.field(name, root), false),
                };
                if let Some(kept) = kept {
                    result.insert(name.clone(), kept);
                }
            }
            (!result.is_empty() || root).then_some(Value::Object(result))
        }
        Value::Array(_) => {
            let Some(items) = keyed_items(value, shape) else {
                return (!gone.own()).then(|| value.clone());
            };
            let kept: Vec<_> = items
                .into_iter()
                .filter_map(|(key, item)| match gone.child(&key) {
                    None => Some(item.clone()),
                    Some(gone) if gone.own() => {
                        // What another manager has of the item stays, with the keys.
                        let rest = removed(item, gone, &shape.item(), false)?;
                        let left = Fields::of(&rest, &shape.item()).without(gone);
                        (!left.is_empty() && rest.is_object()).then(|| with_keys(rest, item, shape))
                    }
                    Some(gone) => removed(item, gone, &shape.item(), false),
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => None,
    }
}

/// Whether a field holds a map or keyed list with something in it, which goes part by part.
fn has_parts(inner: &Value, shape: &Shape<'_>, name: &str, root: bool) -> bool {
    let shape = shape.field(name, root);
    match inner {
        Value::Object(map) => !map.is_empty() && !shape.is_atomic_map(),
        Value::Array(items) => !items.is_empty() && keyed_items(inner, &shape).is_some(),
        _ => false,
    }
}

fn with_keys(mut rest: Value, item: &Value, shape: &Shape<'_>) -> Value {
    if let List::Map(keys) = shape.list() {
        for key in keys {
            if let Some(value) = item.get(key) {
                rest[key] = value.clone();
            }
        }
    }
    rest
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, inner| !inner.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn check_keys(value: &Value, shape: &Shape<'_>, root: bool) -> Result<(), (String, String)> {
    let below = |part: &str, (path, problem): (String, String)| (format!("{part}{path}"), problem);
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                check_keys(inner, &shape.field(name, root), false)
                    .map_err(|at| below(&format!(".{name}"), at))?;
            }
        }
        Value::Array(items) => {
            if let List::Map(keys) = shape.list() {
                let mut seen = Vec::new();
                for item in items {
                    let key = key_of(item, &keys).map_err(|missing| {
                        let problem = format!(
                            "Invalid value: associative list with keys has an element that omits key field {missing:?}"
                        );
                        (String::new(), problem)
                    })?;
                    if seen.contains(&key) {
                        return Err((
                            String::new(),
                            format!("Invalid value: duplicate entries for key {key}"),
                        ));
                    }
                    seen.push(key);
                }
            }
            for (at, item) in items.iter().enumerate() {
                check_keys(item, &shape.item(), false).map_err(|error| below(&format!("[{at}]"), error))?;
            }
        }
        _ => {}
    }
    Ok(())
}
