use super::*;
use crate::connections::Connections;
use crate::enforcement::Enforcement;
use crate::pods::Pods;
use crate::readiness::Readiness;
use crate::state::{StateHandler, Writer};
use bytes::Bytes;
use prost::Message;
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::address::Type;
use proto::workload::{ADDRESS_TYPE_URL, Address, Workload as WorkloadMessage};
use telemetry::{MetricsSettings, Reporter, TrafficLabels};
use xds_client::{Handler, ResourceUpdate, Update};

fn uid(name: &str) -> String {
    format!("Kubernetes//Pod/shop/{name}")
}

fn update(type_url: &str, present: &[&str], removed: &[&str]) -> Update {
    let resources = present.iter().map(|name| {
        let message = WorkloadMessage {
            uid: uid(name),
            name: format!("{name}-1"),
            workload_name: (*name).into(),
            namespace: "shop".into(),
            ..WorkloadMessage::default()
        };
        let address = Address {
            r#type: Some(Type::Workload(message)),
        };
        ResourceUpdate {
            name: uid(name),
            aliases: Vec::new(),
            version: "1".into(),
            payload: Bytes::from(address.encode_to_vec()),
        }
    });
    Update {
        type_url: type_url.into(),
        resources: resources.collect(),
        removed: removed.iter().map(|name| uid(name)).collect(),
        ..Update::default()
    }
}

#[tokio::test]
async fn what_names_a_workload_that_left_goes_and_nothing_else() {
    let state = MeshState::default();
    let metrics = Metrics::new(MetricsSettings::default());
    let enforcement = Enforcement {
        node: "node-a".into(),
        mark: None,
        state: state.clone(),
        connections: Connections::default(),
        pods: Pods::default(),
        rules: mesh::route::Rules::default(),
        metrics: metrics.clone(),
    };
    let mut handler = StateHandler::new(
        Writer::new(state.clone(), enforcement),
        None,
        Readiness::default(),
    );
    for name in ["cart", "web"] {
        let mut labels = TrafficLabels::new(Reporter::Source);
        labels.source.workload = name.into();
        labels.source.namespace = "shop".into();
        drop(metrics.opened(&labels));
    }
    let many = 20;
    for _ in 0..many {
        assert_eq!(
            sweep(&metrics, &state),
            0,
            "before anybody is known, nobody is gone"
        );
    }
    handler
        .apply(update(ADDRESS_TYPE_URL, &["cart", "web"], &[]))
        .await;
    handler.apply(update(AUTHORIZATION_TYPE_URL, &[], &[])).await;
    let swept = |times| (0..times).map(|_| sweep(&metrics, &state)).sum::<usize>();
    assert_eq!(swept(many), 0, "both are there");
    handler.apply(update(ADDRESS_TYPE_URL, &[], &["cart"])).await;
    assert_eq!(swept(many), 1);
    let text = metrics.encode();
    assert!(!text.contains("source_workload=\"cart\""));
    assert!(text.contains("source_workload=\"web\""));
}
