//! How the pods of a waypoint take connections that the node proxy has decrypted for them.

use objects::{GATEWAY_NAME_LABEL, Kind, Object};
use proto::workload::{ApplicationTunnel, application_tunnel::Protocol};

use crate::index::Index;

/// The annotation on a Gateway or GatewayClass that says how: `PROXY` or `NONE`, optionally with `/port`.
pub(crate) const BINDING_ANNOTATION: &str = "ambient.istio.io/waypoint-inbound-binding";

/// How the pod takes connections that the node proxy has decrypted for it; `None` where it is no such waypoint.
pub(crate) fn application_tunnel(index: &Index, pod: &Object) -> Option<ApplicationTunnel> {
    let metadata = &pod.metadata;
    let name = metadata.labels.get(GATEWAY_NAME_LABEL)?;
    let object = index.get(Kind::Gateway, &metadata.namespace, name)?;
    let class = index.get(Kind::GatewayClass, "", &object.as_gateway()?.class_name);
    let binding = |object: &Object| object.metadata.annotations.get(BINDING_ANNOTATION).cloned();
    parse(&binding(object).or_else(|| binding(class?))?)
}

fn parse(binding: &str) -> Option<ApplicationTunnel> {
    let (protocol, port) = match binding.split_once('/') {
        Some((protocol, port)) => (protocol, port.parse::<u16>().ok()?),
        None => (binding, 0),
    };
    let protocol = match protocol {
        "PROXY" => Protocol::Proxy,
        "NONE" => Protocol::None,
        _ => return None,
    };
    Some(ApplicationTunnel {
        protocol: protocol.into(),
        port: port.into(),
    })
}
