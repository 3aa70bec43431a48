//! A set of root certificates.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use crate::CertificateError;
use crate::pem::{self, MAX_CERTIFICATES};

/// Root certificates, each once. Cheap to clone; equal when they hold the same certificates.
#[derive(Clone)]
pub struct Roots {
    inner: Arc<Inner>,
}

struct Inner {
    certificates: BTreeMap<RootId, CertificateDer<'static>>,
    anchors: Arc<[TrustAnchor<'static>]>,
}

/// SHA-256 of a root certificate.
pub(crate) type RootId = [u8; 32];

impl Roots {
    /// The most roots in one set.
    pub const CAPACITY: usize = MAX_CERTIFICATES;

    /// Reads a PEM text.
    ///
    /// # Errors
    /// When it is no PEM, holds no certificate, or one that cannot be a root.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        Self::from_der(pem::certificates(text)?)
    }

    pub(crate) fn from_der(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, CertificateError> {
        let certificates: BTreeMap<_, _> = certificates
            .into_iter()
            .map(|certificate| (id(&certificate), certificate))
            .collect();
        let anchors = certificates
            .values()
            .map(|root| webpki::anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CertificateError::Root(error.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                certificates,
                anchors: anchors.into(),
            }),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner.certificates.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.inner.certificates.is_empty()
    }

    /// In PEM, one element each.
    pub fn to_pem(&self) -> Vec<String> {
        self.inner.certificates.values().map(pem::encode).collect()
    }

    /// Those of both, and of `other` no more than fit.
    pub(crate) fn with(&self, other: impl IntoIterator<Item = (RootId, CertificateDer<'static>)>) -> Self {
        let mut certificates = self.inner.certificates.clone();
        for (id, certificate) in other {
            if certificates.len() >= Self::CAPACITY {
                break;
            }
            certificates.entry(id).or_insert(certificate);
        }
        if certificates.len() == self.len() {
            return self.clone();
        }
        // Both sets were made of these very certificates before, so all of them are usable.
        Self::from_der(certificates.into_values()).unwrap_or_else(|_| self.clone())
    }

    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&RootId, &CertificateDer<'static>)> {
        self.inner.certificates.iter()
    }

    pub(crate) fn contains(&self, id: &RootId) -> bool {
        self.inner.certificates.contains_key(id)
    }

    pub(crate) fn anchors(&self) -> &Arc<[TrustAnchor<'static>]> {
        &self.inner.anchors
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.inner.certificates.keys().eq(other.inner.certificates.keys())
    }
}

impl Eq for Roots {}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |id: &RootId| -> String { id[..4].iter().map(|byte| format!("{byte:02x}")).collect() };
        f.debug_set()
            .entries(self.inner.certificates.keys().map(short))
            .finish()
    }
}

fn id(certificate: &CertificateDer<'_>) -> RootId {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    bytes
}
