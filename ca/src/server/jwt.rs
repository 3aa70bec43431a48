//! Tokens with the claims of projected Kubernetes service account tokens, verified with keys from a file.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use tls::BoxFuture;

use super::authenticate::{AuthError, Authenticator, Caller, MAX_TOKEN_BYTES};
use super::files::{self, FileError};

/// The most keys read from the file.
const MAX_KEYS: usize = 16;
/// How far a token's start may lie ahead of our clock.
const CLOCK_SKEW: Duration = Duration::from_secs(10);

/// Verifies ES256 tokens with the public keys of a PEM file. The file may hold several keys, for rotation, and is
/// read again when it changes; while it cannot be read, the keys read last are used.
pub struct JwtAuthenticator {
    file: PathBuf,
    issuer: String,
    audience: String,
    keys: ArcSwap<Keys>,
}

struct Keys {
    stamp: Option<Stamp>,
    keys: Vec<DecodingKey>,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// The claims of a projected token, as far as they matter. What is missing is found out one by one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aud: Option<Audience>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) iat: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<String>,
    #[serde(rename = "kubernetes.io", skip_serializing_if = "Option::is_none")]
    pub(super) kubernetes: Option<Kubernetes>,
}

/// RFC 7519 §4.1.3: one text or several.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Kubernetes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) serviceaccount: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Reference>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Reference {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<String>,
}

impl JwtAuthenticator {
    /// Reads the keys in `file` and accepts tokens by `issuer` for `audience` that one of them verifies.
    ///
    /// # Errors
    /// When the file cannot be read or holds no usable key.
    pub fn new(
        file: impl Into<PathBuf>,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> Result<Self, FileError> {
        let file = file.into();
        let keys = Keys::read(&file)?;
        Ok(Self {
            file,
            issuer: issuer.into(),
            audience: audience.into(),
            keys: ArcSwap::from_pointee(keys),
        })
    }

    /// Verifies a token at a given time.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn authenticate_at(&self, token: &str, now: SystemTime) -> Result<Caller, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::TooLong);
        }
        let claims = verify(token, &self.current_keys().keys)?;
        self.judge(claims, now)
    }

    fn judge(&self, claims: Claims, now: SystemTime) -> Result<Caller, AuthError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let issuer = claims.iss.ok_or(AuthError::MissingClaim("iss"))?;
        if issuer != self.issuer {
            return Err(AuthError::Issuer {
                expected: self.issuer.clone(),
            });
        }
        let meant_for_us = match claims.aud.ok_or(AuthError::MissingClaim("aud"))? {
            Audience::One(audience) => audience == self.audience,
            Audience::Several(audiences) => audiences.contains(&self.audience),
        };
        if !meant_for_us {
            return Err(AuthError::Audience {
                expected: self.audience.clone(),
            });
        }
        if Duration::from_secs(claims.exp.ok_or(AuthError::MissingClaim("exp"))?) <= now {
            return Err(AuthError::Expired);
        }
        // Kubernetes writes both; at least one is needed, and neither may lie ahead.
        if claims.nbf.is_none() && claims.iat.is_none() {
            return Err(AuthError::MissingClaim("nbf"));
        }
        if [claims.nbf, claims.iat]
            .into_iter()
            .flatten()
            .any(|at| at > (now + CLOCK_SKEW).as_secs())
        {
            return Err(AuthError::NotYetValid);
        }
        let subject = claims.sub.ok_or(AuthError::MissingClaim("sub"))?;
        let (namespace, account) = subject
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'))
            .filter(|(namespace, account)| {
                !namespace.is_empty() && !account.is_empty() && !account.contains(':')
            })
            .ok_or(AuthError::Subject)?;
        let kubernetes = claims
            .kubernetes
            .ok_or(AuthError::MissingClaim("kubernetes.io"))?;
        if required(kubernetes.namespace, "kubernetes.io.namespace")? != namespace {
            return Err(AuthError::NamespaceMismatch);
        }
        let named = kubernetes.serviceaccount.and_then(|account| account.name);
        if required(named, "kubernetes.io.serviceaccount.name")? != account {
            return Err(AuthError::ServiceAccountMismatch);
        }
        let pod = kubernetes
            .pod
            .ok_or(AuthError::MissingClaim("kubernetes.io.pod"))?;
        let node = kubernetes.node.and_then(|node| node.name);
        Ok(Caller {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            pod_name: required(pod.name, "kubernetes.io.pod.name")?,
            pod_uid: required(pod.uid, "kubernetes.io.pod.uid")?,
            node: required(node, "kubernetes.io.node.name")?,
        })
    }

    fn current_keys(&self) -> Arc<Keys> {
        let current = self.keys.load_full();
        // One look at the file's metadata per token: tokens are verified a few times a second at most.
        if Stamp::of(&self.file) == current.stamp {
            return current;
        }
        match Keys::read(&self.file) {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                self.keys.store(fresh.clone());
                tracing::info!(file = %self.file.display(), keys = fresh.keys.len(), "token keys read again");
                fresh
            }
            Err(error) => {
                tracing::warn!(%error, "token keys cannot be read again; the last ones stay in use");
                current
            }
        }
    }
}

