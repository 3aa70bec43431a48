use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use mesh::Identity;
use tls::{KeyAndRequest, WorkloadCertificate};
use x509_parser::extensions::GeneralName;

use super::{Authority, AuthorityError, DEFAULT_TTL, Issued, MAX_TTL, SignError};
use crate::server::clock::SettledClock;
use crate::server::files::FileError;
use crate::server::material::{Material, MaterialError};
use crate::server::stored::{KeyAndCertificate, StoredAuthority};

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn identity() -> Identity {
    Identity::new("cluster.local", "demo", "client")
}

fn authority() -> Authority {
    Authority::load_or_create(tempfile::tempdir().unwrap().path(), now()).unwrap()
}

fn sign(authority: &Authority, ttl: Duration) -> Result<Issued, SignError> {
    let request = KeyAndRequest::generate(&identity()).unwrap().request_pem;
    authority.sign(&request, &identity(), ttl, now())
}

/// The life of a certificate, as written in it.
fn life(pem: &str) -> (SystemTime, SystemTime) {
    let der = pem::parse(pem).unwrap().into_contents();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let at = |time: x509_parser::time::ASN1Time| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(time.timestamp() as u64)
    };
    (at(parsed.validity().not_before), at(parsed.validity().not_after))
}

#[test]
fn the_profile_of_a_workloads_certificate() {
    let authority = authority();
    // The request asks for somebody else; that is not looked at.
    let other = Identity::new("cluster.local", "kube-system", "admin");
    let made = KeyAndRequest::generate(&other).unwrap();
    let issued = authority
        .sign(&made.request_pem, &identity(), HOUR, now())
        .unwrap();
    assert_eq!(issued.chain.len(), 2);
    assert_eq!(issued.chain[1], authority.root_pem());

    let der = pem::parse(&issued.chain[0]).unwrap().into_contents();
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical);
    assert_eq!(
        names.value.general_names,
        [GeneralName::URI("spiffe://cluster.local/ns/demo/sa/client")]
    );
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert_eq!(usage.value.flags, 1, "digitalSignature alone");
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any && !extended.code_signing);
    assert!(extended.other.is_empty());
    let basic = leaf.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca);
    let serial = leaf.tbs_certificate.raw_serial();
    assert_eq!(serial.len(), 16);
    assert_eq!(
        serial
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
        issued.serial
    );
    assert_eq!((issued.not_before, issued.not_after), life(&issued.chain[0]));

    let root = pem::parse(&issued.chain[1]).unwrap().into_contents();
    let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
    assert!(root.is_ca());
    assert_eq!(leaf.issuer(), root.subject());
    leaf.verify_signature(Some(root.public_key())).unwrap();
    root.verify_signature(None).unwrap();

    // And it is what a proxy accepts as its own.
    let usable = WorkloadCertificate::from_pem(&issued.chain, &made.key, &identity()).unwrap();
    assert_eq!(usable.serial(), issued.serial);
}

#[test]
fn serials_are_never_the_same() {
    let authority = authority();
    let serials: std::collections::BTreeSet<_> =
        (0..50).map(|_| sign(&authority, HOUR).unwrap().serial).collect();
    assert_eq!(serials.len(), 50);
}

#[test]
fn lives() {
    let authority = authority();
    for (asked, life_given, backdated) in [
        (Duration::ZERO, DEFAULT_TTL, 120),
        (HOUR, HOUR, 120),
        (Duration::from_secs(1200), Duration::from_secs(1200), 120),
        (Duration::from_secs(600), Duration::from_secs(600), 60),
        (Duration::from_secs(10), Duration::from_secs(10), 1),
        (MAX_TTL, MAX_TTL, 120),
    ] {
        let issued = sign(&authority, asked).unwrap();
        let (not_before, not_after) = life(&issued.chain[0]);
        assert_eq!(not_after, now() + life_given, "{asked:?}");
        assert_eq!(not_before, now() - Duration::from_secs(backdated), "{asked:?}");
    }
    let too_long = MAX_TTL + Duration::from_secs(1);
    assert_eq!(
        sign(&authority, too_long).unwrap_err(),
        SignError::TtlTooLong(too_long)
    );
}

