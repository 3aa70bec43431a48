//! Tokens of service accounts: JSON Web Tokens with the claims of Kubernetes', signed with a key of this server.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};

use crate::status::StatusError;

/// The audience of the server itself.
pub const SERVER_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// Whom a token is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSubject {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account's name.
    pub service_account: String,
    /// The service account's uid.
    pub service_account_uid: String,
    /// For whom the token is; [`SERVER_AUDIENCE`] when empty.
    pub audiences: Vec<String>,
    /// Name and uid of the pod that the token is bound to.
    pub pod: Option<(String, String)>,
    /// Name and uid of the node that the token is bound to, by its pod or itself.
    pub node: Option<(String, String)>,
}

/// The key that tokens are signed with. It has no `Debug`. Clones are the same key.
#[derive(Clone)]
pub struct TokenKey {
    algorithm: Algorithm,
    signing: EncodingKey,
    reading: DecodingKey,
}

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("not an ECDSA P-256 key in PEM ({0}); give the private one in PKCS #8, and its public half")]
pub struct TokenKeyError(jsonwebtoken::errors::Error);

impl TokenKey {
    /// An ECDSA P-256 key: the private one in PKCS #8 and its public half, both in PEM. Tokens of everybody who signs
    /// with it, and names this server as issuer, are taken for tokens of this server.
    ///
    /// # Errors
    /// When they are something else.
    pub fn from_pem(private: &str, public: &str) -> Result<TokenKey, TokenKeyError> {
        Ok(TokenKey {
            algorithm: Algorithm::ES256,
            signing: EncodingKey::from_ec_pem(private.as_bytes()).map_err(TokenKeyError)?,
            reading: DecodingKey::from_ec_pem(public.as_bytes()).map_err(TokenKeyError)?,
        })
    }
}

impl Default for TokenKey {
    /// A key that nobody else has.
    fn default() -> TokenKey {
        let secret: [u8; 32] = rand::random();
        TokenKey {
            algorithm: Algorithm::HS256,
            signing: EncodingKey::from_secret(&secret),
            reading: DecodingKey::from_secret(&secret),
        }
    }
}

/// Signs and reads tokens.
pub(crate) struct Tokens {
    key: TokenKey,
}

impl Tokens {
    pub(crate) fn new(key: TokenKey) -> Tokens {
        Tokens { key }
    }

    /// Signs a token that is valid from `issued` for `lifetime`.
    pub(crate) fn sign(
        &self,
        subject: &TokenSubject,
        issued: SystemTime,
        lifetime: Duration,
    ) -> Result<String, StatusError> {
        let issued = issued
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut kubernetes = json!({
            "namespace": subject.namespace,
            "serviceaccount": { "name": subject.service_account, "uid": subject.service_account_uid },
        });
        for (field, bound) in [("pod", &subject.pod), ("node", &subject.node)] {
            if let Some((name, uid)) = bound {
                kubernetes[field] = json!({ "name": name, "uid": uid });
            }
        }
        let audiences = if subject.audiences.is_empty() {
            vec![SERVER_AUDIENCE.to_owned()]
        } else {
            subject.audiences.clone()
        };
        let claims = json!({
            "iss": SERVER_AUDIENCE,
            "sub": format!("system:serviceaccount:{}:{}", subject.namespace, subject.service_account),
            "aud": audiences,
            "iat": issued,
            "nbf": issued,
            "exp": issued.saturating_add(lifetime.as_secs()),
            "jti": crate::write::uid(),
            "kubernetes.io": kubernetes,
        });
        jsonwebtoken::encode(&Header::new(self.key.algorithm), &claims, &self.key.signing)
            .map_err(|error| StatusError::internal(format!("cannot sign the token: {error}")))
    }

    /// The claims of a token that this server signed and that is valid now; otherwise why not.
    pub(crate) fn read(&self, token: &str) -> Result<Value, String> {
        let mut validation = Validation::new(self.key.algorithm);
        validation.validate_aud = false;
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.set_issuer(&[SERVER_AUDIENCE]);
        jsonwebtoken::decode::<Value>(token, &self.key.reading, &validation)
            .map(|data| data.claims)
            .map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => {
                    "[invalid bearer token, service account token has expired]".to_owned()
                }
                _ => "invalid bearer token".to_owned(),
            })
    }

    /// Whether this is a valid token for the server itself.
    pub(crate) fn is_known(&self, token: &str) -> bool {
        let holds = |claims: Value| {
            let audiences = claims["aud"].as_array().cloned().unwrap_or_default();
            audiences.iter().any(|audience| audience == SERVER_AUDIENCE)
        };
        self.read(token).is_ok_and(holds)
    }
}
