//! What a peer's certificate must prove. Decisions are made on webpki's reading of the certificate.

use std::sync::Arc;

use mesh::Identity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, RevocationOptions};

use crate::provider::{Versions, provider};
use crate::{CompliancePolicy, HandshakeError, Roots, Trust, WorkloadCertificate};

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Client,
    Server,
}

/// The server's view of a client: it must be of our trust domain or an alias of it.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    trust: Trust,
    fallback: Roots,
    trust_domain: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    pub(crate) fn new(trust: Trust, own: &WorkloadCertificate) -> Self {
        Self {
            trust,
            fallback: own.roots().clone(),
            trust_domain: own.identity().trust_domain().to_owned(),
            algorithms: algorithms(),
        }
    }
}

/// The client's view of a server: it must be one of the accepted identities. No host name is involved.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    trust: Trust,
    fallback: Roots,
    trust_domain: String,
    /// As the caller named them, sorted.
    named: Arc<[Identity]>,
    /// With their other names, sorted.
    accepted: Vec<Identity>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    /// `accepted` must be sorted.
    pub(crate) fn new(trust: Trust, own: &WorkloadCertificate, accepted: Arc<[Identity]>) -> Self {
        let trust_domain = own.identity().trust_domain().to_owned();
        Self {
            accepted: trust.with_aliases(&trust_domain, &accepted),
            named: accepted,
            trust,
            fallback: own.roots().clone(),
            trust_domain,
            algorithms: algorithms(),
        }
    }
}

/// A certificate with those above it, and what it is to be trusted for.
#[derive(Clone, Copy)]
pub(crate) struct Chain<'a> {
    pub(crate) leaf: &'a EndEntityCert<'a>,
    pub(crate) intermediates: &'a [CertificateDer<'a>],
    /// The roots, to one of which it has to lead.
    pub(crate) anchors: &'a [TrustAnchor<'a>],
    pub(crate) now: UnixTime,
    pub(crate) purpose: Purpose,
}

impl Chain<'_> {
    /// Whether the leaf leads to one of the roots, is alive at `now`, and may be used for `purpose`.
    pub(crate) fn verify(&self) -> Result<(), rustls::Error> {
        self.verify_unless_revoked(None).map_err(chain_error)
    }

    /// As [`verify`](Chain::verify), asking revocation lists too.
    pub(crate) fn verify_unless_revoked(
        &self,
        revocation: Option<RevocationOptions<'_>>,
    ) -> Result<(), webpki::Error> {
        // An authority need not say what its certificates are for, but may limit it (RFC 5280 §4.2.1.12).
        let usage = match self.purpose {
            Purpose::Client => KeyUsage::client_auth(),
            Purpose::Server => KeyUsage::server_auth(),
        };
        if !says_its_purpose(self.leaf, self.purpose) {
            return Err(webpki::Error::EmptyEkuExtension);
        }
        self.leaf
            .verify_for_usage(
                algorithms().all,
                self.anchors,
                self.intermediates,
                self.now,
                usage,
                revocation,
                None,
            )
            .map(|_path| ())
    }
}

/// The one identity that a certificate names: exactly one URI name, in the exact form of a SPIFFE id.
pub(crate) fn identity(certificate: &EndEntityCert<'_>) -> Result<Identity, HandshakeError> {
    let mut names = certificate.valid_uri_names();
    let Some(name) = names.next() else {
        return Err(HandshakeError::NoIdentity);
    };
    let others = names.count();
    // webpki passes over names it cannot read. A second reader that can see those may only refuse.
    let written = uri_names_written(&certificate.der()).ok_or(HandshakeError::NoIdentity)?;
    if others > 0 || written != 1 {
        return Err(HandshakeError::SeveralIdentities(written.max(others + 1)));
    }
    name.parse()
        .map_err(|_| HandshakeError::MalformedIdentity(printable(name)))
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let leaf = EndEntityCert::try_from(end_entity).map_err(chain_error)?;
        let state = self.trust.state();
        state.judge(&leaf, intermediates, &self.fallback, now, Purpose::Client)?;
        let got = identity(&leaf).map_err(refuse)?;
        known_trust_domain(&self.trust, &self.trust_domain, &got)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let leaf = EndEntityCert::try_from(end_entity).map_err(chain_error)?;
        let state = self.trust.state();
        state.judge(&leaf, intermediates, &self.fallback, now, Purpose::Server)?;
        let got = identity(&leaf).map_err(refuse)?;
        known_trust_domain(&self.trust, &self.trust_domain, &got)?;
        if self.accepted.binary_search(&got).is_err() {
            return Err(refuse(HandshakeError::WrongIdentity {
                expected: self.named.to_vec(),
                got,
            }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn known_trust_domain(trust: &Trust, own: &str, got: &Identity) -> Result<(), rustls::Error> {
    if trust.accepts_domain(own, got.trust_domain()) {
        return Ok(());
    }
    Err(refuse(HandshakeError::WrongTrustDomain {
        expected: own.to_owned(),
        got: got.clone(),
    }))
}

/// Carries our own reason through the TLS library, which otherwise knows only its own. The peer is told
/// `certificate_unknown`.
pub(crate) fn refuse(error: HandshakeError) -> rustls::Error {
    rustls::CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// How signatures are verified: the same under every policy, all of them approved by FIPS 186-5.
fn algorithms() -> WebPkiSupportedAlgorithms {
    provider(CompliancePolicy::None, Versions::Tls13).signature_verification_algorithms
}

/// Errors of chain building, in the words that select the right alert.
fn chain_error(error: webpki::Error) -> rustls::Error {
    use rustls::CertificateError as Certificate;
    use webpki::Error;
    match error {
        Error::CertExpired { time, not_after } => Certificate::ExpiredContext { time, not_after }.into(),
        Error::CertNotValidYet { time, not_before } => {
            Certificate::NotValidYetContext { time, not_before }.into()
        }
        // A root of the same name but another key is a stranger like any other.
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => Certificate::UnknownIssuer.into(),
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Certificate::InvalidPurpose.into(),
        other => rustls::CertificateError::Other(OtherError(Arc::new(HandshakeError::BadCertificate(
            other.to_string(),
        ))))
        .into(),
    }
}

/// Whether the certificate itself says that it is for `purpose`. The library passes one that says nothing.
fn says_its_purpose(leaf: &EndEntityCert<'_>, purpose: Purpose) -> bool {
    let der = leaf.der();
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else {
        return false;
    };
    match parsed.extended_key_usage() {
        Ok(Some(usage)) => match purpose {
            Purpose::Client => usage.value.client_auth,
            Purpose::Server => usage.value.server_auth,
        },
        _ => false,
    }
}

/// How many URI names the certificate carries, readable or not; `None` when the names cannot be read at all.
fn uri_names_written(certificate: &CertificateDer<'_>) -> Option<usize> {
    use x509_parser::extensions::GeneralName;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let is_uri = |name: &GeneralName<'_>| matches!(name, GeneralName::URI(_) | GeneralName::Invalid(..));
    Some(
        names
            .value
            .general_names
            .iter()
            .filter(|name| is_uri(name))
            .count(),
    )
}

/// A foreign text made fit for a log line.
fn printable(text: &str) -> String {
    const MOST: usize = 256;
    text.chars().take(MOST).flat_map(char::escape_default).collect()
}
