//! The authority: what signs now, exchangeable while it runs, and what it signs.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use mesh::Identity;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use time::OffsetDateTime;
use tls::PrivateKey;
use tokio::sync::watch;

use super::clock::Moment;
use super::csr::{self, CsrError};
use super::directory::DirectoryStore;
use super::files::FileError;
use super::key::Key;
use super::material::{Material, MaterialError, hexadecimal};
use super::store::StoreError;
use super::stored::StoredAuthority;

/// The life of a certificate when none is asked for.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// The longest life that may be asked for.
pub const MAX_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// How far the start of a life lies back, for peers whose clock is behind, at most and as a part of the life.
pub(super) const BACKDATE: (Duration, u32) = (Duration::from_secs(120), 10);

/// Signs workloads' certificates. What it signs with may be exchanged while it runs. It has no `Debug`.
pub struct Authority {
    material: ArcSwap<Material>,
    /// Counts the exchanges.
    exchanges: watch::Sender<u64>,
}

/// A signed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate first, then what lies between it and a root; the last element holds all roots. PEM.
    pub chain: Vec<String>,
    /// Its serial number, in lower-case hexadecimal.
    pub serial: String,
    /// The start of its life.
    pub not_before: SystemTime,
    /// The end of its life.
    pub not_after: SystemTime,
    /// [`Material::fingerprint`] of what signed it.
    pub signed_with: String,
}

/// A server's certificate with its key. It has no `Debug`.
pub struct ServerCertificate {
    /// The certificate, and what lies between it and a root, in PEM.
    pub chain_pem: String,
    /// Its private key.
    pub key: PrivateKey,
    /// The start of its life.
    pub not_before: SystemTime,
    /// The end of its life.
    pub not_after: SystemTime,
}

/// Why there is no authority.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Its files cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Where it is kept does not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was found cannot sign.
    #[error(
        "{place}: {source}; mend it, or delete it to make a new root (every workload then needs a new certificate)"
    )]
    Unusable {
        /// Where it was found.
        place: String,
        /// What is wrong.
        source: MaterialError,
    },
    /// No key or certificate could be made.
    #[error("cannot make a root: {0}")]
    Create(String),
    /// Nothing could be revoked, or it is not known what is.
    #[error("cannot revoke: {0}")]
    Revoke(String),
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The request cannot be accepted.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The life asked for is too long.
    #[error("a life of {} s was asked for; at most {} s are signed", .0.as_secs(), MAX_TTL.as_secs())]
    TtlTooLong(Duration),
    /// The life of what signs is over, so nothing it signs would be valid.
    #[error("the authority's certificate, or one between it and the root, has expired")]
    RootExpired,
    /// The life of what signs has not begun: the clock was set back.
    #[error("the authority's certificate is not valid yet; compare the clock")]
    RootNotYetValid,
    /// A name cannot be written into a certificate.
    #[error("'{0}' cannot be written into a certificate")]
    Name(String),
    /// The system or the library failed.
    #[error("cannot sign: {0}")]
    Internal(String),
}

impl SignError {
    /// A stable word for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Csr(error) => error.code(),
            Self::TtlTooLong(_) => "life_too_long",
            Self::RootExpired => "authority_expired",
            Self::RootNotYetValid => "authority_not_yet_valid",
            Self::Name(_) => "bad_name",
            Self::Internal(_) => "internal",
        }
    }
}

impl Authority {
    /// An authority that signs with this.
    pub fn new(material: Material) -> Self {
        Self {
            material: ArcSwap::from_pointee(material),
            exchanges: watch::Sender::new(0),
        }
    }

    /// Reads the root in `directory`, or makes one there: see [`DirectoryStore`].
    ///
    /// # Errors
    /// When the secret can be read by others, its key and certificate do not belong together, its life is over,
    /// or a file cannot be written.
    pub fn load_or_create(directory: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let store = DirectoryStore::open(directory)?;
        let stored = store.read_or_create(|| StoredAuthority::generate(now))?.0;
        let material = Material::of_stored(&stored, now).map_err(|source| AuthorityError::Unusable {
            place: store.secret_file().display().to_string(),
            source,
        })?;
        Ok(Self::new(material))
    }

    /// Signs with this from now on; whether it is anything new.
    pub fn replace(&self, material: Material) -> bool {
        let is_new = self.material.load().fingerprint() != material.fingerprint();
        if is_new {
            self.material.store(Arc::new(material));
            self.exchanges.send_modify(|count| *count += 1);
        }
        is_new
    }

    /// What it signs with now.
    pub fn material(&self) -> Arc<Material> {
        self.material.load_full()
    }

    /// Counts how often what it signs with was exchanged.
    pub fn exchanges(&self) -> watch::Receiver<u64> {
        self.exchanges.subscribe()
    }

    /// All roots that are trusted now, in PEM.
    pub fn root_pem(&self) -> String {
        self.material.load().roots_pem().to_owned()
    }

