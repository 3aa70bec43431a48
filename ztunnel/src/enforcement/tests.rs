use super::*;
use crate::pods::PodId;
use crate::readiness::Readiness;
use crate::state::{StateHandler, Writer};
use bytes::Bytes;
use mesh::Identity;
use prost::Message;
use proto::security::{AUTHORIZATION_TYPE_URL, Action, Authorization, Scope};
use proto::workload::address::Type;
use proto::workload::{ADDRESS_TYPE_URL, Address, TunnelProtocol, Workload as WorkloadMessage};
use telemetry::MetricsSettings;
use xds_client::{Handler, ResourceUpdate, Update};

const UID: &str = "Kubernetes//Pod/shop/cart-1";

fn update(type_url: &str, name: &str, message: &impl Message) -> Update {
    Update {
        type_url: type_url.into(),
        resources: vec![ResourceUpdate {
            name: name.into(),
            aliases: Vec::new(),
            version: "1".into(),
            payload: Bytes::from(message.encode_to_vec()),
        }],
        ..Update::default()
    }
}

fn workload(policies: &[&str]) -> Update {
    let message = WorkloadMessage {
        uid: UID.into(),
        name: "cart-1".into(),
        namespace: "shop".into(),
        node: "node-a".into(),
        service_account: "cart".into(),
        addresses: vec![Bytes::from_static(&[10, 0, 0, 5])],
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        authorization_policies: policies.iter().map(ToString::to_string).collect(),
        ..WorkloadMessage::default()
    };
    let address = Address {
        r#type: Some(Type::Workload(message)),
    };
    update(ADDRESS_TYPE_URL, UID, &address)
}

/// An ALLOW policy without rules lets nobody in.
fn allow_nobody() -> Update {
    let message = Authorization {
        name: "nobody".into(),
        namespace: "shop".into(),
        scope: Scope::WorkloadSelector.into(),
        action: Action::Allow.into(),
        ..Authorization::default()
    };
    update(AUTHORIZATION_TYPE_URL, "shop/nobody", &message)
}

#[tokio::test]
async fn a_decision_is_by_the_pod_as_the_newest_snapshot_has_it() {
    let state = MeshState::default();
    let enforcement = Enforcement {
        node: "node-a".into(),
        mark: Some(0x539),
        state: state.clone(),
        connections: Connections::default(),
        pods: Pods::default(),
        rules: Rules::default(),
        metrics: Metrics::new(MetricsSettings::default()),
    };
    let pod = Pod {
        buffers: hbone::budget::Budget::new(1 << 20).account(),
        id: PodId::from("1"),
        name: "cart-1".into(),
        identity: Identity::new("cluster.local", "shop", "cart"),
        network: Namespace::current().unwrap(),
    };
    let subject = InboundSubject {
        peer: Some(Identity::new("cluster.local", "shop", "client")),
        source_ip: [10, 0, 0, 9].into(),
        destination: ([10, 0, 0, 5], 8080).into(),
    };
    let verdict = || {
        enforcement
            .decide_now(&pod, &subject)
            .map(|decision| decision.verdict)
    };
    assert_eq!(verdict(), None, "not known yet");

    let mut handler = StateHandler::new(
        Writer::new(state, enforcement.clone()),
        None,
        Readiness::default(),
    );
    handler.apply(allow_nobody()).await;
    handler.apply(workload(&[])).await;
    assert_eq!(verdict(), Some(Verdict::Allow));
    // Only the pod changes: the policy was there before, and is now for this pod.
    handler.apply(workload(&["shop/nobody"])).await;
    assert_eq!(verdict(), Some(Verdict::Deny));

    let gone = Update {
        resources: Vec::new(),
        removed: vec![UID.into()],
        ..workload(&[])
    };
    handler.apply(gone).await;
    assert_eq!(verdict(), None, "gone");
}
