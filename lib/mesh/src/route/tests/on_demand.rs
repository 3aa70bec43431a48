use super::*;
use crate::testing::gateway_at;

const ON_DEMAND: Rules = Rules {
    outbound_policy: OutboundPolicy::AllowAny,
    preferred_service_namespace: None,
    on_demand: true,
};

fn found(snapshot: &Snapshot, destination: &str, asked: &[Need]) -> Route {
    go_by(
        snapshot,
        client(),
        destination,
        &ON_DEMAND,
        asked,
        &NothingResolved,
    )
}

fn address(ip: &str) -> Need {
    Need::Address(NetworkAddress::new("", ip.parse().unwrap()))
}

#[test]
fn an_unknown_address_is_asked_for_once() {
    let wide = service("shop", "wide", &["10.0.0.0/24"], &[(80, 0)]);
    let endpoint = serving(pod("shop", "p", &["10.1.0.1"]), "shop/wide.shop.svc", &[]);
    let snapshot = mesh(vec![endpoint], vec![wide]);
    assert_eq!(
        found(&snapshot, "93.184.216.34:443", &[]),
        Route::Wait(address("93.184.216.34"))
    );
    let asked = [address("93.184.216.34")];
    assert_eq!(
        summary(&found(&snapshot, "93.184.216.34:443", &asked)),
        "tcp 93.184.216.34:443 unknown_destination"
    );
    // A prefix does not say that nothing has this very address.
    assert_eq!(
        found(&snapshot, "10.0.0.7:80", &asked),
        Route::Wait(address("10.0.0.7"))
    );
    assert_eq!(
        summary(&found(&snapshot, "10.0.0.7:80", &[address("10.0.0.7")])),
        "hbone 10.1.0.1:15008 10.1.0.1:80"
    );
    // What is known is not asked for, and nobody else has the loopback.
    assert_eq!(
        summary(&found(&snapshot, "10.1.0.1:80", &[])),
        "hbone 10.1.0.1:15008 10.1.0.1:80"
    );
    assert_eq!(
        summary(&found(&snapshot, "127.0.0.1:80", &[])),
        "tcp 127.0.0.1:80 unknown_destination"
    );
}

#[test]
fn waypoints_are_asked_for_by_what_names_them() {
    let by = |waypoint| {
        let guarded = wire::Service {
            waypoint: Some(waypoint),
            ..service("shop", "cart", &["10.96.0.1"], &[(80, 0)])
        };
        mesh(vec![], vec![guarded])
    };
    let table = [
        (
            gateway("infra", "w.infra.svc"),
            Need::Service("infra/w.infra.svc".into()),
        ),
        (gateway_at("", "10.0.1.1", 15008), address("10.0.1.1")),
    ];
    for (named, need) in table {
        let snapshot = by(named);
        assert_eq!(found(&snapshot, "10.96.0.1:80", &[]), Route::Wait(need.clone()));
        assert_eq!(
            summary(&found(&snapshot, "10.96.0.1:80", &[need])),
            "refuse waypoint_unknown"
        );
    }
}

#[test]
fn gateways_are_asked_for_by_what_names_them() {
    let far = wire::Workload {
        network: "n2".into(),
        network_gateway: Some(gateway_at("n2", "192.0.2.1", 15008)),
        ..pod("shop", "far", &["10.0.0.1"])
    };
    let snapshot = mesh(
        vec![serving(far, "shop/cart.shop.svc", &[])],
        vec![service("shop", "cart", &["10.96.0.1"], &[(80, 0)])],
    );
    let need = Need::Address(NetworkAddress::new("n2", "192.0.2.1".parse().unwrap()));
    assert_eq!(found(&snapshot, "10.96.0.1:80", &[]), Route::Wait(need.clone()));
    assert_eq!(
        summary(&found(&snapshot, "10.96.0.1:80", &[need])),
        "refuse gateway_unknown"
    );
}
