//! The lab's objects as the API server keeps them: in the lab's own store, and only what the lab can run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kube_api::{Backing, Exchange, Key, StatusError};
use object_store::{Directory, StoreError, Txn};
use objects::{Kind, Object, ObjectKey, ParseErrors};
use serde_json::{Map, Value};

use crate::change::belongs_to_lab;
use crate::manifests::{Manifests, Place, check};
use crate::options::LabOptions;

/// The kinds that the lab knows. Everything else (Secrets, Leases, Events, definitions) lives in the API server alone.
pub(super) struct Kept {
    directory: Directory,
    kinds: BTreeMap<String, Kind>,
    nodes: Vec<String>,
    ztctl: PathBuf,
}

impl Kept {
    pub(super) fn new(directory: Directory, options: &LabOptions) -> Kept {
        Kept {
            directory,
            kinds: Kind::ALL.into_iter().map(|kind| (resource(kind), kind)).collect(),
            nodes: options.node_names(),
            ztctl: options.programs.ztctl.clone(),
        }
    }

    fn object_key(&self, key: &Key) -> Result<ObjectKey, StatusError> {
        let kind = self.kinds.get(&key.resource);
        let kind = kind.ok_or_else(|| StatusError::internal("not a kind of the lab's"))?;
        Ok(ObjectKey::new(*kind, &key.namespace, &key.name))
    }

    fn put(&self, txn: &mut Txn<'_>, key: &ObjectKey, value: Value) -> Result<Value, StatusError> {
        let old = txn.get(key).map_err(|error| refusal(key, error))?;
        if old.as_ref().is_some_and(|old| old.is_placeholder()) {
            return Err(StatusError::internal(format!(
                "the file of {key} is damaged: delete it first"
            )));
        }
        let mut value = typed(key.kind, value);
        if let Some(old) = &old {
            // In the words of the lab's own store.
            value["metadata"]["resourceVersion"] = old.raw()["metadata"]["resourceVersion"].clone();
        } else if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let object = match (Object::from_value(value.clone()), &old) {
            (Ok(object), _) => object,
            // What is wrong with it already may stay.
            (Err(errors), Some(_)) => {
                Object::from_stored_value(&value, key).map_err(|_| invalid(key, &errors))?
            }
            (Err(errors), None) => return Err(invalid(key, &errors)),
        };
        let leaves = object.metadata.deletion_timestamp.is_some();
        match &old {
            Some(old) if leaves && old.metadata.deletion_timestamp.is_none() && belongs_to_lab(old) => {
                return Err(lasting(key));
            }
            Some(old) if asks_for(old.raw()) == asks_for(object.raw()) => {}
            _ => self.admit(txn, key, &object)?,
        }
        let stored = txn.put(object).map_err(|error| refusal(key, error))?;
        Ok(shown(&stored))
    }

    /// What the lab can see to be wrong with an object, as `ztctl lab apply` does.
    fn admit(&self, txn: &mut Txn<'_>, key: &ObjectKey, object: &Object) -> Result<(), StatusError> {
        let present = txn.list().map_err(|error| refusal(key, error))?;
        let place = Place {
            present: &present,
            nodes: &self.nodes,
            ztctl: &self.ztctl,
        };
        check(&Manifests::of(object.clone()), &place)
            .map_err(|error| StatusError::forbidden(error.to_string()))
    }
}

impl Backing for Kept {
    fn keeps(&self, resource: &str) -> bool {
        self.kinds.contains_key(resource)
    }

    fn exchange(
        &self,
        key: &Key,
        step: &mut dyn FnMut(Option<&Value>) -> Result<Exchange, StatusError>,
    ) -> Result<Option<Value>, StatusError> {
        let key = self.object_key(key)?;
        let done = self.directory.try_transaction::<_, Failure>(|txn| {
            let there = match txn.get(&key) {
                Ok(there) => there,
                // A name that no file can have: nothing is there.
                Err(StoreError::BadName { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let there = there.map(|object| shown(&object));
            match step(there.as_ref())? {
                Exchange::Keep => Ok(there),
                Exchange::Put(value) => Ok(Some(self.put(txn, &key, value)?)),
                Exchange::Remove => {
                    let old = txn.get(&key)?;
                    if old.is_some_and(|old| belongs_to_lab(&old)) {
                        return Err(lasting(&key).into());
                    }
                    txn.delete(&key)?;
                    Ok(None)
                }
            }
        });
        match done {
            Ok((there, _)) => Ok(there),
            Err(Failure::Status(status)) => Err(status),
            Err(Failure::Store(error)) => Err(refusal(&key, error)),
        }
    }
}

/// An object as the API shows it: also what an API server would have filled in when it was made, and people see in
/// tables.
fn shown(object: &Object) -> Value {
    let mut value = object.raw().clone();
    if object.kind() == Kind::Namespace && object.status().is_none() {
        value["status"] = serde_json::json!({ "phase": "Active" });
    }
    if object.kind() == Kind::Service && value["spec"].get("type").is_none() {
        value["spec"]["type"] = Value::from("ClusterIP");
    }
    value
}

/// How the API server knows an object.
pub(super) fn key_of(key: &ObjectKey) -> Key {
    Key::new(&resource(key.kind), &key.namespace, &key.name)
}

fn resource(kind: Kind) -> String {
    kube_api::resource(kind.group(), kind.plural())
}

enum Failure {
    Status(StatusError),
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

impl From<StatusError> for Failure {
    fn from(error: StatusError) -> Failure {
        Failure::Status(error)
    }
}

fn typed(kind: Kind, value: Value) -> Value {
    let mut whole = Map::new();
    let api_version = kind.api_versions().first().copied().unwrap_or_default();
    whole.insert("apiVersion".to_owned(), Value::from(api_version));
    whole.insert("kind".to_owned(), Value::from(kind.as_str()));
    if let Value::Object(fields) = value {
        whole.extend(fields);
    }
    Value::Object(whole)
}

/// Everything of an object but its metadata and status.
fn asks_for(value: &Value) -> Map<String, Value> {
    let mut fields = value.as_object().cloned().unwrap_or_default();
    for other in ["metadata", "status", "apiVersion"] {
        fields.remove(other);
    }
    fields
}

fn lasting(key: &ObjectKey) -> StatusError {
    StatusError::forbidden(format!("{key} belongs to the lab itself and stays"))
}

fn invalid(key: &ObjectKey, errors: &ParseErrors) -> StatusError {
    let fields: Vec<_> = errors
        .0
        .iter()
        .map(|error| (error.field.as_str(), error.problem.as_str()))
        .collect();
    StatusError::invalid_fields(key.kind.as_str(), key.kind.group(), &key.name, &fields)
}

fn refusal(key: &ObjectKey, error: StoreError) -> StatusError {
    match error {
        StoreError::Invalid { errors, .. } => invalid(key, &errors),
        StoreError::BadName { part, problem, .. } => {
            let field = format!("metadata.{part}");
            StatusError::invalid_fields(
                key.kind.as_str(),
                key.kind.group(),
                &key.name,
                &[(field.as_str(), problem)],
            )
        }
        error @ (StoreError::Refused(_) | StoreError::TooLarge { .. } | StoreError::TooMany { .. }) => {
            StatusError::forbidden(error.to_string())
        }
        error => StatusError::internal(error.to_string()),
    }
}
