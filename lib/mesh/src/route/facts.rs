//! What a route depends on: who asks for what, and all that is known.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::Need;
use crate::health::EndpointHealth;
use crate::snapshot::Snapshot;
use crate::workload::Workload;

/// An outbound connection.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Whose network namespace it comes from.
    pub source: &'a Workload,
    /// Where the application wanted to go.
    pub destination: SocketAddr,
}

/// All that a route depends on besides the request.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// What the control plane says.
    pub snapshot: &'a Snapshot,
    /// What was seen of endpoints.
    pub health: &'a EndpointHealth,
    /// Uids of workloads that failed for this very connection ([`super::HboneRoute::next`]).
    pub tried: &'a [Arc<str>],
    /// What this connection has waited for already. Where the snapshot or the names know nothing of it still, it
    /// does not exist.
    pub asked: &'a [Need],
    /// The time.
    pub now: Instant,
    /// Evenly spread bits that pick among equals.
    pub entropy: u64,
    /// Host names that were looked up.
    pub names: &'a dyn Names,
    /// Settings of this proxy.
    pub rules: &'a Rules,
}

/// Host names that the caller has looked up.
pub trait Names {
    /// What a look-up gave; `None`: nobody has looked yet, or the answer is too old.
    fn resolved(&self, hostname: &str) -> Option<Resolution>;
}

/// What the look-up of a host name gave: its addresses, or why there are none, as part of a sentence.
pub type Resolution = Result<Arc<[IpAddr]>, Arc<str>>;

/// No name was looked up.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingResolved;

impl Names for NothingResolved {
    fn resolved(&self, _: &str) -> Option<Resolution> {
        None
    }
}

/// Settings of a proxy that decide where connections go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// What becomes of destinations that the mesh does not know.
    pub outbound_policy: OutboundPolicy,
    /// Of several services with one address or host name, one of this namespace wins over the first, but not over
    /// one of the caller's own namespace nor over the canonical one.
    pub preferred_service_namespace: Option<Arc<str>>,
    /// The snapshot holds only what was asked for: [`super::route`] answers [`super::Route::Wait`] for what it does not hold.
    pub on_demand: bool,
}

/// What becomes of destinations that the mesh does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OutboundPolicy {
    /// They are reached by plain TCP.
    #[default]
    AllowAny,
    /// They are refused.
    RegistryOnly,
}
