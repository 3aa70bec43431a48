//! Services.

use std::net::IpAddr;

use crate::document::{Data, Tree};
use crate::metadata::own;
use crate::read::{Field, Fields};
use crate::selector::Labels;
use crate::syntax::{self, PROTOCOLS, Protocol};

/// How many addresses from outside of the cluster are read.
const MAX_OUTER_ADDRESSES: usize = 256;

/// A name and addresses that stand for a set of pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// How it is published.
    pub service_type: ServiceType,
    /// Whether `clusterIP: None` was written: no address of its own.
    pub headless: bool,
    /// Its addresses, the primary one first; empty when headless or not assigned yet.
    pub cluster_ips: Vec<IpAddr>,
    /// The addresses of its load balancer (`status.loadBalancer`), as far as they are addresses.
    pub load_balancer_ips: Vec<IpAddr>,
    /// The addresses that its author wants connections to (`externalIPs`), as far as they are addresses.
    pub external_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// The labels of its pods; empty: its endpoints are written by somebody else.
    pub selector: Labels,
    /// Which endpoints traffic from inside the cluster may use.
    pub internal_traffic_policy: TrafficPolicy,
    /// Which endpoints are preferred.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Whether endpoints that are not ready are used like ready ones.
    pub publish_not_ready_addresses: bool,
    /// Whether connections of one client address belong on one endpoint.
    pub client_ip_affinity: bool,
    /// The address families, the primary one first.
    pub ip_families: Vec<IpFamily>,
    /// How many families it wants.
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// The name that an ExternalName Service stands for; empty for other types.
    pub external_name: String,
}

/// How a Service is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIp,
    /// Also on a port of every node.
    NodePort,
    /// Also by a load balancer.
    LoadBalancer,
    /// Only an alias of a DNS name.
    ExternalName,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The name; empty when it has none.
    pub name: String,
    /// The port of the Service.
    pub port: u16,
    /// The port of its pods.
    pub target_port: TargetPort,
    /// The transport protocol.
    pub protocol: Protocol,
    /// What is spoken on it; empty when not said.
    pub app_protocol: String,
}

/// The port of the pods that a Service port means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// This number.
    Number(u16),
    /// The container port of this name, which may differ from pod to pod.
    Name(String),
}

/// Which endpoints may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Cluster,
    /// Only those on the caller's node.
    Local,
}

/// Which endpoints are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    /// Those in the caller's zone (the older name).
    PreferClose,
    /// Those in the caller's zone.
    PreferSameZone,
    /// Those on the caller's node.
    PreferSameNode,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How many address families a Service wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamilyPolicy {
    /// One.
    SingleStack,
    /// Two where the cluster has them.
    PreferDualStack,
    /// Two, or it cannot be made.
    RequireDualStack,
}

impl TrafficDistribution {
    /// The value of the field or annotation that Kubernetes and Istio know by this name.
    pub fn from_name(name: &str) -> Option<TrafficDistribution> {
        DISTRIBUTIONS
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }
}

const DISTRIBUTIONS: [(&str, TrafficDistribution); 3] = [
    ("PreferClose", TrafficDistribution::PreferClose),
    ("PreferSameZone", TrafficDistribution::PreferSameZone),
    ("PreferSameNode", TrafficDistribution::PreferSameNode),
];

impl Service {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Service> {
        const TYPES: [(&str, ServiceType); 4] = [
            ("ClusterIP", ServiceType::ClusterIp),
            ("NodePort", ServiceType::NodePort),
            ("LoadBalancer", ServiceType::LoadBalancer),
            ("ExternalName", ServiceType::ExternalName),
        ];
        const POLICIES: [(&str, TrafficPolicy); 2] = [
            ("Cluster", TrafficPolicy::Cluster),
            ("Local", TrafficPolicy::Local),
        ];
        const AFFINITIES: [(&str, bool); 2] = [("ClientIP", true), ("None", false)];
        const FAMILIES: [(&str, IpFamily); 2] = [("IPv4", IpFamily::V4), ("IPv6", IpFamily::V6)];
        const FAMILY_POLICIES: [(&str, IpFamilyPolicy); 3] = [
            ("SingleStack", IpFamilyPolicy::SingleStack),
            ("PreferDualStack", IpFamilyPolicy::PreferDualStack),
            ("RequireDualStack", IpFamilyPolicy::RequireDualStack),
        ];
        let balanced = fields.get("status").map(|field| load_balancer_ips(field.tree()));
        let field = fields.require("spec", "a Service needs a spec")?;
        let mut spec = field.fields()?;
        let mut service = Service {
            service_type: spec
                .get("type")
                .and_then(|field| field.choice(&TYPES))
                .unwrap_or_default(),
            external_name: own(spec.get("externalName")),
            load_balancer_ips: balanced.unwrap_or_default(),
            external_ips: spec
                .get("externalIPs")
                .map(|field| addresses_in(field.tree(), |item| item.text().map(str::to_owned)))
                .unwrap_or_default(),
            ..Service::default()
        };
        service.read_addresses(&mut spec);
        service.read_ports(&mut spec);
        if let Some(field) = spec.get("selector") {
            service.selector = field.text_map(syntax::label);
        }
        let policy = spec
            .get("internalTrafficPolicy")
            .and_then(|field| field.choice(&POLICIES));
        service.internal_traffic_policy = policy.unwrap_or_default();
        service.traffic_distribution = spec
            .get("trafficDistribution")
            .and_then(|field| field.choice(&DISTRIBUTIONS));
        let unready = spec
            .get("publishNotReadyAddresses")
            .and_then(|field| field.boolean());
        service.publish_not_ready_addresses = unready.unwrap_or(false);
        let affinity = spec
            .get("sessionAffinity")
            .and_then(|field| field.choice(&AFFINITIES));
        service.client_ip_affinity = affinity.unwrap_or(false);
        if let Some(field) = spec.get("ipFamilies") {
            let families = field.items_up_to(2);
            service.ip_families = families
                .iter()
                .filter_map(|field| field.choice(&FAMILIES))
                .collect();
        }
        service.ip_family_policy = spec
            .get("ipFamilyPolicy")
            .and_then(|field| field.choice(&FAMILY_POLICIES));
        match (service.service_type, service.external_name.is_empty()) {
            (ServiceType::ExternalName, true) => {
                field.error("a Service of type ExternalName needs externalName")
            }
            (ServiceType::ExternalName, false) | (_, true) => {}
            // API servers store it with any type, and it then means nothing.
            (_, false) if field.is_stored() => service.external_name.clear(),
            (_, false) => field.error("externalName is only for a Service of type ExternalName"),
        }
        spec.keep(&[
            "allocateLoadBalancerNodePorts",
            "externalTrafficPolicy",
            "healthCheckNodePort",
            "loadBalancerClass",
            "loadBalancerIP",
            "loadBalancerSourceRanges",
            "sessionAffinityConfig",
            "topologyKeys",
        ]);
        spec.finish();
        Some(service)
    }

