use super::*;
use crate::connections::Connections;
use crate::pods::Pods;
use bytes::Bytes;
use mesh::NetworkAddress;
use prost::Message;
use proto::security::{Authorization, Scope};
use proto::workload::Address;
use proto::workload::address::Type;
use proto::workload::{Service as ServiceMessage, TunnelProtocol, Workload as WorkloadMessage};
use telemetry::{Metrics, MetricsSettings};

fn handler() -> (StateHandler, MeshState) {
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
    let writer = Writer::new(state.clone(), enforcement);
    (StateHandler::new(writer, None, Readiness::default()), state)
}

fn resource(name: &str, message: &impl Message) -> ResourceUpdate {
    ResourceUpdate {
        name: name.into(),
        aliases: Vec::new(),
        version: "1".into(),
        payload: Bytes::from(message.encode_to_vec()),
    }
}

fn workload(name: &str) -> ResourceUpdate {
    let uid = format!("Kubernetes//Pod/shop/{name}");
    let message = WorkloadMessage {
        uid: uid.clone(),
        name: name.into(),
        namespace: "shop".into(),
        node: "node-a".into(),
        service_account: "cart".into(),
        addresses: vec![Bytes::from_static(&[10, 0, 0, 5])],
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        ..WorkloadMessage::default()
    };
    resource(
        &uid,
        &Address {
            r#type: Some(Type::Workload(message)),
        },
    )
}

fn policy(name: &str) -> ResourceUpdate {
    let message = Authorization {
        name: name.into(),
        namespace: "shop".into(),
        scope: Scope::Namespace.into(),
        ..Authorization::default()
    };
    resource(&format!("shop/{name}"), &message)
}

fn update(type_url: &str, resources: Vec<ResourceUpdate>, removed: &[&str]) -> Update {
    Update {
        type_url: type_url.into(),
        resources,
        removed: removed.iter().map(ToString::to_string).collect(),
        ..Update::default()
    }
}

#[tokio::test]
async fn a_response_becomes_visible_as_one_revision() {
    let (mut handler, state) = handler();
    let before = state.snapshot().revision();
    let rejected = handler
        .apply(update(ADDRESS_TYPE_URL, vec![workload("a"), workload("b")], &[]))
        .await;
    assert!(rejected.is_empty());
    assert_eq!(state.snapshot().revision(), before + 1);
    assert_eq!(state.snapshot().workloads().count(), 2);
}

#[tokio::test]
async fn good_resources_are_taken_beside_bad_ones() {
    let (mut handler, state) = handler();
    let garbage = ResourceUpdate {
        payload: Bytes::from_static(b"\xff\xff"),
        ..workload("bad")
    };
    let rejected = handler
        .apply(update(ADDRESS_TYPE_URL, vec![workload("a"), garbage], &[]))
        .await;
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].name, "Kubernetes//Pod/shop/bad");
    assert_eq!(state.snapshot().workloads().count(), 1);
}

#[tokio::test]
async fn what_came_without_a_message_is_closed() {
    let (mut handler, state) = handler();
    let unreadable = |name: &str| Unreadable {
        name: name.to_owned(),
        aliases: vec!["/10.0.0.77".to_owned()],
        reason: "the resource has no body".to_owned(),
    };
    // What is said of a policy that could be read counts less than that there is another version.
    let policies = Update {
        unreadable: vec![unreadable("shop/new"), unreadable("shop/good")],
        ..update(AUTHORIZATION_TYPE_URL, vec![policy("good")], &[])
    };
    assert_eq!(handler.apply(policies).await, []);
    let addresses = Update {
        unreadable: vec![unreadable("shop/some.shop.svc")],
        ..update(ADDRESS_TYPE_URL, vec![workload("a")], &[])
    };
    assert_eq!(handler.apply(addresses).await, []);
    let snapshot = state.snapshot();
    let pod = snapshot.workloads().next().unwrap();
    let selecting = snapshot.policies_selecting(pod);
    let closed = selecting.filter(|policy| policy.known().is_none());
    assert_eq!(closed.count(), 1, "{snapshot:?}");
    let rejected: Vec<&str> = snapshot
        .rejected_policies()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(rejected, ["shop/good", "shop/new"]);
    let address = NetworkAddress::new("", "10.0.0.77".parse().unwrap());
    assert!(snapshot.not_understood(&address).is_some());
    // Its end opens what was closed.
    handler
        .apply(update(AUTHORIZATION_TYPE_URL, vec![], &["shop/new"]))
        .await;
    handler
        .apply(update(ADDRESS_TYPE_URL, vec![], &["shop/some.shop.svc"]))
        .await;
    assert_eq!(state.snapshot().rejected_policies().count(), 1);
    assert!(state.snapshot().not_understood(&address).is_none());
}

