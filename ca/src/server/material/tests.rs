use std::time::Duration;

use mesh::Identity;
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use tls::{KeyAndRequest, WorkloadCertificate};
use zeroize::Zeroizing;

use super::{Material, MaterialError};
use crate::server::authority::{Authority, sign};
use crate::server::stored::KeyAndCertificate;
use crate::server::testing::{TestCa, Wish, now};

const HOUR: Duration = Duration::from_secs(3600);

fn identity() -> Identity {
    Identity::new("cluster.local", "demo", "client")
}

fn root() -> TestCa {
    TestCa::new("root", None, Wish::default())
}

fn refusal(signing: &KeyAndCertificate, chain: &str, roots: &str) -> MaterialError {
    Material::new(signing, chain, roots, now()).err().unwrap()
}

#[test]
fn an_intermediate_signs_what_holders_of_the_root_accept() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let root = root();
        let middle = TestCa::new("middle", Some(&root), Wish::default());
        let wish = Wish {
            algorithm,
            path_length: Some(0),
            subject: vec![(DnType::OrganizationName, "Bäcker & Söhne".to_owned())],
            ..Wish::default()
        };
        let issuing = TestCa::new("issuing", Some(&middle), wish);
        // The chain in any order, with a copy of the root and of the issuing certificate, as several tools write it.
        let chain = format!("{}{}{}", root.pem, issuing.pem, middle.pem);
        let material = Material::new(&issuing.signing(), &chain, &root.pem, now()).unwrap();
        assert_eq!(material.intermediates().len(), 2);
        let made = KeyAndRequest::generate(&identity()).unwrap();
        let issued = sign(&material, &made.request_pem, &identity(), HOUR, now().into()).unwrap();
        assert_eq!(issued.chain.len(), 4);
        let usable = WorkloadCertificate::from_pem(&issued.chain, &made.key, &identity()).unwrap();
        assert_eq!(usable.roots_pem().len(), 1);
        // Also a server's own certificate carries the way.
        let server = Authority::new(material)
            .issue_server_certificate(&["istiod.istio-system.svc".to_owned()], HOUR, now())
            .unwrap();
        assert_eq!(server.chain_pem.matches("BEGIN CERTIFICATE").count(), 3);
    }
}

#[test]
fn nothing_lives_longer_than_what_is_above_it() {
    let root = root();
    let short = Wish {
        days: 2,
        ..Wish::default()
    };
    let middle = TestCa::new("middle", Some(&root), short);
    let issuing = TestCa::new("issuing", Some(&middle), Wish::default());
    let material = Material::new(&issuing.signing(), &middle.pem, &root.pem, now()).unwrap();
    assert_eq!(material.not_after(), now() + 48 * HOUR);
    let request = KeyAndRequest::generate(&identity()).unwrap().request_pem;
    let issued = sign(&material, &request, &identity(), 90 * 24 * HOUR, now().into()).unwrap();
    assert_eq!(issued.not_after, now() + 48 * HOUR);
}

#[test]
fn what_cannot_sign_is_refused_by_name() {
    let (root, other) = (root(), TestCa::new("other root", None, Wish::default()));
    let issuing = TestCa::new("issuing", Some(&root), Wish::default());
    let signing = issuing.signing();
    let with_key = |key: &str| KeyAndCertificate {
        key: Zeroizing::new(key.to_owned()),
        certificate: issuing.pem.clone(),
    };
    assert!(Material::new(&signing, "", &root.pem, now()).is_ok());
    assert_eq!(
        refusal(&with_key(&other.key_pem()), "", &root.pem),
        MaterialError::KeyMismatch
    );
    // Half-written: every prefix of the key.
    let key = issuing.key_pem();
    for cut in [0, 10, key.len() / 2, key.len() - 10] {
        let error = refusal(&with_key(&key[..cut]), "", &root.pem);
        assert!(matches!(error, MaterialError::Key(_)), "{cut}: {error}");
    }
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(
        refusal(&with_key(&encrypted), "", &root.pem)
            .to_string()
            .contains("passphrase")
    );
    let cut = KeyAndCertificate {
        certificate: issuing.pem[..issuing.pem.len() / 2].to_owned(),
        ..signing.clone()
    };
    assert!(matches!(
        refusal(&cut, "", &root.pem),
        MaterialError::Certificates { .. }
    ));
    assert!(matches!(
        refusal(&signing, "", ""),
        MaterialError::Certificates {
            part: "bundle of roots",
            ..
        }
    ));
    assert_eq!(
        refusal(&signing, "", &other.pem),
        MaterialError::NoRoot("CN=issuing".to_owned())
    );

    let leaf = TestCa::new(
        "leaf",
        Some(&root),
        Wish {
            is_ca: false,
            ..Wish::default()
        },
    );
    assert_eq!(
        refusal(&leaf.signing(), "", &root.pem),
        MaterialError::NotAnAuthority("CN=leaf".to_owned())
    );
    let ended = TestCa::new(
        "ended",
        Some(&root),
        Wish {
            days: 0,
            ..Wish::default()
        },
    );
    assert!(matches!(
        refusal(&ended.signing(), "", &root.pem),
        MaterialError::NotValid { .. }
    ));
    assert!(Material::new(&ended.signing(), "", &root.pem, now() - HOUR / 2).is_ok());
    let none_below = TestCa::new(
        "short",
        None,
        Wish {
            path_length: Some(0),
            ..Wish::default()
        },
    );
    let below = TestCa::new("below", Some(&none_below), Wish::default());
    assert_eq!(
        refusal(&below.signing(), "", &none_below.pem),
        MaterialError::PathLength("CN=short".to_owned())
    );
}

#[test]
fn what_peers_would_refuse_is_found_at_once() {
    let root = root();
    // For e-mail only: no verifier takes a TLS certificate from it.
    let mail = Wish {
        change: |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection],
        ..Wish::default()
    };
    let mail = TestCa::new("mail", Some(&root), mail);
    let error = refusal(&mail.signing(), "", &root.pem);
    assert!(matches!(error, MaterialError::Refused(_)), "{error}");
}

#[test]
fn the_fingerprint_tells_bundles_apart() {
    let (root, other) = (root(), TestCa::new("other root", None, Wish::default()));
    let of = |roots: &str| {
        let material = Material::new(&root.signing(), "", roots, now()).unwrap();
        material.fingerprint().to_owned()
    };
    let both = format!("{}{}", root.pem, other.pem);
    assert_eq!(of(&root.pem), of(&format!("\n{}\n{}", root.pem, root.pem)));
    assert_ne!(of(&root.pem), of(&both));
    assert_eq!(
        Material::new(&root.signing(), "", &both, now())
            .unwrap()
            .roots()
            .len(),
        2
    );
}
