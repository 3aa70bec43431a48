//! The root and what it signs.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mesh::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use time::OffsetDateTime;
use tls::PrivateKey;
use zeroize::Zeroizing;

use super::csr::{self, CsrError};
use super::files::{self, FileError};
use super::key::{self, Key};

/// The life of a certificate when none is asked for.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// The longest life that may be asked for.
pub const MAX_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// The life of a root.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far the start of a life lies back, for peers whose clock is behind, at most and as a part of the life.
const BACKDATE: (Duration, u32) = (Duration::from_secs(120), 10);

/// The secret file: the root's key and certificate in one, so that they cannot come apart.
const SECRET_FILE: &str = "root-key.pem";
/// The public copy of the root, for whoever must trust it.
const PUBLIC_FILE: &str = "root-cert.pem";

/// A self-signed ECDSA P-256 root that signs workloads' certificates. It has no `Debug`.
pub struct Authority {
    issuer: Issuer<'static, Key>,
    root_pem: String,
    not_after: SystemTime,
}

/// A signed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate first; the last element holds the roots. PEM.
    pub chain: Vec<String>,
    /// Its serial number, in lower-case hexadecimal.
    pub serial: String,
    /// The start of its life.
    pub not_before: SystemTime,
    /// The end of its life.
    pub not_after: SystemTime,
}

/// A server's certificate with its key. It has no `Debug`.
pub struct ServerCertificate {
    /// The certificate, in PEM.
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
    /// The root's life is over.
    #[error(
        "the root certificate in {0} is not valid now; compare the clock, or delete the file to make a new root (every workload then needs a new certificate)"
    )]
    NotValid(String),
    /// No key or certificate could be made.
    #[error("cannot make a root: {0}")]
    Create(String),
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
    /// The root's life is over, so nothing it signs would be valid.
    #[error("the root certificate has expired")]
    RootExpired,
    /// A name cannot be written into a certificate.
    #[error("'{0}' cannot be written into a certificate")]
    Name(String),
    /// The system or the library failed.
    #[error("cannot sign: {0}")]
    Internal(String),
}

impl Authority {
    /// Reads the root in `directory`, or makes one there: `root-key.pem` (mode 0600) holds the key and its
    /// certificate, `root-cert.pem` a public copy of the certificate.
    ///
    /// # Errors
    /// When the secret can be read by others, its key and certificate do not belong together, its life is over,
    /// or a file cannot be written.
    pub fn load_or_create(directory: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(|error| files::failed("create", directory, &error))?;
        let secret = directory.join(SECRET_FILE);
        let text = match files::read_secret(&secret)? {
            Some(text) => text,
            None => {
                let fresh = Self::generate(now)?;
                if files::create_secret(&secret, &fresh)? {
                    fresh
                } else {
                    files::read_secret(&secret)?.unwrap_or(fresh)
                }
            }
        };
        let authority = Self::from_pem(&text, &secret, now)?;
        files::publish(&directory.join(PUBLIC_FILE), &authority.root_pem)?;
        Ok(authority)
    }

