//! A workload's certificate, its key, and the roots it came with.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use mesh::Identity;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor, UnixTime};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use crate::pem::{self, PemError};
use crate::verify::{self, Chain, Purpose};
use crate::{HandshakeError, Roots, Trust};

/// A certificate that proves one identity, with its private key and the roots of its mesh. Cheap to clone.
#[derive(Clone)]
pub struct WorkloadCertificate {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    certified: Arc<CertifiedKey>,
    key: PrivateKey,
    roots: Roots,
    details: Details,
    fingerprint: [u8; 32],
}

/// What is shown of a certificate. Never decides anything but time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) serial: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl WorkloadCertificate {
    /// Takes what an authority answered: the leaf first, then intermediates; the last element holds the roots.
    ///
    /// # Errors
    /// When the texts are no certificates, the leaf is not for `expected` and it alone, the key is not the
    /// leaf's, or the leaf does not lead to the roots for both directions (client and server).
    pub fn from_pem(
        chain_pem: &[String],
        key: &PrivateKey,
        expected: &Identity,
    ) -> Result<Self, CertificateError> {
        let Some((roots_pem, chain_pem)) = chain_pem.split_last() else {
            return Err(CertificateError::Incomplete);
        };
        let mut chain = Vec::new();
        for element in chain_pem {
            chain.extend(pem::certificates(element)?);
        }
        if chain.is_empty() {
            return Err(CertificateError::Incomplete);
        }
        if chain.len() > pem::MAX_CERTIFICATES {
            return Err(CertificateError::Pem(PemError::TooMany));
        }
        Self::from_der(chain, Roots::from_pem(roots_pem)?, key, expected)
    }

    fn from_der(
        chain: Vec<CertificateDer<'static>>,
        roots: Roots,
        key: &PrivateKey,
        expected: &Identity,
    ) -> Result<Self, CertificateError> {
        let details = Details::of(&chain[0])?;
        let leaf = EndEntityCert::try_from(&chain[0])
            .map_err(|error| CertificateError::Malformed(error.to_string()))?;
        let identity =
            verify::identity(&leaf).map_err(|error| CertificateError::Identity(Box::new(error)))?;
        if identity != *expected {
            return Err(CertificateError::WrongIdentity {
                expected: expected.clone(),
                got: identity,
            });
        }
        for purpose in [Purpose::Client, Purpose::Server] {
            let shown = Chain {
                leaf: &leaf,
                intermediates: &chain[1..],
                anchors: roots.anchors(),
                now: details.middle(),
                purpose,
            };
            shown
                .verify()
                .map_err(|error| CertificateError::Chain(error.to_string()))?;
        }
        let fingerprint = fingerprint(&chain, &roots);
        let certified = key.certify(chain)?;
        Ok(Self {
            inner: Arc::new(Inner {
                identity,
                certified: Arc::new(certified),
                key: key.clone(),
                roots,
                details,
                fingerprint,
            }),
        })
    }

    /// Whom the certificate names.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// The start of its life.
    pub fn not_before(&self) -> SystemTime {
        self.inner.details.not_before
    }

    /// The end of its life. From here on it must not be used.
    pub fn not_after(&self) -> SystemTime {
        self.inner.details.not_after
    }

    /// Whether `now` is within its life.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before() <= now && now < self.not_after()
    }

    /// The serial number, in lower-case hexadecimal.
    pub fn serial(&self) -> &str {
        &self.inner.details.serial
    }

    /// The leaf and the intermediates, described for people.
    pub fn chain_info(&self) -> Vec<CertificateInfo> {
        self.inner
            .certified
            .cert
            .iter()
            .filter_map(CertificateInfo::of)
            .collect()
    }

    /// The roots that peers are held against, described for people.
    pub fn roots_info(&self) -> Vec<CertificateInfo> {
        let roots = self.inner.roots.certificates();
        roots.filter_map(|(_, root)| CertificateInfo::of(root)).collect()
    }

    /// The leaf and the intermediates, in DER.
    pub fn chain_der(&self) -> impl Iterator<Item = &[u8]> {
        self.inner
            .certified
            .cert
            .iter()
            .map(|certificate| certificate.as_ref())
    }

    /// The leaf and the intermediates, in PEM, one element each.
    pub fn chain_pem(&self) -> Vec<String> {
        self.inner.certified.cert.iter().map(pem::encode).collect()
    }

    /// The roots that peers are held against, in PEM, one element each.
    pub fn roots_pem(&self) -> Vec<String> {
        self.inner.roots.to_pem()
    }

    /// The roots it came with.
    pub fn roots(&self) -> &Roots {
        &self.inner.roots
    }

    /// Whether it leads to one of `roots`, at the middle of its life.
    pub fn leads_to(&self, roots: &Roots) -> bool {
        let chain = &self.inner.certified.cert;
        // It was parsed when it arrived.
        let Ok(leaf) = EndEntityCert::try_from(&chain[0]) else {
            return false;
        };
        let chain = self.chain_to(&leaf, roots.anchors());
        chain.verify().is_ok()
    }

    /// Whether a revocation list in `trust` names it, or a certificate between it and its roots: whoever is told the same
    /// refuses it as a peer's. Verifies signatures where there are lists of its issuers.
    pub fn is_revoked_by(&self, trust: &Trust) -> bool {
        let chain = &self.inner.certified.cert;
        let Ok(leaf) = EndEntityCert::try_from(&chain[0]) else {
            return false;
        };
        let chain = self.chain_to(&leaf, self.inner.roots.anchors());
        trust.revocation().names(&chain)
    }

    /// As it is in the middle of its life, with its own leaf.
    fn chain_to<'a>(&'a self, leaf: &'a EndEntityCert<'a>, anchors: &'a [TrustAnchor<'a>]) -> Chain<'a> {
        Chain {
            leaf,
            intermediates: &self.inner.certified.cert[1..],
            anchors,
            now: self.inner.details.middle(),
            purpose: Purpose::Server,
        }
    }

    /// Its private key. Whoever takes it must not log it, and keeps it where only it can read.
    pub fn secret_key(&self) -> &PrivateKey {
        &self.inner.key
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        self.inner.certified.clone()
    }

    /// SHA-256 over the chain and the roots: equal only for the same certificate under the same roots.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.inner.fingerprint
    }
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificate")
            .field("identity", &self.inner.identity.to_string())
            .field("serial", &self.inner.details.serial)
            .field("not_after", &self.inner.details.not_after)
            .finish_non_exhaustive()
    }
}

