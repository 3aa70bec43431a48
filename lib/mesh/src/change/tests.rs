use prost::Message;
use proto::security;

use super::*;
use crate::testing::{pod, service};

fn encoded(address: wire::address::Type) -> Vec<u8> {
    wire::Address {
        r#type: Some(address),
    }
    .encode_to_vec()
}

#[test]
fn addresses_are_workloads_or_services() {
    let workload = encoded(wire::address::Type::Workload(pod("shop", "cart", &["10.0.0.1"])));
    assert!(matches!(Change::decode_address("uid", &workload), Change::Workload(w) if &*w.name == "cart"));
    let service = encoded(wire::address::Type::Service(service("shop", "cart", &[], &[])));
    assert!(matches!(Change::decode_address("s", &service), Change::Service(s) if &*s.name == "cart"));
    let rejected = |bytes: &[u8]| match Change::decode_address("uid", bytes) {
        Change::RejectedAddress(rejected) => rejected.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(rejected(&[]), "uid: is neither a workload nor a service");
    assert!(rejected(&[0xff, 0xff]).starts_with("uid: is no valid Address message"));
}

#[test]
fn what_is_rejected_keeps_the_addresses_that_can_be_read() {
    let mut bad = pod("shop", "cart", &["10.0.0.1"]);
    bad.tunnel_protocol = 99;
    let Change::RejectedAddress(rejected) =
        Change::decode_address("uid", &encoded(wire::address::Type::Workload(bad)))
    else {
        panic!()
    };
    assert_eq!(written(&rejected), ["/10.0.0.1/32"]);

    let mut bad = service(
        "shop",
        "cart",
        &["10.0.0.1", "10.0.0.2/32", "10.9.0.0/16", "fd00::/64"],
        &[],
    );
    bad.visibility = 7;
    bad.addresses[0].length = None;
    let Change::RejectedAddress(rejected) =
        Change::decode_address("shop/cart", &encoded(wire::address::Type::Service(bad)))
    else {
        panic!()
    };
    let all = ["/10.0.0.1/32", "/10.0.0.2/32", "/10.9.0.0/16", "/fd00::/64"];
    assert_eq!(written(&rejected), all);
}

#[test]
fn what_came_without_a_message_is_closed_at_the_addresses_that_it_was_asked_for_by() {
    let aliases = ["net/10.0.0.1", "/fd00::1", "shop/cart.shop.svc"];
    let Change::RejectedAddress(rejected) = Change::unread_address("uid", aliases, "no body") else {
        panic!()
    };
    assert_eq!(written(&rejected), ["net/10.0.0.1/32", "/fd00::1/128"]);
    assert_eq!(rejected.to_string(), "uid: no body");
    // It may come under the name that was asked for, and a service has blocks.
    let aliases = ["net/10.9.0.0/16", "/fd00::/64", "shop/cart/16", "net/10.0.0.9/33"];
    let Change::RejectedAddress(rejected) = Change::unread_address("net/10.0.0.1", aliases, "no body") else {
        panic!()
    };
    let all = ["net/10.0.0.1/32", "net/10.9.0.0/16", "/fd00::/64"];
    assert_eq!(written(&rejected), all);
    for bytes in [&[][..], &[0xff, 0xff]] {
        let Change::RejectedAddress(rejected) = Change::decode_address("net/10.0.0.1", bytes) else {
            panic!()
        };
        assert_eq!(written(&rejected), ["net/10.0.0.1/32"]);
    }
}

fn written(rejected: &Rejected) -> Vec<String> {
    let addresses = rejected.addresses.iter();
    addresses
        .map(|one| format!("{}/{}", one.network, one.prefix))
        .collect()
}

#[test]
fn a_policy_under_another_name_is_rejected_under_the_delivered_one() {
    let raw = security::Authorization {
        name: "p".into(),
        namespace: "shop".into(),
        ..Default::default()
    };
    let bytes = raw.encode_to_vec();
    assert!(matches!(
        Change::decode_policy("shop/p", &bytes),
        Change::Policy(_)
    ));
    let Change::RejectedPolicy(rejected) = Change::decode_policy("shop/q", &bytes) else {
        panic!()
    };
    assert_eq!((rejected.name.as_str(), rejected.scope), ("shop/q", None));
    let Change::RejectedPolicy(rejected) = Change::decode_policy("shop/q", b"\xff") else {
        panic!()
    };
    assert_eq!((rejected.name.as_str(), rejected.scope), ("shop/q", None));
}
