//! What a server does to objects that are written: what clients may not set, what counts as a change, what names
//! are accepted (Kubernetes API conventions).

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::kinds::Resource;
use crate::status::StatusError;

/// Checks `kind`, `apiVersion` and namespace of a body against the path, takes the first two away, and gives the fields the
/// names under which they are kept.
pub(crate) fn check_identity(
    resource: &Resource,
    version: &str,
    namespace: Option<&str>,
    object: &mut Value,
) -> Result<(), StatusError> {
    let expected = resource.api_version(version);
    let Some(fields) = object.as_object_mut() else {
        return Err(StatusError::bad_request("the body must be a JSON object"));
    };
    let given = |fields: &mut Map<String, Value>, name: &str| match fields.remove(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(StatusError::bad_request(format!("{name} must be a string"))),
    };
    let kind = given(fields, "kind")?;
    let api_version = given(fields, "apiVersion")?;
    if !api_version.is_empty() && api_version != expected {
        return Err(StatusError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    if !kind.is_empty() && kind != resource.kind {
        return Err(StatusError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: the kinds do not match",
            resource.kind
        )));
    }
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return Err(StatusError::bad_request("metadata must be a JSON object"));
    };
    for name in ["labels", "annotations"] {
        let sound = match metadata.get(name) {
            None | Some(Value::Null) => true,
            Some(Value::Object(map)) => map.values().all(Value::is_string),
            Some(_) => false,
        };
        if !sound {
            return Err(StatusError::bad_request(format!(
                "metadata.{name} must be a map of strings"
            )));
        }
    }
    metadata.retain(|_, value| !value.is_null());
    let odd = ["spec", "status", "data", "stringData"].into_iter().find(|name| {
        fields
            .get(*name)
            .is_some_and(|value| !value.is_object() && !value.is_null())
    });
    if let (Some(name), None) = (odd, &resource.custom) {
        return Err(StatusError::bad_request(format!("{name} must be a JSON object")));
    }
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    match (namespace, metadata.get("namespace").and_then(Value::as_str)) {
        (Some(namespace), None | Some("")) => {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        (Some(namespace), Some(given)) if given != namespace => {
            return Err(StatusError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        (None, Some(_)) => {
            metadata.remove("namespace");
        }
        _ => {}
    }
    resource.keep(object);
    Ok(())
}

/// Sets what only the server sets on a new object. The name must be there.
pub(crate) fn prepare_create(
    resource: &Resource,
    object: &mut Value,
    now: &str,
    uid: &str,
) -> Result<(), StatusError> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    check_name(resource, &name)?;
    if let Some(metadata) = object["metadata"].as_object_mut() {
        if metadata
            .remove("resourceVersion")
            .is_some_and(|version| version != "")
        {
            return Err(StatusError::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "selfLink",
        ] {
            metadata.remove(field);
        }
        metadata.insert("uid".to_owned(), json!(uid));
        metadata.insert("creationTimestamp".to_owned(), json!(now));
        if resource.generation {
            metadata.insert("generation".to_owned(), json!(1));
        }
    }
    // A kubelet brings its node's status; everybody else's begins empty.
    if resource.status && resource.kind != "Node" {
        remove(object, "status");
    }
    Ok(())
}

/// Holds an update to what it may change. `whole` says that the client sent the whole object, which must name
/// the version it is based on where the kind demands that.
pub(crate) fn prepare_update(
    resource: &Resource,
    subresource: &str,
    old: &Value,
    mut new: Value,
    whole: bool,
) -> Result<Value, StatusError> {
    let name = text(old, "name");
    if text(&new, "name") != name {
        return Err(StatusError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            text(&new, "name")
        )));
    }
    let conflict = |why: &str| {
        StatusError::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} {name:?}: {why}",
                resource.qualified()
            ),
        )
        .about(&resource.group, &resource.plural, &name)
    };
    let (uid, version) = (text(&new, "uid"), text(&new, "resourceVersion"));
    if !uid.is_empty() && uid != text(old, "uid") {
        return Err(conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            text(old, "uid")
        )));
    }
    if version.is_empty() && whole && resource.update_needs_version {
        return Err(StatusError::invalid(
            &resource.kind,
            &resource.group,
            &name,
            "metadata.resourceVersion",
            "Invalid value: 0x0: must be specified for an update",
        ));
    }
    if !version.is_empty() && version != text(old, "resourceVersion") {
        return Err(conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }

    restore(
        &mut new["metadata"],
        &old["metadata"],
        &[
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "selfLink",
        ],
    );
    if subresource == "status" {
        let mut result = old.clone();
        restore(&mut result, &new, &["status"]);
        restore(&mut result["metadata"], &new["metadata"], &["managedFields"]);
        // Metadata can be written through the status of built-in kinds, ownership aside.
        if resource.custom.is_none() && resource.kind != "Deployment" {
            restore(
                &mut result["metadata"],
                &new["metadata"],
                &["labels", "annotations", "finalizers"],
            );
        }
        new = result;
    } else if resource.status {
        restore(&mut new, old, &["status"]);
    }
    check_finalizers(resource, &name, old, &new)?;
    if resource.generation
        && subresource.is_empty()
        && specification(resource, old) != specification(resource, &new)
    {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        new["metadata"]["generation"] = json!(generation);
    }
    Ok(new)
}

