//! Strategic merge patch: JSON merge patch in which some lists are merged by a key, with directives
//! (Kubernetes documentation, "Update API Objects in Place Using kubectl patch").

use serde_json::{Map, Value};

use crate::shape::Shape;

/// The value after the patch; an error says which directive cannot be followed.
pub(super) fn merge(value: &Value, patch: &Value, shape: &Shape<'_>) -> Result<Value, String> {
    merge_at(value, patch, shape, true)
}

fn merge_at(value: &Value, patch: &Value, shape: &Shape<'_>, root: bool) -> Result<Value, String> {
    match patch {
        Value::Object(patch) => merge_map(value, patch, shape, root),
        Value::Array(items) => match shape.merge_key() {
            Some(key) => merge_list(value, items, key, shape),
            None => Ok(without_directives(patch)),
        },
        other => Ok(other.clone()),
    }
}

fn merge_map(
    value: &Value,
    patch: &Map<String, Value>,
    shape: &Shape<'_>,
    root: bool,
) -> Result<Value, String> {
    match patch.get("$patch").map(|word| word.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => return Ok(without_directives(&Value::Object(patch.clone()))),
        Some("delete") => return Ok(Value::Object(Map::new())),
        Some(word) => return Err(format!("unknown patch directive {word:?}")),
    }
    let mut result = value.as_object().cloned().unwrap_or_default();
    if let Some(retained) = patch.get("$retainKeys").and_then(Value::as_array) {
        result.retain(|name, _| retained.iter().any(|kept| kept == name.as_str()));
    }
    for (name, inner) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        if inner.is_null() {
            result.remove(name);
            continue;
        }
        let shape = shape.field(name, root);
        let merged = merge_at(result.get(name).unwrap_or(&Value::Null), inner, &shape, false)?;
        result.insert(name.clone(), merged);
    }
    for (name, inner) in patch {
        if let Some(name) = name.strip_prefix("$deleteFromPrimitiveList/")
            && let (Some(Value::Array(list)), Some(gone)) = (result.get_mut(name), inner.as_array())
        {
            list.retain(|item| !gone.contains(item));
        }
        if let Some(name) = name.strip_prefix("$setElementOrder/")
            && let (Some(Value::Array(list)), Some(order)) = (result.get_mut(name), inner.as_array())
        {
            let key = shape.field(name, root).merge_key().unwrap_or_default();
            let place = |item: &Value| {
                let same = |wanted: &Value| {
                    if key.is_empty() {
                        wanted == item
                    } else {
                        wanted.get(key) == item.get(key)
                    }
                };
                order.iter().position(same).unwrap_or(usize::MAX)
            };
            list.sort_by_key(place);
        }
    }
    Ok(Value::Object(result))
}

fn merge_list(value: &Value, patch: &[Value], key: &str, shape: &Shape<'_>) -> Result<Value, String> {
    let directive = |item: &Value| item.get("$patch").and_then(Value::as_str).map(str::to_owned);
    if patch
        .iter()
        .any(|item| directive(item).as_deref() == Some("replace"))
    {
        let kept = patch.iter().filter(|item| directive(item).is_none());
        return Ok(Value::Array(kept.map(without_directives).collect()));
    }
    let mut result = value.as_array().cloned().unwrap_or_default();
    for item in patch {
        if key.is_empty() {
            if !result.contains(item) {
                result.push(item.clone());
            }
            continue;
        }
        let Some(wanted) = item.get(key) else {
            return Err(format!("map: {item} does not contain declared merge key: {key}"));
        };
        let found = result.iter().position(|known| known.get(key) == Some(wanted));
        if directive(item).as_deref() == Some("delete") {
            result.retain(|known| known.get(key) != Some(wanted));
            continue;
        }
        match found {
            Some(at) => result[at] = merge_at(&result[at], item, &shape.item(), false)?,
            None => result.push(without_directives(item)),
        }
    }
    Ok(Value::Array(result))
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(name, inner)| !name.starts_with('$') && !inner.is_null())
                .map(|(name, inner)| (name.clone(), without_directives(inner)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_directives).collect()),
        other => other.clone(),
    }
}
