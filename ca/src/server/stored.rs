//! What an authority keeps: its keys, their certificates, and how far a rotation has come.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SerialNumber,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::authority::{AuthorityError, BACKDATE, normal, serial, whole_seconds};
use super::key::{self, Key};
use super::rotation::{RotationState, root_life};

/// The life of a root.
pub const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A private key and its certificate. It has no `Debug`; the key is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyAndCertificate {
    /// The private key, in PEM. Whoever takes it must not log it, and keeps it where only it can read.
    pub key: Zeroizing<String>,
    /// The certificate, in PEM.
    pub certificate: String,
}

/// All that an authority with a root of its own keeps. It has no `Debug`.
///
/// Certificates are signed with `current`. All three roots are trusted: what `next` will sign must be accepted before
/// it signs, and what `previous` has signed is still in use.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAuthority {
    /// What signs now.
    pub current: KeyAndCertificate,
    /// What will sign next, while a rotation announces it.
    pub next: Option<KeyAndCertificate>,
    /// The certificate of the root that signed before, while it is still trusted. In PEM.
    pub previous: Option<String>,
    /// Its key, so that what it has signed can still be revoked. In PEM.
    pub previous_key: Option<Zeroizing<String>>,
    /// What is revoked, in words of its own: one line of text.
    pub revoked: Option<String>,
    /// How far a rotation has come, in words of its own: one line of text.
    pub rotation: Option<String>,
}

impl KeyAndCertificate {
    /// A new self-signed ECDSA P-256 root, valid from `now` for `life`; [`ROOT_LIFE`] is the usual one.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate_root(now: SystemTime, life: Duration) -> Result<Self, AuthorityError> {
        let failed = |error: rcgen::Error| AuthorityError::Create(error.to_string());
        let (key, pkcs8) = Key::generate()
            .ok_or_else(|| AuthorityError::Create("the system's random source failed".to_owned()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "mesh root");
        // Two roots never share a name, so that a chain leads to one of them only.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{:016x}", rand::random::<u64>()));
        params.not_before = OffsetDateTime::from(whole_seconds(now - BACKDATE.0));
        params.not_after = OffsetDateTime::from(whole_seconds(now + life));
        params.serial_number = Some(SerialNumber::from(serial().to_vec()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            key: key::to_pem("PRIVATE KEY", &pkcs8),
            certificate: normal(&certificate.pem()),
        })
    }
}

impl StoredAuthority {
    /// A new authority: one root, no rotation.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate(now: SystemTime) -> Result<Self, AuthorityError> {
        Ok(Self {
            // It is known that nothing was signed before.
            rotation: Some(RotationState::new(now, Duration::ZERO).to_text()),
            ..Self::of(KeyAndCertificate::generate_root(now, ROOT_LIFE)?)
        })
    }

    /// An authority with this root, and no rotation.
    pub fn of(root: KeyAndCertificate) -> Self {
        Self {
            current: root,
            next: None,
            previous: None,
            previous_key: None,
            revoked: None,
            rotation: None,
        }
    }

    /// When something was written down here last, as far as it says so: at least the beginning of the root that signs.
    pub fn last_written(&self) -> Option<SystemTime> {
        let rotation = self.rotation.as_deref().map(RotationState::from_text);
        let since = rotation.and_then(|read| Some(read.ok()?.since));
        let revoked = self.revocations().and_then(|all| all.last_change());
        let root = root_life(&self.current.certificate).map(|life| life.not_before);
        since.max(revoked).max(root)
    }

    /// All roots that are trusted, in PEM: the current one first.
    pub fn roots_pem(&self) -> String {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        std::iter::once(self.current.certificate.as_str())
            .chain(next)
            .chain(self.previous.as_deref())
            .map(|pem| format!("{}\n", pem.trim()))
            .collect()
    }
}
