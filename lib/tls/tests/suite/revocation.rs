//! Revoked certificates: the peer's own and the ones above it, as client and as server, before and after the
//! handshake.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use tls::{
    CompliancePolicy, ConfigCache, HandshakeError, Peer, PrivateKey, Revocation, RevocationLists, Trust,
    WorkloadCertificate,
};
use tokio::io::duplex;

use crate::support::{HOUR, id};

/// A root, an authority below it, and leaves below that.
struct Pki {
    root: Signer,
    middle: Signer,
}

struct Signer {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    fn new(name: &str, serial: u64, above: Option<&Self>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer),
            None => params.self_signed(&key),
        };
        Self {
            certificate: certificate.unwrap().der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A list in PEM that names `serials` and is current until `next_update`.
    fn list(&self, serials: &[u64], next_update: SystemTime) -> String {
        let then = OffsetDateTime::from(SystemTime::now() - 3 * HOUR);
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: then,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: then,
            next_update: next_update.into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn pem(der: &CertificateDer<'_>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der.as_ref()))
}

impl Pki {
    const MIDDLE: u64 = 77;

    fn new() -> Self {
        let root = Signer::new("root", 1, None);
        let middle = Signer::new("middle", Self::MIDDLE, Some(&root));
        Self { root, middle }
    }

    fn leaf(&self, account: &str, serial: u64) -> WorkloadCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(serial));
        params.subject_alt_names = vec![SanType::URI(id(account).to_string().try_into().unwrap())];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.not_before = (SystemTime::now() - HOUR).into();
        params.not_after = (SystemTime::now() + HOUR).into();
        let leaf = params.signed_by(&key, &self.middle.issuer).unwrap();
        let chain = [
            leaf.pem(),
            pem(&self.middle.certificate),
            pem(&self.root.certificate),
        ];
        let key = PrivateKey::from_pkcs8(key.serialize_der());
        WorkloadCertificate::from_pem(&chain, &key, &id(account)).unwrap()
    }
}

fn lists(texts: &[String]) -> RevocationLists {
    RevocationLists::parse(texts.iter().map(|text| text.as_bytes())).unwrap()
}

fn tomorrow() -> SystemTime {
    SystemTime::now() + 24 * HOUR
}

/// What a client that holds `client` and believes `of_client` sees, and a server likewise.
async fn meet(
    client: (&WorkloadCertificate, &Trust),
    server: (&WorkloadCertificate, &Trust),
) -> (Result<Peer, HandshakeError>, Result<Peer, HandshakeError>) {
    let cache = |trust: &Trust| ConfigCache::with(trust.clone(), CompliancePolicy::None);
    let accepted = [server.0.identity().clone()];
    let client = cache(client.1).client(client.0, &accepted);
    let server = cache(server.1).server(server.0);
    let (a, b) = duplex(1 << 16);
    let (client, server) = tokio::join!(tls::connect(a, &client), tls::accept(b, &server));
    (client.map(|(_, peer)| peer), server.map(|(_, peer)| peer))
}

fn trusting(revocation: Revocation) -> Trust {
    let trust = Trust::default();
    trust.set_revocation(revocation);
    trust
}

#[tokio::test]
async fn a_revoked_peer_is_refused_in_either_role_and_told_so() {
    let pki = Pki::new();
    let (good, bad) = (pki.leaf("good", 10), pki.leaf("bad", 11));
    let revoked = lists(&[pki.middle.list(&[11], tomorrow())]);
    let unaware = Trust::default();
    for revocation in [Revocation::Listed(revoked.clone()), Revocation::Required(revoked)] {
        let aware = trusting(revocation);
        let (_, server) = meet((&bad, &unaware), (&good, &aware)).await;
        assert_eq!(server.unwrap_err(), HandshakeError::CertificateRevoked);
        let (client, server) = meet((&good, &aware), (&bad, &unaware)).await;
        assert_eq!(client.unwrap_err().code(), "cert_revoked");
        assert_eq!(server.unwrap_err().code(), "peer_alert_certificate_revoked");
    }
}

#[tokio::test]
async fn an_authority_in_the_chain_that_was_revoked_takes_its_leaves_with_it() {
    let pki = Pki::new();
    let leaf = pki.leaf("a", 10);
    let other = Pki::new().leaf("b", 10);
    let aware = trusting(Revocation::Listed(lists(&[pki
        .root
        .list(&[Pki::MIDDLE], tomorrow())])));
    // The server trusts both roots.
    let both = format!("{}{}", leaf.roots_pem().concat(), other.roots_pem().concat());
    aware.set_roots(tls::Roots::from_pem(&both).unwrap());
    let unaware = Trust::default();
    unaware.set_roots(tls::Roots::from_pem(&both).unwrap());
    let (_, server) = meet((&leaf, &unaware), (&other, &aware)).await;
    assert_eq!(server.unwrap_err(), HandshakeError::CertificateRevoked);
    let (_, server) = meet((&other, &unaware), (&leaf, &aware)).await;
    assert!(
        server.is_ok(),
        "another authority of the same name is not revoked"
    );
}

