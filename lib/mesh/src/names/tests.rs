use proto::workload as wire;

use super::*;
use crate::testing::{ip, mesh, pod, service, serving};

const SHOP: Asker<'_> = Asker {
    viewpoint: Viewpoint {
        namespace: "shop",
        preferred: None,
    },
    network: "",
};

fn at(namespace: &str) -> Asker<'_> {
    Asker {
        viewpoint: namespace.into(),
        network: "",
    }
}

fn host(hostname: &str, namespace: &str, vips: &[&str]) -> wire::Service {
    wire::Service {
        hostname: hostname.to_owned(),
        ..service(namespace, "any", vips, &[(80, 8080)])
    }
}

fn only_in_its_namespace(mut service: wire::Service) -> wire::Service {
    service.visibility = wire::service::Visibility::Namespace.into();
    service
}

fn found(snapshot: &Snapshot, name: &str, asker: Asker<'_>) -> Option<Vec<String>> {
    let addresses = addresses_of_name(snapshot, name, asker)?;
    Some(addresses.iter().map(IpAddr::to_string).collect())
}

fn some(addresses: &[&str]) -> Option<Vec<String>> {
    Some(addresses.iter().map(|address| (*address).to_owned()).collect())
}

#[test]
fn a_service_has_its_own_addresses_on_the_askers_network() {
    let mut web = service(
        "shop",
        "web",
        &["10.96.0.7", "fd00::7", "10.0.0.0/8"],
        &[(80, 8080)],
    );
    let mut far = crate::testing::vip_address("10.200.0.7");
    far.network = "far".to_owned();
    web.addresses.push(far);
    let endpoint = serving(pod("shop", "web-1", &["10.1.0.1"]), "shop/web.shop.svc", &[]);
    let snapshot = mesh(vec![endpoint], vec![web]);
    assert_eq!(
        found(&snapshot, "web.shop.svc", SHOP),
        some(&["10.96.0.7", "fd00::7"])
    );
    let elsewhere = |network| Asker { network, ..SHOP };
    assert_eq!(
        found(&snapshot, "web.shop.svc", elsewhere("far")),
        some(&["10.200.0.7"])
    );
    assert_eq!(found(&snapshot, "web.shop.svc", elsewhere("farther")), None);
    assert_eq!(found(&snapshot, "web.shop", SHOP), None, "no search path here");
    assert_eq!(found(&snapshot, "other.shop.svc", SHOP), None);
}

#[test]
fn a_service_without_addresses_has_those_of_its_ready_endpoints() {
    let key = "shop/all.shop.svc";
    let ready = serving(pod("shop", "a", &["10.1.0.2", "fd01::2"]), key, &[]);
    let mut unready = serving(pod("shop", "b", &["10.1.0.3"]), key, &[]);
    unready.status = wire::WorkloadStatus::Unhealthy.into();
    let mut far = serving(pod("shop", "c", &["10.1.0.4"]), key, &[]);
    far.network = "far".to_owned();
    let pods = vec![ready, unready, far];
    let mut all = service("shop", "all", &[], &[(80, 8080)]);
    let snapshot = mesh(pods.clone(), vec![all.clone()]);
    assert_eq!(
        found(&snapshot, "all.shop.svc", SHOP),
        some(&["10.1.0.2", "fd01::2"])
    );

    all.ip_families = wire::IpFamilies::Ipv4Only.into();
    all.load_balancing = Some(wire::LoadBalancing {
        health_policy: wire::load_balancing::HealthPolicy::AllowAll.into(),
        ..Default::default()
    });
    let snapshot = mesh(pods, vec![all.clone()]);
    assert_eq!(
        found(&snapshot, "all.shop.svc", SHOP),
        some(&["10.1.0.2", "10.1.0.3"])
    );
    assert_eq!(
        found(&mesh(vec![], vec![all]), "all.shop.svc", SHOP),
        None,
        "a name server says in its own way that there is nothing"
    );
}

#[test]
fn a_wildcard_stands_for_one_or_more_labels_and_the_nearest_counts() {
    let snapshot = mesh(
        vec![],
        vec![
            host("*.example.com", "shop", &["10.96.1.1"]),
            host("*.b.example.com", "shop", &["10.96.1.2"]),
            host("exact.b.example.com", "shop", &["10.96.1.3"]),
        ],
    );
    for (name, address) in [
        ("a.example.com", Some("10.96.1.1")),
        ("x.y.example.com", Some("10.96.1.1")),
        ("b.example.com", Some("10.96.1.1")),
        ("a.b.example.com", Some("10.96.1.2")),
        ("exact.b.example.com", Some("10.96.1.3")),
        ("example.com", None),
        ("notexample.com", None),
        ("com", None),
    ] {
        let expected = address.map(|address| vec![ip(address).to_string()]);
        assert_eq!(found(&snapshot, name, SHOP), expected, "{name}");
    }
}

#[test]
fn what_the_asker_cannot_see_is_as_good_as_none() {
    let snapshot = mesh(
        vec![],
        vec![
            only_in_its_namespace(host("secret.example.org", "bank", &["10.96.2.1"])),
            only_in_its_namespace(host("hidden.example.com", "bank", &["10.96.2.2"])),
            host("*.example.com", "shop", &["10.96.2.3"]),
        ],
    );
    assert_eq!(
        found(&snapshot, "secret.example.org", at("bank")),
        some(&["10.96.2.1"])
    );
    // The same as for a name that nobody has, with a wildcard above it and without.
    assert_eq!(found(&snapshot, "secret.example.org", SHOP), None);
    assert_eq!(found(&snapshot, "nobody.example.org", SHOP), None);
    assert_eq!(
        found(&snapshot, "hidden.example.com", SHOP),
        found(&snapshot, "nobody.example.com", SHOP)
    );
    assert_eq!(
        found(&snapshot, "hidden.example.com", at("bank")),
        some(&["10.96.2.2"])
    );
}

#[test]
fn of_two_services_of_one_name_the_own_namespace_counts_then_the_canonical_one() {
    let mut canonical = host("api.example.com", "z", &["10.96.3.2"]);
    canonical.canonical = true;
    let services = vec![host("api.example.com", "a", &["10.96.3.1"]), canonical];
    let snapshot = mesh(vec![], services);
    for (namespace, address) in [("a", "10.96.3.1"), ("z", "10.96.3.2"), ("shop", "10.96.3.2")] {
        assert_eq!(
            found(&snapshot, "api.example.com", at(namespace)),
            some(&[address]),
            "{namespace}"
        );
    }
    let none_canonical = ["a", "b"].map(|namespace| host("api.example.com", namespace, &["10.96.3.3"]));
    let mut services = none_canonical.to_vec();
    services[1].addresses = vec![crate::testing::vip_address("10.96.3.4")];
    let snapshot = mesh(vec![], services);
    let mut asker = SHOP;
    assert_eq!(found(&snapshot, "api.example.com", asker), some(&["10.96.3.3"]));
    asker.viewpoint.preferred = Some("b");
    assert_eq!(found(&snapshot, "api.example.com", asker), some(&["10.96.3.4"]));
}
