//! The four kinds of patch.

mod strategic;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::kinds::Resource;
use crate::shape::Shape;
use crate::status::StatusError;

/// How a patch is to be read, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own merge, built-in kinds only.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// How many operations a JSON patch may have, as a server has it.
const MAX_OPERATIONS: usize = 10_000;

impl PatchKind {
    /// Reads the content type; a kind of patch that this resource does not take is refused.
    pub(crate) fn of(content_type: &str, resource: &Resource) -> Result<PatchKind, StatusError> {
        let kind = match content_type {
            "application/json-patch+json" => Some(PatchKind::Json),
            "application/merge-patch+json" => Some(PatchKind::Merge),
            "application/strategic-merge-patch+json" if resource.custom.is_none() => {
                Some(PatchKind::Strategic)
            }
            "application/apply-patch+yaml" => Some(PatchKind::Apply),
            _ => None,
        };
        kind.ok_or_else(|| {
            let mut accepted = vec!["application/json-patch+json", "application/merge-patch+json"];
            if resource.custom.is_none() {
                accepted.push("application/strategic-merge-patch+json");
            }
            accepted.push("application/apply-patch+yaml");
            StatusError::unsupported_media_type(&accepted.join(", "))
        })
    }
}

/// The object after a patch that is not apply.
pub(crate) fn patched(
    resource: &Resource,
    kind: PatchKind,
    object: &Value,
    patch: &Value,
) -> Result<Value, StatusError> {
    let mut result = object.clone();
    match kind {
        PatchKind::Json => {
            let operations: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| StatusError::bad_request(format!("error decoding patch: {error}")))?;
            if operations.0.len() > MAX_OPERATIONS {
                return Err(StatusError::too_large(format!(
                    "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                    operations.0.len()
                )));
            }
            json_patch::patch(&mut result, &operations).map_err(|error| {
                StatusError::new(
                    422,
                    "Invalid",
                    format!("the server rejected our request due to an error in our request: {error}"),
                )
            })?;
        }
        PatchKind::Merge => {
            if !patch.is_object() {
                return Err(StatusError::bad_request(
                    "error decoding patch: it must be a JSON object",
                ));
            }
            json_patch::merge(&mut result, patch);
        }
        PatchKind::Strategic => {
            result =
                strategic::merge(&result, patch, &Shape::of(resource)).map_err(StatusError::bad_request)?;
        }
        PatchKind::Apply => return Err(StatusError::internal("apply is no plain patch")),
    }
    if !result.is_object() {
        return Err(StatusError::bad_request("the patch leaves no object"));
    }
    Ok(result)
}