#[tokio::test]
async fn of_several_lists_under_one_name_each_counts_for_its_own_key() {
    let pki = Pki::new();
    let (a, b) = (pki.leaf("a", 10), pki.leaf("b", 11));
    let impostor = Signer::new("middle", 5, None);
    let foreign = impostor.list(&[10, 11], tomorrow());
    let own = pki.middle.list(&[11], tomorrow());
    let (older, of_root) = (pki.middle.list(&[], tomorrow()), pki.root.list(&[], tomorrow()));
    for texts in [
        [foreign.clone(), older.clone(), own.clone(), of_root.clone()],
        [own.clone(), foreign.clone(), of_root.clone(), older.clone()],
    ] {
        for revocation in [
            Revocation::Listed(lists(&texts)),
            Revocation::Required(lists(&texts)),
        ] {
            let aware = trusting(revocation);
            let (_, server) = meet((&a, &Trust::default()), (&b, &aware)).await;
            assert!(server.is_ok(), "{:?}", server.err());
            let (_, server) = meet((&b, &Trust::default()), (&a, &aware)).await;
            assert_eq!(server.unwrap_err(), HandshakeError::CertificateRevoked);
        }
    }
    // All in one file.
    let texts = [foreign + &older + &own];
    let aware = trusting(Revocation::Listed(lists(&texts)));
    let (_, server) = meet((&b, &Trust::default()), (&a, &aware)).await;
    assert_eq!(server.unwrap_err(), HandshakeError::CertificateRevoked);
}

#[tokio::test]
async fn lists_in_der_are_read_too() {
    let pki = Pki::new();
    let (a, b) = (pki.leaf("a", 10), pki.leaf("b", 11));
    let der = pem::parse(pki.middle.list(&[11], tomorrow()))
        .unwrap()
        .into_contents();
    let aware = trusting(Revocation::Listed(RevocationLists::parse([&der[..]]).unwrap()));
    let (_, server) = meet((&b, &Trust::default()), (&a, &aware)).await;
    assert_eq!(server.unwrap_err(), HandshakeError::CertificateRevoked);
}

