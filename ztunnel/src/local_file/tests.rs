use super::*;
use crate::connections::Connections;
use crate::enforcement::Enforcement;
use crate::pods::Pods;
use crate::state::MeshState;
use mesh::NetworkAddress;
use telemetry::{Metrics, MetricsSettings};

const MESH: &str = r#"
workloads:
- uid: cluster1//Pod/demo/web-1
  name: web-1
  namespace: demo
  serviceAccount: web
  workloadIps: ["10.0.0.1", "fd00::1"]
  protocol: HBONE
  node: node-a
  services:
    "demo/web.example.com":
      80: 8080
  waypoint: {destination: "demo/waypoint.example.com"}
- uid: cluster1//Pod/demo/waypoint-1
  name: waypoint-1
  namespace: demo
  applicationTunnel: {protocol: PROXY, port: 15088}
  locality: {region: west, zone: a}
  capacity: 3
services:
- name: web
  namespace: demo
  hostname: web.example.com
  vips: ["/127.10.0.1", "remote/127.10.0.0/16"]
  ports: {80: 0}
  loadBalancer: {mode: Failover, routingPreferences: [Region, Zone]}
policies:
- name: nobody
  namespace: demo
  scope: Namespace
  action: Deny
  rules:
  - - - notDestinationPorts: [9999]
        principals: [{exact: cluster.local/ns/demo/sa/web}]
      - sourceIps: [10.0.0.0/8]
        namespaces: [{presence: {}}]
"#;

fn writer() -> (Writer, MeshState) {
    let state = MeshState::default();
    let enforcement = Enforcement {
        node: "node-a".into(),
        mark: Some(0x539),
        state: state.clone(),
        connections: Connections::default(),
        pods: Pods::default(),
        rules: mesh::route::Rules::default(),
        metrics: Metrics::new(MetricsSettings::default()),
    };
    (Writer::new(state.clone(), enforcement), state)
}

fn inline(text: &str) -> LocalSource {
    LocalSource::Inline(text.to_owned())
}

#[tokio::test]
async fn workloads_services_and_policies_come_as_discovery_would_send_them() {
    let (writer, state) = writer();
    Local::start(inline(MESH), &writer, true).await.unwrap();
    assert!(state.progress().borrow().is_synced(), "this is all there is");
    let snapshot = state.snapshot();
    let workload = snapshot.local_workload("node-a", "demo", "web-1", "web").unwrap();
    assert_eq!(workload.addresses.len(), 2);
    assert_eq!(workload.tunnel, mesh::TunnelProtocol::Hbone);
    assert!(workload.waypoint.is_some());
    let endpoints: Vec<_> = snapshot.endpoints("demo/web.example.com").collect();
    assert_eq!(endpoints.len(), 1);
    let vip = NetworkAddress::new("", "127.10.0.1".parse().unwrap());
    assert_eq!(&*snapshot.service_by_vip(&vip, "other").unwrap().name, "web");
    let inside = NetworkAddress::new("remote", "127.10.7.7".parse().unwrap());
    assert!(snapshot.service_by_prefix(&inside, "other").is_some());
    let policy = snapshot.policies().next().unwrap();
    assert_eq!(&**policy.key(), "demo/nobody");
    assert_eq!(policy.rules()[0].clauses[0].matches().len(), 2);
    assert!(snapshot.policies_synced());
}

#[tokio::test]
async fn beside_discovery_it_does_not_make_the_state_complete() {
    let (writer, state) = writer();
    Local::start(inline(MESH), &writer, false).await.unwrap();
    assert!(!state.progress().borrow().is_synced());
    assert_eq!(state.snapshot().workloads().count(), 2);
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_line_and_nothing_is_in_force() {
    for (text, wanted) in [
        (
            "workloads:\n- uid: a\n  nmae: b\n",
            "LOCAL_XDS:3: workloads[0].nmae: there is no such field; did you mean name?",
        ),
        (
            "workloads:\n- name: a\n",
            "LOCAL_XDS:2: workloads[0]: uid is missing",
        ),
        (
            "workloads:\n- uid: a\n  protocol: QUIC\n",
            "LOCAL_XDS:3: workloads[0].protocol: \"QUIC\" is not accepted",
        ),
        (
            "services:\n- {name: a, namespace: b, hostname: c, vips: [10.0.0.1]}\n",
            "is not NETWORK/ADDRESS",
        ),
        (
            "services:\n- {name: a, namespace: b, hostname: c, ports: {http: 80}}\n",
            "is no port between 1 and 65535",
        ),
        (
            "policies:\n- {name: a, namespace: b, scope: Mesh, action: Deny}\n",
            "policies[0].scope: \"Mesh\" is not accepted",
        ),
        (
            "policies:\n- {name: a, namespace: b, scope: Global, action: Deny, rules: [[[{sourceIps: [10.0.0.0/33]}]]]}\n",
            "has a prefix length",
        ),
        (
            "policies:\n- {name: a, namespace: b, scope: Global, action: Deny, rules: [[[{principals: [{exact: a, prefix: b}]}]]]}\n",
            "exactly one of",
        ),
        (
            "policy: []\n",
            "LOCAL_XDS:1: policy: there is no such field; known here are policies, services, workloads",
        ),
        (
            "workloads: [{uid: a}, {uid: a}]\n",
            "LOCAL_XDS: a: is there twice",
        ),
    ] {
        let (writer, state) = writer();
        let good = "workloads: [{uid: good, name: good, namespace: demo}]";
        let mut local = Local::start(inline(good), &writer, true).await.unwrap();
        let error = local.take(text.into(), &writer, Kinds::NONE).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(wanted), "{text}: {error}");
        let uids: Vec<String> = state
            .snapshot()
            .workloads()
            .map(|one| one.uid.to_string())
            .collect();
        assert_eq!(uids, ["good"], "the last good version stays");
    }
}

#[tokio::test]
async fn a_file_is_followed_and_a_bad_version_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mesh.yaml");
    let (writer, state) = writer();
    let source = LocalSource::File(path.clone());
    let missing = Local::start(source.clone(), &writer, true).await.err().unwrap();
    assert!(missing.to_string().starts_with("LOCAL_XDS_PATH="), "{missing}");

    std::fs::write(&path, MESH).unwrap();
    let local = Local::start(source, &writer, true).await.unwrap();
    let following = tokio::spawn(local.follow(writer));
    let mut progress = state.progress();
    // As a ConfigMap is exchanged: another file in its place.
    let exchange = |text: &str| {
        let new = place.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
    };
    exchange("workloads: [{uid: other, name: other, namespace: demo}]");
    progress.mark_unchanged();
    let changed = tokio::time::timeout(Duration::from_secs(30), progress.changed()).await;
    changed.expect("taken in time").unwrap();
    let snapshot = state.snapshot();
    assert!(snapshot.workload("other").is_some() && snapshot.workloads().count() == 1);
    assert_eq!((snapshot.services().count(), snapshot.policies().count()), (0, 0));

    exchange("workloads: 7");
    let revision = snapshot.revision();
    // A good version behind the bad one shows that the bad one was passed.
    tokio::time::sleep(LOOK * 3).await;
    assert_eq!(state.snapshot().revision(), revision);
    exchange("workloads: []");
    let gone = progress.wait_for(|progress| progress.revision > revision);
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .expect("taken in time")
        .unwrap();
    assert_eq!(state.snapshot().workloads().count(), 0);
    following.abort();
}
