//! The gRPC service.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh::Identity;
use prost_types::value::Kind;
use proto::auth::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use proto::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::authenticate::{AuthError, Authenticator, Caller, bearer_token};
use super::authority::{Authority, DEFAULT_TTL, SignError};
use super::authorize::{Denied, NodeAuthorizer};
use super::limit::Limit;
use crate::IMPERSONATED_IDENTITY;

/// The most requests handled at once, whoever they are from.
const MAX_REQUESTS: usize = 256;
/// The most requests of one caller handled at once.
const MAX_REQUESTS_PER_CALLER: usize = 32;
/// The longest message read, in bytes: a request is at most [`super::MAX_CSR_BYTES`] and a little more.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Whom the service serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// The trust domain of every certificate.
    pub trust_domain: String,
    /// Who may ask for others: namespace and service account of the node proxies.
    pub trusted_node_accounts: Vec<(String, String)>,
    /// The life of certificates when none is asked for.
    pub default_ttl: Duration,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".to_owned(),
            trusted_node_accounts: vec![("istio-system".to_owned(), "ztunnel".to_owned())],
            default_ttl: DEFAULT_TTL,
        }
    }
}

/// `istio.v1.auth.IstioCertificateService` over an [`Authority`]. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    authority: Arc<Authority>,
    authenticator: Arc<dyn Authenticator>,
    authorizer: Arc<dyn NodeAuthorizer>,
    config: Arc<ServiceConfig>,
    requests: Arc<Semaphore>,
    per_caller: Limit,
}

impl Service {
    /// A service that signs with `authority` for callers known to `authenticator`.
    pub fn new(
        authority: Arc<Authority>,
        authenticator: Arc<dyn Authenticator>,
        authorizer: Arc<dyn NodeAuthorizer>,
        config: ServiceConfig,
    ) -> Self {
        Self {
            authority,
            authenticator,
            authorizer,
            config: Arc::new(config),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            per_caller: Limit::default(),
        }
    }

    /// As a service that a tonic router takes, with its message size bounded.
    pub fn into_server(self) -> IstioCertificateServiceServer<Self> {
        IstioCertificateServiceServer::new(self).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Whose certificate `caller` gets: its own, or the one it names and may have.
    fn identity(&self, caller: &Caller, request: &IstioCertificateRequest) -> Result<Identity, Denied> {
        let Some(wanted) = impersonated(request)? else {
            // A token outlives its pod: the pod must still be there, as the token says.
            let own = caller
                .identity(&self.config.trust_domain)
                .ok_or(Denied::Malformed)?;
            self.authorizer.may_impersonate(caller, &own)?;
            return Ok(own);
        };
        let trusted = self
            .config
            .trusted_node_accounts
            .iter()
            .any(|(namespace, account)| *namespace == caller.namespace && *account == caller.service_account);
        if !trusted {
            let caller = format!("{}/{}", caller.namespace, caller.service_account);
            return Err(Denied::NotTrusted { caller });
        }
        let identity: Identity = wanted.parse().map_err(|_| Denied::Malformed)?;
        if identity.trust_domain() != self.config.trust_domain {
            let expected = self.config.trust_domain.clone();
            return Err(Denied::TrustDomain {
                expected,
                got: identity,
            });
        }
        self.authorizer.may_impersonate(caller, &identity)?;
        Ok(identity)
    }

    fn ttl(&self, request: &IstioCertificateRequest) -> Duration {
        match u64::try_from(request.validity_duration) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => self.config.default_ttl,
        }
    }

    async fn handle(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<IstioCertificateResponse, Status> {
        let Ok(_permit) = self.requests.try_acquire() else {
            return Err(Status::resource_exhausted("the authority is busy; try again"));
        };
        let caller = self.caller(&request).await.map_err(|error| {
            let from = request
                .remote_addr()
                .map(|address| address.to_string())
                .unwrap_or_default();
            tracing::warn!(code = error.code(), %from, "certificate refused: {error}");
            Status::from(&error)
        })?;
        let key = format!("{}/{}", caller.namespace, caller.pod_uid);
        let Some(_permit) = self.per_caller.admit(key, MAX_REQUESTS_PER_CALLER) else {
            return Err(Status::resource_exhausted(
                "too many requests of this caller at once; try again",
            ));
        };
        let request = request.into_inner();
        let identity = self.identity(&caller, &request).map_err(|denied| {
            tracing::warn!(code = denied.code(), %caller, "certificate refused: {denied}");
            Status::permission_denied(denied.to_string())
        })?;
        let issued = self
            .authority
            .sign(&request.csr, &identity, self.ttl(&request), SystemTime::now())
            .map_err(|error| {
                tracing::warn!(%caller, %identity, "certificate refused: {error}");
                refusal(&error)
            })?;
        let not_after = time::OffsetDateTime::from(issued.not_after);
        tracing::info!(%identity, serial = issued.serial, %caller, %not_after, "certificate issued");
        Ok(IstioCertificateResponse {
            cert_chain: issued.chain,
        })
    }

    async fn caller(&self, request: &Request<IstioCertificateRequest>) -> Result<Caller, AuthError> {
        let token = bearer_token(request.metadata())?;
        self.authenticator.authenticate(token).await
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.handle(request).await.map(Response::new)
    }
}

/// The identity named in the request's metadata, if any. A name that is no text is malformed, never ignored.
fn impersonated(request: &IstioCertificateRequest) -> Result<Option<&str>, Denied> {
    let field = request
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.fields.get(IMPERSONATED_IDENTITY));
    match field.map(|value| &value.kind) {
        None => Ok(None),
        Some(Some(Kind::StringValue(text))) => Ok(Some(text)),
        Some(_) => Err(Denied::Malformed),
    }
}

fn refusal(error: &SignError) -> Status {
    match error {
        SignError::Csr(_) | SignError::TtlTooLong(_) | SignError::Name(_) => {
            Status::invalid_argument(error.to_string())
        }
        SignError::RootExpired => Status::failed_precondition(error.to_string()),
        _ => Status::internal("the authority could not sign; its log says why"),
    }
}
