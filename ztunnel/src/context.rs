//! What every part of the proxy shares.

use crate::config::Config;
use crate::connections::Connections;
use crate::enforcement::Enforcement;
use crate::identities::Identities;
use crate::pods::Pods;
use crate::state::MeshState;
use std::time::Duration;
use telemetry::{FilterHandle, Metrics};
use tls::ConfigCache;

/// Time to connect to an application or another proxy.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Shared by all pods.
pub(crate) struct Context {
    /// Settings.
    pub(crate) config: Config,
    /// What the control plane has told.
    pub(crate) state: MeshState,
    /// Certificates.
    pub(crate) identities: Identities,
    /// TLS configurations made of them.
    pub(crate) tls: ConfigCache,
    /// What is open.
    pub(crate) connections: Connections,
    /// Who is served.
    pub(crate) pods: Pods,
    /// Judging what is open.
    pub(crate) enforcement: Enforcement,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// Changes what is logged.
    pub(crate) log: FilterHandle,
    /// Where DNS queries that are not of the mesh go.
    pub(crate) name_servers: Vec<std::net::SocketAddr>,
}