    /// The root certificate, in PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The end of the root's life.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Signs a certificate for `identity` with the key in `csr_pem`; nothing else in the request matters.
    ///
    /// A `ttl` of zero means [`DEFAULT_TTL`]. The life ends no later than the root's.
    ///
    /// # Errors
    /// When the request is not acceptable, or too long a life is asked for.
    pub fn sign(
        &self,
        csr_pem: &str,
        identity: &Identity,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, SignError> {
        let key = csr::public_key(csr_pem)?;
        let name = identity.to_string();
        let uri = name.clone().try_into().map_err(|_| SignError::Name(name))?;
        let usages = [
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.certify(&key, vec![SanType::URI(uri)], &usages, ttl, now)
    }

    /// Makes a key and a certificate for a server under `names`: DNS names or IP addresses.
    ///
    /// # Errors
    /// When a name is none, or too long a life is asked for.
    pub fn issue_server_certificate(
        &self,
        names: &[String],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<ServerCertificate, SignError> {
        let (key, pkcs8) =
            Key::generate().ok_or_else(|| SignError::Internal("no key could be made".to_owned()))?;
        let alternatives = names
            .iter()
            .map(|name| server_name(name))
            .collect::<Result<Vec<_>, _>>()?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth];
        let issued = self.certify(&key, alternatives, &usages, ttl, now)?;
        Ok(ServerCertificate {
            chain_pem: issued.chain.into_iter().next().unwrap_or_default(),
            key: PrivateKey::from_pkcs8(pkcs8.to_vec()),
            not_before: issued.not_before,
            not_after: issued.not_after,
        })
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        names: Vec<SanType>,
        usages: &[ExtendedKeyUsagePurpose],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, SignError> {
        let ttl = if ttl.is_zero() { DEFAULT_TTL } else { ttl };
        if ttl > MAX_TTL {
            return Err(SignError::TtlTooLong(ttl));
        }
        if now >= self.not_after {
            return Err(SignError::RootExpired);
        }
        let not_before = whole_seconds(now - BACKDATE.0.min(ttl / BACKDATE.1));
        let not_after = whole_seconds((now + ttl).min(self.not_after));
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
            .signed_by(key, &self.issuer)
            .map_err(|error| SignError::Internal(error.to_string()))?;
        Ok(Issued {
            chain: vec![normal(&certificate.pem()), self.root_pem.clone()],
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before,
            not_after,
        })
    }

    /// A new root, as the text of its secret file.
    fn generate(now: SystemTime) -> Result<Zeroizing<String>, AuthorityError> {
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
        params.not_after = OffsetDateTime::from(whole_seconds(now + ROOT_LIFE));
        params.serial_number = Some(SerialNumber::from(serial().to_vec()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let mut text = key::to_pem("PRIVATE KEY", &pkcs8);
        text.push_str(&normal(&certificate.pem()));
        Ok(text)
    }

    fn from_pem(text: &str, path: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let bad = |reason: &str| {
            AuthorityError::File(FileError::Content {
                path: path.to_owned(),
                reason: reason.to_owned(),
            })
        };
        let blocks = pem::parse_many(text).map_err(|error| bad(&error.to_string()))?;
        let find = |tag: &str| blocks.iter().find(|block| block.tag() == tag);
        let key = find("PRIVATE KEY")
            .map(|block| Key::from_pkcs8(block.contents()))
            .ok_or_else(|| bad("there is no PRIVATE KEY in it"))?
            .ok_or_else(|| bad("the private key is not an ECDSA P-256 key in PKCS #8"))?;
        let root = find("CERTIFICATE")
            .ok_or_else(|| bad("there is no CERTIFICATE in it"))?
            .contents();
        let (_, parsed) = x509_parser::parse_x509_certificate(root)
            .map_err(|error| bad(&format!("the certificate is malformed: {error}")))?;
        if Some(parsed.public_key().raw) != key.public_der().as_deref() {
            return Err(bad(
                "the private key is not the certificate's; restore the file or delete it",
            ));
        }
        if !parsed.is_ca() {
            return Err(bad("the certificate is not an authority's"));
        }
        let at = |time: x509_parser::time::ASN1Time| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
        };
        let (not_before, not_after) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
        if now < not_before || not_after <= now {
            return Err(AuthorityError::NotValid(path.display().to_string()));
        }
        let root_pem = key::to_pem("CERTIFICATE", root).to_string();
        let issuer = Issuer::from_ca_cert_pem(&root_pem, key).map_err(|error| bad(&error.to_string()))?;
        Ok(Self {
            issuer,
            root_pem,
            not_after,
        })
    }
}

/// 128 random bits, positive and of full length, so that every serial has the same width.
fn serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

/// Certificates count in seconds.
fn whole_seconds(time: SystemTime) -> SystemTime {
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
fn normal(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}

#[cfg(test)]
mod tests;
