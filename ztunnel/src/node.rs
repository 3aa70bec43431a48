//! How this proxy introduces itself to the control plane, and what it counts of the talk.

use crate::config::Config;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::discovery::Node;
use std::net::{IpAddr, Ipv4Addr};
use telemetry::Metrics;
use xds_client::Termination;

/// The node message: `ztunnel~ADDRESS~POD.NAMESPACE~NAMESPACE.svc.CLUSTER-DOMAIN` and metadata.
pub(crate) fn describe(config: &Config) -> Node {
    let own = &config.own_pod;
    let address = own.address.unwrap_or(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)));
    let namespace = &own.namespace;
    let mut fields: Vec<(String, String)> = vec![
        ("NAME".into(), own.name.clone()),
        ("NAMESPACE".into(), namespace.clone()),
        ("INSTANCE_IPS".into(), address.to_string()),
        ("NODE_NAME".into(), config.node_name.clone()),
        ("CLUSTER_ID".into(), config.cluster_id.clone()),
        ("SERVICE_ACCOUNT".into(), own.service_account.clone()),
    ];
    fields.extend(config.node_metadata.clone());
    let fields = fields
        .into_iter()
        .map(|(key, value)| {
            (
                key,
                Value {
                    kind: Some(Kind::StringValue(value)),
                },
            )
        })
        .collect();
    Node {
        id: format!(
            "ztunnel~{address}~{}.{namespace}~{namespace}.svc.{}",
            own.name, config.cluster_domain
        ),
        metadata: Some(Struct { fields }),
        build_version: env!("CARGO_PKG_VERSION").into(),
        ..Node::default()
    }
}

/// Counts what the discovery client sees.
pub(crate) struct Observer(pub Metrics);

impl xds_client::Observer for Observer {
    fn message(&self, type_url: &str, bytes: usize) {
        self.0.xds_message(type_url, bytes);
    }

    fn terminated(&self, how: Termination) {
        self.0.xds_terminated(how.as_str());
    }
}
