use std::collections::BTreeMap;
use std::sync::Arc;

use objects::{Deployment, EndpointSlice, Gateway, Node, Object, Pod, Service, Spec};

/// Marks the Pod objects that stand for the node proxies: they are run by the lab, not as pods.
pub(crate) const MANAGED_ANNOTATION: &str = "ztunnel.dev/lab-process";

/// The objects by kind. Each entry: the whole object and its typed content.
pub(crate) struct Cluster<'a> {
    pub(crate) namespaces: BTreeMap<&'a str, &'a Object>,
    pub(crate) pods: Vec<(&'a Object, &'a Pod)>,
    pub(crate) deployments: Vec<(&'a Object, &'a Deployment)>,
    pub(crate) services: Vec<(&'a Object, &'a Service)>,
    pub(crate) slices: Vec<(&'a Object, &'a EndpointSlice)>,
    pub(crate) nodes: Vec<(&'a Object, &'a Node)>,
    pub(crate) gateways: Vec<(&'a Object, &'a Gateway)>,
    pub(crate) all: &'a [Arc<Object>],
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(objects: &'a [Arc<Object>]) -> Cluster<'a> {
        let mut cluster = Cluster {
            namespaces: BTreeMap::new(),
            pods: Vec::new(),
            deployments: Vec::new(),
            services: Vec::new(),
            slices: Vec::new(),
            nodes: Vec::new(),
            gateways: Vec::new(),
            all: objects,
        };
        for object in objects {
            let object = object.as_ref();
            match &object.spec {
                Spec::Namespace => {
                    cluster.namespaces.insert(&object.metadata.name, object);
                }
                Spec::Pod(pod) => cluster.pods.push((object, pod)),
                Spec::Deployment(deployment) => cluster.deployments.push((object, deployment)),
                Spec::Service(service) => cluster.services.push((object, service)),
                Spec::EndpointSlice(slice) => cluster.slices.push((object, slice)),
                Spec::Node(node) => cluster.nodes.push((object, node)),
                Spec::Gateway(gateway) => cluster.gateways.push((object, gateway)),
                _ => {}
            }
        }
        cluster
    }

    /// The pods that a Service selects: its namespace, its labels, with an address, not ended.
    pub(crate) fn backing(&self, service: &Object, spec: &Service) -> Vec<(&'a Object, &'a Pod)> {
        if spec.selector.is_empty() {
            return Vec::new();
        }
        let selected = |(object, pod): &(&Object, &Pod)| {
            object.metadata.namespace == service.metadata.namespace
                && !pod.status.phase.is_terminal()
                && !pod.status.pod_ips.is_empty()
                && spec
                    .selector
                    .iter()
                    .all(|(key, value)| object.metadata.labels.get(key) == Some(value))
        };
        self.pods.iter().copied().filter(selected).collect()
    }
}

/// Whether this Pod object stands for a node proxy.
pub(crate) fn is_node_proxy(object: &Object) -> bool {
    object.metadata.annotations.contains_key(MANAGED_ANNOTATION)
}