/// Whether a change may need defaults anew. The label of a Namespace is one.
pub(crate) fn asks_for_something_else(resource: &Resource, old: &Value, new: &Value) -> bool {
    let is_namespace = resource.kind == "Namespace" && resource.custom.is_none();
    is_namespace || specification(resource, old) != specification(resource, new)
}

/// Leaves only what may be applied through this subresource.
pub(crate) fn applicable(resource: &Resource, subresource: &str, config: &mut Value) {
    if subresource == "status" {
        if let Some(fields) = config.as_object_mut() {
            fields.retain(|name, _| matches!(name.as_str(), "metadata" | "status"));
        }
        if let Some(metadata) = config["metadata"].as_object_mut() {
            let all = resource.custom.is_none() && resource.kind != "Deployment";
            metadata.retain(|name, _| {
                matches!(name.as_str(), "name" | "namespace" | "uid" | "resourceVersion")
                    || all && matches!(name.as_str(), "labels" | "annotations" | "finalizers")
            });
        }
    } else if resource.status {
        remove(config, "status");
    }
}

/// Whether the object is being deleted and nobody holds it any more.
pub(crate) fn is_released(object: &Value) -> bool {
    let metadata = &object["metadata"];
    metadata.get("deletionTimestamp").is_some()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !has_finalizers(object)
}

pub(crate) fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|list| !list.is_empty())
}

/// A field of the metadata; empty when it is not there.
pub(crate) fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

/// Makes these fields what they are in `from`, or takes them away.
fn restore(object: &mut Value, from: &Value, fields: &[&str]) {
    for field in fields {
        match from.get(field) {
            Some(value) => object[*field] = value.clone(),
            None => remove(object, field),
        }
    }
}

/// What the generation counts: everything but metadata and a status that has its own subresource.
fn specification(resource: &Resource, object: &Value) -> Map<String, Value> {
    let mut fields = object.as_object().cloned().unwrap_or_default();
    fields.remove("metadata");
    if resource.status {
        fields.remove("status");
    }
    fields
}

fn check_finalizers(resource: &Resource, name: &str, old: &Value, new: &Value) -> Result<(), StatusError> {
    if old["metadata"].get("deletionTimestamp").is_none() {
        return Ok(());
    }
    let list = |object: &Value| {
        object["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let known = list(old);
    if list(new).iter().any(|finalizer| !known.contains(finalizer)) {
        return Err(StatusError::invalid(
            &resource.kind,
            &resource.group,
            name,
            "metadata.finalizers",
            "Forbidden: no new finalizers can be added if the object is being deleted",
        ));
    }
    Ok(())
}

fn check_name(resource: &Resource, name: &str) -> Result<(), StatusError> {
    let invalid = |problem: &str| {
        Err(StatusError::invalid(
            &resource.kind,
            &resource.group,
            name,
            "metadata.name",
            problem,
        ))
    };
    if name.is_empty() {
        return invalid("Required value: name or generateName is required");
    }
    let label_only = matches!(resource.kind.as_str(), "Service" | "Namespace") && resource.custom.is_none();
    let longest = if label_only { 63 } else { 253 };
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let sound = name.len() <= longest
        && if label_only {
            good(name)
        } else if resource.id() == "clustertrustbundles.certificates.k8s.io" {
            // `SIGNER:NAME`, with colons in place of the signer's slashes.
            name.split(['.', ':']).all(good)
        } else {
            name.split('.').all(good)
        };
    if sound {
        return Ok(());
    }
    let what = if label_only {
        "an RFC 1123 label"
    } else {
        "an RFC 1123 subdomain"
    };
    invalid(&format!(
        "Invalid value: {name:?}: {what} must consist of lower case alphanumeric characters, '-' or '.', \
         and must start and end with an alphanumeric character"
    ))
}
