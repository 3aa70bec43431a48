//! Who a proxy says it is, and whether that is who its token says.

use prost_types::value::Kind;
use proto::discovery::Node;

/// The proxy as its Node message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyName {
    pub(crate) node: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
}

/// The Node message is not one of a node proxy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("the first request has no Node")]
    Missing,
    #[error("Node.metadata has no {0} text; a node proxy sends NAME, NAMESPACE and NODE_NAME")]
    NoMetadata(&'static str),
    #[error("Node.id {0:?} is not type~ip~pod.namespace~domain with the pod and namespace of the metadata")]
    BadId(String),
}

impl ProxyName {
    pub(crate) fn from_node(node: Option<&Node>) -> Result<ProxyName, NodeError> {
        let node = node.ok_or(NodeError::Missing)?;
        let text = |field: &'static str| {
            let value = node
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.fields.get(field));
            match value.and_then(|value| value.kind.as_ref()) {
                Some(Kind::StringValue(text)) if !text.is_empty() => Ok(text.clone()),
                _ => Err(NodeError::NoMetadata(field)),
            }
        };
        let name = ProxyName {
            node: text("NODE_NAME")?,
            namespace: text("NAMESPACE")?,
            pod: text("NAME")?,
        };
        // `ztunnel~10.0.0.1~ztunnel-abc.istio-system~istio-system.svc.cluster.local`
        let parts: Vec<&str> = node.id.split('~').collect();
        match parts[..] {
            [_, _, pod, _] if pod == format!("{}.{}", name.pod, name.namespace) => Ok(name),
            _ => Err(NodeError::BadId(node.id.clone())),
        }
    }
}
