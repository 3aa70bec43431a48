use proto::workload as wire;

use super::*;
use crate::testing::*;

const POD: &str = "10.0.0.5";

fn address(text: &str) -> Authority {
    Authority::Address(text.parse().unwrap())
}

fn host(name: &str, port: u16) -> Authority {
    Authority::Hostname(name.into(), port)
}

fn cart() -> wire::Workload {
    serving(pod("shop", "cart", &[POD]), "shop/cart.shop.svc", &[])
}

/// What a request that arrives at `workload`'s first address leads to.
fn asked(snapshot: &Snapshot, workload: &str, authority: &Authority) -> Result<Target, Refusal> {
    let workload = snapshot
        .workload(&format!("Kubernetes//Pod/shop/{workload}"))
        .unwrap();
    let asked = Asked {
        authority,
        local: workload.addresses[0],
        workload,
        preferred_namespace: None,
    };
    target(&asked, snapshot)
}

fn dialled(snapshot: &Snapshot, workload: &str, authority: &Authority) -> String {
    asked(snapshot, workload, authority).unwrap().address.to_string()
}

fn refused(snapshot: &Snapshot, workload: &str, authority: &Authority) -> (u16, &'static str) {
    let refusal = asked(snapshot, workload, authority).unwrap_err();
    assert!(refusal.to_string().len() > 40, "says what to do: {refusal}");
    (refusal.status(), refusal.code())
}

#[test]
fn its_own_address_leads_to_the_same_port_unmapped() {
    let services = vec![service("shop", "cart", &["10.9.0.1"], &[(80, 8080)])];
    let snapshot = mesh(vec![cart()], services);
    assert_eq!(dialled(&snapshot, "cart", &address("10.0.0.5:80")), "10.0.0.5:80");
    let found = asked(&snapshot, "cart", &address("10.0.0.5:80")).unwrap();
    assert_eq!((found.tunnel, found.service), (None, None));
}

#[test]
fn another_address_is_refused_whoevers_it_is() {
    let services = vec![service("shop", "cart", &["10.9.0.1"], &[(80, 8080)])];
    let snapshot = mesh(vec![cart(), pod("shop", "other", &["10.0.0.6"])], services);
    // Another pod, a service that this pod serves, nobody.
    for wanted in ["10.0.0.6:80", "10.9.0.1:80", "192.0.2.1:80", "[fd00::1]:80"] {
        assert_eq!(
            refused(&snapshot, "cart", &address(wanted)),
            (400, "not_own_address"),
            "{wanted}"
        );
    }
}

#[test]
fn ports_of_the_proxy_are_refused_however_they_are_named() {
    let services = vec![service("shop", "cart", &["10.9.0.1"], &[(80, 15001), (81, 0)])];
    let mut tunnelled = pod("shop", "tunnelled", &["10.0.0.7"]);
    tunnelled.application_tunnel = Some(wire::ApplicationTunnel {
        protocol: 0,
        port: 15008,
    });
    let named = serving(
        pod("shop", "named", &["10.0.0.8"]),
        "shop/cart.shop.svc",
        &[(81, 15053)],
    );
    let snapshot = mesh(vec![cart(), tunnelled, named], services);
    for port in OWN_PORTS {
        let own = address(&format!("{POD}:{port}"));
        assert_eq!(refused(&snapshot, "cart", &own), (503, "proxy_port"));
    }
    assert_eq!(
        refused(&snapshot, "cart", &host("cart.shop.svc", 80)),
        (503, "proxy_port")
    );
    assert_eq!(
        refused(&snapshot, "named", &host("cart.shop.svc", 81)),
        (503, "proxy_port")
    );
    assert_eq!(
        refused(&snapshot, "tunnelled", &address("10.0.0.7:80")),
        (503, "proxy_port")
    );
}

