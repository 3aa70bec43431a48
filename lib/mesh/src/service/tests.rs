use super::*;
use crate::testing::{gateway, identity, service, vip_address};

fn refused(change: impl FnOnce(&mut wire::Service)) -> String {
    let mut raw = service("shop", "cart", &["10.96.0.1"], &[(80, 8080)]);
    change(&mut raw);
    Service::from_proto(raw).unwrap_err().reason
}

#[test]
fn every_field_is_read() {
    let raw = wire::Service {
        subject_alt_names: vec!["spiffe://td/ns/a/sa/b".into(), "not.an.identity".into()],
        weighted_waypoints: vec![wire::WeightedWaypoint {
            destination: Some(gateway("a", "w")),
            weight: 3,
        }],
        waypoint: Some(gateway("a", "other")),
        load_balancing: Some(wire::LoadBalancing {
            routing_preference: vec![6, 4],
            mode: 2,
            health_policy: 1,
        }),
        ip_families: 3,
        canonical: true,
        visibility: 1,
        ..service(
            "shop",
            "cart",
            &["10.96.0.1", "10.96.0.1", "10.0.0.0/8"],
            &[(80, 8080), (90, 0)],
        )
    };
    let service = Service::from_proto(raw).unwrap();
    assert_eq!(&**service.key(), "shop/cart.shop.svc");
    assert_eq!(service.addresses.len(), 2);
    assert_eq!(
        service
            .port(80)
            .and_then(|port| port.target_port)
            .map(|port| port.get()),
        Some(8080)
    );
    assert_eq!(service.port(90).map(|port| port.target_port), Some(None));
    assert_eq!(service.port(8080), None);
    assert_eq!(service.subject_alt_names, [identity("spiffe://td/ns/a/sa/b")]);
    assert_eq!(
        service.waypoints.len(),
        1,
        "the weighted list replaces the single waypoint"
    );
    assert_eq!(service.waypoints[0].1, 3);
    assert_eq!(
        service.load_balancing.scopes,
        [LocalityScope::Network, LocalityScope::Node]
    );
    assert_eq!(service.load_balancing.mode, LoadBalancingMode::Failover);
    assert!(service.load_balancing.allow_unhealthy && service.canonical && service.namespace_only);
    assert!(service.visible_from("shop") && !service.visible_from("other"));
    assert_eq!(service.ip_families, IpFamilies::Dual);
}

#[test]
fn an_unknown_application_protocol_decides_nothing() {
    let mut raw = service("shop", "cart", &[], &[(80, 0)]);
    raw.ports[0].app_protocol = 77;
    assert_eq!(
        Service::from_proto(raw).unwrap().ports[0].app_protocol,
        crate::AppProtocol::Unknown
    );
}

#[test]
fn what_is_not_understood_is_refused() {
    let lacks =
        |part: &str, reason: String| assert!(reason.contains(part), "{reason:?} does not name {part:?}");
    lacks("hostname", refused(|s| s.hostname.clear()));
    lacks("namespace", refused(|s| s.namespace.clear()));
    lacks("namespace", refused(|s| s.namespace = "a/b".into()));
    lacks(
        "4 or 16 bytes",
        refused(|s| s.addresses[0].address = vec![1].into()),
    );
    lacks("at most 32 bits", refused(|s| s.addresses[0].length = Some(33)));
    lacks(
        "at most 32 bits",
        refused(|s| s.addresses.push(vip_address("10.0.0.0/256"))),
    );
    lacks("above 65535", refused(|s| s.ports[0].target_port = 65_536));
    lacks("above 65535", refused(|s| s.ports[0].service_port = 80 + 65_536));
    lacks("no port", refused(|s| s.ports[0].service_port = 0));
    lacks("ip_families 4", refused(|s| s.ip_families = 4));
    lacks("visibility 2", refused(|s| s.visibility = 2));
    lacks(
        "waypoint",
        refused(|s| s.waypoint = Some(wire::GatewayAddress::default())),
    );
    lacks(
        "weighted_waypoints",
        refused(|s| s.weighted_waypoints.push(wire::WeightedWaypoint::default())),
    );
    let balancing = |raw: wire::LoadBalancing| refused(|s| s.load_balancing = Some(raw));
    lacks(
        "mode 4",
        balancing(wire::LoadBalancing {
            mode: 4,
            ..Default::default()
        }),
    );
    lacks(
        "health_policy 2",
        balancing(wire::LoadBalancing {
            health_policy: 2,
            ..Default::default()
        }),
    );
    lacks(
        "routing_preference 0",
        balancing(wire::LoadBalancing {
            routing_preference: vec![0],
            ..Default::default()
        }),
    );
    lacks(
        "routing_preference 7",
        balancing(wire::LoadBalancing {
            routing_preference: vec![7],
            ..Default::default()
        }),
    );
}
