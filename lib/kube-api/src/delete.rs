//! Deleting: preconditions, grace, finalizers, and what goes with a namespace or a definition.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::{Body, Call, json as answer, now};
use crate::kinds::{DEFINITIONS, Resource};
use crate::rules;
use crate::status::StatusError;
use crate::store::{Change, Key, PageRequest, Stored};

impl Call<'_> {
    pub(crate) fn delete(&self, options: &Value) -> Result<Response<Body>, StatusError> {
        let name = self.name.as_deref().unwrap_or_default();
        let stored = self.remove(&self.key(name), options)?;
        if self.still_there(&stored) {
            return Ok(answer(StatusCode::OK, self.renderer().object(&stored)));
        }
        let mut details =
            json!({ "name": name, "kind": self.resource.plural, "uid": rules::text(stored.value(), "uid") });
        if !self.resource.group.is_empty() {
            details["group"] = json!(self.resource.group);
        }
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        });
        Ok(answer(StatusCode::OK, Bytes::from(status.to_string())))
    }

    pub(crate) fn delete_collection(&self, options: &Value) -> Result<Response<Body>, StatusError> {
        let filter = self.filter()?;
        let id = self.resource.id();
        let request = PageRequest {
            resource: &id,
            namespace: self.namespace.as_deref(),
            at: None,
            after: None,
            limit: None,
        };
        let page = self
            .api
            .store
            .page(&request, |object| filter.matches(object))
            .map_err(|_| StatusError::expired("the list is too old"))?;
        let mut removed = Vec::new();
        for object in page.items {
            let key = Key::new(
                &id,
                &rules::text(object.value(), "namespace"),
                &rules::text(object.value(), "name"),
            );
            match self.remove(&key, options) {
                Ok(object) => removed.push(object),
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let mut metadata = serde_json::Map::new();
        metadata.insert(
            "resourceVersion".to_owned(),
            json!(self.api.store.revision().to_string()),
        );
        Ok(answer(StatusCode::OK, self.renderer().list(&removed, metadata)))
    }

    /// After something in a namespace went: ends a namespace that waits for its last object.
    pub(crate) fn finish_namespace(&self, namespace: &str) {
        if namespace.is_empty() || !self.api.store.keys_in(namespace).is_empty() {
            return;
        }
        let key = Key::new("namespaces", "", namespace);
        // Nothing can be refused here.
        let _ = self.api.store.transact(&key, |current, _| {
            let done = current.is_some_and(|current| {
                current.value()["metadata"].get("deletionTimestamp").is_some()
                    && !rules::has_finalizers(current.value())
            });
            Ok(if done { Change::Remove } else { Change::Keep })
        });
    }

    fn still_there(&self, object: &Stored) -> bool {
        let key = Key::new(
            &self.resource.id(),
            &rules::text(object.value(), "namespace"),
            &rules::text(object.value(), "name"),
        );
        self.query.dry_run
            || self
                .api
                .store
                .get(&key)
                .is_some_and(|now| rules::text(now.value(), "uid") == rules::text(object.value(), "uid"))
    }

    fn remove(&self, key: &Key, options: &Value) -> Result<Arc<Stored>, StatusError> {
        let is_namespace = key.resource == "namespaces";
        let (now, dry_run) = (now(), self.query.dry_run || options["dryRun"][0] == "All");
        let answer = self.api.store.transact(key, |current, _| {
            let Some(current) = current else {
                return Err(self.not_found(&key.name));
            };
            let object = current.value();
            self.check_preconditions(object, &options["preconditions"])?;
            if dry_run {
                return Ok(Change::Keep);
            }
            let grace = self.grace(object, options);
            if grace == 0 && !rules::has_finalizers(object) && !is_namespace {
                return Ok(Change::Remove);
            }
            let mut object = object.clone();
            let metadata = &object["metadata"];
            let shorter = metadata["deletionGracePeriodSeconds"]
                .as_u64()
                .is_none_or(|known| grace < known);
            if metadata.get("deletionTimestamp").is_some() && !shorter {
                return Ok(Change::Keep);
            }
            object["metadata"]["deletionTimestamp"] = json!(now);
            object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            if self.resource.generation {
                let generation = object["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                object["metadata"]["generation"] = json!(generation);
            }
            if is_namespace {
                object["status"] = json!({ "phase": "Terminating" });
            }
            Ok(Change::Put(object))
        })?;
        let stored = answer.ok_or_else(|| self.not_found(&key.name))?;
        if dry_run {
            return Ok(stored);
        }
        if is_namespace {
            self.empty_namespace(&key.name);
        }
        if key.resource == DEFINITIONS && self.api.store.get(key).is_none() {
            self.drop_instances(stored.value());
        }
        self.finish_namespace(&key.namespace);
        Ok(stored)
    }

    fn check_preconditions(&self, object: &Value, preconditions: &Value) -> Result<(), StatusError> {
        for (field, word) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let Some(wanted) = preconditions[field].as_str() else {
                continue;
            };
            let found = rules::text(object, field);
            if wanted != found {
                let name = rules::text(object, "name");
                let message = format!(
                    "Operation cannot be fulfilled on {} {name:?}: the {word} in the precondition ({wanted}) does not match the {word} in record ({found}). The object might have been deleted and then recreated",
                    self.resource.qualified()
                );
                return Err(StatusError::new(409, "Conflict", message).about(
                    &self.resource.group,
                    &self.resource.plural,
                    &name,
                ));
            }
        }
        Ok(())
    }

    /// How many seconds the object stays: only pods on a node do, and only where somebody ends them.
    fn grace(&self, object: &Value, options: &Value) -> u64 {
        let pod = self.resource.kind == "Pod" && self.resource.custom.is_none();
        let placed = object["spec"]["nodeName"]
            .as_str()
            .is_some_and(|node| !node.is_empty());
        let over = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if !pod || !placed || over || !self.api.kubelet {
            return 0;
        }
        self.query
            .grace_period_seconds
            .or_else(|| options["gracePeriodSeconds"].as_u64())
            .or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_u64())
            .unwrap_or(30)
    }

    /// Deletes everything in a namespace. What has finalizers holds the namespace until they are gone.
    fn empty_namespace(&self, namespace: &str) {
        let served = self.api.registry.served();
        for key in self.api.store.keys_in(namespace) {
            let Some(resource) = served
                .resources
                .iter()
                .find(|resource| resource.id() == key.resource)
            else {
                continue;
            };
            let call = self.inner(resource.clone(), namespace);
            // What somebody else deletes meanwhile is gone as well.
            let _ = call.remove(&key, &Value::Null);
        }
        self.finish_namespace(namespace);
    }

    /// Removes the objects of a definition that was deleted, whatever their finalizers.
    pub(crate) fn drop_instances(&self, definition: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let id = crate::kinds::resource_id(
            &text(&definition["spec"]["group"]),
            &text(&definition["spec"]["names"]["plural"]),
        );
        for object in self.api.store.all(&id) {
            let key = Key::new(
                &id,
                &rules::text(object.value(), "namespace"),
                &rules::text(object.value(), "name"),
            );
            // Nothing can be refused here.
            let _ = self.api.store.transact(&key, |_, _| Ok(Change::Remove));
        }
        self.api.registry.refresh(&self.api.store);
        // Watches of the resource see that it is gone.
        self.api.store.nudge();
    }

    /// The same call for the object itself in place of its subresource.
    pub(crate) fn of_object(&self) -> Call<'_> {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        Call {
            name: self.name.clone(),
            query: self.query.clone(),
            ..self.inner(self.resource.clone(), namespace)
        }
    }

    fn inner(&self, resource: Arc<Resource>, namespace: &str) -> Call<'_> {
        Call {
            api: self.api,
            owned_version: resource.owned_version(&self.version),
            resource,
            version: self.version.clone(),
            namespace: Some(namespace.to_owned()),
            name: None,
            subresource: String::new(),
            query: crate::request::Query::default(),
            form: self.form,
            manager: self.manager.clone(),
            warnings: Mutex::default(),
        }
    }
}
