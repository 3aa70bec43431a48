//! Holding objects against what their kind says: unknown fields are dropped, told or refused, and what does not fit is
//! refused. For built-in kinds Kubernetes' own types say it; for others the schema of their definition, and then its rules
//! in CEL (Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions").

#[cfg(test)]
mod tests;

use kube_cel::Validator;
use serde_json::{Map, Value};

use crate::built_in;
use crate::kinds::{Custom, Resource};
use crate::rules::text;
use crate::status::StatusError;

/// What becomes of fields that the kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UnknownFields {
    /// They are dropped without a word.
    Dropped,
    /// They are dropped, and the answer warns of it.
    #[default]
    Told,
    /// The write is refused.
    Refused,
}

impl UnknownFields {
    /// By the parameter `fieldValidation` of a request.
    pub(crate) fn parse(word: &str) -> Result<UnknownFields, StatusError> {
        match word {
            "Strict" => Ok(UnknownFields::Refused),
            "Ignore" => Ok(UnknownFields::Dropped),
            "" | "Warn" => Ok(UnknownFields::Told),
            _ => Err(StatusError::bad_request(format!(
                "fieldValidation: Unsupported value: {word:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// Checks what a write would store, and returns what the client is to be warned of. What the write leaves as it is in `old`
/// is not looked at: something that is stored already does not keep its labels or its status from being written.
pub(crate) fn admit(
    resource: &Resource,
    version: &str,
    old: Option<&Value>,
    new: &mut Value,
    unknown: UnknownFields,
) -> Result<Vec<String>, StatusError> {
    let Some(custom) = &resource.custom else {
        return admit_built_in(resource, version, old, new, unknown);
    };
    let Some(schema) = custom.schema.as_deref() else {
        return Ok(Vec::new());
    };
    let mut changed = changes(old, new);
    if changed.as_object().is_none_or(Map::is_empty) {
        return Ok(Vec::new());
    }
    let (unknown_fields, wrong): (Vec<_>, Vec<_>) = charts::schema::check_against(schema, &changed)
        .into_iter()
        .partition(|problem| problem.unknown_field);
    let unknown_fields: Vec<String> = unknown_fields.into_iter().map(|problem| problem.field).collect();
    let warnings = unknown.tell(resource, version, &unknown_fields)?;
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
        Ok(warnings)
    } else {
        refuse(&broken)
    }
}

fn admit_built_in(
    resource: &Resource,
    version: &str,
    old: Option<&Value>,
    new: &mut Value,
    unknown: UnknownFields,
) -> Result<Vec<String>, StatusError> {
    let mut changed = changes(old, new);
    let metadata = without_managers(&new["metadata"]);
    if old.is_none_or(|old| without_managers(&old["metadata"]) != metadata) {
        changed["metadata"] = metadata;
    }
    let fields: Vec<String> = changed
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .cloned()
        .collect();
    let unknown_fields = built_in::prune(resource, version, &mut changed).map_err(|wrong| {
        let problem = format!("{}: {}", wrong.field, wrong.problem);
        StatusError::bad_request(not_handled(resource, version, &problem))
    })?;
    let warnings = unknown.tell(resource, version, &unknown_fields)?;
    if !unknown_fields.is_empty() {
        let managers = new["metadata"].get("managedFields").cloned();
        for field in &fields {
            match changed.get(field) {
                Some(value) => new[field.as_str()] = value.clone(),
                None => crate::rules::remove(new, field),
            }
        }
        if let Some(managers) = managers {
            new["metadata"]["managedFields"] = managers;
        }
    }
    let broken = if fields
        .iter()
        .any(|field| field != "metadata" && field != "status")
        || old.is_none()
    {
        built_in::broken(resource, new)
    } else {
        Vec::new()
    };
    if broken.is_empty() {
        return Ok(warnings);
    }
    let broken: Vec<_> = broken
        .iter()
        .map(|(field, problem)| (field.as_str(), problem.as_str()))
        .collect();
    let name = text(new, "name");
    Err(StatusError::invalid_fields(
        &resource.kind,
        &resource.group,
        &name,
        &broken,
    ))
}

impl UnknownFields {
    /// The warnings about these fields, or the refusal.
    fn tell(self, resource: &Resource, version: &str, fields: &[String]) -> Result<Vec<String>, StatusError> {
        let told: Vec<String> = fields
            .iter()
            .map(|field| format!("unknown field {field:?}"))
            .collect();
        match self {
            UnknownFields::Refused if !told.is_empty() => {
                let problem = format!("strict decoding error: {}", told.join(", "));
                Err(StatusError::bad_request(not_handled(resource, version, &problem)))
            }
            UnknownFields::Told => Ok(told),
            _ => Ok(Vec::new()),
        }
    }
}

fn not_handled(resource: &Resource, version: &str, problem: &str) -> String {
    let kind = &resource.kind;
    format!("{kind} in version {version:?} cannot be handled as a {kind}: {problem}")
}

fn without_managers(metadata: &Value) -> Value {
    let mut metadata = metadata.clone();
    if let Some(fields) = metadata.as_object_mut() {
        fields.remove("managedFields");
    }
    metadata
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
