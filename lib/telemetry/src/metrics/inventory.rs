//! What there is to count, under which name.

use std::sync::Arc;

use super::MetricsSettings;
use super::dns::Dns;
use super::family::{CounterFamily, Families, GaugeFamily};
use super::histogram::Waits;
use super::on_demand_dns::OnDemandDns;
use super::process::{LogLines, Runtime};
use super::traffic::{Sockets, Traffic};

#[derive(Debug)]
pub(crate) struct Inventory {
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) dns: Arc<Dns>,
    pub(crate) on_demand_dns: Arc<OnDemandDns>,
    pub(crate) xds_terminations: Arc<CounterFamily<1>>,
    pub(crate) xds_messages: Arc<CounterFamily<1>>,
    pub(crate) xds_message_bytes: Arc<CounterFamily<1>>,
    pub(crate) proxies_active: Arc<GaugeFamily<0>>,
    pub(crate) proxies_pending: Arc<GaugeFamily<0>>,
    pub(crate) proxies_started: Arc<CounterFamily<0>>,
    pub(crate) proxies_stopped: Arc<CounterFamily<0>>,
    pub(crate) refusals: Arc<CounterFamily<2>>,
    pub(crate) handshake_failures: Arc<CounterFamily<2>>,
    pub(crate) closed_early: Arc<CounterFamily<2>>,
    pub(crate) certificates: Arc<GaugeFamily<1>>,
    pub(crate) unknown_policy_denials: Arc<CounterFamily<0>>,
    pub(crate) dry_run_decisions: Arc<CounterFamily<2>>,
    pub(crate) crl_rejections: Arc<CounterFamily<1>>,
    pub(crate) own_revoked: Arc<CounterFamily<0>>,
    pub(crate) crl_untracked: Arc<CounterFamily<1>>,
    pub(crate) evicted: Arc<CounterFamily<0>>,
    pub(crate) disk_state_age: Arc<GaugeFamily<0>>,
    pub(crate) buffered: Arc<GaugeFamily<0>>,
    pub(crate) promised: Arc<GaugeFamily<0>>,
    pub(crate) buffer_limit: Arc<GaugeFamily<0>>,
    pub(crate) connect: Arc<Waits>,
    pub(crate) handshake: Arc<Waits>,
    pub(crate) tunnel_wait: Arc<Waits>,
    pub(crate) log: Arc<LogLines>,
    pub(crate) runtime: Arc<Runtime>,
}

impl Inventory {
    pub(crate) fn register(families: &mut Families, settings: &MetricsSettings) -> Self {
        let traffic = families.collect(Traffic::new(settings.series_limit, settings.locality_labels));
        let dns = families.collect(Dns::new(settings.series_limit));
        let on_demand_dns = families.collect(OnDemandDns::new(settings.series_limit));
        families.publish_folded("istio_tcp", traffic.clone());
        families.publish_folded("istio_dns", dns.clone());
        families.publish_folded("istio_on_demand_dns", on_demand_dns.clone());
        Self {
            traffic,
            dns,
            on_demand_dns,
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
            dry_run_decisions: families.counters(
                "ztunnel_dry_run_decisions",
                "What dry-run policies would have decided if they were enforced beside the others (unstable)",
                ["policy", "verdict"],
            ),
            crl_rejections: families.counters(
                "istio_crl_policy_rejections",
                "Handshakes refused and tunnels closed because the peer's certificate is revoked (unstable)",
                ["reporter"],
            ),
            own_revoked: families.counters(
                "ztunnel_own_certificates_revoked",
                "Certificates of this node's workloads that were revoked while they were held (unstable)",
                [],
            ),
            crl_untracked: families.counters(
                "istio_crl_untracked_connections",
                "Open tunnels that a revocation cannot close (unstable)",
                ["reporter"],
            ),
            evicted: families.counters(
                "ztunnel_metric_series_evicted",
                "Series dropped because the workload they name is gone (unstable)",
                [],
            ),
            disk_state_age: families.gauges(
                "ztunnel_state_from_disk_age_seconds",
                "Age of the workloads, services and policies in force where they are from disk, else 0 (unstable)",
                [],
            ),
            buffered: families.gauges(
                "ztunnel_buffered_bytes",
                "Bytes that wait in tunnels for peers to read them (unstable)",
                [],
            ),
            promised: families.gauges(
                "ztunnel_promised_window_bytes",
                "Bytes of windows that tunnels have been given beyond the first ones (unstable)",
                [],
            ),
            buffer_limit: families.gauges(
                "ztunnel_buffered_bytes_limit",
                "The bound of either of the two (unstable)",
                [],
            ),
            connect: families.collect(Waits::new(
                "ztunnel_connect_duration_seconds",
                "Time until a TCP connection to an application or another proxy was made (unstable)",
            )),
            handshake: families.collect(Waits::new(
                "ztunnel_tls_handshake_duration_seconds",
                "Time until a TLS handshake between proxies succeeded (unstable)",
            )),
            tunnel_wait: families.collect(Waits::new(
                "ztunnel_tunnel_wait_duration_seconds",
                "Time until a connection had its place in a tunnel, pooled or new (unstable)",
            )),
            log: families.collect(LogLines::default()),
            runtime: families.collect(Runtime::default()),
        }
    }
}
