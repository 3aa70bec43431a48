//! What other clusters add to a service, as messages.

use std::collections::{BTreeMap, BTreeSet};

use objects::Object;
use proto::workload::load_balancing::{Mode, Scope};
use proto::workload::{
    AppProtocol, GatewayAddress, LoadBalancing, Port, PortList, Service, TunnelProtocol, Workload,
    WorkloadStatus, WorkloadType,
};

use super::remote::Share;
use crate::settings::Settings;
use crate::workload::trust_domain;

/// As how many different accounts a service's endpoints may answer elsewhere. Those beyond, in the order of their names,
/// are not believed.
const MAX_ACCOUNTS: usize = 256;

/// How a network is reached.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Way {
    /// The Gateway, `namespace/name`.
    pub(super) gateway: String,
    pub(super) address: GatewayAddress,
    /// The Gateway's own workload, where nobody else tells it.
    pub(super) workload: Option<Workload>,
}

/// What is added to a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Joined {
    /// What stands for its endpoints on other networks, by name.
    pub(super) workloads: BTreeMap<String, Workload>,
    /// As whom these may answer.
    pub(super) accounts: BTreeSet<String>,
    /// The clusters that add something.
    pub(super) from: BTreeSet<String>,
}

/// `namespace/name`.
pub(super) fn name_of(object: &Object) -> String {
    format!("{}/{}", object.metadata.namespace, object.metadata.name)
}

impl Joined {
    pub(super) fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.accounts.is_empty()
    }

    /// The endpoints on a network, in one cluster or several.
    pub(super) fn add<'a>(
        &mut self,
        settings: &Settings,
        key: &str,
        network: &str,
        way: &Way,
        shares: impl Iterator<Item = (&'a String, Share<'a>)>,
    ) {
        let mut capacity: u64 = 0;
        let mut ports: BTreeMap<u32, Port> = BTreeMap::new();
        for (cluster, Share { service, tally }) in shares {
            self.from.insert(cluster.clone());
            // Whether they are ready or not: connections do not end, and none is refused, because for a moment none is.
            let room = MAX_ACCOUNTS.saturating_sub(self.accounts.len());
            self.accounts.extend(tally.accounts.keys().take(room).cloned());
            if tally.capacity == 0 {
                continue;
            }
            capacity = capacity.saturating_add(tally.capacity);
            for port in &service.ports {
                let port = Port {
                    service_port: port.service_port,
                    // What it is there, the other side finds out; a port without a number would pass for one that is not
                    // served.
                    target_port: match port.target_port {
                        0 => port.service_port,
                        number => number,
                    },
                    app_protocol: AppProtocol::Unknown.into(),
                };
                ports.entry(port.service_port).or_insert(port);
            }
        }
        if capacity == 0 {
            return;
        }
        let ports = PortList {
            ports: ports.into_values().collect(),
        };
        let (namespace, host) = key.split_once('/').unwrap_or_default();
        let uid = format!("{network}/SplitHorizonWorkload/{}/{key}", way.gateway);
        let name = host.split('.').next().unwrap_or_default().to_owned();
        let workload = Workload {
            uid: uid.clone(),
            name: name.clone(),
            namespace: namespace.to_owned(),
            network: network.to_owned(),
            network_gateway: Some(way.address.clone()),
            tunnel_protocol: TunnelProtocol::Hbone.into(),
            trust_domain: trust_domain(settings),
            canonical_name: name.clone(),
            canonical_revision: "latest".to_owned(),
            workload_type: WorkloadType::Pod.into(),
            workload_name: name,
            services: BTreeMap::from([(key.to_owned(), ports)]),
            status: WorkloadStatus::Healthy.into(),
            capacity: Some(u32::try_from(capacity).unwrap_or(u32::MAX)),
            ..Workload::default()
        };
        self.workloads.insert(uid, workload);
    }

    /// The service as it is told: with those who may answer elsewhere, and with what is near first where its author prefers
    /// nothing.
    pub(super) fn decorate(&self, mut service: Service) -> Service {
        if self.accounts.is_empty() {
            return service;
        }
        service.subject_alt_names.extend(self.accounts.iter().cloned());
        let balancing = service.load_balancing.get_or_insert_with(LoadBalancing::default);
        if balancing.routing_preference.is_empty() && balancing.mode() == Mode::UnspecifiedMode {
            balancing.routing_preference.push(Scope::Network.into());
            balancing.set_mode(Mode::Failover);
        }
        service
    }
}