    fn read_addresses(&mut self, spec: &mut Fields<'_>) {
        let mut read = |field: &Field<'_>| match field.tree().text() {
            Some("None") => self.headless = true,
            Some("") => {}
            _ => {
                let address = field.parsed(syntax::unicast);
                self.cluster_ips
                    .extend(address.filter(|address| !self.cluster_ips.contains(address)));
            }
        };
        if let Some(field) = spec.get("clusterIP") {
            read(&field);
        }
        if let Some(field) = spec.get("clusterIPs") {
            field.items_up_to(2).iter().for_each(&mut read);
        }
        if self.headless && !self.cluster_ips.is_empty() {
            spec.field()
                .error("a cluster IP is either None or an address, not both");
        }
    }

    fn read_ports(&mut self, spec: &mut Fields<'_>) {
        // ExternalName and headless Services may do without ports.
        let needed = self.service_type != ServiceType::ExternalName && !self.headless;
        let field = spec.get("ports");
        let items = field.as_ref().map(Field::items).unwrap_or_default();
        if needed && items.is_empty() {
            spec.field()
                .error("ports is missing: a Service with a cluster IP needs at least one port");
        }
        for item in &items {
            let Some(port) = ServicePort::read(item) else {
                continue;
            };
            if port.name.is_empty() && items.len() > 1 {
                item.error("needs a name, because the Service has several ports");
            }
            if !port.name.is_empty() && self.ports.iter().any(|other| other.name == port.name) {
                item.error(format!("there is already a port named {:?}", port.name));
            }
            if self
                .ports
                .iter()
                .any(|other| (other.port, other.protocol) == (port.port, port.protocol))
            {
                item.error(format!("port {} is there already", port.port));
            }
            self.ports.push(port);
        }
    }
}

impl ServicePort {
    fn read(field: &Field<'_>) -> Option<ServicePort> {
        let mut fields = field.fields()?;
        let name = fields
            .get("name")
            .and_then(|field| field.checked(syntax::dns_label))
            .unwrap_or_default();
        let port = fields
            .require("port", "the port of the Service")
            .and_then(|field| field.port());
        let target = fields.get("targetPort").map(|field| read_target(&field));
        let protocol = fields
            .get("protocol")
            .and_then(|field| field.choice(&PROTOCOLS))
            .unwrap_or_default();
        let app_protocol = own(fields.get("appProtocol"));
        fields.keep(&["nodePort"]);
        fields.finish();
        let port = port?;
        let target_port = target.unwrap_or(Some(TargetPort::Number(port)))?;
        Some(ServicePort {
            name: name.to_owned(),
            port,
            target_port,
            protocol,
            app_protocol,
        })
    }
}

/// What a controller wrote is no reason to refuse what the author wrote: what is not understood of it is left out.
fn load_balancer_ips(status: &Tree) -> Vec<IpAddr> {
    let ingress = status
        .get("loadBalancer")
        .and_then(|balancer| balancer.get("ingress"));
    let address = |item: &Tree| item.get("ip").and_then(Tree::text).map(str::to_owned);
    ingress
        .map(|items| addresses_in(items, address))
        .unwrap_or_default()
}

fn addresses_in(items: &Tree, text: impl Fn(&Tree) -> Option<String>) -> Vec<IpAddr> {
    let Data::Sequence(items) = &items.data else {
        return Vec::new();
    };
    let read = |item| syntax::unicast(&text(item)?).ok();
    items.iter().take(MAX_OUTER_ADDRESSES).filter_map(read).collect()
}

fn read_target(field: &Field<'_>) -> Option<TargetPort> {
    match field.tree().text() {
        Some(_) => field
            .checked(syntax::port_name)
            .map(|name| TargetPort::Name(name.to_owned())),
        None => field.port().map(TargetPort::Number),
    }
}
