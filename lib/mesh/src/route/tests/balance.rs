use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const KEY: &str = "shop/cart.shop.svc";

/// Pod `cart-N` at 10.0.0.N, an endpoint of the service.
fn cart(number: u8) -> wire::Workload {
    serving(
        pod("shop", &format!("cart-{number}"), &[&format!("10.0.0.{number}")]),
        KEY,
        &[],
    )
}

fn uid(number: u8) -> Arc<str> {
    format!("Kubernetes//Pod/shop/cart-{number}").into()
}

fn cart_service() -> wire::Service {
    service("shop", "cart", &["10.96.0.1", "fd96::1"], &[(80, 8080)])
}

/// Where calls of the service's port 80 go, with the number of turns out of 1000 evenly spread ones.
fn spread(
    snapshot: &Snapshot,
    health: &EndpointHealth,
    tried: &[Arc<str>],
    now: Instant,
) -> BTreeMap<String, u32> {
    let source = read_pod(placed_client());
    let request = Request {
        source: &source,
        destination: "10.96.0.1:80".parse().unwrap(),
    };
    let rules = Rules::default();
    let mut found = BTreeMap::new();
    for turn in 0..1000 {
        let entropy = u64::MAX / 1000 * turn;
        let route = route(&request, &facts(snapshot, health, tried, now, entropy, &rules));
        *found.entry(summary(&route)).or_default() += 1;
    }
    found
}

fn spread_of(pods: Vec<wire::Workload>, service: wire::Service) -> BTreeMap<String, u32> {
    spread(
        &mesh(pods, vec![service]),
        &EndpointHealth::new(),
        &[],
        Instant::now(),
    )
}

fn placed_client() -> wire::Workload {
    wire::Workload {
        locality: Some(wire::Locality {
            region: "r1".into(),
            zone: "z1".into(),
            subzone: "s1".into(),
        }),
        ..pod("web", "client", &["10.0.0.9"])
    }
}

fn hbone(number: u8) -> String {
    format!("hbone 10.0.0.{number}:15008 10.0.0.{number}:8080")
}

/// Only these endpoints are used.
fn assert_used(found: &BTreeMap<String, u32>, numbers: &[u8]) {
    assert_eq!(
        found.keys().cloned().collect::<Vec<_>>(),
        numbers.iter().map(|n| hbone(*n)).collect::<Vec<_>>()
    );
}

