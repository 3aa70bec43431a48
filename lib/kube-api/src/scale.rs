//! How many pods a Deployment has, as its subresource `scale` (API reference, "Scale v1 autoscaling"): what
//! `kubectl scale` reads and writes.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::{Body, Call, json as answer};
use crate::kinds::Resource;
use crate::patch::{self, PatchKind};
use crate::status::StatusError;
use crate::store::Stored;
use crate::write::Edit;

/// The kind of the subresource: group, version, kind.
pub(crate) const KIND: [&str; 3] = ["autoscaling", "v1", "Scale"];

/// Whether a resource has it.
pub(crate) fn is_scaled(resource: &Resource) -> bool {
    resource.group == "apps" && resource.plural == "deployments"
}

impl Call<'_> {
    pub(crate) fn scale(&self) -> Result<Response<Body>, StatusError> {
        self.present().map(|deployment| scaled(&deployment))
    }

    pub(crate) fn set_scale(&self, scale: &Value) -> Result<Response<Body>, StatusError> {
        self.write_scale(scale)
    }

    pub(crate) fn patch_scale(&self, kind: PatchKind, patch: &Value) -> Result<Response<Body>, StatusError> {
        let kind = match kind {
            PatchKind::Apply => {
                return Err(StatusError::unsupported_media_type(
                    "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
                ));
            }
            // There is no list in it.
            PatchKind::Strategic => PatchKind::Merge,
            kind => kind,
        };
        let before = self.present().map(|deployment| scale_of(&deployment))?;
        let mut scale = patch::patched(&self.resource, kind, &before, patch)?;
        if patch.pointer("/metadata/resourceVersion").is_none()
            && let Some(metadata) = scale["metadata"].as_object_mut()
        {
            metadata.remove("resourceVersion");
        }
        self.write_scale(&scale)
    }

    fn write_scale(&self, scale: &Value) -> Result<Response<Body>, StatusError> {
        let name = self.name.as_deref().unwrap_or_default();
        let replicas = match &scale["spec"]["replicas"] {
            Value::Null => 0,
            replicas => replicas
                .as_i64()
                .ok_or_else(|| StatusError::bad_request("spec.replicas must be a whole number"))?,
        };
        if !(0..=i64::from(i32::MAX)).contains(&replicas) {
            let problem = format!("Invalid value: {replicas}: must be greater than or equal to 0");
            let [group, _, kind] = KIND;
            return Err(StatusError::invalid(kind, group, name, "spec.replicas", &problem));
        }
        let mut change = json!({ "spec": { "replicas": replicas } });
        for field in ["resourceVersion", "uid"] {
            if let Some(given) = scale["metadata"].get(field) {
                change["metadata"][field] = given.clone();
            }
        }
        let (_, stored) = self.of_object().edit(&Edit::Patch(PatchKind::Merge, change))?;
        Ok(scaled(&stored))
    }

    fn present(&self) -> Result<std::sync::Arc<Stored>, StatusError> {
        let name = self.name.as_deref().unwrap_or_default();
        let found = self.api.store.get(&self.key(name));
        found.ok_or_else(|| self.not_found(name))
    }
}

fn scaled(deployment: &Stored) -> Response<Body> {
    answer(StatusCode::OK, scale_of(deployment).to_string().into())
}

fn scale_of(deployment: &Stored) -> Value {
    let object = deployment.value();
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    let [group, version, kind] = KIND;
    json!({
        "kind": kind,
        "apiVersion": format!("{group}/{version}"),
        "metadata": metadata,
        "spec": { "replicas": object["spec"]["replicas"].as_i64().unwrap_or(1) },
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}
