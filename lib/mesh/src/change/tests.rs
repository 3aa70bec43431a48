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
    assert!(matches!(Change::decode_address(&workload), Ok(Change::Workload(w)) if &*w.name == "cart"));
    let service = encoded(wire::address::Type::Service(service("shop", "cart", &[], &[])));
    assert!(matches!(Change::decode_address(&service), Ok(Change::Service(s)) if &*s.name == "cart"));
    let neither = Change::decode_address(&[]).unwrap_err().named("uid");
    assert_eq!(neither.to_string(), "uid: is neither a workload nor a service");
    assert!(Change::decode_address(&[0xff, 0xff]).is_err());
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
