//! Holding objects of built-in kinds against Kubernetes' own types, as a server does when it decodes them, and against the
//! few rules without which nobody could use them.

mod rules;

#[cfg(test)]
mod tests;

use k8s_openapi::api::{apps, coordination, core, discovery, networking};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kinds::Resource;
use crate::render::typed;

pub(crate) use self::rules::broken;

/// A field does not have the type that it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrongType {
    /// Where, such as `spec.containers[0].ports[0].containerPort`.
    pub(crate) field: String,
    /// What is there and what is expected.
    pub(crate) problem: String,
}

/// Drops the fields that the kind does not have from an object as it is kept, or a part of one, and returns their paths.
/// Kinds that are not known here are left alone.
///
/// # Errors
/// When a field has the wrong type.
pub(crate) fn prune(
    resource: &Resource,
    version: &str,
    object: &mut Value,
) -> Result<Vec<String>, WrongType> {
    let mut shown = typed(object, resource, version);
    let known = match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => known::<core::v1::Namespace>(&shown),
        ("", "Node") => known::<core::v1::Node>(&shown),
        ("", "Pod") => known::<core::v1::Pod>(&shown),
        ("", "Service") => known::<core::v1::Service>(&shown),
        ("", "ServiceAccount") => known::<core::v1::ServiceAccount>(&shown),
        ("", "ConfigMap") => known::<core::v1::ConfigMap>(&shown),
        ("", "Secret") => known::<core::v1::Secret>(&shown),
        ("", "Event") => known::<core::v1::Event>(&shown),
        ("events.k8s.io", "Event") => known::<k8s_openapi::api::events::v1::Event>(&shown),
        ("discovery.k8s.io", "EndpointSlice") => known::<discovery::v1::EndpointSlice>(&shown),
        ("coordination.k8s.io", "Lease") => known::<coordination::v1::Lease>(&shown),
        ("apps", "Deployment") => known::<apps::v1::Deployment>(&shown),
        ("networking.k8s.io", "NetworkPolicy") => known::<networking::v1::NetworkPolicy>(&shown),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => known::<CustomResourceDefinition>(&shown),
        _ => return Ok(Vec::new()),
    }?;
    let mut unknown = Vec::new();
    drop_unknown(&mut shown, &known, "", &mut unknown);
    if !unknown.is_empty() {
        if let Some(fields) = shown.as_object_mut() {
            fields.remove("apiVersion");
            fields.remove("kind");
        }
        resource.keep(&mut shown);
        *object = shown;
    }
    Ok(unknown)
}

/// What is left of an object when it is read as a `T`.
fn known<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, WrongType> {
    let read: T = serde_path_to_error::deserialize(object).map_err(|error| WrongType {
        field: error.path().to_string(),
        problem: error.inner().to_string(),
    })?;
    serde_json::to_value(read).map_err(|error| WrongType {
        field: String::new(),
        problem: error.to_string(),
    })
}

fn drop_unknown(given: &mut Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match given {
        Value::Object(fields) => fields.retain(|name, value| {
            let dot = if path.is_empty() { "" } else { "." };
            let inner = format!("{path}{dot}{name}");
            match known.get(name) {
                Some(known) => {
                    drop_unknown(value, known, &inner, unknown);
                    true
                }
                // Nothing is said by it.
                None if value.is_null() => true,
                None => {
                    unknown.push(inner);
                    false
                }
            }
        }),
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                drop_unknown(item, &known[at], &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}
