//! What every part of the proxy shares.

use crate::acceptor::Reserve;
use crate::config::Config;
use crate::connections::Connections;
use crate::endpoint_load::EndpointLoad;
use crate::enforcement::Enforcement;
use crate::flow::Descriptions;
use crate::host_names::HostNames;
use crate::identities::Identities;
use crate::pods::Pods;
use crate::state::MeshState;
use crate::tunnels::Tunnels;
use hbone::budget::Budget;
use mesh::route::Rules;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use telemetry::{CertificateState, FilterHandle, Metrics};
use tls::ConfigCache;
use tokio_util::sync::CancellationToken;

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
    pub(crate) tls: Arc<ConfigCache>,
    /// Tunnels that are open.
    pub(crate) tunnels: Tunnels,
    /// What peers may hold of this process's memory.
    pub(crate) buffers: Budget,
    /// What is open.
    pub(crate) connections: Connections,
    /// Who is served.
    pub(crate) pods: Pods,
    /// Judging what is open.
    pub(crate) enforcement: Enforcement,
    /// For when there are no descriptors left.
    pub(crate) reserve: Reserve,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// What peers may say of themselves in them.
    pub(crate) descriptions: Descriptions,
    /// Changes what is logged.
    pub(crate) log: FilterHandle,
    /// What is seen of endpoints.
    pub(crate) load: EndpointLoad,
    /// Addresses of workloads that have host names.
    pub(crate) host_names: HostNames,
    /// Settings that decide where connections go.
    pub(crate) rules: Rules,
    /// Where DNS queries that are not of the mesh go.
    pub(crate) name_servers: Vec<std::net::SocketAddr>,
    /// Cancelled when somebody asks this proxy to drain and stop, as SIGTERM does.
    pub(crate) quit: CancellationToken,
}

impl Context {
    /// Puts what is a state rather than a count into the metrics, as it is now.
    pub(crate) fn observe(&self) {
        let now = SystemTime::now();
        let states: Vec<CertificateState> = self
            .identities
            .list()
            .into_iter()
            .map(|(_, state)| state.summary(now))
            .collect();
        for state in [
            CertificateState::Pending,
            CertificateState::Valid,
            CertificateState::RenewalFailing,
            CertificateState::Expired,
            CertificateState::Revoked,
        ] {
            self.metrics
                .set_certificates(state, states.iter().filter(|found| **found == state).count());
        }
        self.metrics
            .set_proxies(self.pods.list().len(), self.pods.waiting().len());
        self.metrics.set_buffers(
            self.buffers.queued(),
            self.buffers.promised(),
            self.buffers.limit(),
        );
        let written = self.state.read_from_disk();
        self.metrics
            .set_disk_state_age(written.map(|written| written.elapsed().unwrap_or_default()));
    }
}