/// A failing service's sentence.
fn refusal(pods: Vec<wire::Workload>, service: wire::Service, destination: &str) -> Refusal {
    match go_from(&mesh(pods, vec![service]), placed_client(), destination) {
        Route::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn endpoints_share_by_capacity() {
    let heavy = wire::Workload {
        capacity: Some(3),
        ..cart(2)
    };
    let idle = wire::Workload {
        capacity: Some(0),
        ..cart(3)
    };
    let found = spread_of(vec![cart(1), heavy, idle.clone()], cart_service());
    assert_used(&found, &[1, 2]);
    let (one, three) = (i64::from(found[&hbone(1)]), i64::from(found[&hbone(2)]));
    // Five times the deviation that chance has.
    assert!((one - 250).abs() < 70 && (three - 750).abs() < 70, "{found:?}");
    // Nobody has capacity: evenly, rather than nowhere.
    let other = wire::Workload {
        capacity: Some(0),
        ..cart(4)
    };
    assert_used(&spread_of(vec![idle, other], cart_service()), &[3, 4]);
}

#[test]
fn unready_endpoints_are_used_only_where_the_service_says_so() {
    let unready = wire::Workload { status: 1, ..cart(2) };
    assert_used(&spread_of(vec![cart(1), unready.clone()], cart_service()), &[1]);
    let found = refusal(vec![unready.clone()], cart_service(), "10.96.0.1:80");
    assert_eq!(
        found.to_string(),
        format!("service {KEY} has no endpoint to use: of 1, 1 not ready")
    );
    let all = wire::LoadBalancing {
        health_policy: 1,
        ..Default::default()
    };
    let service = wire::Service {
        load_balancing: Some(all),
        ..cart_service()
    };
    assert_used(&spread_of(vec![cart(1), unready], service), &[1, 2]);
}

#[test]
fn endpoints_tried_before_are_left_out() {
    let snapshot = mesh(vec![cart(1), cart(2)], vec![cart_service()]);
    let (health, now) = (EndpointHealth::new(), Instant::now());
    assert_used(&spread(&snapshot, &health, &[uid(1)], now), &[2]);
    let found = spread(&snapshot, &health, &[uid(1), uid(2)], now);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["refuse no_endpoint"]);
}

#[test]
fn endpoints_that_failed_lately_are_passed_over_while_others_are_left() {
    let snapshot = mesh(vec![cart(1), cart(2)], vec![cart_service()]);
    let (mut health, now) = (EndpointHealth::new(), Instant::now());
    health.record_failure(&uid(1), now);
    assert_used(&spread(&snapshot, &health, &[], now), &[2]);
    assert_used(&spread(&snapshot, &health, &[uid(2)], now), &[1]);
    assert_used(
        &spread(&snapshot, &health, &[], now + crate::EJECTION_STEP),
        &[1, 2],
    );
    health.record_failure(&uid(2), now);
    assert_used(&spread(&snapshot, &health, &[], now), &[1, 2]);
}

#[test]
fn no_service_no_port_no_endpoint() {
    let found = refusal(vec![cart(1)], cart_service(), "10.96.0.1:81");
    assert_eq!(
        found,
        Refusal::NoSuchPort {
            service: KEY.into(),
            port: 81
        }
    );
    let found = refusal(vec![], cart_service(), "10.96.0.1:80");
    assert_eq!(
        found.to_string(),
        format!(
            "service {KEY} has no endpoint to use: it has none at all; start one, or check what the service selects"
        )
    );
}

#[test]
fn ports_map_by_endpoint_then_service_then_not_at_all() {
    // The endpoint's own list, the service's target port (0: named), and where port 80 leads.
    type Row = (&'static [(u32, u32)], u32, Option<u16>);
    let table: [Row; 8] = [
        (&[(80, 9090)], 8080, Some(9090)),
        (&[(80, 0)], 8080, Some(8080)),
        (&[(80, 0)], 0, Some(80)),
        (&[(443, 8443)], 8080, Some(8080)),
        (&[], 8080, Some(8080)),
        (&[], 0, Some(80)),
        (&[(443, 8443)], 0, None),
        (&[(443, 8443), (80, 9090)], 0, Some(9090)),
    ];
    for (own, target, expected) in table {
        let endpoint = serving(pod("shop", "cart", &["10.0.0.1"]), KEY, own);
        let snapshot = mesh(
            vec![endpoint],
            vec![service("shop", "cart", &["10.96.0.1"], &[(80, target)])],
        );
        let found = match go(&snapshot, "10.96.0.1:80") {
            Route::Hbone(hbone) => Some(hbone.destination.port()),
            Route::Refuse(Refusal::NoEndpoint {
                shortage: Shortage { without_port: 1, .. },
                ..
            }) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{own:?} {target}");
    }
}

#[test]
fn the_address_is_of_the_destinations_family_where_possible() {
    let both = serving(pod("shop", "cart", &["10.0.0.1", "fd00::1"]), KEY, &[]);
    let reverse = serving(pod("shop", "cart", &["fd00::1", "10.0.0.1"]), KEY, &[]);
    let only = serving(pod("shop", "cart", &["10.0.0.1"]), KEY, &[]);
    let (v4, v6) = (
        "hbone 10.0.0.1:15008 10.0.0.1:8080",
        "hbone [fd00::1]:15008 [fd00::1]:8080",
    );
    // The endpoint, the service's families (any, IPv4, IPv6), and where its IPv4 and IPv6 addresses lead.
    let table = [
        (&both, 0, v4, v6),
        (&reverse, 0, v4, v6),
        (&both, 3, v4, v6),
        (&both, 1, v4, v4),
        (&both, 2, v6, v6),
        (&only, 0, v4, v4),
        (&only, 2, "refuse no_endpoint", "refuse no_endpoint"),
    ];
    for (endpoint, ip_families, to_v4, to_v6) in table {
        let snapshot = mesh(
            vec![endpoint.clone()],
            vec![wire::Service {
                ip_families,
                ..cart_service()
            }],
        );
        assert_eq!(
            (to(&snapshot, "10.96.0.1:80"), to(&snapshot, "[fd96::1]:80")),
            (to_v4.into(), to_v6.into())
        );
    }
}

#[test]
fn of_two_drawn_the_one_with_fewer_connections_for_its_capacity_is_used() {
    let snapshot = mesh(vec![cart(1), cart(2)], vec![cart_service()]);
    let (mut health, now) = (EndpointHealth::new(), Instant::now());
    health.connection_opened(&uid(1));
    let found = spread(&snapshot, &health, &[], now);
    // Only where both draws give the busy one, it is used: in a quarter of all cases.
    let busy = i64::from(found[&hbone(1)]);
    assert!((busy - 250).abs() < 70, "{found:?}");
    // Three connections are as much for a capacity of three as one for one.
    let heavy = wire::Workload {
        capacity: Some(3),
        ..cart(2)
    };
    let snapshot = mesh(vec![cart(1), heavy], vec![cart_service()]);
    for _ in 0..3 {
        health.connection_opened(&uid(2));
    }
    let found = spread(&snapshot, &health, &[], now);
    assert!((i64::from(found[&hbone(1)]) - 250).abs() < 70, "{found:?}");
    health.connection_closed(&uid(2));
    let found = spread(&snapshot, &health, &[], now);
    assert!(found[&hbone(1)] < 130, "one draw in sixteen: {found:?}");
}

#[test]
fn endpoints_that_all_failed_are_used_and_idle_ones_last_of_all() {
    let idle = wire::Workload {
        capacity: Some(0),
        ..cart(2)
    };
    let snapshot = mesh(vec![cart(1), idle], vec![cart_service()]);
    let (mut health, now) = (EndpointHealth::new(), Instant::now());
    health.record_failure(&uid(1), now);
    assert_used(&spread(&snapshot, &health, &[], now), &[1]);
    assert_used(&spread(&snapshot, &health, &[uid(1)], now), &[2]);
}

#[test]
fn the_few_that_can_be_used_among_many_are_found() {
    let pods: Vec<_> = (1..=200).map(cart).collect();
    let snapshot = mesh(pods, vec![cart_service()]);
    let (mut health, now) = (EndpointHealth::new(), Instant::now());
    for number in 1..=198 {
        health.record_failure(&uid(number), now);
    }
    assert_used(&spread(&snapshot, &health, &[], now), &[199, 200]);
    let tried: Vec<_> = (1..=199).map(uid).collect();
    assert_used(&spread(&snapshot, &health, &tried, now), &[200]);
}

fn affine() -> wire::Service {
    wire::Service {
        extensions: vec![crate::testing::affinity()],
        ..cart_service()
    }
}

/// The number of the endpoint that a client at this address gets, whatever the entropy.
fn endpoint_of(snapshot: &Snapshot, health: &EndpointHealth, now: Instant, client: &str) -> u8 {
    let source = read_pod(pod("web", "client", &[client]));
    let request = Request {
        source: &source,
        destination: "10.96.0.1:80".parse().unwrap(),
    };
    let rules = Rules::default();
    let mut found: Vec<_> = (0..20)
        .map(|turn: u64| turn << 59)
        .map(|entropy| {
            tunnel(route(
                &request,
                &facts(snapshot, health, &[], now, entropy, &rules),
            ))
        })
        .map(|hbone| hbone.next.name.trim_start_matches("cart-").parse().unwrap())
        .collect();
    found.dedup();
    assert_eq!(found.len(), 1, "{client}: {found:?}");
    found[0]
}

#[test]
fn a_client_keeps_its_endpoint_where_the_service_asks_for_it() {
    let clients: Vec<_> = (0..=255).map(|last| format!("10.9.0.{last}")).collect();
    let (mut health, now) = (EndpointHealth::new(), Instant::now());
    let mut snapshot = mesh((1..=8).map(cart).collect(), vec![affine()]);
    let at_first: Vec<_> = clients
        .iter()
        .map(|c| endpoint_of(&snapshot, &health, now, c))
        .collect();
    for number in 1..=8 {
        let share = at_first.iter().filter(|found| **found == number).count();
        assert!(
            (10..=60).contains(&share),
            "endpoint {number} has {share} of 256 clients"
        );
    }
    // One more endpoint takes its share, and nobody else moves.
    let mut more = snapshot.clone();
    more.apply([Change::Workload(read_pod(cart(9)))]);
    let mut moved = 0;
    for (client, before) in clients.iter().zip(&at_first) {
        let after = endpoint_of(&more, &health, now, client);
        assert!(after == *before || after == 9, "{client}: {before} to {after}");
        moved += usize::from(after == 9);
    }
    assert!((8..=60).contains(&moved), "{moved} of 256 clients moved");
    // The order of arrival does not matter.
    let reverse = mesh((1..=8).rev().map(cart).collect(), vec![affine()]);
    for (client, before) in clients.iter().zip(&at_first) {
        assert_eq!(endpoint_of(&reverse, &health, now, client), *before);
    }
    // While an endpoint fails its clients are elsewhere, then they come back.
    health.record_failure(&uid(1), now);
    for (client, before) in clients.iter().zip(&at_first) {
        let during = endpoint_of(&snapshot, &health, now, client);
        assert!(during != 1 && (during == *before || *before == 1));
        let later = now + crate::MAX_EJECTION + Duration::from_secs(1);
        assert_eq!(endpoint_of(&snapshot, &health, later, client), *before);
    }
    // A service that no longer asks for it is balanced.
    snapshot.apply([Change::Service(crate::testing::read_service(cart_service()))]);
    assert!(spread(&snapshot, &EndpointHealth::new(), &[], now).len() == 8);
}

#[test]
fn an_application_tunnel_takes_ports_that_nobody_lists() {
    let tunnel = |port| {
        let mut endpoint = cart(1);
        endpoint.application_tunnel = Some(wire::ApplicationTunnel { protocol: 1, port });
        endpoint
    };
    let listing = serving(tunnel(15088), KEY, &[(80, 9090)]);
    let named = service("shop", "cart", &["10.96.0.1"], &[(80, 0)]);
    // The endpoint, the service, and where ports 80 and 81 lead.
    let table = [
        (tunnel(15088), cart_service(), "8080", "15088"),
        (tunnel(15088), named.clone(), "15088", "15088"),
        (listing, named.clone(), "9090", "15088"),
        (tunnel(0), named, "80", "81"),
    ];
    for (endpoint, service, listed, unlisted) in table {
        let snapshot = mesh(vec![endpoint], vec![service]);
        let at = |port: &str| format!("hbone 10.0.0.1:15008 10.0.0.1:{port}");
        assert_eq!(to(&snapshot, "10.96.0.1:80"), at(listed));
        assert_eq!(to(&snapshot, "10.96.0.1:81"), at(unlisted));
    }
}

#[test]
fn headless_services_are_reached_by_their_pods_addresses() {
    let endpoint = serving(
        pod("shop", "db-0", &["10.0.0.1"]),
        "shop/db.shop.svc",
        &[(5432, 5433)],
    );
    let snapshot = mesh(vec![endpoint], vec![service("shop", "db", &[], &[(5432, 5433)])]);
    assert_eq!(
        to(&snapshot, "10.0.0.1:5432"),
        "hbone 10.0.0.1:15008 10.0.0.1:5432"
    );
}

#[test]
fn endpoints_outside_the_mesh_are_reached_plainly_at_their_own_address() {
    let plain = wire::Workload {
        tunnel_protocol: 0,
        ..cart(1)
    };
    let host = wire::Workload {
        network_mode: 1,
        ..cart(2)
    };
    let found = spread_of(vec![plain, host], cart_service());
    let expected = ["tcp 10.0.0.1:8080 not_in_mesh", "tcp 10.0.0.2:8080 not_in_mesh"];
    assert_eq!(found.keys().collect::<Vec<_>>(), expected);
}

/// Pods of which each is one step further from the client: same node, subzone, zone, region, nothing.
fn graded() -> Vec<wire::Workload> {
    let place = |number, node: &str, region: &str, zone: &str, subzone: &str| wire::Workload {
        node: node.to_owned(),
        locality: Some(wire::Locality {
            region: region.into(),
            zone: zone.into(),
            subzone: subzone.into(),
        }),
        ..cart(number)
    };
    vec![
        place(1, "node-a", "r1", "z1", "s1"),
        place(2, "node-b", "r1", "z1", "s1"),
        place(3, "node-c", "r1", "z1", "s2"),
        place(4, "node-d", "r1", "z2", "s1"),
        place(5, "node-e", "r2", "z1", "s1"),
    ]
}

fn by_locality(mode: i32, scopes: &[i32]) -> wire::Service {
    let balancing = wire::LoadBalancing {
        routing_preference: scopes.to_vec(),
        mode,
        health_policy: 0,
    };
    wire::Service {
        load_balancing: Some(balancing),
        ..cart_service()
    }
}

#[test]
fn failover_uses_the_closest_that_are_left() {
    const REGION_TO_NODE: [i32; 5] = [6, 1, 2, 3, 4];
    let mut pods = graded();
    for expected in 1..=5 {
        assert_used(
            &spread_of(pods.clone(), by_locality(2, &REGION_TO_NODE)),
            &[expected],
        );
        pods.remove(0);
    }
    // Levels count from the first on: another region in a zone of the same name is not close.
    assert_used(&spread_of(graded(), by_locality(2, &[1, 2])), &[1, 2, 3]);
    assert_used(&spread_of(graded(), by_locality(2, &[1])), &[1, 2, 3, 4]);
    assert_used(&spread_of(graded(), by_locality(2, &[5])), &[1, 2, 3, 4, 5]);
    assert_used(&spread_of(graded(), by_locality(2, &[])), &[1, 2, 3, 4, 5]);
    assert_used(
        &spread_of(graded(), by_locality(0, &REGION_TO_NODE)),
        &[1, 2, 3, 4, 5],
    );
    // Not ready, tried or failing: the next closest serves.
    let snapshot = mesh(graded(), vec![by_locality(2, &REGION_TO_NODE)]);
    let (mut health, now) = (EndpointHealth::new(), Instant::now());
    health.record_failure(&uid(1), now);
    assert_used(&spread(&snapshot, &health, &[uid(2)], now), &[3]);
}

#[test]
fn strict_demands_every_level() {
    assert_used(&spread_of(graded(), by_locality(1, &[4])), &[1]);
    assert_used(&spread_of(graded(), by_locality(1, &[1, 2])), &[1, 2, 3]);
    let found = refusal(graded()[1..].to_vec(), by_locality(1, &[4]), "10.96.0.1:80");
    assert_eq!(
        found.to_string(),
        format!("service {KEY} has no endpoint to use: of 4, 4 not close enough")
    );
    // The only one close enough failed lately: it is tried all the same, as nothing else may serve.
    let snapshot = mesh(graded(), vec![by_locality(1, &[4])]);
    let (mut health, now) = (EndpointHealth::new(), Instant::now());
    health.record_failure(&uid(1), now);
    assert_used(&spread(&snapshot, &health, &[], now), &[1]);
}

proptest! {
    /// For any entropy a route is found, the same each time, and never to an endpoint that is out.
    #[test]
    fn any_entropy_picks_a_usable_endpoint(
        capacities in prop::collection::vec(prop_oneof![Just(0), 1u32..4, Just(u32::MAX)], 1..6),
        tried in any::<prop::sample::Index>(),
        entropy in any::<u64>(),
    ) {
        let pods = capacities.iter().zip(1..).map(|(capacity, number)| {
            wire::Workload { capacity: Some(*capacity), ..cart(number) }
        });
        let snapshot = mesh(pods.collect(), vec![cart_service()]);
        let source = read_pod(placed_client());
        let request = Request { source: &source, destination: "10.96.0.1:80".parse().unwrap() };
        let out = [uid(tried.index(capacities.len()) as u8 + 1)];
        let (health, now) = (EndpointHealth::new(), Instant::now());
        let rules = Rules::default();
        let facts = facts(&snapshot, &health, &out, now, entropy, &rules);
        let found = route(&request, &facts);
        prop_assert_eq!(&found, &route(&request, &facts));
        match found {
            Route::Hbone(hbone) => prop_assert!(hbone.next.uid != out[0]),
            other => prop_assert!(capacities.len() == 1, "{:?}", other),
        }
    }
}
