//! Authorities of every kind for tests.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::stored::KeyAndCertificate;

pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// An authority's certificate, and who signs with it.
pub(super) struct TestCa {
    pub(super) pem: String,
    key: KeyPair,
}

/// How it is to be.
pub(super) struct Wish {
    pub(super) algorithm: &'static rcgen::SignatureAlgorithm,
    pub(super) is_ca: bool,
    pub(super) path_length: Option<u8>,
    pub(super) days: u64,
    pub(super) subject: Vec<(DnType, String)>,
    pub(super) change: fn(&mut CertificateParams),
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
            is_ca: true,
            path_length: None,
            days: 100,
            subject: Vec::new(),
            change: |_| (),
        }
    }
}

impl TestCa {
    pub(super) fn new(name: &str, parent: Option<&TestCa>, wish: Wish) -> Self {
        let key = KeyPair::generate_for(wish.algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        for (kind, value) in wish.subject {
            params.distinguished_name.push(kind, value);
        }
        params.is_ca = match (wish.is_ca, wish.path_length) {
            (false, _) => IsCa::ExplicitNoCa,
            (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
            (true, Some(length)) => IsCa::Ca(BasicConstraints::Constrained(length)),
        };
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::from(now() - Duration::from_secs(3600));
        params.not_after = OffsetDateTime::from(now() + Duration::from_secs(wish.days * 86_400));
        (wish.change)(&mut params);
        let certificate = match parent {
            None => params.self_signed(&key),
            Some(parent) => {
                let issuer = Issuer::from_ca_cert_pem(&parent.pem, &parent.key).unwrap();
                params.signed_by(&key, &issuer)
            }
        };
        Self {
            pem: certificate.unwrap().pem(),
            key,
        }
    }

    pub(super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(super) fn signing(&self) -> KeyAndCertificate {
        KeyAndCertificate {
            key: Zeroizing::new(self.key_pem()),
            certificate: self.pem.clone(),
        }
    }
}

/// Parts by name.
pub(super) fn parts(list: &[(&str, &str)]) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let part = |(name, text): &(&str, &str)| ((*name).to_owned(), Zeroizing::new(text.as_bytes().to_vec()));
    list.iter().map(part).collect()
}
