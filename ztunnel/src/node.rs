//! How this proxy introduces itself to the control plane, and what it counts of the talk.

use crate::config::Config;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use proto::discovery::Node;
use std::net::{IpAddr, Ipv4Addr};
use telemetry::Metrics;
use xds_client::Termination;

/// The node message: `ztunnel~ADDRESS~POD.NAMESPACE~NAMESPACE.svc.CLUSTER-DOMAIN` and metadata.
pub(crate) fn describe(config: &Config) -> Node {
    let own = &config.own_pod;
    let address = own.address.unwrap_or(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)));
    let namespace = &own.namespace;
    let fixed: [(String, String); 7] = [
        ("NAME".into(), own.name.clone()),
        ("NAMESPACE".into(), namespace.clone()),
        ("INSTANCE_IPS".into(), address.to_string()),
        ("NODE_NAME".into(), config.node_name.clone()),
        ("CLUSTER_ID".into(), config.cluster_id.clone()),
        ("SERVICE_ACCOUNT".into(), own.service_account.clone()),
        // Our control plane sends dry-run policies only to proxies that say that they do not enforce them.
        ("ZTUNNEL_DRY_RUN_POLICIES".into(), "true".into()),
    ];
    let text = |text: String| Value {
        kind: Some(Kind::StringValue(text)),
    };
    let fixed = fixed.into_iter().map(|(key, value)| (key, text(value)));
    let further = config.node_metadata.iter();
    let further = further.map(|(key, value)| (key.clone(), to_value(value)));
    let fields = fixed.chain(further).collect();
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

/// JSON as protobuf's well-known type; its depth is bounded by the JSON reader.
fn to_value(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_value).collect(),
        }),
        Json::Object(entries) => Kind::StructValue(Struct {
            fields: entries
                .iter()
                .map(|(key, value)| (key.clone(), to_value(value)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
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
