//! What signs: a key, its certificate, the way from there to a root, and the roots that are trusted.

use std::time::SystemTime;

use aws_lc_rs::digest;
use rcgen::Issuer;

use super::key::{self, Key};
use super::stored::{KeyAndCertificate, StoredAuthority};

mod facts;
mod path;
mod probe;

use facts::Facts;

/// The most certificates read of a chain or a bundle of roots.
pub const MAX_CERTIFICATES: usize = 64;

/// The name and the key of a root.
type Anchor = (Vec<u8>, Vec<u8>);

/// Ready to sign, and checked: the key is the certificate's, which is an authority's and leads to one of the roots.
/// It never changes; an authority exchanges it as a whole. It has no `Debug`.
pub struct Material {
    pub(super) issuer: Issuer<'static, Key>,
    /// From the issuing certificate up; empty when that is a root itself.
    pub(super) intermediates: Vec<String>,
    roots: Vec<String>,
    /// Of each root: its name and key, which is all that verifiers look at.
    anchors: Vec<Anchor>,
    /// That of the root that the signing certificate leads to.
    anchor: Option<Anchor>,
    roots_pem: String,
    not_before: SystemTime,
    not_after: SystemTime,
    fingerprint: String,
}

/// Why nothing can be signed with it. No text in here repeats a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialError {
    /// The key cannot be read.
    #[error("the private key cannot be used: {0}")]
    Key(&'static str),
    /// A text holds no certificates.
    #[error("the {part} cannot be read: {problem}")]
    Certificates {
        /// Which text.
        part: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Key and certificate are of different pairs.
    #[error("the private key is not the certificate's; one of the two was replaced without the other")]
    KeyMismatch,
    /// It may not sign certificates.
    #[error("'{0}' is not an authority's certificate (CA:true with key usage keyCertSign is needed)")]
    NotAnAuthority(String),
    /// It may not have authorities below it, or not so many.
    #[error(
        "'{0}' does not allow so many authorities below it (pathlen); have it issued with a larger path length"
    )]
    PathLength(String),
    /// It is not valid now.
    #[error("'{name}' is not valid now: it is valid from {from} to {to}; compare the clock, or renew it")]
    NotValid {
        /// Its subject.
        name: String,
        /// The start of its life.
        from: String,
        /// The end of its life.
        to: String,
    },
    /// It leads to none of the roots.
    #[error(
        "'{0}' leads to none of the roots; the chain must hold every certificate between the authority and a root"
    )]
    NoRoot(String),
    /// Peers would refuse what it signs.
    #[error("peers would refuse what it signs: {0}")]
    Refused(String),
}

impl Material {
    /// What signs with a key and its certificate. `chain` may hold the certificates between it and a root, and others;
    /// `roots` all roots that are trusted. Both are PEM.
    ///
    /// # Errors
    /// When a text cannot be read, the key is not the certificate's, one on the way is no authority's or not valid at
    /// `now`, the way leads to no root, or peers would refuse what is signed.
    pub fn new(
        signing: &KeyAndCertificate,
        chain: &str,
        roots: &str,
        now: SystemTime,
    ) -> Result<Self, MaterialError> {
        let key = Key::from_pem(&signing.key).map_err(MaterialError::Key)?;
        let issuing = facts::read("certificate", &signing.certificate)?;
        let issuing = issuing
            .into_iter()
            .next()
            .ok_or_else(|| MaterialError::Certificates {
                part: "certificate",
                problem: "there is none in it".to_owned(),
            })?;
        if issuing.public_key != rcgen::PublicKeyData::der_bytes(&key) {
            return Err(MaterialError::KeyMismatch);
        }
        // A layout of one file has what belongs into the chain behind the certificate.
        let mut between = facts::read("certificate", &signing.certificate)?.split_off(1);
        between.extend(facts::read("chain", chain)?);
        let roots = facts::distinct(facts::read("bundle of roots", roots)?);
        if roots.is_empty() {
            return Err(MaterialError::Certificates {
                part: "bundle of roots",
                problem: "there is no certificate in it".to_owned(),
            });
        }
        let path = path::find(issuing, &between, &roots, now)?;
        let issuer = Issuer::from_ca_cert_der(&path.certificates[0].der.as_slice().into(), key)
            .map_err(|error| MaterialError::Refused(error.to_string()))?;
        let anchors = roots.iter().map(anchor_of).collect();
        let roots: Vec<_> = roots.iter().map(pem_of).collect();
        let intermediates: Vec<_> = path.intermediates().iter().map(pem_of).collect();
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(&path.certificates[0].der);
        for text in intermediates.iter().chain(&roots) {
            digest.update(text.as_bytes());
        }
        let material = Self {
            issuer,
            intermediates,
            roots_pem: roots.concat(),
            roots,
            anchors,
            anchor: path.certificates.last().map(anchor_of),
            not_before: path.not_before(),
            not_after: path.not_after(),
            fingerprint: hexadecimal(digest.finish().as_ref()),
        };
        probe::check(&material, now)?;
        Ok(material)
    }

    /// What signs with the current key of what is kept; all of its roots are trusted.
    ///
    /// # Errors
    /// As [`Material::new`].
    pub fn of_stored(stored: &StoredAuthority, now: SystemTime) -> Result<Self, MaterialError> {
        Self::new(&stored.current, "", &stored.roots_pem(), now)
    }

    /// All trusted roots in one text, as they end every chain. PEM.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// The trusted roots, one each. PEM.
    pub fn roots(&self) -> &[String] {
        &self.roots
    }

    /// The root that what is signed leads to. PEM.
    pub fn root(&self) -> Option<&str> {
        let anchor = self.anchor.as_ref()?;
        let at = self.anchors.iter().position(|one| one == anchor)?;
        self.roots.get(at).map(String::as_str)
    }

    /// The certificates between what is signed and the root, from below. PEM; none when a root signs itself.
    pub fn intermediates(&self) -> &[String] {
        &self.intermediates
    }

    /// When the first certificate on the way to the root ends: nothing that is signed lives longer.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Since when all certificates on the way to the root are valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Whether those who have the roots of `other` trust what this signs.
    pub fn is_trusted_with(&self, other: &Self) -> bool {
        self.anchor
            .as_ref()
            .is_some_and(|anchor| other.anchors.contains(anchor))
    }

    /// SHA-256 over the issuing certificate, the way to the root and the roots, in lower-case hexadecimal: two that
    /// are equal sign alike.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// SHA-256 of a certificate in PEM, in lower-case hexadecimal, as other tools print it; `None` for what is none.
pub fn certificate_fingerprint(pem: &str) -> Option<String> {
    let der = pem::parse(pem).ok()?;
    Some(hexadecimal(
        digest::digest(&digest::SHA256, der.contents()).as_ref(),
    ))
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn anchor_of(certificate: &Facts) -> Anchor {
    (certificate.subject.clone(), certificate.public_key.clone())
}

fn pem_of(certificate: &Facts) -> String {
    key::to_pem("CERTIFICATE", &certificate.der).to_string()
}

#[cfg(test)]
mod tests;
