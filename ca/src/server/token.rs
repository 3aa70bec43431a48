//! Signing tokens where there is no Kubernetes to do it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};

use super::authenticate::Caller;
use super::files::{self, FileError};
use super::jwt::{Audience, Claims, Kubernetes, Reference};
use super::key::{self, Key};

/// Signs ES256 tokens with the claims of projected service account tokens. It has no `Debug`.
pub struct TokenSigner {
    key: EncodingKey,
    key_id: Option<String>,
    public_key_pem: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSubject {
    /// Who signs: claim `iss`.
    pub issuer: String,
    /// For whom: claim `aud`.
    pub audience: String,
    /// Who holds it: `sub` and the `kubernetes.io` claims.
    pub caller: Caller,
    /// The uid of the service account.
    pub service_account_uid: String,
    /// The uid of the node.
    pub node_uid: String,
    /// How long it lives.
    pub ttl: Duration,
}

/// Why no token was signed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// The key's file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// No key could be made.
    #[error("cannot make a token key: the system's random source failed")]
    Create,
    /// The token could not be signed.
    #[error("cannot sign the token: {0}")]
    Sign(String),
}

impl TokenSigner {
    /// Reads the private key in `file` (PKCS #8 PEM, mode 0600), or makes one there.
    ///
    /// # Errors
    /// When the file can be read by others, holds something else, or cannot be written.
    pub fn load_or_create(file: &Path) -> Result<Self, SignerError> {
        let bad = |reason: &str| FileError::Content {
            path: file.to_owned(),
            reason: reason.to_owned(),
        };
        let text = match files::read_secret(file)? {
            Some(text) => text,
            None => {
                let (_, pkcs8) = Key::generate().ok_or(SignerError::Create)?;
                let fresh = key::to_pem("PRIVATE KEY", &pkcs8);
                if files::create_secret(file, &fresh)? {
                    fresh
                } else {
                    files::read_secret(file)?.unwrap_or(fresh)
                }
            }
        };
        let block = pem::parse(text.as_bytes()).map_err(|error| bad(&error.to_string()))?;
        let public = Key::from_pkcs8(block.contents())
            .and_then(|key| key.public_der())
            .ok_or_else(|| bad("it is not an ECDSA P-256 key in PKCS #8"))?;
        Ok(Self {
            key: EncodingKey::from_ec_der(block.contents()),
            key_id: None,
            public_key_pem: key::to_pem("PUBLIC KEY", &public).to_string(),
        })
    }

    /// Names the key in the header of every token (`kid`).
    #[must_use]
    pub fn with_key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// The public key in PEM, for the file that [`super::JwtAuthenticator`] reads.
    pub fn public_key_pem(&self) -> &str {
        &self.public_key_pem
    }

    /// Signs a token that is valid from `now`.
    ///
    /// # Errors
    /// When the library fails; the subject is written as it is.
    pub fn sign(&self, subject: &TokenSubject, now: SystemTime) -> Result<String, SignerError> {
        self.sign_claims(&claims(subject, now))
    }

    pub(super) fn sign_claims(&self, claims: &Claims) -> Result<String, SignerError> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid.clone_from(&self.key_id);
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|error| SignerError::Sign(error.to_string()))
    }
}

pub(super) fn claims(subject: &TokenSubject, now: SystemTime) -> Claims {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let Caller {
        namespace,
        service_account,
        pod_name,
        pod_uid,
        node,
    } = &subject.caller;
    let reference = |name: &str, uid: &str| {
        let uid = (!uid.is_empty()).then(|| uid.to_owned());
        Some(Reference {
            name: Some(name.to_owned()),
            uid,
        })
    };
    Claims {
        iss: Some(subject.issuer.clone()),
        aud: Some(Audience::Several(vec![subject.audience.clone()])),
        exp: Some(now.saturating_add(subject.ttl.as_secs())),
        nbf: Some(now),
        iat: Some(now),
        sub: Some(format!("system:serviceaccount:{namespace}:{service_account}")),
        kubernetes: Some(Kubernetes {
            namespace: Some(namespace.clone()),
            serviceaccount: reference(service_account, &subject.service_account_uid),
            pod: reference(pod_name, pod_uid),
            node: reference(node, &subject.node_uid),
        }),
    }
}
