use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::failure::{Doing, Outcome};

const HOUR: Duration = Duration::from_secs(3600);

/// A root that signs whatever a check asks for.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub root: String,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Claims {
    /// URI names.
    pub uris: Vec<String>,
    /// Host names and addresses.
    pub hosts: Vec<String>,
    /// What it may be used for.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// The start of its life.
    pub not_before: SystemTime,
    /// The end of its life.
    pub not_after: SystemTime,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Credentials {
    /// The certificate.
    pub leaf: CertificateDer<'static>,
    /// The same, PEM.
    pub leaf_pem: String,
    /// The key, PKCS#8, PEM.
    pub key_pem: String,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Credentials {
    /// The key as rustls wants it.
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Credentials {
            leaf: self.leaf.clone(),
            leaf_pem: self.leaf_pem.clone(),
            key_pem: self.key_pem.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Claims {
    /// A good certificate of a workload: `spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`.
    pub fn workload(namespace: &str, account: &str) -> Claims {
        Claims::uris(&[&spiffe(namespace, account)])
    }

    /// Good but for these names, perhaps.
    pub fn uris(uris: &[&str]) -> Claims {
        let now = SystemTime::now();
        Claims {
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            hosts: Vec::new(),
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            not_before: now - HOUR,
            not_after: now + HOUR,
        }
    }

    /// A server's certificate for these names.
    pub fn hosts(hosts: &[&str]) -> Claims {
        Claims {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..Claims::uris(&[])
        }
    }

    /// Its life is over.
    pub fn expired(mut self) -> Claims {
        self.not_after = SystemTime::now() - HOUR / 2;
        self
    }

    /// Its life has not begun.
    pub fn early(mut self) -> Claims {
        self.not_before = SystemTime::now() + HOUR / 2;
        self
    }

    /// For this purpose only.
    pub fn only_for(mut self, usage: ExtendedKeyUsagePurpose) -> Claims {
        self.usages = vec![usage];
        self
    }
}

/// The SPIFFE identity of a service account in the trust domain of the suite.
pub fn spiffe(namespace: &str, account: &str) -> String {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

impl Authority {
    /// A new root.
    pub fn new(name: &str) -> Outcome<Authority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key)?.pem();
        Ok(Authority {
            issuer: Issuer::new(params, key),
            root,
        })
    }

    /// Makes a key and signs a certificate for it.
    pub fn sign(&self, claims: &Claims) -> Outcome<Credentials> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(claims.hosts.clone())?;
        params.distinguished_name = DistinguishedName::new();
        for uri in &claims.uris {
            params
                .subject_alt_names
                .push(SanType::URI(uri.as_str().try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = claims.usages.clone();
        params.not_before = claims.not_before.into();
        params.not_after = claims.not_after.into();
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Credentials {
            leaf: certificate.der().clone(),
            leaf_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der().into(),
        })
    }

    /// Signs the key of a request, for this long from now, with its own names or with another in their place. PEM in, PEM
    /// out.
    pub fn sign_request(&self, request: &str, life: Duration, other_name: Option<&str>) -> Outcome<String> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request).doing("reading a signing request")?;
        let now = SystemTime::now();
        request.params.not_before = now.into();
        request.params.not_after = (now + life).into();
        if let Some(name) = other_name {
            request.params.subject_alt_names = vec![SanType::URI(name.try_into()?)];
        }
        request.params.is_ca = IsCa::NoCa;
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Ok(request.signed_by(&self.issuer)?.pem())
    }
}
