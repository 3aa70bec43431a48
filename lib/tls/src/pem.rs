//! Reading PEM within bounds.

use rustls::pki_types::CertificateDer;

/// The most text accepted for one chain or one bundle of roots, in bytes.
pub(crate) const MAX_PEM_BYTES: usize = 1024 * 1024;
/// The most certificates accepted in one chain or bundle.
pub(crate) const MAX_CERTIFICATES: usize = 256;

/// Why a PEM text was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// The text is longer than any sensible chain.
    #[error("{0} bytes of PEM; at most {MAX_PEM_BYTES} are read")]
    TooLong(usize),
    /// More certificates than any sensible chain or bundle holds.
    #[error("more than {MAX_CERTIFICATES} certificates in one PEM text")]
    TooMany,
    /// The text is not PEM.
    #[error("not PEM: {0}")]
    Malformed(String),
    /// There is no block of the kind looked for.
    #[error("no {0} block in the PEM text")]
    Missing(&'static str),
}

/// All certificates of `text`, in order; other blocks are passed over.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut found = Vec::new();
    for block in blocks(text)? {
        if block.tag() == "CERTIFICATE" {
            if found.len() == MAX_CERTIFICATES {
                return Err(PemError::TooMany);
            }
            found.push(CertificateDer::from(block.into_contents()));
        }
    }
    if found.is_empty() {
        Err(PemError::Missing("CERTIFICATE"))
    } else {
        Ok(found)
    }
}

/// The blocks of `text`.
pub(crate) fn blocks(text: &str) -> Result<Vec<::pem::Pem>, PemError> {
    if text.len() > MAX_PEM_BYTES {
        return Err(PemError::TooLong(text.len()));
    }
    ::pem::parse_many(text).map_err(|error| PemError::Malformed(error.to_string()))
}

/// A certificate as PEM.
pub(crate) fn encode(certificate: &CertificateDer<'_>) -> String {
    encode_block("CERTIFICATE", certificate.as_ref())
}

/// Any block as PEM.
pub(crate) fn encode_block(tag: &str, contents: &[u8]) -> String {
    let config = ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF);
    ::pem::encode_config(&::pem::Pem::new(tag, contents), config)
}
