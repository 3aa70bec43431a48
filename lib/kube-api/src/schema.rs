//! Holding objects of custom kinds against the schema of their definition: unknown fields are dropped or refused, what
//! does not fit is refused, and then the definition's rules in CEL are asked (Kubernetes documentation, "Extend the
//! Kubernetes API with CustomResourceDefinitions").

#[cfg(test)]
mod tests;

use kube_cel::Validator;
use serde_json::{Map, Value};

use crate::kinds::{Custom, Resource};
use crate::rules::text;
use crate::status::StatusError;

/// What becomes of fields that the schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UnknownFields {
    /// They are dropped without a word.
    #[default]
    Dropped,
    /// The write is refused.
    Refused,
}

impl UnknownFields {
    /// By the parameter `fieldValidation` of a request. A server also warns where it is asked to; this one does not.
    pub(crate) fn parse(word: &str) -> Result<UnknownFields, StatusError> {
        match word {
            "Strict" => Ok(UnknownFields::Refused),
            "" | "Ignore" | "Warn" => Ok(UnknownFields::Dropped),
            _ => Err(StatusError::bad_request(format!(
                "fieldValidation: Unsupported value: {word:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// Checks what a write would store. What it leaves as it is in `old` is not looked at: something that is stored
/// already does not keep its labels or its status from being written.
pub(crate) fn admit(
    resource: &Resource,
    old: Option<&Value>,
    new: &mut Value,
    unknown: UnknownFields,
) -> Result<(), StatusError> {
    let Some(custom) = &resource.custom else {
        return Ok(());
    };
    let Some(schema) = custom.schema.as_deref() else {
        return Ok(());
    };
    let mut changed = changes(old, new);
    if changed.as_object().is_none_or(Map::is_empty) {
        return Ok(());
    }
    let (unknown_fields, wrong): (Vec<_>, Vec<_>) = charts::schema::check_against(schema, &changed)
        .into_iter()
        .partition(|problem| problem.unknown_field);
    if unknown == UnknownFields::Refused && !unknown_fields.is_empty() {
        let named: Vec<String> = unknown_fields
            .iter()
            .map(|problem| format!("unknown field {:?}", problem.field))
            .collect();
        let message = format!("strict decoding error: {}", named.join(", "));
        return Err(StatusError::bad_request(message));
    }
    for field in ["spec", "status"] {
        if let (Some(schema), Some(value)) = (schema["properties"].get(field), changed.get_mut(field)) {
            prune(schema, value);
            new[field] = value.clone();
        }
    }
    let refuse = |problems: &[(String, String)]| {
        let fields: Vec<_> = problems
            .iter()
            .map(|(field, problem)| (field.as_str(), problem.as_str()))
            .collect();
        Err(StatusError::invalid_fields(
            &resource.kind,
            &resource.group,
            &text(new, "name"),
            &fields,
        ))
    };
    if !wrong.is_empty() {
        let wrong: Vec<_> = wrong
            .into_iter()
            .map(|problem| (problem.field, format!("Invalid value: {}", problem.message)))
            .collect();
        return refuse(&wrong);
    }
    let broken = broken_rules(custom, old, &changed);
    if broken.is_empty() {
        Ok(())
    } else {
        refuse(&broken)
    }
}

/// What is new or other than before, but the metadata.
fn changes(old: Option<&Value>, new: &Value) -> Value {
    let is_new = |name: &str, value: &Value| old.and_then(|old| old.get(name)) != Some(value);
    let fields = new.as_object().into_iter().flatten();
    let fields = fields.filter(|(name, value)| *name != "metadata" && is_new(name, value));
    Value::Object(
        fields
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

/// The rules that do not hold, each with its field and what it says. One that cannot be asked does not hold.
fn broken_rules(custom: &Custom, old: Option<&Value>, object: &Value) -> Vec<(String, String)> {
    let Some(rules) = custom.rules() else {
        return Vec::new();
    };
    match Validator::new().validate_compiled(rules, object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors
            .as_slice()
            .iter()
            .map(|error| {
                (
                    error.field_path.clone(),
                    format!("Invalid value: {}", error.message),
                )
            })
            .collect(),
    }
}

/// Drops the fields that a schema does not know.
fn prune(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let (properties, additional) = (schema.get("properties"), schema.get("additionalProperties"));
            let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true
                || additional == Some(&Value::Bool(true));
            fields.retain(|name, value| {
                let known = properties
                    .and_then(|properties| properties.get(name))
                    .or(additional.filter(|additional| additional.is_object()));
                if let Some(schema) = known {
                    prune(schema, value);
                }
                known.is_some() || keeps
            });
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(&schema["items"], item)),
        _ => {}
    }
}
