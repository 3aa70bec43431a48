use proto::workload as wire;

use super::*;
use crate::change::Change;
use crate::testing::*;

fn client() -> wire::Workload {
    pod("shop", "client", &["10.0.0.1"])
}

fn server() -> wire::Workload {
    pod("shop", "server", &["10.0.0.2"])
}

fn outside() -> wire::Workload {
    wire::Workload {
        tunnel_protocol: wire::TunnelProtocol::None.into(),
        ..pod("shop", "outside", &["10.0.0.3"])
    }
}

fn opened(to: &str, way: Way) -> Opened {
    Opened {
        source: Arc::new(read_pod(client())),
        destination: to.parse().unwrap(),
        way,
    }
}

fn tunnel(next: wire::Workload, peer: &str, end: Option<wire::Workload>) -> Opened {
    let way = Way::Tunnel {
        next: Arc::new(read_pod(next)),
        peer: identity(peer),
        workload: end.map(|end| Arc::new(read_pod(end))),
    };
    opened("10.0.0.2:80", way)
}

const DEFAULT: &str = "spiffe://cluster.local/ns/shop/sa/default";
const NAMED: &str = "spiffe://cluster.local/ns/shop/sa/named";

fn code(opened: &Opened, snapshot: &Snapshot, rules: &Rules) -> Option<&'static str> {
    let stale = stale(opened, snapshot, rules)?;
    assert!(stale.to_string().len() > 30, "{stale}");
    Some(stale.code())
}

#[test]
fn it_stands_while_nothing_that_it_rests_on_changes() {
    let rules = Rules::default();
    let mut unready = server();
    unready.status = wire::WorkloadStatus::Unhealthy.into();
    for server in [server(), unready] {
        let snapshot = mesh(vec![client(), server, outside()], vec![]);
        let tunnel = tunnel(self::server(), DEFAULT, Some(self::server()));
        assert_eq!(code(&tunnel, &snapshot, &rules), None);
        let nobody = opened("192.0.2.1:80", Way::Plain { workload: None });
        assert_eq!(code(&nobody, &snapshot, &rules), None);
    }
}

#[test]
fn a_source_that_is_gone_or_somebody_else_ends_it() {
    let rules = Rules::default();
    let nobody = opened("192.0.2.1:80", Way::Plain { workload: None });
    assert_eq!(
        code(&nobody, &mesh(vec![], vec![]), &rules),
        Some("source_changed")
    );
    let mut other = client();
    other.service_account = "other".to_owned();
    assert_eq!(
        code(&nobody, &mesh(vec![other], vec![]), &rules),
        Some("source_changed")
    );
}

#[test]
fn a_peer_that_is_gone_ends_it_where_the_snapshot_is_complete() {
    let snapshot = mesh(vec![client()], vec![]);
    let direct = tunnel(server(), DEFAULT, Some(server()));
    assert_eq!(code(&direct, &snapshot, &Rules::default()), Some("peer_gone"));
    let on_demand = Rules {
        on_demand: true,
        ..Rules::default()
    };
    assert_eq!(code(&direct, &snapshot, &on_demand), None);

    let waypoint = pod("shop", "waypoint", &["10.0.0.9"]);
    let snapshot = mesh(vec![client(), waypoint.clone()], vec![]);
    let through = tunnel(waypoint, DEFAULT, Some(server()));
    assert_eq!(
        code(&through, &snapshot, &Rules::default()),
        Some("peer_gone"),
        "the workload at the end"
    );
}

