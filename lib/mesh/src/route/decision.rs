//! Where a connection goes, as a value.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{PassthroughReason, Refusal};
use crate::address::NetworkAddress;
use crate::identity::Identity;
use crate::service::Service;
use crate::workload::Workload;

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Plain TCP.
    Passthrough {
        /// To here.
        destination: SocketAddr,
        /// The workload there, where known.
        workload: Option<Arc<Workload>>,
        /// The service that was addressed, if one was.
        service: Option<Arc<Service>>,
        /// Why not through a tunnel.
        why: PassthroughReason,
    },
    /// Through a tunnel.
    Hbone(Box<HboneRoute>),
    /// Nowhere before something is known.
    Wait(Need),
    /// Nowhere.
    Refuse(Refusal),
}

/// A way through a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HboneRoute {
    /// What is dialled.
    pub hop: Hop,
    /// Where to dial: its address and HBONE port.
    pub peer: SocketAddr,
    /// What to ask it for. An endpoint: the pod's address and the application's port. A waypoint: what the
    /// application addressed. A gateway: the service's host name and port. IPv6 in brackets.
    pub authority: String,
    /// Who may answer: sorted, each once, never empty.
    pub accepted: Vec<Identity>,
    /// The workload dialled. Where it fails, its uid is one of [`super::Facts::tried`] in the next attempt.
    pub next: Arc<Workload>,
    /// A second tunnel inside the first one's stream, through the gateway of another network.
    pub inner: Option<InnerTunnel>,
    /// The workload at the end, where known: not behind a waypoint or gateway.
    pub workload: Option<Arc<Workload>>,
    /// The service that was addressed, if one was.
    pub service: Option<Arc<Service>>,
    /// What metrics and logs call the destination: the endpoint's address and port where one was chosen, else
    /// what the application addressed.
    pub destination: SocketAddr,
}

/// What a tunnel is dialled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The workload itself.
    Endpoint,
    /// The waypoint of the service that was addressed.
    ServiceWaypoint,
    /// The waypoint of the workload that was addressed.
    WorkloadWaypoint,
    /// The gateway of the network that the endpoint or waypoint is on.
    NetworkGateway,
}

/// A tunnel (TLS and HTTP/2) inside a stream of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerTunnel {
    /// What to ask for inside: the service's host name and port.
    pub authority: String,
    /// Who may answer inside: sorted, each once, never empty.
    pub accepted: Vec<Identity>,
    /// The network the connection comes from, for the header `x-forwarded-network`.
    pub network: Arc<str>,
}

/// What has to be known first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// The source workload itself. [`super::route`] never asks for it; callers do.
    Source,
    /// What is at an address.
    Address(NetworkAddress),
    /// The service `namespace/hostname`.
    Service(Arc<str>),
    /// The addresses of a host name.
    Hostname(Arc<str>),
}
