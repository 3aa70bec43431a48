use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost_types::value::Kind;
use proto::auth::istio_certificate_service_server::IstioCertificateService;
use proto::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tonic::{Request, Response, Status};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::authority::Authority;
use crate::failure::{Doing, Outcome};

/// Signing as Istio's control plane offers it. Clones share it.
#[derive(Clone, Debug)]
pub struct Signing {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    authority: Arc<Authority>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    life: Duration,
    refuses: Option<String>,
    names: Option<String>,
    more_roots: String,
    seen: Vec<SigningRequest>,
}

/// One request of the subject.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    /// When it came.
    pub at: Instant,
    /// gRPC metadata: `authorization` and `clusterid`.
    pub headers: BTreeMap<String, String>,
    /// `metadata.ImpersonatedIdentity`.
    pub impersonated: Option<String>,
    /// Seconds asked for.
    pub validity: i64,
    /// The request itself, PEM.
    pub pem: String,
}

/// What a signing request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// Whether the key is on P-256 and the signature by it holds.
    pub is_p256: bool,
    /// Whether no subject is named.
    pub subject_is_empty: bool,
    /// URI names.
    pub uris: Vec<String>,
    /// Whether the extension with the names is critical.
    pub names_are_critical: bool,
}

impl Signing {
    /// Signs by this authority, for an hour unless told otherwise.
    pub fn new(authority: Arc<Authority>) -> Signing {
        let state = State {
            life: Duration::from_secs(3600),
            refuses: None,
            names: None,
            more_roots: String::new(),
            seen: Vec::new(),
        };
        Signing {
            shared: Arc::new(Shared {
                authority,
                state: Mutex::new(state),
            }),
        }
    }

    /// From now on certificates live this long, whatever is asked for.
    pub fn sign_for(&self, life: Duration) {
        self.lock().life = life;
    }

    /// From now on refuses to sign for this identity.
    pub fn refuse(&self, identity: Option<&str>) {
        self.lock().refuses = identity.map(str::to_owned);
    }

    /// From now on signs certificates for this identity, whatever is asked for.
    pub fn sign_as(&self, identity: Option<&str>) {
        self.lock().names = identity.map(str::to_owned);
    }

    /// From now on names this root (PEM) besides its own.
    pub fn also_trust(&self, root: &str) {
        self.lock().more_roots = root.to_owned();
    }

    /// All requests so far, in order.
    pub fn seen(&self) -> Vec<SigningRequest> {
        self.lock().seen.clone()
    }

    /// The requests for one identity.
    pub fn seen_for(&self, identity: &str) -> Vec<SigningRequest> {
        let mut seen = self.seen();
        seen.retain(|request| request.impersonated.as_deref() == Some(identity));
        seen
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SigningRequest {
    /// Reads the request itself.
    pub fn facts(&self) -> Outcome<RequestFacts> {
        const P256: &str = "1.2.840.10045.3.1.7";
        let (_, pem) = x509_parser::pem::parse_x509_pem(self.pem.as_bytes())?;
        let (_, request) = X509CertificationRequest::from_der(&pem.contents)?;
        let info = &request.certification_request_info;
        let curve = info
            .subject_pki
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok())
            .map(|oid| oid.to_id_string());
        let mut uris = Vec::new();
        let mut names_are_critical = false;
        for attribute in info.attributes() {
            let x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(extensions) =
                attribute.parsed_attribute()
            else {
                continue;
            };
            for extension in &extensions.extensions {
                if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                    names_are_critical = extension.critical;
                    uris.extend(names.general_names.iter().filter_map(|name| match name {
                        GeneralName::URI(uri) => Some((*uri).to_owned()),
                        _ => None,
                    }));
                }
            }
        }
        Ok(RequestFacts {
            is_p256: curve.as_deref() == Some(P256),
            subject_is_empty: info.subject.iter().next().is_none(),
            uris,
            names_are_critical,
        })
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Signing {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let headers = ["authorization", "clusterid"]
            .into_iter()
            .filter_map(|name| {
                let value = request.metadata().get(name)?.to_str().ok()?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect();
        let request = request.into_inner();
        let impersonated = request.metadata.and_then(|metadata| {
            match metadata.fields.get("ImpersonatedIdentity")?.kind.as_ref()? {
                Kind::StringValue(identity) => Some(identity.clone()),
                _ => None,
            }
        });
        let (life, names, more_roots) = {
            let mut state = self.lock();
            state.seen.push(SigningRequest {
                at: Instant::now(),
                headers,
                impersonated: impersonated.clone(),
                validity: request.validity_duration,
                pem: request.csr.clone(),
            });
            if impersonated.is_some() && state.refuses == impersonated {
                return Err(Status::unauthenticated("request authenticate failure"));
            }
            (state.life, state.names.clone(), state.more_roots.clone())
        };
        let signed = self
            .shared
            .authority
            .sign_request(&request.csr, life, names.as_deref())
            .doing("signing")
            .map_err(|failure| Status::invalid_argument(failure.to_string()))?;
        // The last element holds the roots, however many there are.
        let roots = format!("{}\n{more_roots}", self.shared.authority.root);
        let cert_chain = vec![signed, roots];
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}
