//! Every metric there is.

mod control_plane;
mod dns;
mod family;
mod histogram;
mod histograms;
mod inventory;
mod label;
mod names;
mod on_demand_dns;
mod process;
mod table;
#[cfg(test)]
mod tests;
mod traffic;
mod traffic_labels;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::DroppedLines;
use family::Families;
use inventory::Inventory;
use traffic::Sockets;

pub use control_plane::{ControlPlaneMetrics, ControlPlaneState, Watch};
pub use dns::DnsLabels;
pub use label::{Label, MAX_LABEL_BYTES};
pub use names::IdleNames;
pub use traffic::OpenConnection;
pub use traffic_labels::{Reporter, ResponseFlags, SecurityPolicy, TrafficLabels, WorkloadLabels};

/// How many label sets one metric keeps by default. Those beyond it are folded into a set labelled `overflow`.
pub const DEFAULT_SERIES_LIMIT: usize = 10_000;

/// The media type of what [`Metrics::encode`] gives.
pub const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the registry needs to know.
#[derive(Clone, Debug)]
pub struct MetricsSettings {
    /// The value of `component` in `istio_build`.
    pub component: String,
    /// The program's version, the value of `tag` in `istio_build`.
    pub version: String,
    /// How many label sets the traffic and DNS metrics keep each.
    pub series_limit: usize,
    /// Whether traffic metrics carry region and zone of both ends.
    pub locality_labels: bool,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self {
            component: "ztunnel".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            series_limit: DEFAULT_SERIES_LIMIT,
            locality_labels: false,
        }
    }
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateState {
    /// None yet; the first is being asked for.
    Pending,
    /// In use.
    Valid,
    /// In use, while its renewal fails.
    RenewalFailing,
    /// Run out.
    Expired,
    /// Revoked by its authority; another one is being asked for.
    Revoked,
}

impl CertificateState {
    /// The value of the `state` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Valid => "valid",
            Self::RenewalFailing => "renewal_failing",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// The process's metrics. Clones count into the same series. No method blocks for longer than a look-up.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    inner: Arc<Inventory>,
}

impl Metrics {
    /// Metrics of which none has counted anything.
    pub fn new(settings: MetricsSettings) -> Self {
        let mut families = Families::default();
        let inner = Inventory::register(&mut families, &settings);
        let build = families.gauges("istio_build", "Version of the component", ["component", "tag"]);
        build.set([&settings.component, &settings.version], 1);
        for reporter in [Reporter::Source, Reporter::Destination] {
            // Every tunnel is in a register that keeps its peer's certificates, so there is nothing to count; a query
            // for the series finds a zero instead of nothing.
            inner.crl_untracked.add([reporter.as_str()], 0);
        }
        Self {
            registry: Arc::new(families.into_registry()),
            inner: Arc::new(inner),
        }
    }

    /// A connection was established; it counts as open until the guard is told how it ended.
    pub fn opened(&self, labels: &TrafficLabels) -> OpenConnection {
        self.inner.traffic.opened(labels)
    }

    /// A connection was never established.
    pub fn failed(&self, labels: &TrafficLabels, flags: ResponseFlags) {
        self.inner.traffic.failed(labels, flags);
    }

    /// Drops the series that name workloads which are gone, once nothing was counted in them for
    /// several calls and no connection counted in them is open. To be called at regular intervals; says how many
    /// series went. Should a connection of that name come again, its series begin anew.
    ///
    /// `find` gets the names in question, if there are any, and says which of them it still finds.
    pub fn sweep(&self, find: impl FnOnce(&mut IdleNames)) -> usize {
        let mut names = IdleNames::default();
        self.inner.traffic.idle(&mut names);
        self.inner.dns.idle(&mut names);
        self.inner.on_demand_dns.idle(&mut names);
        if names.is_empty() {
            return 0;
        }
        find(&mut names);
        let evicted = self.inner.traffic.evict(&names)
            + self.inner.dns.evict(&names)
            + self.inner.on_demand_dns.evict(&names);
        self.inner
            .evicted
            .add([], u64::try_from(evicted).unwrap_or(u64::MAX));
        evicted
    }

    /// A TCP connection to an application or another proxy was made, after this time.
    pub fn connected(&self, reporter: Reporter, after: Duration) {
        self.inner.connect.observe(reporter, after);
    }

    /// A TLS handshake succeeded, after this time.
    pub fn handshake_done(&self, reporter: Reporter, after: Duration) {
        self.inner.handshake.observe(reporter, after);
    }

    /// A connection got its place in a tunnel, pooled or new, after this time.
    pub fn tunnel_found(&self, reporter: Reporter, after: Duration) {
        self.inner.tunnel_wait.observe(reporter, after);
    }

    /// `source` opened a connection to a workload that is found by its host name.
    pub fn on_demand_dns(&self, source: &WorkloadLabels, hostname: &str) {
        self.inner.on_demand_dns.add(source, hostname);
    }

    /// Bytes that wait for peers, bytes of windows beyond the first ones, and the bound of either.
    pub fn set_buffers(&self, queued: usize, promised: usize, limit: usize) {
        self.inner.buffered.set([], as_gauge(queued));
        self.inner.promised.set([], as_gauge(promised));
        self.inner.buffer_limit.set([], as_gauge(limit));
    }

