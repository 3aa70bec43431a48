//! Label and field selectors as query parameters spell them.

use serde_json::Value;

use crate::kinds::Resource;
use crate::status::StatusError;

/// Which objects a list or watch is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    labels: Vec<LabelTest>,
    fields: Vec<FieldTest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LabelTest {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Greater,
    Less,
}

#[derive(Clone, Debug)]
struct FieldTest {
    path: String,
    value: String,
    equal: bool,
}

impl Filter {
    /// Reads both selectors; a field by which this resource cannot be selected is refused as a server does it.
    pub(crate) fn parse(labels: &str, fields: &str, resource: &Resource) -> Result<Filter, StatusError> {
        let labels = parse_labels(labels)
            .map_err(|problem| StatusError::bad_request(format!("unable to parse requirement: {problem}")))?;
        let mut fields = parse_fields(fields)?;
        if let Some(view) = &resource.view {
            for test in &mut fields {
                let (first, rest) = test.path.split_once('.').unwrap_or((&test.path, ""));
                let dot = if rest.is_empty() { "" } else { "." };
                test.path = format!("{}{dot}{rest}", view.kept(first));
            }
        }
        if let Some(test) = fields
            .iter()
            .find(|test| !selectable(resource).contains(&test.path.as_str()))
        {
            return Err(StatusError::bad_request(format!(
                "field label not supported: {}",
                test.path
            )));
        }
        Ok(Filter { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Also demands this name.
    pub(crate) fn named(mut self, name: &str) -> Filter {
        self.fields.push(FieldTest {
            path: "metadata.name".to_owned(),
            value: name.to_owned(),
            equal: true,
        });
        self
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|test| test.holds(labels)) && self.fields.iter().all(|test| test.holds(object))
    }
}

impl LabelTest {
    fn holds(&self, labels: &Value) -> bool {
        let value = labels.get(&self.key).and_then(Value::as_str);
        let compare = |ordering: fn(&i64, &i64) -> bool| {
            let numbers = value
                .and_then(|value| value.parse::<i64>().ok())
                .zip(self.values.first().and_then(|value| value.parse::<i64>().ok()));
            numbers.is_some_and(|(have, want)| ordering(&have, &want))
        };
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.iter().any(|wanted| wanted == value)),
            Operator::NotIn => value.is_none_or(|value| self.values.iter().all(|wanted| wanted != value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Greater => compare(i64::gt),
            Operator::Less => compare(i64::lt),
        }
    }
}

impl FieldTest {
    fn holds(&self, object: &Value) -> bool {
        let found = self.path.split('.').fold(object, |value, part| &value[part]);
        let text = match found {
            Value::Null if self.path == "spec.unschedulable" || self.path == "spec.hostNetwork" => {
                "false".to_owned()
            }
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (text == self.value) == self.equal
    }
}

/// The fields by which a resource can be selected.
fn selectable(resource: &Resource) -> Vec<&'static str> {
    let own: &[&'static str] = match (resource.custom.is_some(), resource.kind.as_str()) {
        (false, "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        (false, "Node") => &["spec.unschedulable"],
        (false, "Namespace") => &["status.phase"],
        (false, "Secret") => &["type"],
        (false, "Service") => &["spec.clusterIP", "spec.type"],
        (false, "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    };
    let mut fields = vec!["metadata.name"];
    if resource.namespaced {
        fields.push("metadata.namespace");
    }
    fields.extend_from_slice(own);
    fields
}

fn parse_fields(text: &str) -> Result<Vec<FieldTest>, StatusError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let split = part
                .split_once("!=")
                .map(|(path, value)| (path, value, false))
                .or_else(|| {
                    part.split_once("==")
                        .or_else(|| part.split_once('='))
                        .map(|(path, value)| (path, value, true))
                });
            let (path, value, equal) = split.ok_or_else(|| {
                StatusError::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"))
            })?;
            Ok(FieldTest {
                path: path.trim().to_owned(),
                value: value.trim().to_owned(),
                equal,
            })
        })
        .collect()
}

/// The grammar of `labels.Parse`: requirements joined by commas that are not inside parentheses.
fn parse_labels(text: &str) -> Result<Vec<LabelTest>, String> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_u32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or("found ')' without '('")?,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err("found '(' without ')'".to_owned());
    }
    parts.push(&text[start..]);
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts.map(parse_label).collect()
}

fn parse_label(part: &str) -> Result<LabelTest, String> {
    let test = |key: &str, operator, values: Vec<String>| {
        let key = key.trim().to_owned();
        let odd = |letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/'));
        if key.is_empty() || key.contains(odd) {
            return Err(format!("{key:?} is no label key"));
        }
        Ok(LabelTest {
            key,
            operator,
            values,
        })
    };
    if let Some(key) = part.strip_prefix('!') {
        return test(key, Operator::DoesNotExist, Vec::new());
    }
    if let Some((head, list)) = part.split_once('(') {
        let values = list
            .trim_end()
            .strip_suffix(')')
            .ok_or("expected ')' at the end")?
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => test(key, Operator::In, values),
            (Some(key), Some("notin"), None) => test(key, Operator::NotIn, values),
            _ => Err(format!(
                "expected \"key in (...)\" or \"key notin (...)\", found {part:?}"
            )),
        };
    }
    let signs = [
        ("!=", Operator::NotIn),
        ("==", Operator::In),
        ("=", Operator::In),
        (">", Operator::Greater),
        ("<", Operator::Less),
    ];
    for (sign, operator) in signs {
        if let Some((key, value)) = part.split_once(sign) {
            return test(key, operator, vec![value.trim().to_owned()]);
        }
    }
    test(part, Operator::Exists, Vec::new())
}

#[cfg(test)]
mod tests;
