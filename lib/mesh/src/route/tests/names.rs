use std::collections::BTreeMap;

use super::*;
use crate::testing::ip;

/// Look-ups with their results.
pub(super) struct Known(pub(super) BTreeMap<&'static str, Result<Vec<IpAddr>, &'static str>>);

impl Names for Known {
    fn resolved(&self, hostname: &str) -> Option<Resolution> {
        let found = self.0.get(hostname)?.clone();
        Some(found.map(Arc::from).map_err(Arc::from))
    }
}

/// An endpoint outside the mesh with a host name, of service `shop/db` at 10.96.0.1:80.
fn named(hostname: &str) -> wire::Workload {
    let endpoint = wire::Workload {
        uid: format!("Kubernetes/networking.istio.io/ServiceEntry/shop/db/{hostname}"),
        hostname: hostname.to_owned(),
        tunnel_protocol: 0,
        ..pod("shop", hostname, &[])
    };
    serving(endpoint, "shop/db.shop.svc", &[])
}

fn db() -> wire::Service {
    service("shop", "db", &["10.96.0.1", "fd96::1"], &[(80, 8080)])
}

fn found(snapshot: &Snapshot, destination: &str, names: &Known, asked: &[Need]) -> Route {
    go_by(snapshot, client(), destination, &Rules::default(), asked, names)
}

#[test]
fn a_host_name_is_waited_for_and_one_of_its_addresses_used() {
    let snapshot = mesh(vec![named("db.example")], vec![db()]);
    let nothing = Known(BTreeMap::new());
    assert_eq!(
        found(&snapshot, "10.96.0.1:80", &nothing, &[]),
        Route::Wait(Need::Hostname("db.example".into()))
    );
    let both = Known([("db.example", Ok(vec![ip("2001:db8::1"), ip("192.0.2.1")]))].into());
    let at = |destination| summary(&found(&snapshot, destination, &both, &[]));
    assert_eq!(at("10.96.0.1:80"), "tcp 192.0.2.1:8080 not_in_mesh");
    assert_eq!(at("[fd96::1]:80"), "tcp [2001:db8::1]:8080 not_in_mesh");
    let one = Known([("db.example", Ok(vec![ip("192.0.2.1")]))].into());
    assert_eq!(
        summary(&found(&snapshot, "[fd96::1]:80", &one, &[])),
        "tcp 192.0.2.1:8080 not_in_mesh"
    );
}

#[test]
fn all_addresses_of_a_name_are_used() {
    let snapshot = mesh(vec![named("db.example")], vec![db()]);
    let names = Known(
        [(
            "db.example",
            Ok((1..=4).map(|n| ip(&format!("192.0.2.{n}"))).collect()),
        )]
        .into(),
    );
    let source = read_pod(client());
    let request = Request {
        source: &source,
        destination: "10.96.0.1:80".parse().unwrap(),
    };
    let (health, rules) = (EndpointHealth::new(), Rules::default());
    let seen: std::collections::BTreeSet<_> = (0..200)
        .map(|entropy| {
            let facts = Facts {
                names: &names,
                ..facts(&snapshot, &health, &[], Instant::now(), entropy, &rules)
            };
            summary(&route(&request, &facts))
        })
        .collect();
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_name_that_does_not_resolve_is_passed_over_and_refused_by_name_when_it_is_the_last() {
    let failed = Known(
        [
            ("bad.example", Err("no such name")),
            ("empty.example", Ok(vec![])),
            ("good.example", Ok(vec![ip("192.0.2.1")])),
        ]
        .into(),
    );
    let snapshot = mesh(vec![named("bad.example"), named("good.example")], vec![db()]);
    for _ in 0..20 {
        assert_eq!(
            summary(&found(&snapshot, "10.96.0.1:80", &failed, &[])),
            "tcp 192.0.2.1:8080 not_in_mesh"
        );
    }
    let snapshot = mesh(vec![named("bad.example")], vec![db()]);
    let Route::Refuse(refusal) = found(&snapshot, "10.96.0.1:80", &failed, &[]) else {
        panic!()
    };
    assert_eq!(refusal.code(), "name_not_resolved");
    assert!(
        refusal
            .to_string()
            .contains("bad.example could not be resolved (no such name)"),
        "{refusal}"
    );
    let snapshot = mesh(vec![named("empty.example")], vec![db()]);
    assert_eq!(
        summary(&found(&snapshot, "10.96.0.1:80", &failed, &[])),
        "refuse no_endpoint"
    );
}

#[test]
fn a_name_that_was_waited_for_in_vain_is_not_waited_for_again() {
    let snapshot = mesh(vec![named("slow.example")], vec![db()]);
    let asked = [Need::Hostname("slow.example".into())];
    let nothing = Known(BTreeMap::new());
    assert_eq!(
        summary(&found(&snapshot, "10.96.0.1:80", &nothing, &asked)),
        "refuse no_endpoint"
    );
}

#[test]
fn families_that_the_service_does_not_offer_are_not_used() {
    let v4_only = wire::Service {
        ip_families: 1,
        ..db()
    };
    let snapshot = mesh(vec![named("db.example")], vec![v4_only]);
    let both = Known([("db.example", Ok(vec![ip("2001:db8::1"), ip("192.0.2.1")]))].into());
    let at = |destination| summary(&found(&snapshot, destination, &both, &[]));
    assert_eq!(at("[fd96::1]:80"), "tcp 192.0.2.1:8080 not_in_mesh");
    let v6 = Known([("db.example", Ok(vec![ip("2001:db8::1")]))].into());
    assert_eq!(
        summary(&found(&snapshot, "10.96.0.1:80", &v6, &[])),
        "refuse no_endpoint"
    );
}
