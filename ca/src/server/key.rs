//! An ECDSA P-256 key that signs certificates, kept in one place in memory.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rcgen::{PublicKeyData, SigningKey};
use zeroize::Zeroizing;

/// A key pair. It has no `Debug`.
pub(super) struct Key {
    pair: EcdsaKeyPair,
}

impl Key {
    /// A new key, with its PKCS #8 form to be stored.
    pub(super) fn generate() -> Option<(Self, Zeroizing<Vec<u8>>)> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).ok()?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Some((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    /// Reads PKCS #8; `None` when it is not a P-256 key.
    pub(super) fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?;
        Some(Self { pair })
    }

    /// The public key as SubjectPublicKeyInfo, in DER.
    pub(super) fn public_der(&self) -> Option<Vec<u8>> {
        Some(self.pair.public_key().as_der().ok()?.as_ref().to_vec())
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message)
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// PKCS #8 as PEM.
pub(super) fn to_pem(tag: &str, der: &[u8]) -> Zeroizing<String> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Zeroizing::new(pem::encode_config(&pem::Pem::new(tag, der), config))
}
