//! Claims of the engine about random cases, held against decisions of changed cases.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::oracle::{Case, any_case};
use super::*;
use crate::policy::Attribute;

/// The facts with one value of a difference in them, where the value says exactly what to change.
fn substituted(facts: &Facts, attribute: Attribute, value: &str) -> Option<Facts> {
    let mut changed = facts.clone();
    match attribute {
        Attribute::Principal => changed.peer = Some(format!("spiffe://{value}").parse().ok()?),
        Attribute::Namespace | Attribute::ServiceAccount => {
            let peer = facts.peer.as_ref()?;
            let (namespace, account) = value.split_once('/').unwrap_or((value, peer.service_account()));
            changed.peer = Some(Identity::try_new(peer.trust_domain(), namespace, account).ok()?);
        }
        Attribute::SourceIp => changed.source_ip = value.split('/').next()?.parse().unwrap(),
        Attribute::DestinationIp => changed
            .destination
            .set_ip(value.split('/').next()?.parse().unwrap()),
        Attribute::DestinationPort => changed.destination.set_port(value.parse().unwrap()),
    }
    Some(changed)
}

fn original(case: &Case) -> Facts {
    Facts {
        peer: case.identity(),
        source_ip: ip(&format!("10.0.0.{}", case.source)),
        destination: SocketAddr::new(ip(&format!("10.0.0.{}", case.destination)), case.port),
    }
}

/// What the differences name is all that differs.
fn only_what_is_named_differs(miss: &NearestMiss, before: &Facts) {
    let mut named = [false; 4];
    for difference in &miss.differences {
        let place = match difference {
            Difference::Mtls { .. } => 0,
            Difference::Is { attribute, .. } | Difference::IsNot { attribute, .. } => match attribute {
                Attribute::Namespace | Attribute::ServiceAccount | Attribute::Principal => 0,
                Attribute::SourceIp => 1,
                Attribute::DestinationIp => 2,
                Attribute::DestinationPort => 3,
            },
        };
        assert!(!named[place], "{miss} names one fact twice");
        named[place] = true;
    }
    let after = &miss.passes;
    let differs = [
        before.peer != after.peer,
        before.source_ip != after.source_ip,
        before.destination.ip() != after.destination.ip(),
        before.destination.port() != after.destination.port(),
    ];
    assert_eq!(named, differs, "{miss}: {before:?} to {after:?}");
}

fn check(case: &Case) {
    let snapshot = case.snapshot();
    let workload = case.workload();
    let before = original(case);
    let allows = |facts: &Facts| authorize(&facts.connection(&workload), &snapshot).is_allowed();
    let Some(miss) = authorize(&before.connection(&workload), &snapshot).nearest_miss else {
        return;
    };
    assert!(allows(&miss.passes), "{miss} is not true");
    only_what_is_named_differs(&miss, &before);
    let [only] = &miss.differences[..] else {
        return;
    };
    match only {
        Difference::Mtls { identity: Some(_) } => {}
        Difference::Mtls { identity: None } => {
            for (namespace, account) in [("a", "x"), ("b", "y"), ("q", "q")] {
                let peer = Some(Identity::new("td", namespace, account));
                assert!(
                    allows(&Facts {
                        peer,
                        ..before.clone()
                    }),
                    "{miss} is not true of {namespace}"
                );
            }
        }
        Difference::Is {
            attribute, values, ..
        } => {
            for value in values.iter().filter(|value| !value.contains('*')) {
                if let Some(changed) = substituted(&before, *attribute, value) {
                    assert!(allows(&changed), "{miss} is not true of {value}");
                }
            }
        }
        Difference::IsNot {
            attribute, example, ..
        } => {
            let whole = match attribute {
                Attribute::Namespace | Attribute::ServiceAccount => Attribute::Principal,
                other => *other,
            };
            let changed = substituted(&before, whole, example).unwrap();
            assert!(allows(&changed), "{miss} is not true of {example}");
        }
    }
}

/// Whether one change of one fact, to any value that policies here could mean, would do.
fn one_change_suffices(case: &Case) -> bool {
    let snapshot = case.snapshot();
    let workload = case.workload();
    let before = original(case);
    let peers = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("q", "q")];
    let peers = peers.map(|(namespace, account)| Facts {
        peer: Some(Identity::new("td", namespace, account)),
        ..before.clone()
    });
    let ports = [79, 80, 81, 82].map(|port| Facts {
        destination: SocketAddr::new(before.destination.ip(), port),
        ..before.clone()
    });
    // One on each side of every block that occurs.
    let last = [0, 1, 2, 3, 4, 8, 16, 32, 64, 128, 255];
    let addresses = || {
        let near = last.map(|last| ip(&format!("10.0.0.{last}")));
        near.into_iter().chain([ip("10.0.1.0")])
    };
    let sources = addresses().map(|ip| Facts {
        source_ip: ip,
        ..before.clone()
    });
    let destinations = addresses().map(|ip| Facts {
        destination: SocketAddr::new(ip, before.destination.port()),
        ..before.clone()
    });
    let mut all = peers.into_iter().chain(ports).chain(sources).chain(destinations);
    all.any(|facts| authorize(&facts.connection(&workload), &snapshot).is_allowed())
}

/// The search is bounded and may miss something. That it seldom does is what makes it worth having.
#[test]
fn a_change_that_suffices_is_found() {
    let mut runner = TestRunner::deterministic();
    let (mut sufficing, mut found, mut single) = (0, 0, 0);
    for _ in 0..15_000 {
        let case = any_case().new_tree(&mut runner).unwrap().current();
        let decision = case.decide();
        let helpless = ["policy_unknown", "policy_not_understood"];
        if decision.is_allowed() || helpless.contains(&decision.reason.code()) || !one_change_suffices(&case)
        {
            continue;
        }
        sufficing += 1;
        if let Some(miss) = decision.nearest_miss {
            found += 1;
            single += i32::from(miss.differences.len() == 1);
        }
    }
    assert!(sufficing > 200, "{sufficing}");
    assert!(found * 100 >= sufficing * 95, "found {found} of {sufficing}");
    assert!(
        single * 100 >= sufficing * 90,
        "one change in {single} of {sufficing}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_said_to_help_helps(case in any_case()) {
        check(&case);
    }
}
