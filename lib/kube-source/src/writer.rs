//! Writing annotations and status.

use futures_util::future::BoxFuture;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, DynamicResourceScope};
use kube::{Api, Resource};
use object_store::{ObjectWriter, StatusWrite, WriteError};
use objects::{Kind, ObjectKey};
use serde_json::{Map, Value, json};

use crate::error::{Failure, Sort};
use crate::item::Item;
use crate::kinds::{definition, resource};
use crate::read::number;
use crate::store::KubernetesStore;

mod conditions;

/// How this project's writes are named in `managedFields`.
pub const FIELD_MANAGER: &str = "ztunnel-control-plane";

impl ObjectWriter for KubernetesStore {
    /// A merge patch. That of a pod goes to its status subresource, which takes annotations as well: so who writes
    /// them needs no permission to change pods.
    fn patch_annotation(
        &self,
        key: &ObjectKey,
        uid: &str,
        annotation: &str,
        value: Option<&str>,
    ) -> BoxFuture<'static, Result<u64, WriteError>> {
        let annotations = Map::from_iter([(annotation.to_owned(), value.map_or(Value::Null, Value::from))]);
        let patch = json!({ "metadata": { "uid": uid, "annotations": annotations } });
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let write = Write {
            store: self.clone(),
            key: key.clone(),
            uid: uid.to_owned(),
            subresource: (key.kind == Kind::Pod).then_some("status"),
            parameters,
        };
        Box::pin(async move { write.send(&Patch::Merge(patch)).await })
    }

    /// A server-side apply: what is given is what this writer owns of the status, and what it gave before and does
    /// not give now is removed.
    ///
    /// Only its own conditions are applied where the kind's conditions are a list by type. Where they are one value, as
    /// in Istio's definitions, those of others have to be given too; then the apply holds only for the version of the
    /// object that they were read from, and is made anew where somebody else was quicker.
    fn write_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        status: StatusWrite,
    ) -> BoxFuture<'static, Result<u64, WriteError>> {
        let write = Write {
            store: self.clone(),
            key: key.clone(),
            uid: uid.to_owned(),
            subresource: Some("status"),
            parameters: PatchParams::apply(self.manager()).force(),
        };
        Box::pin(async move {
            let mut attempt = 1;
            loop {
                match write.status_once(&status).await? {
                    Outcome::Written(revision) => return Ok(revision),
                    Outcome::Overtaken(problem) if attempt == MAX_ATTEMPTS => {
                        return Err(WriteError::Remote {
                            key: write.key,
                            problem,
                        });
                    }
                    Outcome::Overtaken(_) => attempt += 1,
                }
            }
        })
    }
}

/// How often a status is written when others write it at the same time; then the caller hears of it.
const MAX_ATTEMPTS: u32 = 5;

/// In what an API server says where the object of this name is not the one that is meant.
const UID_CONFLICT: &str = "UID in precondition";

/// What became of an attempt.
enum Outcome {
    /// It holds since this revision.
    Written(u64),
    /// Somebody else wrote after the object was read; the server's words.
    Overtaken(String),
}

/// One write on its way.
struct Write {
    store: KubernetesStore,
    key: ObjectKey,
    uid: String,
    subresource: Option<&'static str>,
    parameters: PatchParams,
}

impl Write {
    async fn send(&self, patch: &Patch<Value>) -> Result<u64, WriteError> {
        match self.patched(&self.parameters, patch).await {
            Ok(object) => Ok(self.written(&object)),
            Err(error) => Err(self.failed(&error).await),
        }
    }

    async fn status_once(&self, status: &StatusWrite) -> Result<Outcome, WriteError> {
        let stored = self.stored().await?;
        let plan = if status.gives_back {
            match conditions::giving_back(status, &stored, self.store.manager()) {
                Some(plan) => plan,
                // Others have written everything since: there is nothing to take away.
                None => {
                    return Ok(Outcome::Written(
                        self.known(stored.metadata.resource_version.as_deref().unwrap_or_default()),
                    ));
                }
            }
        } else {
            conditions::plan(self.key.kind, status, &stored)
        };
        let mut fields = status.fields.clone();
        fields.insert("conditions".to_owned(), Value::Array(plan.conditions));
        let mut content = Value::Object(fields);
        drop_nulls(&mut content);
        let version = plan
            .only_for_this_version
            .then(|| stored.metadata.resource_version.clone());
        let patch = Patch::Apply(self.patch_of(content, version.flatten()));
        let applied = match self.patched(&self.parameters, &patch).await {
            Ok(applied) if status.gives_back => return Ok(Outcome::Written(self.written(&applied))),
            Ok(applied) => applied,
            Err(error) => return self.overtaken(&error).await,
        };
        let present = applied
            .value
            .get("status")
            .and_then(|status| status.get("conditions"));
        let Some(rest) = conditions::without_leftovers(status, present) else {
            return Ok(Outcome::Written(self.written(&applied)));
        };
        // An apply does not take away what somebody else has written as well, such as another control plane before us.
        let version = Some(applied.version().to_owned());
        let patch = Patch::Merge(self.patch_of(json!({ "conditions": rest }), version));
        let parameters = PatchParams {
            field_manager: Some(self.store.manager().to_owned()),
            ..PatchParams::default()
        };
        match self.patched(&parameters, &patch).await {
            Ok(removed) => Ok(Outcome::Written(self.written(&removed))),
            Err(error) => self.overtaken(&error).await,
        }
    }

