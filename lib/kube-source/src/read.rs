//! Making an object of what the API sent.

use std::sync::Arc;

use objects::{Kind, Object, ObjectKey, ParseErrors};
use serde_json::{Map, Value};

use crate::item::Item;
use crate::prune::prune;

/// An object as the API has it now.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
    /// Its resource version, where that is a number.
    pub(crate) version: Option<u64>,
    /// The object, or what is wrong with it.
    pub(crate) object: Result<Arc<Object>, String>,
}

/// Fields with words that a newer API server may know more of than we do. Without them an object means what it meant
/// before there was such a word; it would mean nothing if it could not be read at all.
const DISPENSABLE: [&str; 6] = [
    "spec.trafficDistribution",
    "spec.internalTrafficPolicy",
    "spec.sessionAffinity",
    "spec.ipFamilyPolicy",
    "spec.ipFamilies",
    "status.phase",
];

/// Reads an object as the API gave it, with the rules of the store: its key, and the object or what is wrong with it. Of
/// a policy with which anything is wrong remains what closes. `None` for something without a name, or without a namespace
/// where it needs one: nothing could be done about it under any key.
pub fn object_of(
    kind: Kind,
    api_version: &str,
    value: Map<String, Value>,
) -> Option<(ObjectKey, Result<Arc<Object>, String>)> {
    let seen = read(kind, api_version, Item::new(value))?;
    let object = seen.object.or_else(|problem| {
        let closed = Object::closed(&seen.key, &problem);
        closed.map(Arc::new).ok_or(problem)
    });
    Some((seen.key, object))
}

/// Reads an item that came from the list or watch of a kind; none for something that no key leads to.
pub(crate) fn read(kind: Kind, api_version: &str, item: Item) -> Option<Seen> {
    let key = ObjectKey::new(
        kind,
        item.text("namespace").unwrap_or_default(),
        item.text("name")?,
    );
    if !key.can_exist() {
        return None;
    }
    let uid = item.text("uid").unwrap_or_default().to_owned();
    let version = number(item.version());
    let mut value = item.value;
    // Items of a list come without.
    value.insert("apiVersion".to_owned(), Value::from(api_version));
    value.insert("kind".to_owned(), Value::from(kind.as_str()));
    if version.is_none()
        && let Some(Value::Object(metadata)) = value.get_mut("metadata")
    {
        metadata.remove("resourceVersion");
    }
    prune(kind, &mut value);
    let object = object(Value::Object(value), &key).map_err(|errors| errors.to_string());
    let object = object.map(|object| {
        if has_text(kind) {
            object
        } else {
            object.without_text()
        }
    });
    Some(Seen {
        key,
        uid,
        version,
        object: object.map(Arc::new),
    })
}

/// A resource version as a number; it is one everywhere, but the API does not promise that.
pub(crate) fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// Whether what was written is kept beside the types: of kinds that there are few of, and that are written to or
/// whose conditions are read.
fn has_text(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Pod | Kind::EndpointSlice | Kind::Node | Kind::Namespace | Kind::ServiceAccount
    )
}

/// Whether two versions of an object say the same, but for the resource version.
pub(crate) fn same(one: &Object, other: &Object) -> bool {
    if !has_text(one.kind()) {
        let mut metadata = one.metadata.clone();
        metadata.resource_version = other.metadata.resource_version;
        return metadata == other.metadata && one.spec == other.spec;
    }
    fn without_version(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
        let fields = object.raw().get("metadata").and_then(Value::as_object);
        fields
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "resourceVersion")
    }
    fn content(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
        let fields = object.raw().as_object();
        fields
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "metadata")
    }
    content(one).eq(content(other)) && without_version(one).eq(without_version(other))
}

/// What cannot be read in a policy can only close; anything else is read as a whole or not at all.
fn object(mut value: Value, key: &ObjectKey) -> Result<Object, ParseErrors> {
    let errors = match Object::from_stored_value(&value, key) {
        Ok(object) => return Ok(object),
        Err(errors) => errors,
    };
    let mut changed = false;
    for error in &errors.0 {
        let is_field = |field: &&&str| error.field.split('[').next() == Some(**field);
        let Some(field) = DISPENSABLE.iter().find(is_field) else {
            return Err(errors);
        };
        if let Some((section, name)) = field.split_once('.')
            && let Some(Value::Object(fields)) = value.get_mut(section)
        {
            changed |= fields.remove(name).is_some();
        }
    }
    if changed {
        Object::from_stored_value(&value, key)
    } else {
        Err(errors)
    }
}

#[cfg(test)]
mod tests;
