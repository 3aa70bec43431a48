//! EndpointSlices: which addresses stand behind a Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use objects::{
    Object, ObjectKey, Pod, Protocol, SERVICE_NAME_LABEL, Service, ServicePort, ServiceType, TargetPort,
};
use serde_json::{Value, json};

use super::{Cluster, Write, deployments::word};

const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

/// A port of a slice: its name, its number on the pods, its protocol.
type Port = (String, u16, &'static str);
type Ports = Vec<Port>;

/// Writes the slices of every Service with a selector. Slices that somebody else made are left alone.
pub(super) fn reconcile(cluster: &Cluster<'_>) -> Vec<Write> {
    let mut wanted: BTreeMap<ObjectKey, Value> = BTreeMap::new();
    for (object, service) in &cluster.services {
        if service.selector.is_empty() || service.service_type == ServiceType::ExternalName {
            continue;
        }
        for value in slices_of(cluster, object, service) {
            if let Ok(slice) = Object::from_value(value.clone()) {
                wanted.insert(slice.key(), value);
            }
        }
    }
    let mut writes = Vec::new();
    let mut present = BTreeSet::new();
    for (object, _) in &cluster.slices {
        if object.metadata.labels.get(MANAGED_BY_LABEL).map(String::as_str) != Some(MANAGED_BY) {
            continue;
        }
        let key = object.key();
        match wanted.get(&key) {
            None => writes.push(Write::Delete(key)),
            Some(value) => {
                if ["endpoints", "ports", "addressType"]
                    .iter()
                    .any(|part| object.raw().get(part) != value.get(part))
                {
                    writes.push(Write::Put(value.clone()));
                }
                present.insert(key);
            }
        }
    }
    writes.extend(
        wanted
            .into_iter()
            .filter(|(key, _)| !present.contains(key))
            .map(|(_, value)| Write::Put(value)),
    );
    writes
}

/// One slice for each family and each set of port numbers: pods may give different numbers to a named port.
fn slices_of(cluster: &Cluster<'_>, object: &Object, service: &Service) -> Vec<Value> {
    let mut groups: BTreeMap<(bool, Ports), Vec<Value>> = BTreeMap::new();
    for (pod_object, pod) in cluster.backing(object, service) {
        let ports: Ports = service
            .ports
            .iter()
            .filter_map(|port| {
                Some((
                    port.name.clone(),
                    target_port(port, pod)?,
                    protocol_name(port.protocol),
                ))
            })
            .collect();
        for address in &pod.status.pod_ips {
            groups
                .entry((address.is_ipv6(), ports.clone()))
                .or_default()
                .push(endpoint(*address, pod_object, pod, service));
        }
    }
    groups
        .into_iter()
        .map(|((v6, ports), mut endpoints)| {
            endpoints.sort_by_key(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned));
            slice(object, v6, &ports, endpoints)
        })
        .collect()
}

/// The port of this pod that a Service's port means; `None` when the pod has no port of that name.
pub(crate) fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => pod
            .spec
            .containers_and_sidecars()
            .flat_map(|container| &container.ports)
            .find(|candidate| candidate.name == *name && candidate.protocol == port.protocol)
            .map(|candidate| candidate.port),
    }
}

fn endpoint(address: IpAddr, object: &Object, pod: &Pod, service: &Service) -> Value {
    let terminating = object.metadata.deletion_timestamp.is_some();
    let serving = pod.is_ready();
    json!({
        "addresses": [address.to_string()],
        "conditions": {
            "ready": service.publish_not_ready_addresses || (serving && !terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": pod.spec.node_name,
        "targetRef": {
            "kind": "Pod",
            "name": object.metadata.name,
            "namespace": object.metadata.namespace,
            "uid": object.metadata.uid,
        },
    })
}

fn slice(service: &Object, v6: bool, ports: &[Port], endpoints: Vec<Value>) -> Value {
    let family = if v6 { "IPv6" } else { "IPv4" };
    let number = ports
        .iter()
        .fold(u64::from(v6) + 1, |number, (name, port, protocol)| {
            name.bytes()
                .chain(protocol.bytes())
                .chain(port.to_be_bytes())
                .fold(number, |number, byte| {
                    number.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(byte)
                })
        });
    // A port without a name is written without one.
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port, protocol)| json!({ "name": name, "port": port, "protocol": protocol }))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{}", service.metadata.name, word(number, 5)),
            "namespace": service.metadata.namespace,
            "labels": { SERVICE_NAME_LABEL: service.metadata.name, MANAGED_BY_LABEL: MANAGED_BY },
            "ownerReferences": [{
                "apiVersion": "v1",
                "kind": "Service",
                "name": service.metadata.name,
                "uid": service.metadata.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "addressType": family,
        "ports": ports,
        "endpoints": endpoints,
    })
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}