    /// A patch of the status; with a version it holds for that one only.
    fn patch_of(&self, status: Value, version: Option<String>) -> Value {
        let mut metadata = json!({ "name": self.key.name, "uid": self.uid });
        if self.key.kind.is_namespaced() {
            metadata["namespace"] = Value::from(self.key.namespace.as_str());
        }
        if let Some(version) = version {
            metadata["resourceVersion"] = Value::from(version);
        }
        json!({
            "apiVersion": resource(self.key.kind, self.version()).api_version,
            "kind": self.key.kind.as_str(),
            "metadata": metadata,
            "status": status,
        })
    }

    async fn patched(&self, parameters: &PatchParams, patch: &Patch<Value>) -> Result<Item, kube::Error> {
        let (api, name): (Api<Item>, _) = (self.api(), self.key.name.as_str());
        match self.subresource {
            Some(subresource) => api.patch_subresource(subresource, name, parameters, patch).await,
            None => api.patch(name, parameters, patch).await,
        }
    }

    /// Whether a write failed only because somebody else was quicker.
    async fn overtaken(&self, error: &kube::Error) -> Result<Outcome, WriteError> {
        match (error, self.failed(error).await) {
            (kube::Error::Api(status), WriteError::Remote { problem, .. }) if status.is_conflict() => {
                Ok(Outcome::Overtaken(problem))
            }
            (_, failed) => Err(failed),
        }
    }

    fn written(&self, object: &Item) -> u64 {
        self.known(object.version())
    }

    /// The revision by which this version of the object is known.
    fn known(&self, version: &str) -> u64 {
        let version = number(version);
        match self.store.current() {
            Some(shared) => shared.change(|mirror| mirror.wrote(&self.key, &self.uid, version)),
            None => 0,
        }
    }

    /// A 404 is also the answer where a kind has no status, and a 409 also where somebody else wrote meanwhile: only
    /// the object itself tells whether it is gone. Pods have a status always, and whoever writes to them may not read one.
    async fn failed(&self, error: &kube::Error) -> WriteError {
        let failure = Failure::of(error);
        let is_conflict = matches!(error, kube::Error::Api(status) if status.is_conflict());
        let another = is_conflict && failure.problem.contains(UID_CONFLICT);
        if another || (failure.sort == Sort::Absent && self.key.kind == Kind::Pod) {
            return self.gone();
        }
        if failure.sort == Sort::Absent || is_conflict {
            match self.api::<DynamicObject>().get_opt(&self.key.name).await {
                Ok(Some(object)) if object.metadata.uid.as_ref() == Some(&self.uid) => {}
                Ok(_) => return self.gone(),
                Err(_) => {}
            }
        }
        let problem = match (failure.sort, self.subresource) {
            (Sort::Refused, subresource) => format!(
                "{}; grant this service account patch on {}{}",
                error,
                self.key.kind.plural(),
                subresource.map_or(String::new(), |name| format!("/{name}"))
            ),
            (Sort::Absent, Some(_)) if definition(self.key.kind).is_some() => format!(
                "{}; its custom resource definition must have a status subresource",
                failure.problem
            ),
            _ => failure.problem,
        };
        WriteError::Remote {
            key: self.key.clone(),
            problem,
        }
    }

    /// The object as it is, with everything.
    async fn stored(&self) -> Result<DynamicObject, WriteError> {
        let object = match self.api::<DynamicObject>().get_opt(&self.key.name).await {
            Ok(object) => object,
            Err(error) => return Err(self.failed(&error).await),
        };
        object
            .filter(|object| object.metadata.uid.as_ref() == Some(&self.uid))
            .ok_or_else(|| self.gone())
    }

    fn gone(&self) -> WriteError {
        WriteError::Gone {
            key: self.key.clone(),
            uid: self.uid.clone(),
        }
    }

    fn api<K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>>(&self) -> Api<K> {
        let (client, resource) = (self.store.client(), resource(self.key.kind, self.version()));
        if self.key.kind.is_namespaced() {
            Api::namespaced_with(client, &self.key.namespace, &resource)
        } else {
            Api::all_with(client, &resource)
        }
    }

    /// Which of its versions the server has.
    fn version(&self) -> usize {
        self.store
            .current()
            .map_or(0, |shared| shared.mirror().served(self.key.kind))
    }
}

/// An apply takes away by leaving out.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}
