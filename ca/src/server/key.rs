//! Private keys that sign certificates and tokens, kept in one place in memory.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use rcgen::{PublicKeyData, SigningKey};
use zeroize::Zeroizing;

/// The smallest RSA key that signs here, in bytes: 2048 bits, as peers demand too.
const MIN_RSA_BYTES: usize = 256;

/// A key pair. It has no `Debug`.
pub(super) struct Key {
    pair: Pair,
}

enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

impl Key {
    /// A new P-256 key, with its PKCS #8 form to be stored.
    pub(super) fn generate() -> Option<(Self, Zeroizing<Vec<u8>>)> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).ok()?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Some((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    /// Reads PKCS #8; `None` when it is not a P-256 key.
    pub(super) fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?;
        Some(Self {
            pair: Pair::P256(pair),
        })
    }

    /// Reads a PEM text with one private key: ECDSA P-256 or P-384, or RSA; PKCS #8, SEC 1 or PKCS #1.
    ///
    /// # Errors
    /// In words that never repeat the text.
    pub(super) fn from_pem(text: &str) -> Result<Self, &'static str> {
        let blocks = pem::parse_many(text).map_err(|_| "it is not PEM; it may be cut off")?;
        let mut keys = blocks
            .into_iter()
            .filter(|block| block.tag().ends_with("PRIVATE KEY"));
        let (Some(block), None) = (keys.next(), keys.next()) else {
            return Err("there must be exactly one PRIVATE KEY in it");
        };
        if block.tag() == "ENCRYPTED PRIVATE KEY" {
            return Err("it is encrypted; store it without a passphrase");
        }
        let der = Zeroizing::new(block.into_contents());
        Self::from_der(&der)
            .ok_or("it is neither an ECDSA P-256 or P-384 key nor an RSA key of at least 2048 bits")
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let ecdsa = |algorithm| EcdsaKeyPair::from_private_key_der(algorithm, der);
        let pair = if let Ok(pair) = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING) {
            Pair::P256(pair)
        } else if let Ok(pair) = ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING) {
            Pair::P384(pair)
        } else {
            let pair = rsa::KeyPair::from_pkcs8(der).or_else(|_| rsa::KeyPair::from_der(der));
            Pair::Rsa(
                pair.ok()
                    .filter(|pair| pair.public_modulus_len() >= MIN_RSA_BYTES)?,
            )
        };
        Some(Self { pair })
    }

    /// The public key as SubjectPublicKeyInfo, in DER.
    pub(super) fn public_der(&self) -> Option<Vec<u8>> {
        let der = match &self.pair {
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        };
        Some(der.ok()?.as_ref().to_vec())
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        match &self.pair {
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match &self.pair {
            Pair::P256(_) => &rcgen::PKCS_ECDSA_P256_SHA256,
            Pair::P384(_) => &rcgen::PKCS_ECDSA_P384_SHA384,
            Pair::Rsa(_) => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let random = SystemRandom::new();
        let failed = |_| rcgen::Error::RemoteKeyError;
        match &self.pair {
            Pair::P256(pair) | Pair::P384(pair) => {
                let signature = pair.sign(&random, message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// PKCS #8 as PEM.
pub(super) fn to_pem(tag: &str, der: &[u8]) -> Zeroizing<String> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Zeroizing::new(pem::encode_config(&pem::Pem::new(tag, der), config))
}
