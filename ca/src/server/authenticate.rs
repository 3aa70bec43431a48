//! Who is calling.

use std::fmt;
use std::net::IpAddr;

use mesh::Identity;
use tls::BoxFuture;
use tonic::metadata::MetadataMap;

/// The longest token looked at, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A caller whose token was verified, whoever verified it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The namespace of its service account and pod.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its pod.
    pub pod_name: String,
    /// Its pod's uid, which a later pod of the same name does not share.
    pub pod_uid: String,
    /// The node its pod runs on.
    pub node: String,
}

impl Caller {
    /// Its own identity in `trust_domain`; `None` when its names cannot be part of a SPIFFE id.
    pub fn identity(&self, trust_domain: &str) -> Option<Identity> {
        Identity::try_new(trust_domain, &self.namespace, &self.service_account).ok()
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            service_account,
            pod_name,
            node,
            ..
        } = self;
        write!(f, "{namespace}/{service_account} (pod {pod_name} on {node})")
    }
}

/// Says who holds a token.
pub trait Authenticator: Send + Sync + 'static {
    /// Verifies `token`, which is everything after `Bearer `. Whoever calls from one address shares its bounds with
    /// nobody else; nothing is trusted because of an address.
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
        from: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Caller, AuthError>>;
}

/// Why a caller is not known. No text in here repeats the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// There is no bearer token.
    #[error("no bearer token in the authorization header")]
    NoToken,
    /// There is more than one authorization header.
    #[error("more than one authorization header")]
    SeveralTokens,
    /// The token is too long.
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// The token is no JWT, or its claims are of the wrong type.
    #[error("the token is not a JWT with the claims of a service account token")]
    Malformed,
    /// The token is signed by another algorithm than ES256.
    #[error("the token is not signed with ES256")]
    Algorithm,
    /// None of our keys verifies the token.
    #[error("the token is not signed by a key known here")]
    Signature,
    /// The token's life is over.
    #[error("the token has expired (claim exp); if it is a new one, compare the clocks")]
    Expired,
    /// The token's life has not begun.
    #[error("the token is not valid yet (claims nbf, iat); compare the clocks")]
    NotYetValid,
    /// A claim is not there.
    #[error("the token has no claim {0}")]
    MissingClaim(&'static str),
    /// The token was issued by somebody else.
    #[error("the token is from another issuer (claim iss); '{expected}' is expected")]
    Issuer {
        /// Who should have issued it.
        expected: String,
    },
    /// The token is meant for somebody else.
    #[error("the token is for another audience (claim aud); '{expected}' is expected")]
    Audience {
        /// For whom it should be.
        expected: String,
    },
    /// The subject is not a service account.
    #[error("the token's subject (claim sub) is not system:serviceaccount:NAMESPACE:NAME")]
    Subject,
    /// The subject and the kubernetes.io claims name different namespaces.
    #[error("the token's subject and its claim kubernetes.io.namespace disagree")]
    NamespaceMismatch,
    /// The subject and the kubernetes.io claims name different service accounts.
    #[error("the token's subject and its claim kubernetes.io.serviceaccount.name disagree")]
    ServiceAccountMismatch,
    /// Whoever verifies tokens does not accept it.
    #[error("the token is not accepted by the API server: {0}")]
    Rejected(String),
    /// Whoever verifies tokens cannot do so now.
    #[error("tokens cannot be verified now: {0}")]
    Unavailable(String),
}

impl AuthError {
    /// A stable word for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::SeveralTokens => "several_tokens",
            Self::TooLong => "token_too_long",
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_algorithm",
            Self::Signature => "token_signature",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::MissingClaim(_) => "token_missing_claim",
            Self::Issuer { .. } => "token_issuer",
            Self::Audience { .. } => "token_audience",
            Self::Subject => "token_subject",
            Self::NamespaceMismatch => "token_namespace_mismatch",
            Self::ServiceAccountMismatch => "token_service_account_mismatch",
            Self::Rejected(_) => "token_rejected",
            Self::Unavailable(_) => "authentication_unavailable",
        }
    }
}

impl From<&AuthError> for tonic::Status {
    fn from(error: &AuthError) -> Self {
        match error {
            AuthError::Unavailable(_) => Self::unavailable(error.to_string()),
            _ => Self::unauthenticated(error.to_string()),
        }
    }
}

/// The token in the `authorization` header.
///
/// # Errors
/// When there is none, or more than one.
pub fn bearer_token(metadata: &MetadataMap) -> Result<&str, AuthError> {
    let mut values = metadata.get_all("authorization").iter();
    let value = values.next().ok_or(AuthError::NoToken)?;
    if values.next().is_some() {
        return Err(AuthError::SeveralTokens);
    }
    let text = value.to_str().map_err(|_| AuthError::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(AuthError::NoToken)?;
    let token = token.trim();
    // The scheme's case does not matter: RFC 9110 §11.1.
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(AuthError::NoToken);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(AuthError::TooLong);
    }
    Ok(token)
}

#[cfg(test)]
mod tests;
