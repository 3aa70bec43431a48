//! Sets of fields, and their form `FieldsV1`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::shape::{List, Shape, key_default};

/// A set of places in an object. Names are those of `FieldsV1`: `f:` a field, `k:` an item by its keys, `v:` an item
/// that is its own key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// Whether the place itself belongs to the set.
    own: bool,
    children: BTreeMap<String, Fields>,
}

impl Fields {
    fn leaf() -> Fields {
        Fields {
            own: true,
            children: BTreeMap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.own && self.children.is_empty()
    }

    pub(crate) fn own(&self) -> bool {
        self.own
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Fields> {
        self.children.get(name)
    }

    /// All fields that are set in `value`.
    pub(crate) fn of(value: &Value, shape: &Shape<'_>) -> Fields {
        of_value(value, shape, true)
    }

    /// What in `new` is not in `old`, or is another there.
    pub(crate) fn changed(old: Option<&Value>, new: &Value, shape: &Shape<'_>) -> Fields {
        changed(old, new, shape, true)
    }

    pub(crate) fn union(&mut self, other: &Fields) {
        self.own |= other.own;
        for (name, fields) in &other.children {
            self.children.entry(name.clone()).or_default().union(fields);
        }
    }

    /// What is in this set and not in the other.
    pub(crate) fn without(&self, other: &Fields) -> Fields {
        self.combine(other, |a, b| a && !b, true)
    }

    /// What is in both.
    pub(crate) fn common(&self, other: &Fields) -> Fields {
        self.combine(other, |a, b| a && b, false)
    }

    fn combine(&self, other: &Fields, own: fn(bool, bool) -> bool, keep_single: bool) -> Fields {
        let mut children = BTreeMap::new();
        for (name, fields) in &self.children {
            let combined = match other.children.get(name) {
                Some(others) => fields.combine(others, own, keep_single),
                None if keep_single => fields.clone(),
                None => continue,
            };
            if !combined.is_empty() {
                children.insert(name.clone(), combined);
            }
        }
        Fields {
            own: own(self.own, other.own),
            children,
        }
    }

    /// Drops places that the object does not have.
    pub(crate) fn keep_existing(&mut self, value: &Value, shape: &Shape<'_>) {
        self.keep(value, shape, true);
    }

    fn keep(&mut self, value: &Value, shape: &Shape<'_>, root: bool) {
        let items = keyed_items(value, shape);
        self.children.retain(|name, fields| {
            let found = match (name.strip_prefix("f:"), &items) {
                (Some(field), _) => value.get(field).map(|inner| (inner, shape.field(field, root))),
                (None, Some(items)) => items
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, item)| (*item, shape.item())),
                (None, None) => None,
            };
            match found {
                Some((inner, shape)) => {
                    fields.keep(inner, &shape, false);
                    !fields.is_empty()
                }
                None => false,
            }
        });
    }

    /// The places themselves, as messages spell them: `.spec.ports[port=80].name`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect(String::new(), &mut paths);
        paths
    }

    fn collect(&self, path: String, into: &mut Vec<String>) {
        if self.own {
            into.push(path.clone());
        }
        for (name, fields) in &self.children {
            let part = match name.split_at_checked(2) {
                Some(("f:", field)) => format!(".{field}"),
                Some(("k:", keys)) => {
                    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                    let pairs: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                    format!("[{}]", pairs.join(","))
                }
                Some(("v:", value)) => format!("[={value}]"),
                _ => name.clone(),
            };
            fields.collect(format!("{path}{part}"), into);
        }
    }

    /// Reads `fieldsV1`.
    pub(crate) fn parse(value: &Value) -> Option<Fields> {
        let mut fields = parse(value, 0)?;
        fields.own = false;
        Some(fields)
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.children.is_empty() {
            map.insert(".".to_owned(), json!({}));
        }
        for (name, fields) in &self.children {
            map.insert(name.clone(), fields.to_value());
        }
        Value::Object(map)
    }
}

/// How deep `fieldsV1` may be.
const MAX_DEPTH: usize = 64;