    /// When the first certificate between what is signed and the root ends, it and the root included.
    pub fn not_after(&self) -> SystemTime {
        self.material.load().not_after()
    }

    /// Signs a certificate for `identity` with the key in `csr_pem`; nothing else in the request matters.
    ///
    /// While the time is in doubt it is valid at each time that it may be: see [`Moment::signing`].
    ///
    /// A `ttl` of zero means [`DEFAULT_TTL`]. The life ends no later than that of any certificate above it.
    ///
    /// # Errors
    /// When the request is not acceptable, or too long a life is asked for.
    pub fn sign(
        &self,
        csr_pem: &str,
        identity: &Identity,
        ttl: Duration,
        now: impl Into<Moment>,
    ) -> Result<Issued, SignError> {
        sign(&self.material.load(), csr_pem, identity, ttl, now.into())
    }

    /// Makes a key and a certificate for a server under `names`: DNS names or IP addresses.
    ///
    /// # Errors
    /// When a name is none, or too long a life is asked for.
    pub fn issue_server_certificate(
        &self,
        names: &[String],
        ttl: Duration,
        now: impl Into<Moment>,
    ) -> Result<ServerCertificate, SignError> {
        let (key, pkcs8) =
            Key::generate().ok_or_else(|| SignError::Internal("no key could be made".to_owned()))?;
        let alternatives = names
            .iter()
            .map(|name| server_name(name))
            .collect::<Result<Vec<_>, _>>()?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth];
        let material = self.material.load();
        let mut issued = certify(&material, &key, alternatives, &usages, ttl, now.into())?;
        issued.chain.pop();
        Ok(ServerCertificate {
            chain_pem: issued.chain.concat(),
            key: PrivateKey::from_pkcs8(pkcs8.to_vec()),
            not_before: issued.not_before,
            not_after: issued.not_after,
        })
    }
}

/// [`Authority::sign`] with this material.
pub(super) fn sign(
    material: &Material,
    csr_pem: &str,
    identity: &Identity,
    ttl: Duration,
    now: Moment,
) -> Result<Issued, SignError> {
    let key = csr::public_key(csr_pem)?;
    let name = identity.to_string();
    let uri = name.clone().try_into().map_err(|_| SignError::Name(name))?;
    let usages = [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    certify(material, &key, vec![SanType::URI(uri)], &usages, ttl, now)
}

fn certify(
    material: &Material,
    key: &impl PublicKeyData,
    names: Vec<SanType>,
    usages: &[ExtendedKeyUsagePurpose],
    ttl: Duration,
    now: Moment,
) -> Result<Issued, SignError> {
    let ttl = if ttl.is_zero() { DEFAULT_TTL } else { ttl };
    if ttl > MAX_TTL {
        return Err(SignError::TtlTooLong(ttl));
    }
    if now.likely >= material.not_after() {
        return Err(SignError::RootExpired);
    }
    if now.likely < material.not_before() {
        return Err(SignError::RootNotYetValid);
    }
    let (earliest, latest) = now.signing();
    let not_before = whole_seconds(earliest - BACKDATE.0.min(ttl / BACKDATE.1));
    // Whoever renews in the middle of the life must not do it at once: a quarter of what was asked for is left before it.
    let evened = now.likely + now.likely.duration_since(not_before).unwrap_or_default() + ttl / 2;
    let not_after = (latest + ttl).max(evened);
    let not_after = not_after.min(earliest + MAX_TTL).min(material.not_after());
    let not_after = whole_seconds(not_after);
    let serial = serial();
    let mut params = CertificateParams::default();
    // An empty subject makes the alternative name critical: RFC 5280 §4.2.1.6.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.not_before = OffsetDateTime::from(not_before);
    params.not_after = OffsetDateTime::from(not_after);
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    let certificate = params
        .signed_by(key, &material.issuer)
        .map_err(|error| SignError::Internal(error.to_string()))?;
    let mut chain = vec![normal(&certificate.pem())];
    chain.extend(material.intermediates.iter().cloned());
    chain.push(material.roots_pem().to_owned());
    Ok(Issued {
        chain,
        serial: hexadecimal(&serial),
        not_before,
        not_after,
        signed_with: material.fingerprint().to_owned(),
    })
}

/// 128 random bits, positive and of full length, so that every serial has the same width.
pub(super) fn serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

/// Certificates count in seconds.
pub(super) fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn server_name(name: &str) -> Result<SanType, SignError> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let plausible = !name.is_empty()
        && name.len() <= 253
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let bad = || SignError::Name(name.escape_default().to_string());
    if !plausible {
        return Err(bad());
    }
    Ok(SanType::DnsName(name.to_owned().try_into().map_err(|_| bad())?))
}

/// One line ending everywhere.
pub(super) fn normal(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}

#[cfg(test)]
mod tests;
