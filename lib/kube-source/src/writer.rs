//! Writing annotations and status.

use futures_util::future::BoxFuture;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, DynamicResourceScope};
use kube::{Api, Resource};
use object_store::{ObjectWriter, WriteError};
use objects::{Kind, ObjectKey};
use serde_json::{Map, Value, json};

use crate::error::{Failure, Sort};
use crate::item::Item;
use crate::kinds::resource;
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
    /// not give now is removed. A condition of somebody else that is given as it is stays theirs.
    fn patch_status(
        &self,
        key: &ObjectKey,
        uid: &str,
        mut status: Value,
    ) -> BoxFuture<'static, Result<u64, WriteError>> {
        drop_nulls(&mut status);
        let write = Write {
            store: self.clone(),
            key: key.clone(),
            uid: uid.to_owned(),
            subresource: Some("status"),
            parameters: PatchParams::apply(FIELD_MANAGER).force(),
        };
        Box::pin(async move {
            if let Some(Value::Array(given)) = status.get_mut("conditions") {
                let stored = write.stored().await?;
                *given = conditions::ours(std::mem::take(given), &stored);
            }
            let mut metadata = json!({ "name": write.key.name, "uid": write.uid });
            if write.key.kind.is_namespaced() {
                metadata["namespace"] = Value::from(write.key.namespace.as_str());
            }
            let patch = json!({
                "apiVersion": resource(write.key.kind, write.version()).api_version,
                "kind": write.key.kind.as_str(),
                "metadata": metadata,
                "status": status,
            });
            write.send(&Patch::Apply(patch)).await
        })
    }
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
        let (api, name): (Api<Item>, _) = (self.api(), self.key.name.as_str());
        let answer = match self.subresource {
            Some(subresource) => {
                api.patch_subresource(subresource, name, &self.parameters, patch)
                    .await
            }
            None => api.patch(name, &self.parameters, patch).await,
        };
        match answer {
            Ok(object) => Ok(self.written(&object)),
            Err(error) => Err(self.failed(&error).await),
        }
    }

    fn written(&self, object: &Item) -> u64 {
        let version = number(object.version());
        match self.store.current() {
            Some(shared) => shared.change(|mirror| mirror.wrote(&self.key, &self.uid, version)),
            None => 0,
        }
    }

    /// A 404 is also the answer where a kind has no status, and a 409 also where somebody else wrote meanwhile: only
    /// the object itself tells whether it is gone.
    async fn failed(&self, error: &kube::Error) -> WriteError {
        let failure = Failure::of(error);
        let is_conflict = matches!(error, kube::Error::Api(status) if status.is_conflict());
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
            (Sort::Absent, Some(_)) => format!(
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
