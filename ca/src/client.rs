//! Asking an authority over gRPC.

use std::collections::BTreeMap;
use std::time::Duration;

use grpc_channel::{Channel, describe};
use mesh::Identity;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::auth::IstioCertificateRequest;
use proto::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use tls::{BoxFuture, IssueError, Issuer, KeyAndRequest, WorkloadCertificate};
use tonic::{Code, Request, Status};

use crate::IMPERSONATED_IDENTITY;

/// The longest one request may take, dialling included.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer read, in bytes.
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Asks `istio.v1.auth.IstioCertificateService` for certificates. Cheap to clone.
#[derive(Clone)]
pub struct GrpcIssuer {
    client: IstioCertificateServiceClient<Channel>,
    impersonate: bool,
}

impl GrpcIssuer {
    /// Asks on behalf of others, as a node proxy does: every request names the identity it is for.
    pub fn for_node(channel: Channel) -> Self {
        Self::new(channel, true)
    }

    /// Asks for the caller's own identity only.
    pub fn for_self(channel: Channel) -> Self {
        Self::new(channel, false)
    }

    fn new(channel: Channel, impersonate: bool) -> Self {
        let client = IstioCertificateServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, impersonate }
    }

    fn metadata(&self, identity: &Identity) -> Option<Struct> {
        let value = Value {
            kind: Some(Kind::StringValue(identity.to_string())),
        };
        let fields = BTreeMap::from([(IMPERSONATED_IDENTITY.to_owned(), value)]);
        self.impersonate.then_some(Struct { fields })
    }
}

impl Issuer for GrpcIssuer {
    fn issue<'a>(
        &'a self,
        identity: &'a Identity,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<WorkloadCertificate, IssueError>> {
        Box::pin(async move {
            let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(identity)?;
            let mut request = Request::new(IstioCertificateRequest {
                csr: request_pem,
                validity_duration: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
                metadata: self.metadata(identity),
            });
            request.set_timeout(TIMEOUT);
            let answer = self
                .client
                .clone()
                .create_certificate(request)
                .await
                .map_err(|status| refused(&status, identity))?;
            Ok(WorkloadCertificate::from_pem(
                &answer.into_inner().cert_chain,
                &key,
                identity,
            )?)
        })
    }
}

fn refused(status: &Status, identity: &Identity) -> IssueError {
    let words = describe(status);
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted => {
            IssueError::Unavailable(words)
        }
        Code::Unauthenticated => IssueError::Unauthenticated(words),
        Code::PermissionDenied => IssueError::Denied {
            identity: identity.clone(),
            reason: words,
        },
        _ => IssueError::Failed(words),
    }
}