    /// How old the state in force is, where it is from disk because the control plane has not answered yet.
    pub fn set_disk_state_age(&self, age: Option<Duration>) {
        let seconds = age.map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        self.inner.disk_state_age.set([], seconds);
    }

    /// Counts a connection's socket as open until the guard is dropped.
    pub fn open_socket(&self, reporter: Reporter) -> OpenSocket {
        self.inner.sockets.add(reporter, 1);
        OpenSocket {
            sockets: self.inner.sockets.clone(),
            reporter,
        }
    }

    /// A connection was refused; `reason` is a short stable word.
    pub fn refused(&self, reporter: Reporter, reason: &str) {
        self.inner.refusals.add([reporter.as_str(), reason], 1);
    }

    /// A TLS handshake failed; `reason` is a short stable word.
    pub fn handshake_failed(&self, reporter: Reporter, reason: &str) {
        self.inner.handshake_failures.add([reporter.as_str(), reason], 1);
    }

    /// A peer was refused, or its open tunnel closed, because its certificate is revoked.
    pub fn revoked(&self, reporter: Reporter) {
        self.inner.crl_rejections.add([reporter.as_str()], 1);
    }

    /// A certificate of a workload of this node is revoked.
    pub fn own_certificate_revoked(&self) {
        self.inner.own_revoked.add([], 1);
    }

    /// This proxy ended an open connection; `reason` is a short stable word like `policy` or `drain`.
    pub fn closed_early(&self, reporter: Reporter, reason: &str) {
        self.inner.closed_early.add([reporter.as_str(), reason], 1);
    }

    /// A connection was refused because its workload names a policy that is not known.
    pub fn denied_by_unknown_policy(&self) {
        self.inner.unknown_policy_denials.add([], 1);
    }

    /// A dry-run policy (`namespace/name`) was evaluated; `verdict` is what would be decided if it were enforced beside
    /// the others, `allow` or `deny`.
    pub fn dry_run_decided(&self, policy: &str, verdict: &'static str) {
        self.inner.dry_run_decisions.add([policy, verdict], 1);
    }

    /// How many workload certificates are in `state`.
    pub fn set_certificates(&self, state: CertificateState, count: usize) {
        self.inner.certificates.set([state.as_str()], as_gauge(count));
    }

    /// A response arrived from the control plane.
    pub fn xds_message(&self, type_url: &str, bytes: usize) {
        self.inner.xds_messages.add([type_url], 1);
        self.inner
            .xds_message_bytes
            .add([type_url], u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// A connection to the control plane ended; `reason` is `ConnectionError`, `Error`, `Reconnect` or `Complete`.
    pub fn xds_terminated(&self, reason: &str) {
        self.inner.xds_terminations.add([reason], 1);
    }

    /// A DNS query arrived.
    pub fn dns_request(&self, labels: &DnsLabels) {
        self.inner.dns.request(labels);
    }

    /// A DNS query was forwarded.
    pub fn dns_upstream_request(&self, labels: &DnsLabels) {
        self.inner.dns.upstream_request(labels);
    }

    /// A forwarded DNS query was not answered.
    pub fn dns_upstream_failure(&self, labels: &DnsLabels) {
        self.inner.dns.upstream_failure(labels);
    }

    /// A forwarded DNS query was answered after this time.
    pub fn dns_upstream_answered(&self, labels: &DnsLabels, after: Duration) {
        self.inner.dns.upstream_answered(labels, after);
    }

    /// How many pods are served, and how many wait to be.
    pub fn set_proxies(&self, active: usize, pending: usize) {
        self.inner.proxies_active.set([], as_gauge(active));
        self.inner.proxies_pending.set([], as_gauge(pending));
    }

    /// A pod's serving began.
    pub fn proxy_started(&self) {
        self.inner.proxies_started.add([], 1);
    }

    /// A pod's serving ended.
    pub fn proxy_stopped(&self) {
        self.inner.proxies_stopped.add([], 1);
    }

    /// Publishes how many log lines are dropped.
    pub fn observe_log(&self, dropped: DroppedLines) {
        self.inner.log.observe(dropped);
    }

    /// Publishes the state of the runtime that moves connections.
    pub fn observe_runtime(&self, runtime: &tokio::runtime::Handle) {
        self.inner.runtime.observe(runtime);
    }

    /// Everything, as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail; if a collector ever does, what is there is not a whole exposition.
        if self.encode_to(&mut out).is_err() {
            tracing::error!("metrics cannot be encoded");
            out.clear();
        }
        out
    }

    /// Writes everything to `out` piece by piece, as OpenMetrics text. While `out` makes this wait, nobody who
    /// counts does.
    ///
    /// # Errors
    /// When `out` fails; what it has taken so far is not a whole exposition.
    pub fn encode_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        text::encode(out, &self.registry)
    }
}

/// Counts one socket as open while it lives.
#[derive(Debug)]
pub struct OpenSocket {
    sockets: Arc<Sockets>,
    reporter: Reporter,
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.sockets.add(self.reporter, -1);
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
