use std::time::SystemTime;

use mesh::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use tls::{PrivateKey, WorkloadCertificate};

/// A root that signs workload certificates for the time of one bench.
pub struct Mesh {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
}

impl Mesh {
    /// A new root.
    ///
    /// # Panics
    /// When the cryptography fails: a bench cannot go on without.
    pub fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut params = validity(CertificateParams::default());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_pem = params.self_signed(&key).expect("a root certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            root_pem,
        }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self::new()
    }
}

/// A certificate for one workload.
///
/// # Panics
/// When it cannot be made: a bench cannot go on without.
pub fn workload(mesh: &Mesh, name: &str) -> WorkloadCertificate {
    let identity = Identity::new("cluster.local", "bench", name);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut params = validity(CertificateParams::default());
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(
        identity.to_string().try_into().expect("an ASCII name"),
    )];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let leaf = params.signed_by(&key, &mesh.issuer).expect("a certificate").pem();
    let key = PrivateKey::from_pkcs8(key.serialize_der());
    WorkloadCertificate::from_pem(&[leaf, mesh.root_pem.clone()], &key, &identity)
        .expect("the certificate is accepted")
}

fn validity(mut params: CertificateParams) -> CertificateParams {
    let now = time::OffsetDateTime::from(SystemTime::now());
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::hours(1);
    params
}
