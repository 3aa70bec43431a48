use proto::workload::{AppProtocol, IpFamilies, LoadBalancing};

use crate::testing::{compiled, service};

const KEY: &str = "demo/web.demo.svc.cluster.local";

fn text(spec: &str, annotations: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: demo, name: web, annotations: {annotations}}}\n\
         spec: {spec}\n"
    )
}

fn one(spec: &str) -> proto::workload::Service {
    service(&compiled(&text(spec, "{}")), KEY).clone()
}

#[test]
fn fields() {
    let made = one(
        "{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, \"fd00::1\"], ipFamilies: [IPv4, IPv6], externalIPs: [1.1.1.1], \
         ports: [{name: http, port: 80, targetPort: 8080}, {name: named, port: 81, targetPort: web}, \
         {name: dns, port: 53, protocol: UDP}]}",
    );
    assert_eq!((made.name.as_str(), made.namespace.as_str()), ("web", "demo"));
    assert_eq!(made.hostname, "web.demo.svc.cluster.local");
    assert_eq!(
        made.addresses
            .iter()
            .map(|address| address.address.len())
            .collect::<Vec<_>>(),
        [4, 16]
    );
    assert_eq!(made.addresses[0].address.to_vec(), [10, 96, 0, 1]);
    assert!(
        made.addresses
            .iter()
            .all(|address| address.network.is_empty() && address.length.is_none())
    );
    let ports: Vec<(u32, u32)> = made
        .ports
        .iter()
        .map(|port| (port.service_port, port.target_port))
        .collect();
    assert_eq!(ports, [(80, 8080), (81, 0), (53, 53)]);
    assert!(made.canonical && made.load_balancing.is_none() && made.waypoint.is_none());
    assert_eq!(made.ip_families(), IpFamilies::Dual);
}

#[test]
fn headless_and_aliases() {
    assert!(one("{clusterIP: None, ports: [{port: 80}]}").addresses.is_empty());
    assert_eq!(one("{clusterIP: None}").ip_families(), IpFamilies::Automatic);
    assert_eq!(
        one("{ports: [{port: 80}], ipFamilies: [IPv6]}").ip_families(),
        IpFamilies::Ipv6Only
    );
    assert_eq!(
        one("{ports: [{port: 80}], ipFamilies: [IPv4]}").ip_families(),
        IpFamilies::Ipv4Only
    );
    let alias = compiled(&text("{type: ExternalName, externalName: example.org}", "{}"));
    assert!(alias.addresses().is_empty());
}

#[test]
fn load_balancing() {
    // Scopes: REGION 1, ZONE 2, SUBZONE 3, NODE 4, NETWORK 6. Modes: STRICT 1, FAILOVER 2.
    let close = (&[6, 1, 2][..], 2, 0);
    let node = (&[6, 1, 2, 3, 4][..], 2, 0);
    let key = "networking.istio.io/traffic-distribution";
    let cases = [
        ("trafficDistribution: PreferClose", "", "", Some(close)),
        ("trafficDistribution: PreferSameZone", "", "", Some(close)),
        ("trafficDistribution: PreferSameNode", "", "", Some(node)),
        (
            "trafficDistribution: PreferSameNode, internalTrafficPolicy: Local",
            "",
            "",
            Some((&[4][..], 1, 0)),
        ),
        ("publishNotReadyAddresses: true", "", "", Some((&[][..], 0, 1))),
        (
            "trafficDistribution: PreferClose, publishNotReadyAddresses: true",
            "",
            "",
            Some((&[6, 1, 2][..], 2, 1)),
        ),
        ("", "PreferClose", "", Some(close)),
        ("", "", "PreferClose", Some(close)),
        ("", "PreferSameNode", "PreferClose", Some(node)),
        ("", "Nonsense", "PreferClose", None),
        (
            "trafficDistribution: PreferSameNode",
            "PreferClose",
            "",
            Some(node),
        ),
        ("internalTrafficPolicy: Cluster", "", "", None),
    ];
    for (fields, own, inherited, expected) in cases {
        let annotations = |value: &str| {
            if value.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{{key}: {value}}}")
            }
        };
        let namespace = format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: demo, annotations: {}}}\n",
            annotations(inherited)
        );
        let comma = if fields.is_empty() { "" } else { ", " };
        let text = text(
            &format!("{{ports: [{{port: 80}}]{comma}{fields}}}"),
            &annotations(own),
        ) + &namespace;
        let expected = expected.map(|(scopes, mode, health_policy)| LoadBalancing {
            routing_preference: scopes.to_vec(),
            mode,
            health_policy,
        });
        assert_eq!(service(&compiled(&text), KEY).load_balancing, expected, "{text}");
    }
}