impl Authenticator for JwtAuthenticator {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
        _: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Caller, AuthError>> {
        Box::pin(async move { self.authenticate_at(token, SystemTime::now()) })
    }
}

impl Keys {
    fn read(file: &Path) -> Result<Self, FileError> {
        let bad = |reason: String| FileError::Content {
            path: file.to_owned(),
            reason,
        };
        // Before the content, so that a change while reading is seen as a change next time.
        let stamp = Stamp::of(file);
        let blocks = pem::parse_many(files::read(file)?).map_err(|error| bad(error.to_string()))?;
        let blocks: Vec<_> = blocks
            .iter()
            .filter(|block| block.tag() == "PUBLIC KEY")
            .collect();
        if blocks.is_empty() || blocks.len() > MAX_KEYS {
            return Err(bad(format!(
                "between 1 and {MAX_KEYS} PUBLIC KEY blocks are needed"
            )));
        }
        let keys = blocks
            .into_iter()
            .map(|block| {
                let usable = p256_point(block.contents());
                usable.ok_or_else(|| bad("a PUBLIC KEY block is not an ECDSA P-256 key".to_owned()))
            })
            .map(|point| point.map(|point| DecodingKey::from_ec_der(&point)))
            .collect::<Result<_, _>>()?;
        Ok(Self { stamp, keys })
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        Some(Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// The point of a P-256 key in SubjectPublicKeyInfo form, which is what the verifier wants.
fn p256_point(spki: &[u8]) -> Option<Vec<u8>> {
    let key = rcgen::SubjectPublicKeyInfo::from_der(spki).ok()?;
    let is_p256 = rcgen::PublicKeyData::algorithm(&key) == &rcgen::PKCS_ECDSA_P256_SHA256;
    is_p256.then(|| rcgen::PublicKeyData::der_bytes(&key).to_vec())
}

/// The claims of a token that one of `keys` verifies. Only the signature is judged here: the library would judge
/// the rest by a clock of its own and with fewer words.
fn verify(token: &str, keys: &[DecodingKey]) -> Result<Claims, AuthError> {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let mut outcome = AuthError::Signature;
    for key in keys {
        match jsonwebtoken::decode::<Claims>(token, key, &validation) {
            Ok(token) => return Ok(token.claims),
            Err(error) => match error.kind() {
                ErrorKind::InvalidSignature => {}
                ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                    outcome = AuthError::Algorithm;
                }
                _ => outcome = AuthError::Malformed,
            },
        }
    }
    Err(outcome)
}

fn required(claim: Option<String>, name: &'static str) -> Result<String, AuthError> {
    claim
        .filter(|text| !text.is_empty())
        .ok_or(AuthError::MissingClaim(name))
}

#[cfg(test)]
mod tests;
