//! Holding objects against the schema of a custom resource definition (OpenAPI v3 as Kubernetes' structural schemas have it).
//!
//! Pure. Of the schema language it knows what Kubernetes allows in a structural schema and our definitions use; CEL rules
//! (`x-kubernetes-validations`) are not looked at.

use regex::Regex;
use serde_json::{Map, Value};

#[cfg(test)]
mod tests;

/// How deep schemas may nest; ours have less than twenty levels.
const MAX_DEPTH: usize = 64;

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `spec.rules[0].from`.
    pub field: String,
    /// What, as the end of a sentence that begins with the field.
    pub message: String,
    /// Whether the schema does not know the field. An API server drops such fields unless it is asked to refuse them.
    pub unknown_field: bool,
}

/// What a schema finds wrong with an object; `apiVersion`, `kind` and `metadata` are not looked at.
pub fn check_against(schema: &Value, object: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let is_open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    for (name, value) in object.as_object().unwrap_or(&empty) {
        match properties.get(name) {
            _ if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") => {}
            Some(property) => check_value(property, value, name, 0, &mut problems),
            None if is_open => {}
            None => problems.push(unknown(name)),
        }
    }
    problems
}

/// What the schema of a version of a definition finds wrong with an object.
///
/// An object of a version that the definition does not have is held against nothing; its `apiVersion` and `kind` are the
/// caller's affair, and `metadata` is not looked at.
pub fn check(definition: &Value, version: &str, object: &Value) -> Vec<Problem> {
    of_version(definition, version).map_or_else(Vec::new, |schema| check_against(schema, object))
}

/// The schema of one version.
pub fn of_version<'a>(definition: &'a Value, version: &str) -> Option<&'a Value> {
    let versions = definition["spec"]["versions"].as_array()?;
    let version = versions.iter().find(|entry| entry["name"] == version)?;
    Some(&version["schema"]["openAPIV3Schema"])
}

fn check_value(schema: &Value, value: &Value, field: &str, depth: usize, problems: &mut Vec<Problem>) {
    let mut say = |message: String| {
        problems.push(Problem {
            field: field.to_owned(),
            message,
            unknown_field: false,
        });
    };
    if depth == MAX_DEPTH {
        return say(format!("is nested deeper than {MAX_DEPTH} levels"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        say(format!("is {value}; supported values are {}", allowed.join(", ")));
    }
    if schema["x-kubernetes-int-or-string"] == true {
        if !value.is_i64() && !value.is_u64() && !value.is_string() {
            say(format!("must be an integer or a string, not {}", kind_of(value)));
        }
        return;
    }
    if let Some(expected) = schema["type"].as_str()
        && !is_of(expected, value)
    {
        return say(format!("must be of type {expected}, not {}", kind_of(value)));
    }
    match value {
        Value::String(text) => check_text(schema, text, &mut say),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
                say(format!("must be {least} or more"));
            }
            if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
                say(format!("must be {most} or less"));
            }
        }
        Value::Array(items) => {
            check_size(schema, "Items", items.len(), &mut say);
            check_keys(schema, items, &mut say);
            for (index, item) in items.iter().enumerate() {
                check_value(
                    &schema["items"],
                    item,
                    &format!("{field}[{index}]"),
                    depth + 1,
                    problems,
                );
            }
        }
        Value::Object(entries) => {
            check_size(schema, "Properties", entries.len(), &mut say);
            check_choice(schema, entries, &mut say);
            check_entries(schema, entries, field, depth, problems);
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_text(schema: &Value, text: &str, say: &mut impl FnMut(String)) {
    check_size(schema, "Length", text.chars().count(), say);
    if let Some(pattern) = schema["pattern"].as_str()
        && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        say(format!("is {text:?}, which does not match {pattern}"));
    }
}

fn check_size(schema: &Value, what: &str, size: usize, say: &mut impl FnMut(String)) {
    let bound = |name: &str| {
        schema[format!("{name}{what}")]
            .as_u64()
            .and_then(|bound| usize::try_from(bound).ok())
    };
    let things = match what {
        "Length" => "characters",
        "Items" => "items",
        _ => "entries",
    };
    if let Some(least) = bound("min").filter(|least| size < *least) {
        say(format!("has {size} {things}; at least {least} are needed"));
    }
    if let Some(most) = bound("max").filter(|most| size > *most) {
        say(format!("has {size} {things}; at most {most} are allowed"));
    }
}

/// A list that is a map by some of its items' fields holds each key once.
fn check_keys(schema: &Value, items: &[Value], say: &mut impl FnMut(String)) {
    let Some(names) = schema["x-kubernetes-list-map-keys"].as_array() else {
        return;
    };
    let key = |item: &Value| {
        let names = names.iter().filter_map(Value::as_str);
        names.map(|name| item[name].clone()).collect::<Vec<_>>()
    };
    let keys: Vec<_> = items.iter().map(key).collect();
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            say(format!(
                "has two items with the same {}",
                Value::from(names.clone())
            ));
            return;
        }
    }
}

/// `required`, and the `oneOf` and `anyOf` of required fields that a structural schema may have.
fn check_choice(schema: &Value, entries: &Map<String, Value>, say: &mut impl FnMut(String)) {
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !entries.contains_key(name) {
            say(format!("needs {name}"));
        }
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let chosen = choices.iter().filter(|choice| holds(choice, entries)).count();
        if chosen != 1 {
            say("names several of which only one may be there".to_owned());
        }
    }
}

fn holds(choice: &Value, entries: &Map<String, Value>) -> bool {
    let required = choice["required"].as_array().into_iter().flatten();
    let has_all = required
        .filter_map(Value::as_str)
        .all(|name| entries.contains_key(name));
    let has_any = choice["anyOf"]
        .as_array()
        .is_none_or(|choices| choices.iter().any(|choice| holds(choice, entries)));
    let not = choice.get("not").is_some_and(|choice| holds(choice, entries));
    has_all && has_any && !not
}

fn check_entries(
    schema: &Value,
    entries: &Map<String, Value>,
    field: &str,
    depth: usize,
    problems: &mut Vec<Problem>,
) {
    let properties = schema["properties"].as_object();
    for (name, value) in entries {
        let inner = format!("{field}.{name}");
        let property = properties.and_then(|properties| properties.get(name));
        match (property, schema.get("additionalProperties")) {
            (Some(property), _) => check_value(property, value, &inner, depth + 1, problems),
            (None, Some(additional @ Value::Object(_))) => {
                check_value(additional, value, &inner, depth + 1, problems);
            }
            (None, Some(Value::Bool(true))) => {}
            _ if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            _ => problems.push(unknown(&inner)),
        }
    }
}

fn unknown(field: &str) -> Problem {
    Problem {
        field: field.to_owned(),
        message: "is no field of this kind".to_owned(),
        unknown_field: true,
    }
}

fn is_of(expected: &str, value: &Value) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
