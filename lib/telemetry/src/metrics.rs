//! Every metric there is.

mod dns;
mod family;
mod label;
mod process;
mod table;
#[cfg(test)]
mod tests;
mod traffic;
mod traffic_labels;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::DroppedLines;
use dns::Dns;
use family::{CounterFamily, Families, GaugeFamily};
use process::{LogLines, Runtime};
use traffic::{Sockets, Traffic};

pub use dns::DnsLabels;
pub use label::{Label, MAX_LABEL_BYTES};
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
}

impl CertificateState {
    /// The value of the `state` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Valid => "valid",
            Self::RenewalFailing => "renewal_failing",
            Self::Expired => "expired",
        }
    }
}

/// The process's metrics. Clones count into the same series. No method blocks for longer than a look-up.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    traffic: Arc<Traffic>,
    sockets: Arc<Sockets>,
    dns: Arc<Dns>,
    xds_terminations: Arc<CounterFamily<1>>,
    xds_messages: Arc<CounterFamily<1>>,
    xds_message_bytes: Arc<CounterFamily<1>>,
    proxies_active: Arc<GaugeFamily<0>>,
    proxies_pending: Arc<GaugeFamily<0>>,
    proxies_started: Arc<CounterFamily<0>>,
    proxies_stopped: Arc<CounterFamily<0>>,
    refusals: Arc<CounterFamily<2>>,
    handshake_failures: Arc<CounterFamily<2>>,
    revoked: Arc<CounterFamily<1>>,
    closed_early: Arc<CounterFamily<2>>,
    certificates: Arc<GaugeFamily<1>>,
    unknown_policy_denials: Arc<CounterFamily<0>>,
    log: Arc<LogLines>,
    runtime: Arc<Runtime>,
}

impl Metrics {
    /// Metrics of which none has counted anything.
    pub fn new(settings: MetricsSettings) -> Self {
        let mut families = Families::default();
        let inner = Inner::register(&mut families, &settings);
        let build = families.gauges("istio_build", "Version of the component", ["component", "tag"]);
        build.set([&settings.component, &settings.version], 1);
        Self {
            registry: Arc::new(families.into_registry()),
            inner: Arc::new(inner),
        }
    }

    /// A connection was established.
    pub fn opened(&self, labels: &TrafficLabels) {
        self.inner.traffic.opened(labels);
    }

    /// An established connection ended. `received` is what went from initiator to acceptor in bytes, `sent` the
    /// reverse, whichever side reports. With flags other than [`ResponseFlags::None`] it also counts as failed.
    pub fn closed(&self, labels: &TrafficLabels, flags: ResponseFlags, received: u64, sent: u64) {
        self.inner.traffic.closed(labels, flags, received, sent);
    }

    /// A connection was never established.
    pub fn failed(&self, labels: &TrafficLabels, flags: ResponseFlags) {
        self.inner.traffic.failed(labels, flags);
    }

    /// No pod of this workload is left on this node: drops the series it reported. Should an open connection end
    /// later, its series begins anew.
    pub fn forget_workload(&self, namespace: &str, workload: &str) {
        self.inner.traffic.forget(namespace, workload);
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
        self.inner.revoked.add([reporter.as_str()], 1);
    }

    /// This proxy ended an open connection; `reason` is a short stable word like `policy` or `drain`.
    pub fn closed_early(&self, reporter: Reporter, reason: &str) {
        self.inner.closed_early.add([reporter.as_str(), reason], 1);
    }

    /// A connection was refused because its workload names a policy that is not known.
    pub fn denied_by_unknown_policy(&self) {
        self.inner.unknown_policy_denials.add([], 1);
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
        if let Err(error) = text::encode(&mut out, &self.registry) {
            // Writing into a string cannot fail; if a collector ever does, what is there is not a whole exposition.
            tracing::error!(%error, "metrics cannot be encoded");
            out.clear();
        }
        out
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

impl Inner {
    fn register(families: &mut Families, settings: &MetricsSettings) -> Self {
        let traffic = families.collect(Traffic::new(settings.series_limit, settings.locality_labels));
        let dns = families.collect(Dns::new(settings.series_limit));
        families.publish_folded("istio_tcp", traffic.clone());
        families.publish_folded("istio_dns", dns.clone());
        Self {
            traffic,
            dns,
            sockets: families.collect(Sockets::default()),
            xds_terminations: families.counters(
                "istio_xds_connection_terminations",
                "Ended connections to the control plane, by reason (unstable)",
                ["reason"],
            ),
            xds_messages: families.counters(
                "istio_xds_message",
                "Responses received from the control plane, by type (unstable)",
                ["url"],
            ),
            xds_message_bytes: families.counters(
                "istio_xds_message_bytes",
                "Bytes of the responses received from the control plane, by type (unstable)",
                ["url"],
            ),
            proxies_active: families.gauges(
                "workload_manager_active_proxy_count",
                "Pods that are served (unstable)",
                [],
            ),
            proxies_pending: families.gauges(
                "workload_manager_pending_proxy_count",
                "Pods that are to be served and cannot yet be (unstable)",
                [],
            ),
            proxies_started: families.counters(
                "workload_manager_proxies_started",
                "Pods whose serving has begun (unstable)",
                [],
            ),
            proxies_stopped: families.counters(
                "workload_manager_proxies_stopped",
                "Pods whose serving has ended (unstable)",
                [],
            ),
            revoked: families.counters(
                "istio_crl_policy_rejections",
                "Peers refused, or cut off, because their certificate is revoked (unstable)",
                ["reporter"],
            ),
            refusals: families.counters(
                "ztunnel_refusals",
                "Connections refused, by the side that refused and the reason's code (unstable)",
                ["reporter", "reason"],
            ),
            handshake_failures: families.counters(
                "ztunnel_handshake_failures",
                "TLS handshakes that failed, by side and the reason's code (unstable)",
                ["reporter", "reason"],
            ),
            closed_early: families.counters(
                "ztunnel_connections_closed_early",
                "Open connections ended by this proxy and not by either end, by reason (unstable)",
                ["reporter", "reason"],
            ),
            certificates: families.gauges(
                "ztunnel_certificates",
                "Workload certificates, by state (unstable)",
                ["state"],
            ),
            unknown_policy_denials: families.counters(
                "ztunnel_unknown_policy_denials",
                "Connections refused because a workload names a policy that is not known (unstable)",
                [],
            ),
            log: families.collect(LogLines::default()),
            runtime: families.collect(Runtime::default()),
        }
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
