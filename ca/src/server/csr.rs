//! Signing requests: all that is taken from one is its public key.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// The longest request accepted, in bytes of PEM.
pub const MAX_CSR_BYTES: usize = 16 * 1024;

/// Why a request is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// It is too long.
    #[error("the signing request has {0} bytes; at most {MAX_CSR_BYTES} are read")]
    TooLong(usize),
    /// It is not one PEM block of a signing request.
    #[error("the signing request is not a PEM CERTIFICATE REQUEST: {0}")]
    Malformed(String),
    /// It is not signed by the key it carries: whoever sent it may not hold that key.
    #[error("the signing request is not signed by the key in it")]
    Signature,
    /// The key is of a kind that is not certified.
    #[error("the key in the signing request is neither ECDSA P-256 nor P-384; no other keys are certified")]
    Key,
}

impl CsrError {
    /// A stable word for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "request_too_long",
            Self::Malformed(_) => "request_malformed",
            Self::Signature => "request_signature",
            Self::Key => "request_key",
        }
    }
}

/// The public key of a request, after its self-signature was verified.
pub(super) fn public_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, CsrError> {
    if csr_pem.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLong(csr_pem.len()));
    }
    let block = pem::parse(csr_pem).map_err(|error| CsrError::Malformed(error.to_string()))?;
    if !matches!(block.tag(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(CsrError::Malformed("it is another kind of block".to_owned()));
    }
    let (rest, request) = X509CertificationRequest::from_der(block.contents())
        .map_err(|error| CsrError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed("bytes follow the request".to_owned()));
    }
    let written = request.certification_request_info.subject_pki.raw;
    let key = SubjectPublicKeyInfo::from_der(written).map_err(|_| CsrError::Key)?;
    let algorithm = rcgen::PublicKeyData::algorithm(&key);
    // Both digests are used with either curve; only the curve matters for what is certified.
    if algorithm != &rcgen::PKCS_ECDSA_P256_SHA256 && algorithm != &rcgen::PKCS_ECDSA_P384_SHA384 {
        return Err(CsrError::Key);
    }
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(key)
}

#[cfg(test)]
mod tests;
