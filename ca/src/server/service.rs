//! The gRPC service.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mesh::Identity;
use prost_types::value::Kind;
use proto::auth::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use proto::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status};

use super::authenticate::{AuthError, Authenticator, Caller, bearer_token};
use super::authority::{Authority, DEFAULT_TTL, MAX_TTL, SignError};
use super::authorize::{Denied, NodeAuthorizer};
use super::clock::Moment;
use super::limit::{self, Limit};
use super::observe::{IssueRecord, Lines, Observer, Refusal};
use crate::IMPERSONATED_IDENTITY;

/// The most requests handled at once, whoever they are from.
const MAX_REQUESTS: usize = 256;
/// The most requests that wait for their turn: as many nodes at once as a large mesh has.
const MAX_WAITING: usize = 8192;
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
    /// The longest life that is given, whatever is asked for: a rotation of the root may have to wait so long.
    pub max_ttl: Duration,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".to_owned(),
            trusted_node_accounts: vec![("istio-system".to_owned(), "ztunnel".to_owned())],
            default_ttl: DEFAULT_TTL,
            max_ttl: DEFAULT_TTL,
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
    observers: Vec<Arc<dyn Observer>>,
    requests: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    per_caller: Arc<Mutex<Limit>>,
    now: Arc<dyn Fn() -> Moment + Send + Sync>,
}

/// A request that is not served: the answer, and what observers are told.
struct Refused {
    status: Status,
    code: &'static str,
    caller: Option<Caller>,
    identity: Option<Identity>,
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
            observers: vec![Arc::new(Lines::default())],
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            per_caller: Arc::default(),
            now: Arc::new(|| SystemTime::now().into()),
        }
    }

    /// Tells this observer of every answer too.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Asks for the time here, in place of the system's clock.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// Admits of each caller so many requests at once, and so many more a second, in place of 1 000 and 100.
    #[must_use]
    pub fn with_limit_per_caller(mut self, burst: u32, per_second: f64) -> Self {
        self.per_caller = Arc::new(Mutex::new(Limit::new(burst, per_second)));
        self
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

    /// The life that is asked for, as far as it is given; what is beyond any sense is left to be refused.
    fn ttl(&self, request: &IstioCertificateRequest) -> Duration {
        let wanted = match u64::try_from(request.validity_duration) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => self.config.default_ttl,
        };
        if wanted > MAX_TTL {
            return wanted;
        }
        wanted.min(self.config.max_ttl)
    }

    async fn handle(&self, request: Request<IstioCertificateRequest>) -> Result<IssueAnswer, Refused> {
        let _permit = self.turn().await?;
        let caller = self.caller(&request).await.map_err(|error| Refused {
            status: Status::from(&error),
            code: error.code(),
            caller: None,
            identity: None,
        })?;
        let key = format!("{}/{}", caller.namespace, caller.pod_uid);
        let is_admitted = {
            let mut per_caller = self.per_caller.lock().unwrap_or_else(PoisonError::into_inner);
            per_caller.admit(&key, Instant::now())
        };
        if !is_admitted {
            return Err(Refused::busy(
                "too many requests of this caller; try again later",
                Some(caller),
            ));
        }
        let request = request.into_inner();
        let identity = match self.identity(&caller, &request) {
            Ok(identity) => identity,
            Err(denied) => {
                return Err(Refused {
                    status: Status::permission_denied(denied.to_string()),
                    code: denied.code(),
                    caller: Some(caller),
                    identity: denied.identity().cloned(),
                });
            }
        };
        let now = (self.now)();
        match self
            .authority
            .sign(&request.csr, &identity, self.ttl(&request), now)
        {
            Ok(issued) => Ok(IssueAnswer {
                record: IssueRecord {
                    at: now.wall,
                    serial: issued.serial,
                    identity,
                    caller,
                    not_before: issued.not_before,
                    not_after: issued.not_after,
                    signed_with: issued.signed_with,
                },
                chain: issued.chain,
            }),
            Err(error) => Err(Refused {
                status: refusal(&error),
                code: error.code(),
                caller: Some(caller),
                identity: Some(identity),
            }),
        }
    }

    /// Waits until not too many others are handled.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refused> {
        let busy = || Refused::busy("the authority is busy; try again", None);
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        match tokio::time::timeout(limit::PATIENCE, self.requests.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(busy()),
        }
    }

    async fn caller(&self, request: &Request<IstioCertificateRequest>) -> Result<Caller, AuthError> {
        let token = bearer_token(request.metadata())?;
        let from = request.extensions().get::<SocketAddr>().map(SocketAddr::ip);
        self.authenticator.authenticate(token, from).await
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        match self.handle(request).await {
            Ok(answer) => {
                for observer in &self.observers {
                    observer.issued(&answer.record);
                }
                let cert_chain = answer.chain;
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err(refused) => {
                let refusal = Refusal {
                    at: SystemTime::now(),
                    code: refused.code,
                    reason: refused.status.message().to_owned(),
                    caller: refused.caller,
                    identity: refused.identity,
                };
                for observer in &self.observers {
                    observer.refused(&refusal);
                }
                Err(refused.status)
            }
        }
    }
}

/// A certificate, and what observers are told.
struct IssueAnswer {
    record: IssueRecord,
    chain: Vec<String>,
}

impl Refused {
    fn busy(reason: &str, caller: Option<Caller>) -> Self {
        Self {
            status: Status::resource_exhausted(reason),
            code: "too_many_requests",
            caller,
            identity: None,
        }
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
        SignError::RootExpired | SignError::RootNotYetValid => Status::failed_precondition(error.to_string()),
        SignError::Internal(problem) => {
            tracing::error!("the authority could not sign: {problem}");
            Status::internal("the authority could not sign; its log says why")
        }
    }
}
