//! Objects as clients get them: whole, as metadata, or as rows of a table.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::kinds::Resource;
use crate::request::Form;
use crate::store::Stored;

/// How the objects of one request are written.
pub(crate) struct Renderer<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) version: &'a str,
    pub(crate) form: Form,
    /// What the rows of a table carry: `None`, `Metadata` (also when empty) or `Object`.
    pub(crate) include_object: &'a str,
    pub(crate) now: OffsetDateTime,
}

impl Renderer<'_> {
    /// One object.
    pub(crate) fn object(&self, object: &Stored) -> Bytes {
        match self.form {
            Form::Table => Bytes::from(self.table(&[object], Map::new(), true).to_string()),
            Form::Metadata => Bytes::from(self.metadata(object.value()).to_string()),
            Form::Object | Form::Discovery => self.typed(object),
        }
    }

    /// One object as a watch sends it: only the first table has its columns.
    pub(crate) fn watched(&self, object: &Stored, first: bool) -> Bytes {
        match self.form {
            Form::Table => Bytes::from(self.table(&[object], Map::new(), first).to_string()),
            _ => self.object(object),
        }
    }

    /// A list with this list metadata.
    pub(crate) fn list(&self, objects: &[std::sync::Arc<Stored>], metadata: Map<String, Value>) -> Bytes {
        match self.form {
            Form::Table => {
                let objects: Vec<&Stored> = objects.iter().map(AsRef::as_ref).collect();
                Bytes::from(self.table(&objects, metadata, true).to_string())
            }
            Form::Metadata => {
                let items: Vec<Value> = objects
                    .iter()
                    .map(|object| self.metadata(object.value()))
                    .collect();
                let list = json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                    "items": items,
                });
                Bytes::from(list.to_string())
            }
            Form::Object | Form::Discovery => {
                let size: usize = objects.iter().map(|object| object.encoded().len() + 128).sum();
                let mut text = Vec::with_capacity(size + 256);
                let head = format!(
                    "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
                    json!(format!("{}List", self.resource.kind)),
                    json!(self.resource.api_version(self.version)),
                    Value::Object(metadata)
                );
                text.extend_from_slice(head.as_bytes());
                for (at, object) in objects.iter().enumerate() {
                    if at > 0 {
                        text.push(b',');
                    }
                    // Items of built-in kinds carry no kind in a list; those by definition do.
                    if self.resource.custom.is_some() {
                        text.extend_from_slice(&self.typed(object));
                    } else if let Some(shown) = self.resource.shown(object.value()) {
                        text.extend_from_slice(shown.to_string().as_bytes());
                    } else {
                        text.extend_from_slice(&object.encoded());
                    }
                }
                text.extend_from_slice(b"]}");
                Bytes::from(text)
            }
        }
    }

    /// The object with its `kind` and `apiVersion` in front.
    fn typed(&self, object: &Stored) -> Bytes {
        let head = format!(
            "{{\"kind\":{},\"apiVersion\":{}",
            json!(self.resource.kind),
            json!(self.resource.api_version(self.version))
        );
        let shown = self.resource.shown(object.value());
        let encoded = shown.map_or_else(|| object.encoded(), |shown| Bytes::from(shown.to_string()));
        let mut text = Vec::with_capacity(head.len() + encoded.len());
        text.extend_from_slice(head.as_bytes());
        if encoded.len() > 2 {
            text.push(b',');
        }
        text.extend_from_slice(&encoded[1..]);
        Bytes::from(text)
    }

    fn metadata(&self, object: &Value) -> Value {
        json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object["metadata"],
        })
    }

    fn table(&self, objects: &[&Stored], metadata: Map<String, Value>, with_columns: bool) -> Value {
        let columns = &self.resource.columns;
        let rows: Vec<Value> = objects
            .iter()
            .map(|object| {
                let cells: Vec<Value> = columns
                    .iter()
                    .map(|column| column.cell(object.value(), self.now))
                    .collect();
                let inner = match self.include_object {
                    "None" => Value::Null,
                    "Object" => typed(object.value(), self.resource, self.version),
                    _ => self.metadata(object.value()),
                };
                json!({ "cells": cells, "object": inner })
            })
            .collect();
        let definitions: Vec<Value> = if with_columns {
            columns.iter().map(crate::columns::Column::definition).collect()
        } else {
            Vec::new()
        };
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": definitions,
            "rows": rows,
        })
    }
}

/// The object with `kind` and `apiVersion`.
pub(crate) fn typed(object: &Value, resource: &Resource, version: &str) -> Value {
    let mut object = resource.shown(object).unwrap_or_else(|| object.clone());
    object["kind"] = json!(resource.kind);
    object["apiVersion"] = json!(resource.api_version(version));
    object
}