#[tokio::test]
async fn an_address_that_is_nothing_is_rejected_and_removals_take_both_kinds_of_names() {
    let (mut handler, state) = handler();
    let service = ServiceMessage {
        name: "s".into(),
        namespace: "shop".into(),
        hostname: "s.shop".into(),
        ..Default::default()
    };
    let service = resource(
        "shop/s.shop",
        &Address {
            r#type: Some(Type::Service(service)),
        },
    );
    let empty = resource("empty", &Address { r#type: None });
    let rejected = handler
        .apply(update(ADDRESS_TYPE_URL, vec![workload("a"), service, empty], &[]))
        .await;
    assert_eq!(rejected.len(), 1);
    assert_eq!(state.snapshot().services().count(), 1);
    let names = ["shop/s.shop", "Kubernetes//Pod/shop/a", "never/held"];
    assert!(
        handler
            .apply(update(ADDRESS_TYPE_URL, vec![], &names))
            .await
            .is_empty()
    );
    assert_eq!(
        state.snapshot().services().count() + state.snapshot().workloads().count(),
        0
    );
}

#[tokio::test]
async fn nothing_is_synced_before_both_types_have_come() {
    let (mut handler, state) = handler();
    handler
        .apply(update(ADDRESS_TYPE_URL, vec![workload("a")], &[]))
        .await;
    assert!(!state.progress().borrow().is_synced());
    assert!(!state.snapshot().policies_synced());
    handler.apply(update(AUTHORIZATION_TYPE_URL, vec![], &[])).await;
    assert!(state.progress().borrow().is_synced());
    assert!(state.snapshot().policies_synced());
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_leaves_its_name_closed() {
    let (mut handler, state) = handler();
    let garbage = ResourceUpdate {
        payload: Bytes::from_static(b"\xff"),
        ..policy("bad")
    };
    let rejected = handler
        .apply(update(AUTHORIZATION_TYPE_URL, vec![policy("good"), garbage], &[]))
        .await;
    assert_eq!(rejected.len(), 1);
    assert_eq!(state.snapshot().rejected_policies().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_own_workload_is_waited_for_but_not_for_ever() {
    let (mut handler, state) = handler();
    let identity = Identity::new("cluster.local", "shop", "cart");
    assert!(state.own_workload("node-a", "a", &identity).await.is_none());
    let waiting = {
        let (state, identity) = (state.clone(), identity.clone());
        tokio::spawn(async move { state.own_workload("node-a", "a", &identity).await })
    };
    tokio::task::yield_now().await;
    handler
        .apply(update(ADDRESS_TYPE_URL, vec![workload("a")], &[]))
        .await;
    handler.apply(update(AUTHORIZATION_TYPE_URL, vec![], &[])).await;
    let (_, found) = waiting.await.unwrap().unwrap();
    assert_eq!(&*found.name, "a");
    let other = Identity::new("cluster.local", "shop", "other");
    assert!(state.own_workload("node-a", "a", &other).await.is_none());
}

#[tokio::test]
async fn what_is_restored_decides_only_after_the_fall_back_and_until_the_control_plane_has_confirmed() {
    let (mut handler, state) = handler();
    let writer = handler.writer.clone();
    let garbage = ResourceUpdate {
        payload: Bytes::from_static(b"\xff\xff"),
        ..policy("bad")
    };
    let (changes, held) = restored(
        update(ADDRESS_TYPE_URL, vec![workload("cart")], &[]),
        update(AUTHORIZATION_TYPE_URL, vec![policy("good"), garbage], &[]),
    );
    let version = |name: &str| held.iter().find(|(_, held, _)| held == name).unwrap().2.clone();
    assert_eq!(version("Kubernetes//Pod/shop/cart"), "1");
    assert_eq!(
        (version("shop/good"), version("shop/bad")),
        ("1".into(), String::new())
    );
    writer.write(changes, Kinds::NONE).await;
    assert!(!state.progress().borrow().is_synced() && state.read_from_disk().is_none());
    assert!(!state.snapshot().policies_synced(), "nothing is let in yet");

    writer.fall_back_to_disk(SystemTime::now()).await;
    assert!(state.progress().borrow().is_synced() && state.read_from_disk().is_some());
    let snapshot = state.snapshot();
    assert!(snapshot.policies_synced() && snapshot.policies().count() == 1);
    assert_eq!(
        snapshot.rejected_policies().count(),
        1,
        "what cannot be read closes"
    );

    handler.apply(update(ADDRESS_TYPE_URL, vec![], &[])).await;
    assert!(
        state.read_from_disk().is_some(),
        "policies are still those from disk"
    );
    handler
        .apply(update(AUTHORIZATION_TYPE_URL, vec![], &["shop/bad"]))
        .await;
    assert!(state.read_from_disk().is_none());
    let snapshot = state.snapshot();
    assert_eq!(
        (snapshot.workloads().count(), snapshot.rejected_policies().count()),
        (1, 0)
    );
}

#[tokio::test]
async fn pods_of_this_node_are_in_use_and_others_are_not() {
    let (mut handler, _) = handler();
    handler
        .apply(update(ADDRESS_TYPE_URL, vec![workload("here")], &[]))
        .await;
    assert!(handler.in_use()("Kubernetes//Pod/shop/here"));
    assert!(!handler.in_use()("/10.0.0.5") && !handler.in_use()("shop/cart"));
}
