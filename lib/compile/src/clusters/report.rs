//! How it stands with another cluster, for those who look after it.

use std::fmt;

use super::Clusters;
use super::remote::Remote;

/// How it stands with another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterReport {
    /// Its network; empty where nothing names it.
    pub network: String,
    /// The Gateway by which that network is reached, `namespace/name`; it may be another cluster's on the same network.
    pub gateway: Option<String>,
    /// How many of its services have endpoints that could be reached through a gateway.
    pub services: usize,
    /// How many of these are one with a Service of this cluster.
    pub joined: usize,
    /// Why nothing of it is told, if that is so.
    pub hindrance: Option<Hindrance>,
}

/// Why nothing of a cluster is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// Its root namespace has no label that names a network.
    NoNetwork,
    /// It is on our network.
    SameNetwork,
    /// Nothing says how its network is reached.
    NoGateway,
}

impl Hindrance {
    /// One stable word.
    pub fn reason(self) -> &'static str {
        match self {
            Hindrance::NoNetwork => "no_network",
            Hindrance::SameNetwork => "same_network",
            Hindrance::NoGateway => "no_gateway",
        }
    }
}

/// What is missing, and what to do.
impl fmt::Display for Hindrance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Hindrance::NoNetwork => {
                "its root namespace has no label topology.istio.io/network; label it with the name of its network"
            }
            Hindrance::SameNetwork => {
                "its network has the name of ours, and clusters on one network are not joined; name its network otherwise if \
                 it is another"
            }
            Hindrance::NoGateway => {
                "its network has no gateway: a Gateway there of class istio-east-west in the root namespace, with a listener \
                 of protocol HBONE, the label topology.istio.io/network of that network, and an address in its status"
            }
        })
    }
}

pub(super) fn of(clusters: &Clusters, name: &str, remote: &Remote) -> ClusterReport {
    let network = remote.network();
    let way = clusters.ways.get(network);
    let hindrance = if network.is_empty() {
        Some(Hindrance::NoNetwork)
    } else if network == clusters.own_network() {
        Some(Hindrance::SameNetwork)
    } else if way.is_none() {
        Some(Hindrance::NoGateway)
    } else {
        None
    };
    ClusterReport {
        network: network.to_owned(),
        gateway: way.map(|way| way.gateway.clone()),
        services: remote.services().len(),
        joined: clusters.counts.get(name).copied().unwrap_or_default(),
        hindrance,
    }
}
