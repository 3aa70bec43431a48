use std::time::Duration;

use tls::RevocationLists;

use super::*;
use crate::server::issues::Selection;
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
    assert!(!stored.forget_expired(now(), later).unwrap());
    assert!(stored.forget_expired(later, later).unwrap());
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
    let sound = stored.revoked.clone().unwrap();
    for (good, bad) in [
        ("\"at\":1800000000", "\"at\":18446744073709551615"),
        ("\"until\":1800003601", "\"until\":999999999999"),
        ("\"40000000000000000000000000000001\"", "\"4\""),
        ("{\"number\":", "{\"number\":18446744073709551615,\"was\":"),
    ] {
        assert!(sound.contains(good), "{good} in {}", &sound[..200]);
        let damaged = StoredAuthority {
            revoked: Some(sound.replacen(good, bad, 1)),
            ..stored.clone()
        };
        assert!(damaged.revocations().is_none(), "{bad}");
    }
    // Nothing is written over what cannot be read: it would be accepted again.
    stored.revoked = Some("{\"number\":".to_owned());
    let damaged = stored.clone();
    for outcome in [
        stored.revoke(&[serial(1)], now(), LIFE),
        stored.renew_lists(now()),
        stored.order("node a".parse().unwrap(), now(), LIFE),
    ] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("restore it"), "{error}");
    }
    assert!(stored == damaged);
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

#[test]
fn an_order_is_answered_by_each_process_and_forgotten_with_its_certificates() {
    let mut stored = StoredAuthority::generate(now()).unwrap();
    let selection: Selection = "identity spiffe://cluster.local/ns/demo/sa/client"
        .parse()
        .unwrap();
    stored.order(selection.clone(), now(), LIFE).unwrap();
    let order = |stored: &StoredAuthority| stored.revocations().unwrap().orders()[0].clone();
    let number = order(&stored).number;
    assert!(order(&stored).answers.is_empty());
    assert_eq!(numbers(&stored)[0].1, [""; 0]);
    let answer = |stored: &mut StoredAuthority, process: &str, serials: &[String]| {
        stored
            .answer(number, process, serials, None, now(), LIFE)
            .unwrap()
    };
    assert!(answer(&mut stored, "one", &[serial(1), serial(2)]));
    assert!(
        answer(&mut stored, "two", &[]),
        "that there are none is an answer"
    );
    let before = stored.clone();
    assert!(!answer(&mut stored, "one", &[serial(1), serial(2)]));
    assert!(!answer(&mut stored, "two", &[]));
    assert!(stored == before, "nothing is written for nothing");
    // What was on its way.
    assert!(answer(&mut stored, "one", &[serial(1), serial(2), serial(3)]));
    assert_eq!(order(&stored).answers["one"].revoked, 3);
    assert_eq!(numbers(&stored)[0].1, [serial(1), serial(2), serial(3)]);
    assert!(
        !stored
            .answer(number + 1, "one", &[serial(4)], None, now(), LIFE)
            .unwrap()
    );

    // Ordered again, everybody looks again; what finds no room is told.
    stored.order(selection, now(), LIFE).unwrap();
    let again = order(&stored);
    assert!(again.number > number && again.answers.is_empty());
    let many: Vec<String> = (0..MAX_REVOKED).map(|number| format!("4{number:031x}")).collect();
    let ends = now() + LIFE;
    assert!(
        stored
            .answer(again.number, "one", &many, Some(ends), now(), LIFE)
            .unwrap()
    );
    let told = order(&stored).answers["one"];
    assert_eq!((told.revoked, told.left_out), (MAX_REVOKED - 3, 3));
    assert!(told.unknown_until > seconds(ends));

    // Through an exchange of the root, and no longer than the certificates live.
    let state = RotationState::new(now(), LIFE);
    let exchanged = carry_out(Step::Introduce, &stored, &state, now()).unwrap();
    assert_eq!(order(&exchanged), order(&stored));
    let later = now() + LIFE + Duration::from_secs(2);
    assert!(stored.revocations().unwrap().has_expired(later));
    assert!(stored.forget_expired(later, later).unwrap());
    assert!(stored.revocations().unwrap().orders().is_empty());
}

#[test]
fn orders_are_bounded() {
    let mut stored = StoredAuthority::generate(now()).unwrap();
    let node = |number: usize| Selection::Node(format!("node-{number}"));
    for number in 0..MAX_ORDERS {
        stored.order(node(number), now(), LIFE).unwrap();
    }
    let error = stored
        .order(node(MAX_ORDERS), now(), LIFE)
        .unwrap_err()
        .to_string();
    assert!(error.contains(&MAX_ORDERS.to_string()), "{error}");
    stored.order(node(0), now(), LIFE).unwrap();
}
