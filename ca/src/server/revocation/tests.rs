use std::time::Duration;

use tls::RevocationLists;

use super::*;
use crate::server::rotation::{RotationState, Step, carry_out};
use crate::server::testing::now;

const LIFE: Duration = Duration::from_secs(3600);

fn serial(number: u8) -> String {
    format!("{:02x}", 0x40 | number).repeat(16)
}

fn numbers(stored: &StoredAuthority) -> Vec<(String, Vec<String>)> {
    let lists = stored.revocations().unwrap().lists;
    RevocationLists::parse([lists.as_bytes()]).unwrap();
    let blocks = pem::parse_many(lists).unwrap();
    let read = blocks.iter().map(|block| {
        let (_, list) = x509_parser::parse_x509_crl(block.contents()).unwrap();
        let serials = list.iter_revoked_certificates();
        let serials = serials.map(|one| format!("{:032x}", one.user_certificate));
        (list.issuer().to_string(), serials.collect())
    });
    read.collect()
}

#[test]
fn what_is_revoked_is_on_the_list_of_every_root_until_it_must_have_expired() {
    let mut stored = StoredAuthority::generate(now()).unwrap();
    assert!(stored.revocations().is_none());
    stored.renew_lists(now()).unwrap();
    assert!(stored.revoked.is_none(), "nothing was ever revoked");
    stored.revoke(&[serial(1)], now(), LIFE).unwrap();
    let [(issuer, listed)] = &numbers(&stored)[..] else {
        panic!()
    };
    assert_eq!(*listed, [serial(1)]);
    let first = stored.revocations().unwrap().number;

    // Through an exchange of the root all of its lists are there, signed by those whose certificates are in use.
    let state = RotationState::new(now(), LIFE);
    let mut exchanged = stored.clone();
    let mut counts = Vec::new();
    for step in [Step::Introduce, Step::Switch, Step::Drop] {
        exchanged = carry_out(step, &exchanged, &state, now()).unwrap();
        exchanged.revoke(&[serial(2)], now(), LIFE).unwrap();
        let lists = numbers(&exchanged);
        assert!(
            lists.iter().all(|(_, listed)| *listed == [serial(1), serial(2)]),
            "{lists:?}"
        );
        counts.push(lists.len());
        assert_eq!(lists.iter().any(|(one, _)| one == issuer), step != Step::Drop);
    }
    assert_eq!(counts, [2, 2, 1]);
    assert!(exchanged.revocations().unwrap().number > first);
    assert!(exchanged.previous_key.is_none());

    let later = now() + LIFE + Duration::from_secs(2);
    assert!(!stored.revocations().unwrap().has_expired(now()));
    assert!(stored.revocations().unwrap().has_expired(later));
    stored.revoke(&[], later, LIFE).unwrap();
    assert!(stored.revocations().unwrap().is_empty());
    assert_eq!(
        numbers(&stored)[0].1,
        [""; 0],
        "an empty list replaces the one before"
    );
}

#[test]
fn the_list_is_bounded_and_damage_is_not_used() {
    let mut stored = StoredAuthority::generate(now()).unwrap();
    let many: Vec<String> = (0..MAX_REVOKED).map(|number| format!("4{number:031x}")).collect();
    stored.revoke(&many, now(), LIFE).unwrap();
    let before = stored.clone();
    // The directory's file and a Secret both hold a megabyte.
    assert!(before.revoked.as_ref().unwrap().len() < 700_000);
    let error = stored.revoke(&[serial(1)], now(), LIFE).unwrap_err().to_string();
    assert!(
        error.contains(&MAX_REVOKED.to_string()) && stored == before,
        "{error}"
    );
    // What is revoked already takes no more room.
    stored.revoke(&many[..3], now(), LIFE).unwrap();
    assert!(Revocations::from_text("{\"number\":").is_none());
}

#[test]
fn serials_are_taken_as_tools_write_them() {
    let good = serial(7);
    let colons: Vec<&str> = good
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap())
        .collect();
    for text in [
        good.clone(),
        good.to_uppercase(),
        colons.join(":"),
        format!(" {good}\n"),
    ] {
        assert_eq!(parse_serial(&text), Ok(good.clone()), "{text}");
    }
    for bad in ["", "47", "zz474747474747474747474747474747", &good.repeat(2)] {
        assert!(parse_serial(bad).is_err(), "{bad}");
    }
}
