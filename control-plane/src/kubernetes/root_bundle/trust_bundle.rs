//! The roots in a ClusterTrustBundle, where the API has that kind.

use std::sync::Arc;
use std::time::Duration;

use ca::Authority;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;

use crate::kubernetes::{ANSWER_DEADLINE, ApiError};

/// Its name and its signer, as Istio has them.
const NAME: &str = "istio.io:istiod-ca:root-cert";
const SIGNER: &str = "istio.io/istiod-ca";
const GROUP: &str = "certificates.k8s.io";
/// The versions in which the kind is served, the preferred one first.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const PLURAL: &str = "clustertrustbundles";
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Keeps it right, until the future is dropped.
pub(super) async fn keep(client: kube::Client, authority: Arc<Authority>) {
    let mut exchanges = authority.exchanges();
    let mut said = None;
    loop {
        let done = tokio::time::timeout(ANSWER_DEADLINE * 3, look(&client, &authority.root_pem())).await;
        let done =
            done.unwrap_or_else(|_| Err(ApiError::Unreachable("the API server does not answer".to_owned())));
        let words = done.err().map(|error| match error.code() {
            401 | 403 => format!(
                "{error}; grant this service account get, create and patch on {PLURAL} and attest on the signer {SIGNER}"
            ),
            _ => error.to_string(),
        });
        if words != said {
            if let Some(words) = &words {
                tracing::warn!("ClusterTrustBundle {NAME} cannot be kept: {words}");
            }
            said = words;
        }
        tokio::select! {
            Ok(()) = exchanges.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn look(client: &kube::Client, roots: &str) -> Result<(), ApiError> {
    let Some(version) = served_version(client).await? else {
        return Ok(());
    };
    let kind = GroupVersionKind::gvk(GROUP, version, "ClusterTrustBundle");
    let resource = ApiResource::from_gvk_with_plural(&kind, PLURAL);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let found = api.get_opt(NAME).await.map_err(|error| ApiError::of(&error))?;
    let is_right = found.is_some_and(|found| {
        let spec = &found.data["spec"];
        spec["trustBundle"] == roots && spec["signerName"] == SIGNER
    });
    if is_right {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": format!("{GROUP}/{version}"),
        "kind": "ClusterTrustBundle",
        "metadata": { "name": NAME },
        "spec": { "signerName": SIGNER, "trustBundle": roots },
    });
    let parameters = PatchParams::apply(kube_source::FIELD_MANAGER).force();
    let written = api.patch(NAME, &parameters, &Patch::Apply(patch)).await;
    written.map(|_| ()).map_err(|error| ApiError::of(&error))
}

/// In which version the API has the kind; it comes with newer servers, and only where it is switched on.
async fn served_version(client: &kube::Client) -> Result<Option<&'static str>, ApiError> {
    for version in VERSIONS {
        match client
            .list_api_group_resources(&format!("{GROUP}/{version}"))
            .await
        {
            Ok(list) if list.resources.iter().any(|resource| resource.name == PLURAL) => {
                return Ok(Some(version));
            }
            Ok(_) => {}
            Err(error) => match ApiError::of(&error) {
                error if error.code() == 404 => {}
                error => return Err(error),
            },
        }
    }
    Ok(None)
}