/// What a certificate says of itself, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// All of it, in PEM.
    pub pem: String,
    /// The serial number, in lower-case hexadecimal.
    pub serial: String,
    /// The start of its life.
    pub not_before: SystemTime,
    /// The end of its life.
    pub not_after: SystemTime,
}

impl CertificateInfo {
    /// None for what is no certificate.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let details = Details::of(certificate).ok()?;
        Some(Self {
            pem: pem::encode(certificate),
            serial: details.serial,
            not_before: details.not_before,
            not_after: details.not_after,
        })
    }
}

/// A private key in PKCS #8, wiped when dropped. It has no `Debug` and no `Display`.
#[derive(Clone)]
pub struct PrivateKey {
    der: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// Takes PKCS #8 DER.
    pub fn from_pkcs8(der: Vec<u8>) -> Self {
        Self {
            der: Zeroizing::new(der),
        }
    }

    /// Reads the first `PRIVATE KEY` block (PKCS #8) of a PEM text.
    ///
    /// # Errors
    /// When the text is no PEM, or has no such block.
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        pem::blocks(text)?
            .into_iter()
            .find(|block| block.tag() == "PRIVATE KEY")
            .map(|block| Self::from_pkcs8(block.into_contents()))
            .ok_or(PemError::Missing("PRIVATE KEY"))
    }

    /// The key in PKCS #8 DER. Whoever takes it must not log it, and keeps it where only it can read.
    pub fn secret_pkcs8(&self) -> &[u8] {
        &self.der
    }

    /// The key as a `PRIVATE KEY` block. The text is wiped when dropped; the same care is due to it.
    pub fn secret_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::encode_block("PRIVATE KEY", self.der.as_slice()))
    }

    /// The key with its certificate's chain. No copy of the key is left behind.
    pub(crate) fn certify(
        &self,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<CertifiedKey, CertificateError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.der.as_slice()));
        let key = any_supported_type(&der).map_err(|error| CertificateError::Key(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::WrongKey),
            Err(other) => Err(CertificateError::Key(other.to_string())),
        }
    }
}

/// Why a certificate cannot be used as one's own.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The chain is too short: at least a leaf and a root are needed.
    #[error("the chain must hold the certificate first and the roots last")]
    Incomplete,
    /// The text could not be read.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The leaf is not a certificate.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// One of the roots cannot be used.
    #[error("a root certificate cannot be used: {0}")]
    Root(String),
    /// The leaf does not name exactly one SPIFFE identity.
    #[error("{0}")]
    Identity(Box<HandshakeError>),
    /// The leaf names somebody else.
    #[error("the certificate is for {got}, not for {expected}")]
    WrongIdentity {
        /// Whom it should name.
        expected: Identity,
        /// Whom it names.
        got: Identity,
    },
    /// The leaf does not lead to the roots it came with.
    #[error("the certificate does not lead to the roots it came with: {0}")]
    Chain(String),
    /// The key is not the leaf's.
    #[error("the private key is not the certificate's")]
    WrongKey,
    /// The key cannot be used at all.
    #[error("the private key cannot be used: {0}")]
    Key(String),
}

impl Details {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|error| CertificateError::Malformed(error.to_string()))?;
        let time = |at: x509_parser::time::ASN1Time| {
            let seconds = u64::try_from(at.timestamp()).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let serial = parsed.tbs_certificate.raw_serial();
        let serial = serial
            .strip_prefix(&[0])
            .filter(|rest| !rest.is_empty())
            .unwrap_or(serial);
        Ok(Self {
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
        })
    }

    /// A moment at which the whole chain should be valid: an issuer lives at least as long as what it signs.
    fn middle(&self) -> UnixTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        let middle = self.not_before + life / 2;
        UnixTime::since_unix_epoch(middle.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

fn fingerprint(chain: &[CertificateDer<'_>], roots: &Roots) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(chain.len() as u64).to_be_bytes());
    for certificate in chain {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    for (id, _) in roots.certificates() {
        context.update(id);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}
