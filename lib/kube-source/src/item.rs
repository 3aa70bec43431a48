//! An object as the API sends it: any JSON object, so that none of them can spoil the page or the watch it comes in.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// One object, not read yet.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) value: Map<String, Value>,
    /// What the client wants to know of it; everything is in `value`.
    metadata: ObjectMeta,
}

impl Item {
    pub(crate) fn new(mut value: Map<String, Value>) -> Item {
        // Often more than half of the object, and of no use to anybody here.
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            metadata.remove("managedFields");
        }
        let mut item = Item {
            value,
            metadata: ObjectMeta::default(),
        };
        item.metadata.resource_version = item.text("resourceVersion").map(str::to_owned);
        item
    }

    /// A text of the metadata.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.value.get("metadata")?.get(field)?.as_str()
    }

    /// The resource version; empty when it has none.
    pub(crate) fn version(&self) -> &str {
        self.text("resourceVersion").unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item, D::Error> {
        // In a list of objects something that is none has no name: it is kept apart like one without.
        match Value::deserialize(deserializer)? {
            Value::Object(value) => Ok(Item::new(value)),
            _ => Ok(Item::new(Map::new())),
        }
    }
}

impl Resource for Item {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
