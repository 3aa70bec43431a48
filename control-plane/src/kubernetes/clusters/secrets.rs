//! The Secrets that name other clusters.

use aws_lc_rs::digest;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::ListParams;
use kube::core::{ObjectList, Request};
use kube_source::ApiServer;
use zeroize::{Zeroize, Zeroizing};

use crate::kubernetes::{ANSWER_DEADLINE, ApiError, ask};

/// Which Secrets name clusters, as Istio has it.
const SELECTOR: &str = "istio/multiCluster=true";
/// How many Secrets are asked for at a time; one is at most a mebibyte.
const PAGE: u32 = 8;
/// How many Secrets are read.
const MAX_SECRETS: usize = 200;
/// How many clusters are read of one Secret.
const MAX_KEYS: usize = 200;

/// What a value is known by.
pub(super) type Digest = [u8; 32];

/// A cluster that a Secret names.
pub(super) struct Named {
    /// The Secret, `namespace/name`.
    pub(super) secret: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) cluster: String,
    pub(super) digest: Digest,
    value: Zeroizing<Vec<u8>>,
}

impl Named {
    /// The cluster's API, or why not.
    pub(super) fn kubeconfig(&self) -> Result<ApiServer, String> {
        let text = std::str::from_utf8(&self.value).map_err(|_| "the kubeconfig is no text".to_owned())?;
        ApiServer::from_kubeconfig(text).map_err(|error| format!("the kubeconfig is not taken: {error}"))
    }

    /// The Secret and the key in it.
    pub(super) fn place(&self) -> (String, String) {
        (self.secret.clone(), self.cluster.clone())
    }
}

/// The clusters that Secrets of the namespace name, in the order of the Secrets' names.
pub(super) async fn list(client: &kube::Client, namespace: &str) -> Result<Vec<Named>, ApiError> {
    let requests = Request::new(Secret::url_path(&(), Some(namespace)));
    let mut parameters = ListParams::default().labels(SELECTOR).limit(PAGE);
    let mut named = Vec::new();
    let mut read = 0;
    loop {
        let request = requests
            .list(&parameters)
            .map_err(|error| ApiError::Unreachable(error.to_string()))?;
        let page: ObjectList<Secret> = ask(client, request, ANSWER_DEADLINE).await?;
        for secret in page.items {
            read += 1;
            of_secret(namespace, secret, &mut named);
        }
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) if read < MAX_SECRETS => parameters = parameters.continue_token(&more),
            _ => break,
        }
    }
    named.sort_by(|one, other| (&one.name, &one.cluster).cmp(&(&other.name, &other.cluster)));
    Ok(named)
}

fn of_secret(namespace: &str, secret: Secret, named: &mut Vec<Named>) {
    let name = secret.metadata.name.unwrap_or_default();
    let uid = secret.metadata.uid.unwrap_or_default();
    for (n, (cluster, mut bytes)) in secret.data.unwrap_or_default().into_iter().enumerate() {
        if n >= MAX_KEYS {
            bytes.0.zeroize();
            continue;
        }
        let value = Zeroizing::new(bytes.0);
        let mut hash = Digest::default();
        hash.copy_from_slice(digest::digest(&digest::SHA256, &value).as_ref());
        named.push(Named {
            secret: format!("{namespace}/{name}"),
            name: name.clone(),
            uid: uid.clone(),
            cluster,
            digest: hash,
            value,
        });
    }
}
