//! Creating, replacing, patching and applying.

use std::cell::RefCell;
use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::{Body, Call, json as answer, now};
use crate::kinds::DEFINITIONS;
use crate::managed::{self, Manager};
use crate::patch::{self, PatchKind};
use crate::render::typed;
use crate::status::StatusError;
use crate::store::{Change, Key, Stored};
use crate::{defaults, rules, schema};

/// How many names are tried for `generateName`.
const NAME_ATTEMPTS: usize = 8;

/// What a patch or update makes of the object.
pub(crate) enum Edit {
    /// Replaces it.
    Whole(Value),
    Patch(PatchKind, Value),
    /// Server-side apply.
    Apply(Value),
}

impl Call<'_> {
    pub(crate) fn create(&self, mut object: Value) -> Result<Response<Body>, StatusError> {
        rules::check_identity(
            &self.resource,
            &self.version,
            self.namespace.as_deref(),
            &mut object,
        )?;
        self.check_namespace()?;
        let prefix = rules::text(&object, "generateName");
        let generated = rules::text(&object, "name").is_empty() && !prefix.is_empty();
        let mut attempts = if generated { NAME_ATTEMPTS } else { 1 };
        loop {
            let mut object = object.clone();
            if generated {
                let kept: String = prefix.chars().take(248).collect();
                object["metadata"]["name"] = json!(format!("{kept}{}", suffix()));
            }
            let key = self.key(&rules::text(&object, "name"));
            attempts -= 1;
            match self.insert(&key, object) {
                Err(error) if error.code == 409 && attempts > 0 => {}
                Err(error) => return Err(error),
                Ok(stored) => return Ok(answer(StatusCode::CREATED, self.renderer().object(&stored))),
            }
        }
    }

    pub(crate) fn update(&self, object: Value) -> Result<Response<Body>, StatusError> {
        let (_, stored) = self.edit(&Edit::Whole(object))?;
        Ok(answer(StatusCode::OK, self.renderer().object(&stored)))
    }

    pub(crate) fn patch(&self, kind: PatchKind, patch: Value) -> Result<Response<Body>, StatusError> {
        let edit = match kind {
            PatchKind::Apply => {
                if self.query.field_manager.is_empty() {
                    return Err(StatusError::bad_request(
                        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                    ));
                }
                Edit::Apply(patch)
            }
            kind if self.query.force => {
                return Err(StatusError::bad_request(format!(
                    "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch ({kind:?})"
                )));
            }
            kind => Edit::Patch(kind, patch),
        };
        let (created, stored) = self.edit(&edit)?;
        let status = if created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        Ok(answer(status, self.renderer().object(&stored)))
    }

    fn insert(&self, key: &Key, mut object: Value) -> Result<Arc<Stored>, StatusError> {
        let now = now();
        rules::prepare_create(&self.resource, &mut object, &now, &uid())?;
        self.commit(key, |current, revision| {
            if current.is_some() {
                let name = &key.name;
                let message = format!("{} {name:?} already exists", self.resource.qualified());
                return Err(StatusError::new(409, "AlreadyExists", message).about(
                    &self.resource.group,
                    &self.resource.plural,
                    name,
                ));
            }
            self.check_fields(None, &mut object)?;
            defaults::fill(&self.resource, &mut object, self.addresses(revision));
            managed::record_update(&self.resource, None, &mut object, &self.manager(&now))?;
            Ok(object)
        })
    }

    /// Changes the object; true when it was made by that.
    pub(crate) fn edit(&self, edit: &Edit) -> Result<(bool, Arc<Stored>), StatusError> {
        let name = self.name.as_deref().unwrap_or_default();
        let key = self.key(name);
        let now = now();
        let created = RefCell::new(false);
        let may_create = matches!(edit, Edit::Apply(_)) && self.subresource.is_empty();
        if may_create {
            self.check_namespace()?;
        }
        let stored = self.commit(&key, |current, revision| match current {
            None if may_create => {
                let Edit::Apply(config) = edit else {
                    return Err(self.not_found(name));
                };
                if !rules::text(config, "uid").is_empty() {
                    return Err(self.uid_conflict(name, &rules::text(config, "uid")));
                }
                let mut object = self.applied(None, config, &now)?;
                rules::prepare_create(&self.resource, &mut object, &now, &uid())?;
                self.check_fields(None, &mut object)?;
                defaults::fill(&self.resource, &mut object, self.addresses(revision));
                created.replace(true);
                Ok(object)
            }
            None => Err(self.not_found(name)),
            Some(current) => {
                let old = current.value();
                let whole = matches!(edit, Edit::Whole(_));
                let mut new = match edit {
                    Edit::Whole(object) => object.clone(),
                    Edit::Patch(kind, patch) => patch::patched(
                        &self.resource,
                        *kind,
                        &typed(old, &self.resource, &self.version),
                        patch,
                    )?,
                    Edit::Apply(config) => self.applied(Some(old), config, &now)?,
                };
                rules::check_identity(&self.resource, &self.version, self.namespace.as_deref(), &mut new)?;
                let mut new = rules::prepare_update(&self.resource, &self.subresource, old, new, whole)?;
                self.check_fields(Some(old), &mut new)?;
                // Somebody else may have made it without defaults, and means it so until it asks for something else.
                if rules::asks_for_something_else(&self.resource, old, &new) {
                    defaults::fill(&self.resource, &mut new, self.addresses(revision));
                }
                if !matches!(edit, Edit::Apply(_)) {
                    managed::record_update(&self.resource, Some(old), &mut new, &self.manager(&now))?;
                }
                Ok(new)
            }
        })?;
        Ok((created.into_inner(), stored))
    }

    /// The object after an apply, with what was given for identity checked.
    fn applied(&self, old: Option<&Value>, config: &Value, now: &str) -> Result<Value, StatusError> {
        let mut config = config.clone();
        for field in ["apiVersion", "kind"] {
            if config[field].as_str().unwrap_or_default().is_empty() {
                return Err(StatusError::bad_request(format!(
                    "{field} must be set in an apply patch"
                )));
            }
        }
        rules::check_identity(
            &self.resource,
            &self.version,
            self.namespace.as_deref(),
            &mut config,
        )?;
        if config["metadata"].get("managedFields").is_some() {
            return Err(StatusError::bad_request("metadata.managedFields must be nil"));
        }
        let name = self.name.as_deref().unwrap_or_default();
        if rules::text(&config, "name").is_empty() {
            config["metadata"]["name"] = json!(name);
        }
        rules::applicable(&self.resource, &self.subresource, &mut config);
        let mut object = managed::apply(&self.resource, old, &config, &self.manager(now), self.query.force)?;
        for field in ["uid", "resourceVersion"] {
            // Preconditions, if they were given.
            if let Some(given) = config["metadata"].get(field) {
                object["metadata"][field] = given.clone();
            }
        }
        if rules::text(&config, "name") != name {
            object["metadata"]["name"] = config["metadata"]["name"].clone();
        }
        Ok(object)
    }

    /// Stores what `make` makes of the present object; nothing is written when it is the same, or for a dry run.
    fn commit(
        &self,
        key: &Key,
        make: impl FnOnce(Option<&Arc<Stored>>, u64) -> Result<Value, StatusError>,
    ) -> Result<Arc<Stored>, StatusError> {
        let (mut dry, mut removed) = (None, false);
        let answer = self.api.store.transact(key, |current, revision| {
            let new = make(current, revision)?;
            if current.is_some_and(|current| *current.value() == new) {
                return Ok(Change::Keep);
            }
            if self.query.dry_run {
                dry = Some(Stored::new(new));
                return Ok(Change::Keep);
            }
            if rules::is_released(&new)
                && !(self.resource.kind == "Namespace" && self.resource.custom.is_none())
            {
                removed = true;
                return Ok(Change::Remove);
            }
            Ok(Change::Put(new))
        })?;
        if let Some(dry) = dry {
            return Ok(dry);
        }
        let stored = answer.ok_or_else(|| self.not_found(&key.name))?;
        if key.resource == DEFINITIONS {
            if self.api.store.get(key).is_some() {
                self.api.registry.refresh(&self.api.store);
            } else {
                self.drop_instances(stored.value());
            }
        }
        if key.resource == "namespaces" {
            self.finish_namespace(&key.name);
        }
        if removed {
            self.finish_namespace(&key.namespace);
        }
        Ok(stored)
    }

    fn check_fields(&self, old: Option<&Value>, new: &mut Value) -> Result<(), StatusError> {
        let unknown = self.query.unknown_fields;
        let warnings = schema::admit(&self.resource, &self.version, old, new, unknown)?;
        self.warn(warnings);
        Ok(())
    }

    /// The number that gives a Service its address, where addresses are given here.
    fn addresses(&self, revision: u64) -> Option<u64> {
        self.api.service_addresses.then_some(revision)
    }

    fn manager<'m>(&'m self, now: &'m str) -> Manager<'m> {
        Manager {
            name: &self.manager,
            api_version: &self.owned_version,
            subresource: &self.subresource,
            now,
        }
    }

    fn uid_conflict(&self, name: &str, uid: &str) -> StatusError {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: uid mismatch: the provided object specified uid {uid}, and no existing object was found",
            self.resource.qualified()
        );
        StatusError::new(409, "Conflict", message).about(&self.resource.group, &self.resource.plural, name)
    }

    /// Nothing is made in a namespace that is not there or is going away.
    fn check_namespace(&self) -> Result<(), StatusError> {
        let Some(namespace) = self.namespace.as_deref() else {
            return Ok(());
        };
        let found = self.api.store.get(&Key::new("namespaces", "", namespace));
        match found {
            None => Err(
                StatusError::new(404, "NotFound", format!("namespaces {namespace:?} not found")).about(
                    "",
                    "namespaces",
                    namespace,
                ),
            ),
            Some(found) if found.value()["metadata"].get("deletionTimestamp").is_some() => {
                let message = format!(
                    "{} is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
                    self.resource.qualified()
                );
                Err(StatusError::new(403, "Forbidden", message).causes(vec![json!({
                    "reason": "NamespaceTerminating",
                    "message": format!("namespace {namespace} is being terminated"),
                    "field": "metadata.namespace",
                })]))
            }
            Some(_) => Ok(()),
        }
    }
}

/// A random uid (RFC 9562, version 4).
pub(crate) fn uid() -> String {
    let number = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let text = format!("{number:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
}

/// Five letters of those that a server uses: no vowels, so no words.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = rand::random::<u32>() as usize;
    (0..5)
        .map(|_| {
            let letter = LETTERS[number % LETTERS.len()];
            number /= LETTERS.len();
            char::from(letter)
        })
        .collect()
}