#[test]
fn while_the_time_is_in_doubt_a_certificate_is_valid_at_each_of_them_and_never_too_long() {
    let authority = authority();
    let request = KeyAndRequest::generate(&identity()).unwrap().request_pem;
    let began = std::time::Instant::now();
    for (hours, ttl) in [(14, HOUR), (-14, HOUR), (14, MAX_TTL), (24 * 30, HOUR)] {
        let mut clock = SettledClock::new(HOUR, now() + 20 * HOUR, began);
        clock.heard(now() + 20 * HOUR, now() + 20 * HOUR, began);
        let truth = now() + 20 * HOUR;
        let wall = match u32::try_from(hours) {
            Ok(hours) => truth + hours * HOUR,
            Err(_) => truth - 14 * HOUR,
        };
        let issued = authority
            .sign(&request, &identity(), ttl, clock.look(wall, began))
            .unwrap();
        let (not_before, not_after) = life(&issued.chain[0]);
        assert!(not_before <= truth && not_before <= wall);
        assert!(truth + ttl.min(MAX_TTL - 2 * 24 * HOUR) <= not_after);
        assert!(not_after <= truth + 24 * HOUR + ttl, "by {hours} hours");
        assert!(not_after <= not_before + MAX_TTL + Duration::from_secs(120));
    }
}

/// Others renew in the middle of the life, and would otherwise ask again at once, over and over.
#[test]
fn while_the_time_is_in_doubt_a_good_part_of_the_life_is_left_before_its_middle() {
    let authority = authority();
    let request = KeyAndRequest::generate(&identity()).unwrap().request_pem;
    let began = std::time::Instant::now();
    let truth = now() + 20 * HOUR;
    for ttl in [HOUR, 12 * HOUR, 24 * HOUR] {
        for ahead in [ttl / 2, ttl, 24 * HOUR] {
            let mut clock = SettledClock::new(HOUR, truth, began);
            let moment = clock.look(truth + ahead, began);
            assert!(moment.is_doubtful && moment.likely == truth + ahead);
            let issued = authority.sign(&request, &identity(), ttl, moment).unwrap();
            let (not_before, not_after) = life(&issued.chain[0]);
            assert!(not_before <= truth, "{ttl:?} {ahead:?}");
            let middle = not_before + not_after.duration_since(not_before).unwrap() / 2;
            // Certificates count in seconds.
            let left = middle + Duration::from_secs(1);
            assert!(left >= moment.likely + ttl / 4, "{ttl:?} {ahead:?}");
            assert!(not_after <= moment.likely + 24 * HOUR + ttl, "{ttl:?} {ahead:?}");
        }
    }
}

#[test]
fn a_life_ends_with_the_roots() {
    let authority = authority();
    let late = authority.not_after() - HOUR;
    let request = KeyAndRequest::generate(&identity()).unwrap().request_pem;
    let issued = authority.sign(&request, &identity(), 24 * HOUR, late).unwrap();
    assert_eq!(life(&issued.chain[0]).1, authority.not_after());
    let outcome = authority.sign(&request, &identity(), HOUR, authority.not_after());
    assert_eq!(outcome.unwrap_err(), SignError::RootExpired);
}

#[test]
fn servers_certificates() {
    let authority = authority();
    let names = [
        "istiod.istio-system.svc".to_owned(),
        "10.0.0.1".to_owned(),
        "fd00::1".to_owned(),
    ];
    let made = authority.issue_server_certificate(&names, HOUR, now()).unwrap();
    let der = pem::parse(&made.chain_pem).unwrap().into_contents();
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    let written = &leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(written[0], GeneralName::DNSName("istiod.istio-system.svc"));
    assert_eq!(written[1], GeneralName::IPAddress(&[10, 0, 0, 1]));
    assert_eq!(written.len(), 3);
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth);
    assert!(tls::server_auth::ServerIdentity::from_pem(&made.chain_pem, &made.key).is_ok());
    for bad in ["", "a b", "a\0b", "spiffe://x"] {
        let outcome = authority.issue_server_certificate(&[bad.to_owned()], HOUR, now());
        assert!(matches!(outcome, Err(SignError::Name(_))), "{bad:?}");
    }
}

#[test]
fn the_root_is_made_once_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("ca");
    let first = Authority::load_or_create(&place, now()).unwrap();
    let secret = place.join("root-key.pem");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let public = place.join("root-cert.pem");
    assert_eq!(fs::read_to_string(&public).unwrap(), first.root_pem());
    assert!(!fs::read_to_string(&public).unwrap().contains("PRIVATE"));
    assert_eq!(fs::metadata(&public).unwrap().permissions().mode() & 0o777, 0o644);

    fs::remove_file(&public).unwrap();
    let second = Authority::load_or_create(&place, now() + HOUR).unwrap();
    assert_eq!(second.root_pem(), first.root_pem());
    assert_eq!(second.not_after(), first.not_after());
    assert_eq!(fs::read_to_string(&public).unwrap(), first.root_pem());
    let left: Vec<_> = fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    // Ten years.
    assert!(first.not_after() > now() + 3600 * 24 * HOUR);
    // What the second signs, holders of the first's root accept.
    let made = KeyAndRequest::generate(&identity()).unwrap();
    let issued = second.sign(&made.request_pem, &identity(), HOUR, now()).unwrap();
    let chain = [issued.chain[0].clone(), first.root_pem()];
    assert!(WorkloadCertificate::from_pem(&chain, &made.key, &identity()).is_ok());
}

