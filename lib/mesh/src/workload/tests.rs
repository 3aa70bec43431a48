use super::*;
use crate::gateway::GatewayDestination;
use crate::testing::{gateway, ip, pod, serving};

fn refused(change: impl FnOnce(&mut wire::Workload)) -> String {
    let mut raw = pod("shop", "cart", &["10.0.0.1"]);
    change(&mut raw);
    let rejected = Workload::from_proto(raw.clone()).unwrap_err();
    assert_eq!(rejected.name, raw.uid);
    rejected.reason
}

#[test]
fn empty_fields_have_their_defaults() {
    let workload = Workload::from_proto(pod("shop", "cart", &["10.0.0.1"])).unwrap();
    assert_eq!(
        workload.identity().to_string(),
        "spiffe://cluster.local/ns/shop/sa/default"
    );
    assert_eq!(&*workload.cluster_id, "Kubernetes");
    assert_eq!(workload.capacity, 1);
    assert!(workload.healthy && !workload.host_network && workload.is_pod());
    assert_eq!(workload.workload_type.as_str(), "deployment");
}

#[test]
fn every_field_is_read() {
    let raw = wire::Workload {
        network: "n1".into(),
        trust_domain: "td".into(),
        service_account: "sa".into(),
        hostname: "host".into(),
        canonical_name: "cn".into(),
        canonical_revision: "cr".into(),
        workload_name: "wn".into(),
        cluster_id: "c1".into(),
        workload_type: wire::WorkloadType::Cronjob.into(),
        native_tunnel: true,
        status: wire::WorkloadStatus::Unhealthy.into(),
        network_mode: wire::NetworkMode::HostNetwork.into(),
        waypoint: Some(gateway("shop", "waypoint.shop.svc")),
        application_tunnel: Some(wire::ApplicationTunnel {
            protocol: 1,
            port: 15088,
        }),
        authorization_policies: vec!["shop/p".into()],
        locality: Some(wire::Locality {
            region: "r".into(),
            zone: "z".into(),
            subzone: "s".into(),
        }),
        capacity: Some(7),
        extensions: vec![wire::Extension::default()],
        ..serving(
            pod("shop", "cart", &["10.0.0.1", "fd00::1", "10.0.0.1"]),
            "shop/cart.shop.svc",
            &[(80, 8080)],
        )
    };
    let workload = Workload::from_proto(raw).unwrap();
    assert_eq!(workload.addresses, [ip("10.0.0.1"), ip("fd00::1")]);
    assert_eq!(workload.identity().principal(), "td/ns/shop/sa/sa");
    assert_eq!(
        (&*workload.network, &*workload.hostname, &*workload.cluster_id),
        ("n1", "host", "c1")
    );
    assert_eq!(
        (&*workload.canonical_name, &*workload.canonical_revision),
        ("cn", "cr")
    );
    assert_eq!(
        (&*workload.workload_name, workload.workload_type),
        ("wn", WorkloadType::CronJob)
    );
    assert!(workload.native_tunnel && !workload.healthy && workload.host_network);
    let waypoint = GatewayDestination::Service("shop/waypoint.shop.svc".into());
    assert_eq!(
        workload.waypoint.as_ref().map(|gateway| &gateway.destination),
        Some(&waypoint)
    );
    let tunnel = ApplicationTunnel {
        protocol: ApplicationTunnelProtocol::Proxy,
        port: 15088,
    };
    assert_eq!(workload.application_tunnel, Some(tunnel));
    assert_eq!(workload.authorization_policies, ["shop/p".into()]);
    assert_eq!((&*workload.locality.zone, workload.capacity), ("z", 7));
    let ports = &workload.services["shop/cart.shop.svc"];
    assert_eq!(
        (ports[0].service_port, ports[0].target_port.unwrap().get()),
        (80, 8080)
    );
    assert_eq!(
        workload.network_addresses().count(),
        0,
        "it shares its node's addresses"
    );
}

#[test]
fn what_is_not_understood_is_refused() {
    let lacks =
        |part: &str, reason: String| assert!(reason.contains(part), "{reason:?} does not name {part:?}");
    lacks("uid", refused(|w| w.uid.clear()));
    lacks("namespace", refused(|w| w.namespace.clear()));
    lacks("namespace", refused(|w| w.namespace = "a/sa/b".into()));
    lacks("service account", refused(|w| w.service_account = "a%2f".into()));
    lacks("trust domain", refused(|w| w.trust_domain = "A".into()));
    lacks(
        "4 or 16 bytes",
        refused(|w| w.addresses.push(vec![1, 2, 3].into())),
    );
    lacks("LEGACY_ISTIO_MTLS", refused(|w| w.tunnel_protocol = 2));
    lacks("tunnel_protocol 3", refused(|w| w.tunnel_protocol = 3));
    lacks("workload_type 9", refused(|w| w.workload_type = 9));
    lacks("status 2", refused(|w| w.status = 2));
    lacks("network_mode -1", refused(|w| w.network_mode = -1));
    lacks(
        "waypoint has no destination",
        refused(|w| w.waypoint = Some(wire::GatewayAddress::default())),
    );
    lacks(
        "network_gateway",
        refused(|w| w.network_gateway = Some(gateway("", "host"))),
    );
    lacks(
        "above 65535",
        refused(|w| {
            w.waypoint = Some(wire::GatewayAddress {
                hbone_mtls_port: 65536,
                ..gateway("a", "b")
            });
        }),
    );
    lacks(
        "application_tunnel",
        refused(|w| {
            w.application_tunnel = Some(wire::ApplicationTunnel { protocol: 2, port: 1 });
        }),
    );
    lacks(
        "application_tunnel",
        refused(|w| {
            w.application_tunnel = Some(wire::ApplicationTunnel {
                protocol: 1,
                port: 70_000,
            });
        }),
    );
    lacks(
        "services[a/b]",
        refused(|w| *w = serving(w.clone(), "a/b", &[(80, 65_536)])),
    );
    lacks(
        "services[a/b]",
        refused(|w| *w = serving(w.clone(), "a/b", &[(0, 80)])),
    );
}