#[test]
fn what_is_spoken() {
    let cases = [
        ("name: http", AppProtocol::Http11),
        ("name: http-web", AppProtocol::Http11),
        ("name: http2", AppProtocol::Http2),
        ("name: grpc-web", AppProtocol::Grpc),
        ("name: grpc-x", AppProtocol::Grpc),
        ("name: https", AppProtocol::Tls),
        ("name: tls-x", AppProtocol::Tls),
        ("name: tcp", AppProtocol::Tcp),
        ("name: web", AppProtocol::Unknown),
        ("name: a, appProtocol: kubernetes.io/h2c", AppProtocol::Http2),
        ("name: a, appProtocol: h2c", AppProtocol::Http2),
        ("name: a, appProtocol: kubernetes.io/ws", AppProtocol::Http11),
        ("name: a, appProtocol: kubernetes.io/wss", AppProtocol::Tls),
        ("name: http, appProtocol: TCP", AppProtocol::Tcp),
        ("name: http, appProtocol: example.org/own", AppProtocol::Unknown),
        ("name: http, protocol: UDP", AppProtocol::Unknown),
    ];
    for (port, expected) in cases {
        let made = one(&format!("{{ports: [{{port: 80, {port}}}]}}"));
        assert_eq!(made.ports[0].app_protocol(), expected, "{port}");
    }
    for (port, expected) in [
        (3306, AppProtocol::Tcp),
        (53, AppProtocol::Tcp),
        (3307, AppProtocol::Unknown),
    ] {
        assert_eq!(
            one(&format!("{{ports: [{{port: {port}}}]}}")).ports[0].app_protocol(),
            expected
        );
    }
}

#[test]
fn affinity_by_client_address_reaches_the_proxies() {
    let affine = |spec: &str| mesh::Service::from_proto(one(spec)).unwrap().client_affinity;
    let timed = "sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}";
    assert!(affine(&format!(
        "{{ports: [{{port: 80}}], sessionAffinity: ClientIP, {timed}}}"
    )));
    assert!(!affine("{ports: [{port: 80}], sessionAffinity: None}"));
    assert!(!affine("{ports: [{port: 80}]}"));
}

#[test]
fn who_wants_a_service_hidden_is_told_that_it_is_not() {
    let cases = [
        ("{}", false),
        ("{networking.istio.io/exportTo: \"*\"}", false),
        ("{networking.istio.io/exportTo: \"\"}", false),
        ("{networking.istio.io/exportTo: \".\"}", true),
        ("{networking.istio.io/exportTo: \"a, b\"}", true),
        ("{networking.istio.io/exportTo: \"a, *\"}", false),
        ("{networking.istio.io/exportTo: \"~\"}", true),
    ];
    for (annotations, is_told) in cases {
        let compiler = compiled(&text("{ports: [{port: 80}]}", annotations));
        let key = objects::ObjectKey::new(objects::Kind::Service, "demo", "web");
        let told: Vec<_> = compiler.conditions()[&key]
            .iter()
            .map(|one| (one.kind, one.status, one.reason))
            .collect();
        let expected = [("istio.io/VisibilityApplied", false, "UnsupportedValue")];
        assert_eq!(told, &expected[..usize::from(is_told)], "{annotations}");
        // Hidden, its address would be reached in plaintext.
        assert_eq!(service(&compiler, KEY).visibility, 0, "{annotations}");
    }
}