#[test]
fn many_at_once_agree_on_one_root() {
    let directory = tempfile::tempdir().unwrap();
    let roots: Vec<_> = std::thread::scope(|scope| {
        let load = || {
            Authority::load_or_create(directory.path(), now())
                .unwrap()
                .root_pem()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(roots.iter().all(|root| *root == roots[0]));
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    Authority::load_or_create(directory.path(), now()).unwrap();
    let secret = directory.path().join("root-key.pem");
    for mode in [0o640, 0o604, 0o644] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        let error = Authority::load_or_create(directory.path(), now()).err().unwrap();
        assert!(
            matches!(&error, AuthorityError::File(FileError::Permissions { mode: found, .. }) if *found == mode)
        );
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn a_key_and_certificate_that_do_not_belong_together_are_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Authority::load_or_create(one.path(), now()).unwrap();
    let other = Authority::load_or_create(two.path(), now()).unwrap();
    let secret = one.path().join("root-key.pem");
    let text = fs::read_to_string(&secret).unwrap();
    let key = &text[..text.find("-----BEGIN CERTIFICATE").unwrap()];
    let write = |content: &str| {
        fs::write(&secret, content).unwrap();
        Authority::load_or_create(one.path(), now())
            .err()
            .unwrap()
            .to_string()
    };
    assert!(write(&format!("{key}{}", other.root_pem())).contains("not the certificate's"));
    assert!(write(key).contains("no CERTIFICATE"));
    assert!(write(&other.root_pem()).contains("no PRIVATE KEY"));
    assert!(write("rubbish").contains("root-key.pem"));
    let leaf = sign(&other, HOUR).unwrap().chain.remove(0);
    assert!(write(&format!("{key}{leaf}")).contains("not the certificate's"));
}

#[test]
fn an_ended_root_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(directory.path(), now()).unwrap();
    for when in [authority.not_after(), now() - HOUR] {
        let error = Authority::load_or_create(directory.path(), when).err().unwrap();
        assert!(
            matches!(
                error,
                AuthorityError::Unusable {
                    source: MaterialError::NotValid { .. },
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn what_signs_is_exchanged_while_it_runs() {
    let root = || KeyAndCertificate::generate_root(now(), 240 * HOUR).unwrap();
    let (old, new) = (root(), root());
    let mut stored = StoredAuthority::of(old.clone());
    let material = |stored: &StoredAuthority| Material::of_stored(stored, now()).unwrap();
    let authority = Authority::new(material(&stored));
    let exchanges = authority.exchanges();
    assert!(!authority.replace(material(&stored)), "nothing new");
    assert!(!exchanges.has_changed().unwrap());

    // Announced: the old root signs, both are trusted.
    stored.next = Some(new.clone());
    assert!(authority.replace(material(&stored)));
    assert!(exchanges.has_changed().unwrap());
    let announced = sign(&authority, HOUR).unwrap();
    assert_eq!(announced.chain.len(), 2);
    assert_eq!(
        announced.chain[1],
        format!("{}{}", old.certificate, new.certificate)
    );
    let trusting = |issued: &Issued, roots: &str| {
        let leaf = pem::parse(&issued.chain[0]).unwrap().into_contents();
        let root = pem::parse(roots).unwrap().into_contents();
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
        leaf.verify_signature(Some(root.public_key())).is_ok()
    };
    assert!(trusting(&announced, &old.certificate));

    // Switched: the new one signs, both are trusted still.
    let stored = StoredAuthority {
        previous: Some(old.certificate.clone()),
        ..StoredAuthority::of(new.clone())
    };
    assert!(authority.replace(material(&stored)));
    let switched = sign(&authority, HOUR).unwrap();
    assert!(trusting(&switched, &new.certificate));
    assert_eq!(
        switched.chain[1],
        format!("{}{}", new.certificate, old.certificate)
    );
    assert_ne!(switched.signed_with, announced.signed_with);
    assert_eq!(authority.root_pem(), switched.chain[1]);
}

#[test]
fn a_clock_that_was_set_back_signs_nothing() {
    let authority = authority();
    let request = KeyAndRequest::generate(&identity()).unwrap().request_pem;
    let early = now() - 24 * HOUR;
    let outcome = authority.sign(&request, &identity(), HOUR, early);
    assert_eq!(outcome.unwrap_err(), SignError::RootNotYetValid);
}
