//! The pure model of the mesh and its decisions: where an outbound connection goes ([`route::route`]), what an inbound
//! one leads to ([`inbound::target`]), and whether it may pass ([`authorize::authorize`]).
//!
//! State arrives as [`Change`]s and is kept in a [`Snapshot`] of persistent maps: an update costs what changed,
//! and whoever holds a clone keeps the state of its revision. A decision is a value that says what it rests on.
//!
//! Deliberately not here: sockets, files, tasks, clocks and randomness. Time and entropy are arguments, so the
//! same input gives the same decision, on every machine and in every test. What changes the state, and what is
//! done with a decision, is the callers' business.

mod address;
pub mod authorize;
mod change;
mod endpoints;
mod gateway;
mod health;
mod identity;
pub mod inbound;
mod names;
pub mod policy;
mod port;
mod rejected;
pub mod route;
mod service;
mod snapshot;
pub mod standing;
#[cfg(test)]
mod testing;
mod workload;

pub use address::{AddressError, IpPrefix, NetworkAddress};
pub use authorize::{Connection, Decision, Verdict, authorize};
pub use change::Change;
pub use gateway::{GatewayAddress, GatewayDestination};
pub use health::{EJECTION_STEP, EndpointHealth, MAX_EJECTION, MAX_TRACKED};
pub use identity::{Identity, IdentityError, MAX_SPIFFE_ID_LENGTH, MAX_TRUST_DOMAIN_LENGTH};
pub use names::{Asker, addresses_of_name};
pub use policy::{MAX_POLICY_SIZE, Policy};
pub use port::{AppProtocol, Port};
pub use rejected::Rejected;
pub use route::{Facts, HboneRoute, Hop, InnerTunnel, OutboundPolicy, Refusal, Request, Route, Rules};
pub use service::{
    CLIENT_ADDRESS, IpFamilies, LoadBalancing, LoadBalancingMode, LocalityScope, SESSION_AFFINITY, Service,
    ServiceAddress,
};
pub use snapshot::{ClosedPolicy, DEFAULT_ROOT_NAMESPACE, PolicyState, Snapshot, Viewpoint};
pub use workload::{
    ApplicationTunnel, ApplicationTunnelProtocol, DEFAULT_CLUSTER_ID, DEFAULT_SERVICE_ACCOUNT,
    DEFAULT_TRUST_DOMAIN, Locality, TunnelProtocol, Workload, WorkloadType,
};
