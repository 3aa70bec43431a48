use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SanType, SignatureAlgorithm};

use super::{CsrError, MAX_CSR_BYTES, public_key};

fn request(algorithm: &'static SignatureAlgorithm) -> (String, KeyPair) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI("spiffe://a/ns/b/sa/c".try_into().unwrap())];
    (params.serialize_request(&key).unwrap().pem().unwrap(), key)
}

#[test]
fn elliptic_keys_are_taken() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let (pem, key) = request(algorithm);
        assert_eq!(public_key(&pem).unwrap().der_bytes(), key.der_bytes());
        let renamed = pem.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
        assert!(public_key(&renamed).is_ok());
    }
}

#[test]
fn other_keys_are_refused() {
    for algorithm in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ED25519] {
        let (pem, _) = request(algorithm);
        assert_eq!(public_key(&pem).unwrap_err(), CsrError::Key);
    }
}

#[test]
fn a_request_not_signed_by_its_own_key_is_refused() {
    let (pem, _) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut der = pem::parse(&pem).unwrap().into_contents();
    // Somebody else's key in place of the signer's: the public point lies behind its fixed header.
    let point = der.windows(2).position(|bytes| bytes == [0x00, 0x04]).unwrap() + 2;
    let (other, _) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
    let other = pem::parse(&other).unwrap().into_contents();
    let from = other.windows(2).position(|bytes| bytes == [0x00, 0x04]).unwrap() + 2;
    der[point..point + 64].copy_from_slice(&other[from..from + 64]);
    let forged = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
    assert_eq!(public_key(&forged).unwrap_err(), CsrError::Signature);
}

#[test]
fn what_is_no_request_is_refused() {
    let (pem, key) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
    let malformed = |text: &str| matches!(public_key(text), Err(CsrError::Malformed(_)));
    assert!(malformed(""));
    assert!(malformed("hello"));
    assert!(malformed(&key.serialize_pem()));
    assert!(malformed(&pem.replace("CERTIFICATE REQUEST", "CERTIFICATE")));
    assert!(malformed(
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
    ));
    let mut longer = pem::parse(&pem).unwrap().into_contents();
    longer.push(0);
    assert!(malformed(&pem::encode(&pem::Pem::new(
        "CERTIFICATE REQUEST",
        longer
    ))));
    assert_eq!(
        public_key(&"x".repeat(MAX_CSR_BYTES + 1)).unwrap_err(),
        CsrError::TooLong(MAX_CSR_BYTES + 1)
    );
}
