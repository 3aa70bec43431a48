//! A new key and the request to certify it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use mesh::Identity;
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SanType, SigningKey};

use crate::PrivateKey;

/// A fresh ECDSA P-256 key with a signing request for it. It has no `Debug`.
pub struct KeyAndRequest {
    /// The private key, wiped when dropped.
    pub key: PrivateKey,
    /// The request in PEM: empty subject, and the identity as critical URI name.
    pub request_pem: String,
}

impl KeyAndRequest {
    /// Makes a key and a request that asks for `identity`.
    ///
    /// # Errors
    /// When the system has no randomness, or the identity cannot be written as a URI.
    pub fn generate(identity: &Identity) -> Result<Self, RequestError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| RequestError::Key)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref())
            .map_err(|_| RequestError::Key)?;
        let mut params = CertificateParams::default();
        // An empty subject makes the alternative name critical: RFC 5280 §4.2.1.6.
        params.distinguished_name = DistinguishedName::new();
        let uri = identity
            .to_string()
            .try_into()
            .map_err(|_| RequestError::Identity(identity.clone()))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let request_pem = params
            .serialize_request(&Signer(pair))
            .and_then(|request| request.pem())
            .map_err(|error| RequestError::Encode(error.to_string()))?;
        Ok(Self {
            key: PrivateKey::from_pkcs8(document.as_ref().to_vec()),
            request_pem,
        })
    }
}

/// Why no request could be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The system gave no key.
    #[error("cannot make a key: the system's random source failed")]
    Key,
    /// The identity has characters a URI name cannot hold.
    #[error("{0} cannot be written into a certificate")]
    Identity(Identity),
    /// The request could not be written.
    #[error("cannot write the signing request: {0}")]
    Encode(String),
}

/// Signs with a key that the library does not keep a copy of.
struct Signer(EcdsaKeyPair);

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self
            .0
            .sign(&SystemRandom::new(), message)
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_ref().to_vec())
    }
}
