use super::*;
use bytes::Bytes;
use mesh::Change;
use prost::Message;
use proto::workload::address::Type;
use proto::workload::{Address, Port, PortList, Service as ServiceMessage, Workload as WorkloadMessage};

const WEB: &str = "shop/web.shop.svc.cluster.local";
const ADMIN: &str = "shop/admin.shop.svc.cluster.local";

fn address(kind: Type) -> Bytes {
    Address { r#type: Some(kind) }.encode_to_vec().into()
}

fn service(key: &str, port: u32) -> Change {
    let (namespace, hostname) = key.split_once('/').unwrap();
    let message = ServiceMessage {
        name: hostname.split('.').next().unwrap().into(),
        namespace: namespace.into(),
        hostname: hostname.into(),
        ports: vec![Port {
            service_port: 80,
            target_port: port,
            ..Port::default()
        }],
        ..ServiceMessage::default()
    };
    Change::decode_address(key, &address(Type::Service(message)))
}

fn facts() -> (Snapshot, Arc<Workload>) {
    let uid = "Kubernetes//Pod/shop/web-1";
    let list = || PortList::default();
    let message = WorkloadMessage {
        uid: uid.into(),
        name: "web-1".into(),
        namespace: "shop".into(),
        workload_name: "web".into(),
        services: [(WEB.to_owned(), list()), (ADMIN.to_owned(), list())].into(),
        ..WorkloadMessage::default()
    };
    let mut snapshot = Snapshot::new();
    snapshot.apply([
        service(WEB, 8080),
        service(ADMIN, 9000),
        Change::decode_address(uid, &address(Type::Workload(message))),
    ]);
    let own = snapshot.workload(uid).unwrap().clone();
    (snapshot, own)
}

fn called(host: Option<&str>, port: u16) -> String {
    let (snapshot, own) = facts();
    let parties = Parties::unknown(Reporter::Destination).serving(&snapshot, &own, host, port);
    parties.labels.destination_service_name.as_str().to_owned()
}

#[test]
fn the_service_is_the_one_the_caller_names_if_the_pod_serves_it() {
    assert_eq!(called(Some("ADMIN.shop.svc.cluster.local"), 8080), "admin");
    assert_eq!(
        called(Some("bank.other.svc.cluster.local"), 9000),
        "admin",
        "else by port"
    );
    assert_eq!(called(None, 8080), "web");
    assert_eq!(called(None, 1234), "unknown");
}

#[test]
fn what_a_peer_says_fills_gaps_and_overrides_nothing() {
    let (_, own) = facts();
    let parties = Parties::outbound(&own, Some(&own), None, None);
    let labels = parties.described_by_peer(&PeerDescription {
        workload: Some("impostor".into()),
        service: Some("svc".into()),
        revision: Some("v2".into()),
        zone: Some("z".into()),
        ..PeerDescription::default()
    });
    let end = &labels.destination;
    assert_eq!(end.workload.as_str(), "web");
    assert_eq!(
        (end.canonical_revision.as_str(), end.version.as_str()),
        ("v2", "v2")
    );
    assert_eq!(end.zone.as_str(), "z");
    assert_eq!(labels.source.workload.as_str(), "web");
    assert_eq!(labels.source.zone.as_str(), "unknown");
}
