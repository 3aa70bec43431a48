//! The authority in a Secret, and one that somebody plugged in by a Secret.

use std::collections::BTreeMap;
use std::time::Duration;

use ca::{AuthorityStore, KeyAndCertificate, StoreError, StoredAuthority, Versioned};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use tls::BoxFuture;
use zeroize::{Zeroize, Zeroizing};

use super::{ANSWER_DEADLINE, ApiError, ask};

/// The Secret of an authority of our own, as Istio calls it.
pub(crate) const OWN: &str = "istio-ca-secret";
/// The Secret of a plugged-in authority, as Istio calls it.
pub(crate) const PLUGGED: &str = "cacerts";
/// The type of our Secret, as Istio's.
const TYPE: &str = "istio.io/ca-root";
/// The keys that Istio's own has too.
const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const ROOTS: &str = "root-cert.pem";
/// Ours.
const NEXT_CERTIFICATE: &str = "ztunnel-next-cert.pem";
const NEXT_KEY: &str = "ztunnel-next-key.pem";
const PREVIOUS_CERTIFICATE: &str = "ztunnel-previous-cert.pem";
const PREVIOUS_KEY: &str = "ztunnel-previous-key.pem";
const ROTATION: &str = "ztunnel-rotation";
const REVOKED: &str = "ztunnel-revoked";

/// Keeps the authority in a Secret. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SecretStore {
    client: kube::Client,
    namespace: String,
    look_again: Duration,
}

impl SecretStore {
    /// In this namespace; read again so often.
    pub(crate) fn new(client: kube::Client, namespace: &str, look_again: Duration) -> SecretStore {
        SecretStore {
            client,
            namespace: namespace.to_owned(),
            look_again,
        }
    }

    async fn read(&self) -> Result<Option<Secret>, StoreError> {
        let found = get(&self.client, &self.namespace, OWN).await;
        found.map_err(|error| self.failed(&error, "get"))
    }

    async fn write(&self, secret: &Secret, is_new: bool) -> Result<String, StoreError> {
        let unusable = |error: &dyn std::fmt::Display| StoreError::Unusable {
            place: self.place(),
            reason: error.to_string(),
        };
        let body = serde_json::to_vec(secret).map_err(|error| unusable(&error))?;
        let requests = Request::new(Secret::url_path(&(), Some(&self.namespace)));
        let parameters = PostParams {
            field_manager: Some(kube_source::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let request = if is_new {
            requests.create(&parameters, body)
        } else {
            requests.replace(OWN, &parameters, body)
        };
        let request = request.map_err(|error| unusable(&error))?;
        let answer = ask::<Secret>(&self.client, request, ANSWER_DEADLINE).await;
        match answer {
            Ok(mut secret) => {
                let version = version(&secret);
                wipe(&mut secret);
                Ok(version)
            }
            // Of a write that is based on an older version, and of one whose Secret is gone, the other is right.
            Err(error) if matches!(error.code(), 409) || (!is_new && error.code() == 404) => {
                Err(StoreError::Conflict { place: self.place() })
            }
            Err(error) => Err(self.failed(&error, if is_new { "create" } else { "update" })),
        }
    }

    async fn save_now(&self, stored: &StoredAuthority, expected: Option<&str>) -> Result<String, StoreError> {
        let found = self.read().await?;
        if found.as_ref().map(version).as_deref() != expected {
            found.into_iter().for_each(|mut secret| wipe(&mut secret));
            return Err(StoreError::Conflict { place: self.place() });
        }
        let is_new = found.is_none();
        // What others have put beside ours stays.
        let mut secret = found.unwrap_or_else(|| {
            let mut secret = Secret {
                type_: Some(TYPE.to_owned()),
                ..Secret::default()
            };
            secret.metadata.name = Some(OWN.to_owned());
            secret.metadata.namespace = Some(self.namespace.clone());
            secret
        });
        fill(secret.data.get_or_insert_default(), stored);
        let written = self.write(&secret, is_new).await;
        wipe(&mut secret);
        written
    }

    fn failed(&self, error: &ApiError, verb: &str) -> StoreError {
        let reason = match error.code() {
            401 | 403 => format!(
                "{error}; grant this service account {verb} on secrets in the namespace {}",
                self.namespace
            ),
            _ => error.to_string(),
        };
        StoreError::Unavailable {
            place: self.place(),
            reason,
        }
    }
}

impl AuthorityStore for SecretStore {
    fn load(&self) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        Box::pin(async move {
            let Some(mut secret) = self.read().await? else {
                return Ok(None);
            };
            let version = version(&secret);
            let stored = read_out(secret.data.as_ref());
            wipe(&mut secret);
            match stored {
                Ok(stored) => Ok(Some(Versioned { stored, version })),
                Err(problem) => Err(StoreError::Unusable {
                    place: self.place(),
                    reason: format!(
                        "{problem}; restore the Secret, or delete it so that a new root is made (every workload then needs a new certificate)"
                    ),
                }),
            }
        })
    }

    fn save<'a>(
        &'a self,
        stored: &'a StoredAuthority,
        expected: Option<&'a str>,
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        Box::pin(self.save_now(stored, expected))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(self.look_again))
    }

    fn place(&self) -> String {
        format!("Secret {}/{OWN}", self.namespace)
    }
}