#[test]
fn a_host_name_leads_to_the_port_that_stands_for_the_services() {
    let services = vec![service(
        "shop",
        "cart",
        &["10.9.0.1"],
        &[(80, 8080), (81, 0), (82, 0)],
    )];
    let mapped = serving(
        pod("shop", "mapped", &["10.0.0.6"]),
        "shop/cart.shop.svc",
        &[(80, 9090), (81, 9191)],
    );
    let snapshot = mesh(vec![cart(), mapped], services);
    let of = |workload, port| dialled(&snapshot, workload, &host("cart.shop.svc", port));
    assert_eq!(of("cart", 80), "10.0.0.5:8080", "by the service");
    assert_eq!(of("cart", 81), "10.0.0.5:81", "the same");
    assert_eq!(
        of("mapped", 80),
        "10.0.0.6:9090",
        "by the endpoint, before the service"
    );
    assert_eq!(of("mapped", 81), "10.0.0.6:9191", "a named port");
    let missing = host("cart.shop.svc", 82);
    assert_eq!(
        refused(&snapshot, "mapped", &missing),
        (503, "no_such_port"),
        "a name it does not have"
    );
    assert_eq!(
        refused(&snapshot, "cart", &host("cart.shop.svc", 83)),
        (503, "no_such_port")
    );
    let found = asked(&snapshot, "cart", &host("cart.shop.svc", 80)).unwrap();
    assert_eq!(found.service.unwrap().key().as_ref(), "shop/cart.shop.svc");
    assert_eq!(found.named, Some("10.9.0.1:80".parse().unwrap()));
}

#[test]
fn a_host_name_that_is_unknown_or_not_served_here_is_refused() {
    let services = vec![
        service("shop", "cart", &["10.9.0.1"], &[(80, 8080)]),
        service("shop", "other", &["10.9.0.2"], &[(80, 8080)]),
    ];
    let snapshot = mesh(vec![cart()], services);
    assert_eq!(
        refused(&snapshot, "cart", &host("nobody.svc", 80)),
        (503, "unknown_hostname")
    );
    assert_eq!(
        refused(&snapshot, "cart", &host("other.shop.svc", 80)),
        (503, "service_not_served")
    );
}

#[test]
fn of_services_with_one_name_the_one_served_here_is_meant() {
    let mut foreign = service("aaa", "cart", &["10.9.0.9"], &[(80, 1)]);
    foreign.hostname = "cart.shop.svc".to_owned();
    foreign.canonical = true;
    let services = vec![foreign, service("shop", "cart", &["10.9.0.1"], &[(80, 8080)])];
    let snapshot = mesh(vec![cart()], services);
    assert_eq!(
        dialled(&snapshot, "cart", &host("cart.shop.svc", 80)),
        "10.0.0.5:8080"
    );
}

#[test]
fn a_service_without_addresses_is_served_by_its_name() {
    let snapshot = mesh(vec![cart()], vec![service("shop", "cart", &[], &[(80, 8080)])]);
    let found = asked(&snapshot, "cart", &host("cart.shop.svc", 80)).unwrap();
    assert_eq!(
        (found.address, found.named),
        ("10.0.0.5:8080".parse().unwrap(), None)
    );
}

/// A waypoint, as an endpoint of its own service, and a service and a workload for `named` to name it in.
fn with_waypoint(named: Option<wire::GatewayAddress>) -> Snapshot {
    let waypoint = serving(
        pod("shop", "waypoint", &["10.0.0.20"]),
        "shop/waypoint.shop.svc",
        &[],
    );
    let mut behind = pod("shop", "behind", &["10.0.0.6"]);
    behind.waypoint = named.clone();
    let mut cart = service("shop", "cart", &["10.9.0.1", "10.7.0.0/16"], &[(80, 8080)]);
    cart.waypoint = named;
    mesh(
        vec![waypoint, behind, pod("shop", "impostor", &["10.0.0.21"])],
        vec![
            cart,
            service("shop", "waypoint", &["10.9.0.2"], &[(15008, 15008)]),
        ],
    )
}

fn at(text: &str) -> wire::GatewayAddress {
    wire::GatewayAddress {
        destination: Some(wire::gateway_address::Destination::Address(vip_address(text))),
        hbone_mtls_port: 15008,
    }
}