#[test]
fn a_proven_identity_must_go_on_to_be_accepted() {
    let rules = Rules::default();
    let mut moved = server();
    moved.service_account = "moved".to_owned();
    let snapshot = mesh(vec![client(), moved], vec![]);
    let direct = tunnel(server(), DEFAULT, Some(server()));
    assert_eq!(code(&direct, &snapshot, &rules), Some("peer_changed"));

    // Accepted by a name of the service, for as long as the service names it.
    let mut named = service("shop", "server", &["10.9.0.1"], &[(80, 80)]);
    let endpoint = serving(server(), "shop/server.shop.svc", &[]);
    let by_name = tunnel(
        serving(server(), "shop/server.shop.svc", &[]),
        NAMED,
        Some(server()),
    );
    let without = mesh(vec![client(), endpoint.clone()], vec![named.clone()]);
    assert_eq!(code(&by_name, &without, &rules), Some("peer_changed"));
    named.subject_alt_names = vec![NAMED.to_owned()];
    let with = mesh(vec![client(), endpoint], vec![named]);
    assert_eq!(code(&by_name, &with, &rules), None);
}

#[test]
fn plaintext_to_nobody_ends_when_somebody_of_the_mesh_is_there() {
    let rules = Rules::default();
    let before = opened("10.0.0.2:80", Way::Plain { workload: None });
    assert_eq!(code(&before, &mesh(vec![client()], vec![]), &rules), None);
    let after = mesh(vec![client(), server()], vec![]);
    assert_eq!(code(&before, &after, &rules), Some("destination_in_mesh_now"));
    let mut native = server();
    native.native_tunnel = true;
    assert_eq!(
        code(&before, &mesh(vec![client(), native], vec![]), &rules),
        None,
        "it speaks TLS itself"
    );
    let to_outside = opened("10.0.0.3:80", Way::Plain { workload: None });
    assert_eq!(
        code(&to_outside, &mesh(vec![client(), outside()], vec![]), &rules),
        None
    );
}

#[test]
fn a_workload_known_to_be_outside_may_join_without_losing_older_connections() {
    let known = Some(Arc::new(read_pod(outside())));
    let older = opened("10.0.0.3:80", Way::Plain { workload: known });
    let mut joined = outside();
    joined.tunnel_protocol = wire::TunnelProtocol::Hbone.into();
    let snapshot = mesh(vec![client(), joined], vec![]);
    assert_eq!(code(&older, &snapshot, &Rules::default()), None);
}

#[test]
fn registry_only_ends_what_goes_to_nobody() {
    let rules = Rules {
        outbound_policy: OutboundPolicy::RegistryOnly,
        ..Rules::default()
    };
    let vip = opened("10.9.0.1:80", Way::Plain { workload: None });
    let services = vec![service("shop", "server", &["10.9.0.1"], &[(80, 80)])];
    assert_eq!(code(&vip, &mesh(vec![client()], services), &rules), None);
    assert_eq!(
        code(&vip, &mesh(vec![client()], vec![]), &rules),
        Some("unknown_destination")
    );
}

#[test]
fn a_destination_that_is_no_longer_understood_ends_it() {
    let mut snapshot = mesh(vec![client()], vec![]);
    let mut bad = server();
    bad.tunnel_protocol = 99;
    let address = wire::Address {
        r#type: Some(wire::address::Type::Workload(bad)),
    };
    let payload = bytes::Bytes::from(prost::Message::encode_to_vec(&address));
    snapshot.apply([Change::decode_address("Kubernetes//Pod/shop/server", &payload)]);
    let before = opened("10.0.0.2:80", Way::Plain { workload: None });
    assert_eq!(
        code(&before, &snapshot, &Rules::default()),
        Some("destination_not_understood")
    );

    // A block as well; what is in none stands.
    let mut bad = service("shop", "partner", &["10.9.0.0/16"], &[]);
    bad.visibility = 7;
    let address = wire::Address {
        r#type: Some(wire::address::Type::Service(bad)),
    };
    let payload = bytes::Bytes::from(prost::Message::encode_to_vec(&address));
    snapshot.apply([Change::decode_address("shop/partner", &payload)]);
    let code_of = |to: &str| {
        code(
            &opened(to, Way::Plain { workload: None }),
            &snapshot,
            &Rules::default(),
        )
    };
    assert_eq!(code_of("10.9.3.1:443"), Some("destination_not_understood"));
    assert_eq!(code_of("10.8.3.1:443"), None);
}
