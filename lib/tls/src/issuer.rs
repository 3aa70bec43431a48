//! Whoever signs workload certificates.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mesh::Identity;

use crate::{CertificateError, RequestError, WorkloadCertificate};

/// A future that can be kept behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that issues certificates for workloads: an authority over gRPC, or one in this process.
pub trait Issuer: Send + Sync + 'static {
    /// Makes a new key, has a certificate for `identity` signed that lives about `ttl`, and checks the answer.
    ///
    /// The authority may shorten the life. Nothing is retried here: see [`crate::renewal`].
    fn issue<'a>(
        &'a self,
        identity: &'a Identity,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<WorkloadCertificate, IssueError>>;
}

/// Why no certificate was issued.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The authority could not be reached, or did not answer in time. Worth another try.
    #[error("the certificate authority cannot be reached: {0}")]
    Unavailable(String),
    /// The authority does not accept our credentials.
    #[error(
        "the certificate authority does not accept our token: {0}; check the token file and its audience"
    )]
    Unauthenticated(String),
    /// The authority knows us and says no: this identity is not ours to have (now).
    #[error("the certificate authority refuses {identity}: {reason}")]
    Denied {
        /// What was asked for.
        identity: Identity,
        /// The authority's words.
        reason: String,
    },
    /// The authority refused the request for any other reason.
    #[error("the certificate authority failed: {0}")]
    Failed(String),
    /// The answer is not a certificate we can use.
    #[error("the certificate authority's answer is unusable: {0}")]
    BadAnswer(#[from] CertificateError),
    /// The key or the signing request could not be made.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl IssueError {
    /// A stable word for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "ca_unavailable",
            Self::Unauthenticated(_) => "ca_unauthenticated",
            Self::Denied { .. } => "ca_denied",
            Self::Failed(_) => "ca_failed",
            Self::BadAnswer(_) => "ca_bad_answer",
            Self::Request(_) => "request_failed",
        }
    }
}
