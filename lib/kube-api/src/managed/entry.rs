//! The entries of `metadata.managedFields`.

use serde_json::{Value, json};

use super::Manager;
use super::fields::Fields;
use crate::status::StatusError;

/// How many managers that update are told apart; the oldest ones beyond are put together, as a server does it.
const MAX_UPDATE_MANAGERS: usize = 10;
/// The name of those that are put together.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// One manager's fields.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
    time: String,
    pub(crate) fields: Fields,
}

/// All managers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries(Vec<Entry>);

impl Entry {
    /// Whether the entry is this manager's.
    pub(crate) fn is(&self, manager: &Manager<'_>, operation: Operation) -> bool {
        self.manager == manager.name
            && self.operation == operation
            && self.subresource == manager.subresource
            // One who applies has one set of fields, in whatever version it was sent.
            && (operation == Operation::Apply || self.api_version == manager.api_version)
    }
}

impl Entries {
    pub(crate) fn parse(value: &Value) -> Result<Entries, StatusError> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let entries = items.iter().map(|item| {
            let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
            let bad = |what: &str| StatusError::bad_request(format!("metadata.managedFields: {what}"));
            Ok(Entry {
                manager: text("manager"),
                operation: match item["operation"].as_str() {
                    Some("Apply") => Operation::Apply,
                    Some("Update") => Operation::Update,
                    _ => return Err(bad("operation must be `Apply` or `Update`")),
                },
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: text("time"),
                fields: Fields::parse(item.get("fieldsV1").unwrap_or(&json!({})))
                    .ok_or_else(|| bad("fieldsV1 cannot be read"))?,
            })
        });
        entries.collect::<Result<_, _>>().map(Entries)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut()
    }

    /// Gives these fields to the manager, besides those it has.
    pub(crate) fn add(&mut self, manager: &Manager<'_>, operation: Operation, fields: &Fields) {
        match self.0.iter_mut().find(|entry| entry.is(manager, operation)) {
            Some(entry) => {
                entry.fields.union(fields);
                entry.time = manager.now.to_owned();
            }
            None => self.set(manager, operation, fields.clone()),
        }
    }

    /// Gives exactly these fields to the manager.
    pub(crate) fn set(&mut self, manager: &Manager<'_>, operation: Operation, fields: Fields) {
        let fresh = Entry {
            manager: manager.name.to_owned(),
            operation,
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: manager.now.to_owned(),
            fields,
        };
        match self.0.iter_mut().find(|entry| entry.is(manager, operation)) {
            Some(entry) if entry.fields == fresh.fields && entry.api_version == fresh.api_version => {}
            Some(entry) => *entry = fresh,
            None => self.0.push(fresh),
        }
    }

    /// Drops managers without fields, and puts the oldest together where there are too many.
    pub(crate) fn tidy(&mut self) {
        self.0.retain(|entry| !entry.fields.is_empty());
        let updates = |entry: &Entry| entry.operation == Operation::Update && entry.manager != ANCIENT;
        while self.0.iter().filter(|entry| updates(entry)).count() > MAX_UPDATE_MANAGERS {
            let oldest = (0..self.0.len())
                .filter(|at| updates(&self.0[*at]))
                .min_by(|a, b| self.0[*a].time.cmp(&self.0[*b].time));
            let Some(oldest) = oldest else { return };
            let mut entry = self.0.remove(oldest);
            entry.manager = ANCIENT.to_owned();
            let same = self.0.iter_mut().find(|other| {
                other.manager == ANCIENT
                    && other.api_version == entry.api_version
                    && other.subresource == entry.subresource
            });
            match same {
                Some(other) => other.fields.union(&entry.fields),
                None => self.0.push(entry),
            }
        }
    }

    pub(crate) fn to_value(&self) -> Option<Value> {
        if self.0.is_empty() {
            return None;
        }
        let entries = self.0.iter().map(|entry| {
            let mut value = json!({
                "manager": entry.manager,
                "operation": match entry.operation {
                    Operation::Apply => "Apply",
                    Operation::Update => "Update",
                },
                "apiVersion": entry.api_version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_value(),
            });
            if !entry.subresource.is_empty() {
                value["subresource"] = json!(entry.subresource);
            }
            value
        });
        Some(Value::Array(entries.collect()))
    }
}