fn parse(value: &Value, depth: usize) -> Option<Fields> {
    let map = value.as_object().filter(|_| depth < MAX_DEPTH)?;
    let mut fields = Fields {
        own: map.is_empty() || map.contains_key("."),
        children: BTreeMap::new(),
    };
    for (name, inner) in map.iter().filter(|(name, _)| *name != ".") {
        let known = ["f:", "k:", "v:", "i:"].iter().any(|kind| name.starts_with(kind));
        if !known {
            return None;
        }
        fields.children.insert(name.clone(), parse(inner, depth + 1)?);
    }
    Some(fields)
}

fn of_value(value: &Value, shape: &Shape<'_>, root: bool) -> Fields {
    match value {
        Value::Object(map) if !shape.is_atomic_map() && (root || !map.is_empty()) => Fields {
            own: false,
            children: map
                .iter()
                .map(|(name, inner)| {
                    (
                        format!("f:{name}"),
                        of_value(inner, &shape.field(name, root), false),
                    )
                })
                .collect(),
        },
        Value::Array(items) if !items.is_empty() => match keyed_items(value, shape) {
            Some(items) => Fields {
                own: false,
                children: items
                    .into_iter()
                    .map(|(key, item)| {
                        let mut fields = of_value(item, &shape.item(), false);
                        fields.own = true;
                        (key, fields)
                    })
                    .collect(),
            },
            None => Fields::leaf(),
        },
        _ => Fields::leaf(),
    }
}

fn changed(old: Option<&Value>, new: &Value, shape: &Shape<'_>, root: bool) -> Fields {
    if old == Some(new) {
        return Fields::default();
    }
    match (old, new) {
        (Some(Value::Object(old)), Value::Object(new)) if !shape.is_atomic_map() => {
            let mut fields = Fields::default();
            for (name, inner) in new {
                let found = changed(old.get(name), inner, &shape.field(name, root), false);
                if !found.is_empty() {
                    fields.children.insert(format!("f:{name}"), found);
                }
            }
            // A map of which everything was taken away is a value itself.
            fields.own = new.is_empty() && !root;
            fields
        }
        (Some(before @ Value::Array(_)), Value::Array(_)) => {
            match (keyed_items(before, shape), keyed_items(new, shape)) {
                (Some(before), Some(after)) => {
                    let before: BTreeMap<_, _> = before.into_iter().collect();
                    let mut fields = Fields::default();
                    for (key, item) in after {
                        let found = match before.get(&key) {
                            Some(old) => changed(Some(old), item, &shape.item(), false),
                            None => Fields {
                                own: true,
                                ..of_value(item, &shape.item(), false)
                            },
                        };
                        if !found.is_empty() {
                            fields.children.insert(key, found);
                        }
                    }
                    fields
                }
                _ => Fields::leaf(),
            }
        }
        (None, _) => {
            let mut fields = of_value(new, shape, root);
            // Free maps belong to who made them.
            if let Shape::Table { path, .. } = shape
                && matches!(path.as_str(), "metadata.labels" | "metadata.annotations")
            {
                fields.own = true;
            }
            fields
        }
        _ => of_value(new, shape, root),
    }
}

/// The items with their names, where the list is no single value and every item has a key of its own.
pub(crate) fn keyed_items<'v>(value: &'v Value, shape: &Shape<'_>) -> Option<Vec<(String, &'v Value)>> {
    let items = value.as_array()?;
    let keys = match shape.list() {
        List::Atomic => return None,
        List::Set => None,
        List::Map(keys) => Some(keys),
    };
    let mut seen = BTreeSet::new();
    let mut named = Vec::with_capacity(items.len());
    for item in items {
        let name = match &keys {
            None => format!("v:{item}"),
            Some(keys) => format!("k:{}", key_of(item, keys).ok()?),
        };
        if !seen.insert(name.clone()) {
            return None;
        }
        named.push((name, item));
    }
    Some(named)
}

/// The keys of an item as JSON, in the order of their names; the name of the field that is missing otherwise.
pub(crate) fn key_of<'k>(item: &Value, keys: &[&'k str]) -> Result<Value, &'k str> {
    let mut found = BTreeMap::new();
    for key in keys {
        let value = item.get(key).cloned().or_else(|| key_default(key)).ok_or(*key)?;
        found.insert(*key, value);
    }
    Ok(json!(found))
}