/// The parts of a Secret by name; nothing when there is no such Secret.
pub(crate) async fn parts(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeMap<String, Zeroizing<Vec<u8>>>>, ApiError> {
    let found = get(client, namespace, name).await?;
    Ok(found.map(|secret| {
        let data = secret.data.unwrap_or_default().into_iter();
        data.map(|(name, bytes)| (name, Zeroizing::new(bytes.0)))
            .collect()
    }))
}

async fn get(client: &kube::Client, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
    let requests = Request::new(Secret::url_path(&(), Some(namespace)));
    let request = requests.get(name, &GetParams::default());
    let request = request.map_err(|error| ApiError::Unreachable(error.to_string()))?;
    match ask(client, request, ANSWER_DEADLINE).await {
        Ok(secret) => Ok(Some(secret)),
        Err(error) if error.code() == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// The object's uid belongs to it: one that was deleted and made again is another.
fn version(secret: &Secret) -> String {
    let uid = secret.metadata.uid.as_deref().unwrap_or_default();
    let version = secret.metadata.resource_version.as_deref().unwrap_or_default();
    format!("{uid}/{version}")
}

pub(crate) fn fill(data: &mut BTreeMap<String, ByteString>, stored: &StoredAuthority) {
    let mut put = |name: &str, text: Option<&str>| {
        let old = match text {
            Some(text) => data.insert(name.to_owned(), ByteString(text.as_bytes().to_vec())),
            None => data.remove(name),
        };
        if let Some(mut old) = old {
            old.0.zeroize();
        }
    };
    put(CERTIFICATE, Some(&stored.current.certificate));
    put(KEY, Some(&stored.current.key));
    put(ROOTS, Some(&stored.roots_pem()));
    put(
        NEXT_CERTIFICATE,
        stored.next.as_ref().map(|next| next.certificate.as_str()),
    );
    put(NEXT_KEY, stored.next.as_ref().map(|next| next.key.as_str()));
    put(PREVIOUS_CERTIFICATE, stored.previous.as_deref());
    put(PREVIOUS_KEY, stored.previous_key.as_ref().map(|key| key.as_str()));
    put(ROTATION, stored.rotation.as_deref());
    put(REVOKED, stored.revoked.as_deref());
}

pub(crate) fn read_out(data: Option<&BTreeMap<String, ByteString>>) -> Result<StoredAuthority, String> {
    let text = |name: &str| {
        let bytes = data
            .and_then(|data| data.get(name))
            .filter(|bytes| !bytes.0.is_empty());
        let text = bytes.map(|bytes| std::str::from_utf8(&bytes.0));
        text.transpose().map_err(|_| format!("its {name} is no text"))
    };
    let needed = |name: &str| text(name)?.ok_or_else(|| format!("it has no {name}"));
    let pair = |certificate: &str, key: &str| -> Result<_, String> {
        Ok(KeyAndCertificate {
            key: Zeroizing::new(needed(key)?.to_owned()),
            certificate: needed(certificate)?.to_owned(),
        })
    };
    let has_next = text(NEXT_CERTIFICATE)?.is_some() || text(NEXT_KEY)?.is_some();
    Ok(StoredAuthority {
        current: pair(CERTIFICATE, KEY)?,
        next: has_next.then(|| pair(NEXT_CERTIFICATE, NEXT_KEY)).transpose()?,
        previous: text(PREVIOUS_CERTIFICATE)?.map(str::to_owned),
        previous_key: text(PREVIOUS_KEY)?.map(|key| Zeroizing::new(key.to_owned())),
        rotation: text(ROTATION)?.map(str::to_owned),
        // An empty one is damaged: nothing that was ever revoked is taken off by clearing it.
        revoked: match data.and_then(|data| data.get(REVOKED)) {
            Some(bytes) if bytes.0.is_empty() => Some(String::new()),
            _ => text(REVOKED)?.map(str::to_owned),
        },
    })
}

fn wipe(secret: &mut Secret) {
    for bytes in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        bytes.0.zeroize();
    }
}

#[cfg(test)]
mod tests;