#[tokio::test]
async fn an_expired_list_counts_unless_a_current_one_is_required() {
    let pki = Pki::new();
    let (a, b) = (pki.leaf("a", 10), pki.leaf("b", 11));
    let past = SystemTime::now() - Duration::from_secs(60);
    let expired = lists(&[pki.middle.list(&[11], past), pki.root.list(&[], tomorrow())]);
    let aware = trusting(Revocation::Listed(expired.clone()));
    let (_, server) = meet((&b, &Trust::default()), (&a, &aware)).await;
    assert_eq!(server.unwrap_err(), HandshakeError::CertificateRevoked);
    let (_, server) = meet((&a, &Trust::default()), (&b, &aware)).await;
    assert!(server.is_ok());
    let aware = trusting(Revocation::Required(expired));
    let (_, server) = meet((&a, &Trust::default()), (&b, &aware)).await;
    let error = server.unwrap_err();
    assert_eq!(error.code(), "revocation_unknown");
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn where_lists_are_required_the_whole_chain_must_be_covered() {
    let pki = Pki::new();
    let (a, b) = (pki.leaf("a", 10), pki.leaf("b", 11));
    let (of_middle, of_root) = (pki.middle.list(&[], tomorrow()), pki.root.list(&[], tomorrow()));
    for texts in [vec![of_middle.clone()], vec![of_root.clone()]] {
        let (_, server) = meet(
            (&a, &Trust::default()),
            (&b, &trusting(Revocation::Required(lists(&texts)))),
        )
        .await;
        assert_eq!(server.unwrap_err().code(), "revocation_unknown");
        let (_, server) = meet(
            (&a, &Trust::default()),
            (&b, &trusting(Revocation::Listed(lists(&texts)))),
        )
        .await;
        assert!(server.is_ok());
    }
    let aware = trusting(Revocation::Required(lists(&[of_middle, of_root])));
    let (client, server) = meet((&a, &aware), (&b, &aware)).await;
    assert!(client.is_ok() && server.is_ok());
    aware.set_revocation(Revocation::Closed("no list was read".into()));
    let (client, _) = meet((&a, &aware), (&b, &aware)).await;
    let error = client.unwrap_err();
    assert!(error.to_string().contains("no list was read"), "{error}");
}

#[tokio::test]
async fn a_peer_proven_before_it_was_revoked_is_found() {
    let pki = Pki::new();
    let (a, b) = (pki.leaf("a", 10), pki.leaf("b", 11));
    let (of_client, of_server) = (Trust::default(), Trust::default());
    let (seen_by_client, seen_by_server) = meet((&a, &of_client), (&b, &of_server)).await;
    let (seen_by_client, seen_by_server) = (seen_by_client.unwrap(), seen_by_server.unwrap());
    let mut changes = of_server.changes();
    let list = Revocation::Listed(lists(&[pki.middle.list(&[10], tomorrow())]));
    for trust in [&of_client, &of_server] {
        assert_eq!(trust.recheck(&seen_by_client), Ok(()));
        trust.set_revocation(list.clone());
    }
    assert!(changes.next().await);
    assert_eq!(
        of_server.recheck(&seen_by_server),
        Err(HandshakeError::CertificateRevoked)
    );
    assert_eq!(of_client.recheck(&seen_by_client), Ok(()));
    // Taken back from the list, it is good again.
    of_server.set_revocation(Revocation::Unchecked);
    assert_eq!(of_server.recheck(&seen_by_server), Ok(()));
    // And a root that goes takes those below it with it.
    of_server.set_roots(tls::Roots::from_pem(&Pki::new().leaf("x", 1).roots_pem().concat()).unwrap());
    assert_eq!(
        of_server.recheck(&seen_by_server),
        Err(HandshakeError::UntrustedIssuer)
    );
}

#[tokio::test]
async fn a_chain_that_is_too_long_is_refused() {
    let mut signer = Signer::new("root", 1, None);
    let root = pem(&signer.certificate);
    let mut above = Vec::new();
    for number in 0..9 {
        signer = Signer::new(&format!("level {number}"), 2 + number, Some(&signer));
        above.insert(0, pem(&signer.certificate));
    }
    let pki = Pki {
        root: Signer::new("unused", 1, None),
        middle: signer,
    };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id("long").to_string().try_into().unwrap())];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.not_before = (SystemTime::now() - HOUR).into();
    params.not_after = (SystemTime::now() + HOUR).into();
    let leaf = params.signed_by(&key, &pki.middle.issuer).unwrap();
    let key = PrivateKey::from_pkcs8(key.serialize_der());
    // The last authority is left out: what we show ourselves may not be longer than the library verifies.
    let chain: Vec<String> = std::iter::once(leaf.pem()).chain(above).chain([root]).collect();
    match WorkloadCertificate::from_pem(&chain, &key, &id("long")) {
        // The library has a limit of its own for the paths that it builds.
        Err(error) => assert!(error.to_string().contains("does not lead"), "{error}"),
        Ok(long) => {
            let (_, server) = meet((&long, &Trust::default()), (&long, &Trust::default())).await;
            assert_eq!(server.unwrap_err().code(), "bad_certificate");
        }
    }
}

#[test]
fn whoever_holds_a_revoked_certificate_sees_it() {
    let pki = Pki::new();
    let own = pki.leaf("own", 10);
    let by = |signer: &Signer, serials: &[u64]| lists(&[signer.list(serials, tomorrow())]);
    let past = SystemTime::now() - HOUR;
    for (is_revoked, revocation) in [
        (false, Revocation::Unchecked),
        (false, Revocation::Closed("none could be read".into())),
        (false, Revocation::Listed(by(&pki.middle, &[11]))),
        (true, Revocation::Listed(by(&pki.middle, &[10]))),
        (true, Revocation::Listed(lists(&[pki.middle.list(&[10], past)]))),
        // Where lists are required too: that none covers it says nothing of it.
        (false, Revocation::Required(by(&pki.middle, &[11]))),
        (true, Revocation::Required(by(&pki.middle, &[10]))),
        // The one above it, and a number that another authority has given.
        (true, Revocation::Listed(by(&pki.root, &[Pki::MIDDLE]))),
        (false, Revocation::Listed(by(&pki.root, &[10]))),
        // Under the same name, and signed by another key.
        (false, Revocation::Listed(by(&Pki::new().middle, &[10]))),
    ] {
        let shown = format!("{revocation:?}");
        assert_eq!(own.is_revoked_by(&trusting(revocation)), is_revoked, "{shown}");
    }
    // What the control plane tells counts, and so does what was told while roots are others.
    let trust = Trust::default();
    trust.set_roots(Pki::new().leaf("other", 12).roots().clone());
    trust.set_told_revocation(by(&pki.middle, &[10]));
    assert!(own.is_revoked_by(&trust));
}
