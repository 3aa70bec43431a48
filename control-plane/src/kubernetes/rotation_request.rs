//! Asking for a new root, and telling how the roots stand, through an object: the ConfigMap `ztunnel-ca` beside the
//! control plane. Whoever may annotate it may ask; its data is the leader's.

use std::collections::BTreeMap;
use std::time::Duration;

use ca::Selection;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{ApiError, in_time};
use crate::rotation::Rotations;

/// The ConfigMap.
pub(crate) const NAME: &str = "ztunnel-ca";
/// The annotation that asks: each new value is a request of its own. One that begins with `abort` gives the new root up,
/// one that begins with `revoke` and serial numbers, separated by commas, or with `revoke identity SPIFFE-ID` or
/// `revoke node NAME`, revokes certificates.
pub(crate) const REQUEST: &str = "ztunnel.dev/rotate-root";
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How much of a value is remembered, in bytes. One that is longer is refused.
const MAX_REQUEST: usize = 1024;

/// Takes requests and tells how it stands, until the future is dropped. For the leader only; two for a moment write the
/// same.
pub(crate) async fn keep(client: kube::Client, namespace: String, rotations: Rotations) {
    let api = Api::<ConfigMap>::namespaced(client, &namespace);
    let mut said: Option<String> = None;
    loop {
        let problem = look(&api, &rotations).await.err().map(|error| {
            let hint = match error.code() {
                401 | 403 => "; grant this service account get, create and patch on configmaps there",
                _ => "",
            };
            format!("ConfigMap {namespace}/{NAME} cannot be kept now: {error}{hint}")
        });
        if let Some(problem) = problem
            .as_ref()
            .filter(|problem| said.as_deref() != Some(problem.as_str()))
        {
            tracing::warn!("{problem}");
        }
        said = problem;
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(api: &Api<ConfigMap>, rotations: &Rotations) -> Result<(), ApiError> {
    let found = in_time(api.get_opt(NAME)).await?;
    let annotations = found
        .as_ref()
        .and_then(|object| object.metadata.annotations.as_ref());
    let request = annotations.and_then(|all| all.get(REQUEST));
    let before = found.as_ref().and_then(|object| object.data.clone());
    let before = before.unwrap_or_default();
    let answer = match request.filter(|request| !rotations.has_taken(request)) {
        Some(request) => Some(answer(rotations, request)),
        // That of an earlier request stays.
        None => before.get("answer").cloned(),
    };
    let report = rotations.report();
    let mut data = BTreeMap::from([
        (
            "phase".to_owned(),
            report["phase"].as_str().unwrap_or_default().to_owned(),
        ),
        ("status.json".to_owned(), format!("{report:#}\n")),
    ]);
    data.extend(answer.map(|answer| ("answer".to_owned(), answer)));
    if data == before {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": NAME },
        "data": data,
    });
    let parameters = PatchParams::apply(kube_source::FIELD_MANAGER).force();
    in_time(api.patch(NAME, &parameters, &Patch::Apply(&patch))).await?;
    Ok(())
}

/// Does what is asked for, or says why not.
fn answer(rotations: &Rotations, request: &str) -> String {
    if request.len() > MAX_REQUEST {
        return format!("refused: the value of {REQUEST} is longer than {MAX_REQUEST} bytes");
    }
    // A word that only begins so is no request for a new root.
    let is_revocation = request.strip_prefix("revoke");
    if is_revocation.is_none() {
        // First, so that it is written down together with the step that it leads to: a second one would be another step.
        rotations.take(request);
    }
    let refused = if let Some(rest) = is_revocation {
        let refused = revoke(rotations, rest).err();
        // Last, so that it is never written down as taken without what it asks for: a second one changes nothing.
        rotations.take(request);
        refused
    } else if request.starts_with("abort") {
        rotations.abort().err().map(|error| error.to_string())
    } else {
        rotations.request().err().map(|error| error.to_string())
    };
    match refused {
        None => format!("accepted: {request}"),
        Some(refused) => format!("refused: {request}: {refused}"),
    }
}

fn revoke(rotations: &Rotations, what: &str) -> Result<(), String> {
    let mut words = what.split_whitespace();
    let first = words.next().unwrap_or_default();
    if matches!(first, "identity" | "node") {
        let selection = format!("{first} {}", words.next().unwrap_or_default());
        let selection = selection
            .parse::<Selection>()
            .map_err(|error| error.to_string())?;
        return rotations.revoke_all(selection).map_err(|error| error.to_string());
    }
    let serials: Vec<&str> = first.split(',').collect();
    rotations.revoke(&serials).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