#[test]
fn a_waypoint_serves_those_that_name_it_and_nobody_else_does() {
    let by_every_way = [
        gateway("shop", "waypoint.shop.svc"),
        at("10.9.0.2"),
        at("10.0.0.20"),
    ];
    for named in by_every_way {
        let snapshot = with_waypoint(Some(named.clone()));
        for wanted in ["10.9.0.1:80", "10.7.1.1:80", "10.0.0.6:80"] {
            let wanted = address(wanted);
            assert_eq!(
                dialled(&snapshot, "waypoint", &wanted),
                "10.0.0.20:80",
                "{named:?}"
            );
            assert_eq!(refused(&snapshot, "impostor", &wanted), (400, "not_own_address"));
        }
        let by_name = host("cart.shop.svc", 80);
        assert_eq!(dialled(&snapshot, "waypoint", &by_name), "10.0.0.20:8080");
        assert_eq!(
            refused(&snapshot, "impostor", &by_name),
            (503, "service_not_served")
        );
    }
    let unnamed = with_waypoint(None);
    assert_eq!(
        refused(&unnamed, "waypoint", &address("10.9.0.1:80")),
        (400, "not_own_address")
    );
}

#[test]
fn a_workloads_own_proxy_is_given_whatever_is_asked_for() {
    let mut sandwiched = pod("shop", "gateway", &["10.0.0.20"]);
    sandwiched.application_tunnel = Some(wire::ApplicationTunnel {
        protocol: 1,
        port: 15088,
    });
    let mut plain = pod("shop", "plain", &["10.0.0.21"]);
    plain.application_tunnel = Some(wire::ApplicationTunnel { protocol: 0, port: 0 });
    let services = vec![
        service("shop", "cart", &["fd00::1", "10.9.0.1"], &[(80, 8080)]),
        service("shop", "headless", &[], &[(80, 8080)]),
    ];
    let snapshot = mesh(vec![sandwiched, plain], services);
    let found = asked(&snapshot, "gateway", &address("10.9.0.1:80")).unwrap();
    assert_eq!(found.address, "10.0.0.20:15088".parse().unwrap());
    assert_eq!(found.tunnel, Some(ApplicationTunnelProtocol::Proxy));
    assert_eq!(found.named, Some("10.9.0.1:80".parse().unwrap()));
    let found = asked(&snapshot, "gateway", &host("cart.shop.svc", 80)).unwrap();
    assert_eq!(found.named, Some("10.9.0.1:80".parse().unwrap()), "IPv4 first");
    let nameless = host("headless.shop.svc", 80);
    assert_eq!(
        refused(&snapshot, "gateway", &nameless),
        (503, "no_service_address")
    );

    let found = asked(&snapshot, "plain", &address("10.9.0.1:80")).unwrap();
    assert_eq!(
        found.address,
        "10.0.0.21:80".parse().unwrap(),
        "port 0 is the connection's"
    );
    assert_eq!(found.tunnel, Some(ApplicationTunnelProtocol::None));
    assert_eq!(dialled(&snapshot, "plain", &nameless), "10.0.0.21:8080");
}

/// What has to be looked up for a request at the waypoint.
fn missing_at_the_waypoint(snapshot: &Snapshot, authority: &Authority) -> Option<Missing> {
    let workload = snapshot.workload("Kubernetes//Pod/shop/waypoint").unwrap();
    let asked = Asked {
        authority,
        local: workload.addresses[0],
        workload,
        preferred_namespace: None,
    };
    missing(&asked, snapshot)
}

#[test]
fn only_what_is_not_known_has_to_be_looked_up() {
    let named = Some(at("10.0.0.99"));
    let snapshot = with_waypoint(named);
    let address = |text: &str| Missing::Address(NetworkAddress::new("", text.parse().unwrap()));
    let missing = |authority| missing_at_the_waypoint(&snapshot, &authority);
    let local = snapshot
        .workload("Kubernetes//Pod/shop/waypoint")
        .unwrap()
        .addresses[0];
    assert_eq!(missing(Authority::Address(SocketAddr::new(local, 80))), None);
    assert_eq!(
        missing(self::address("10.200.0.1:80")),
        Some(address("10.200.0.1"))
    );
    assert_eq!(
        missing(host("nobody.shop.svc", 80)),
        Some(Missing::Service("nobody.shop.svc".into()))
    );
    // The service is known, and its waypoint is somewhere unknown: that may be another address of this one.
    for known in [
        host("cart.shop.svc", 80),
        self::address("10.9.0.1:80"),
        self::address("10.0.0.6:80"),
    ] {
        assert_eq!(missing(known), Some(address("10.0.0.99")));
    }
    let known = with_waypoint(None);
    assert_eq!(missing_at_the_waypoint(&known, &host("cart.shop.svc", 80)), None);
}
