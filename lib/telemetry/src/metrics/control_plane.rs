//! What the control plane counts. Where Istio's control plane has a metric for the same, it is called as there, so
//! that dashboards and alerts find it; the rest begins with `ztunnel_control_plane_`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::as_gauge;
use super::family::{CounterFamily, Families, GaugeFamily};
use super::histogram::Histogram;
use super::histograms::{Histograms, PlainHistogram};
use super::process::{LogLines, Runtime};
use crate::DroppedLines;

/// Upper ends of the buckets for what a change waits for and takes, in seconds.
const TIMES: [f64; 13] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0, 30.0,
];
/// Upper ends of the buckets for sizes, in bytes: Istio's, and smaller ones, since here most changes are small.
const SIZES: [f64; 8] = [
    256.0,
    1_024.0,
    10_000.0,
    100_000.0,
    1_000_000.0,
    4_000_000.0,
    10_000_000.0,
    40_000_000.0,
];

/// The types that are served, by the last part of their names. Others are counted together.
const TYPES: [&str; 4] = ["Address", "Authorization", "TrustBundle", "other"];

/// The control plane's metrics. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct ControlPlaneMetrics {
    registry: Arc<Registry>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    proxies: Arc<GaugeFamily<1>>,
    unacknowledged: Arc<GaugeFamily<0>>,
    pushes: Arc<CounterFamily<1>>,
    push_sizes: Arc<Histograms<4>>,
    push_times: Arc<Histograms<4>>,
    convergence: Arc<PlainHistogram>,
    rejections: Arc<CounterFamily<1>>,
    expired_nonces: Arc<CounterFamily<1>>,
    overdue: Arc<CounterFamily<0>>,
    refused_streams: Arc<CounterFamily<1>>,
    triggers: Arc<CounterFamily<1>>,
    services: Arc<GaugeFamily<0>>,
    served: Arc<GaugeFamily<1>>,
    objects: Arc<GaugeFamily<1>>,
    queue: Arc<GaugeFamily<0>>,
    compile: Arc<PlainHistogram>,
    debounce: Arc<PlainHistogram>,
    revision: Arc<GaugeFamily<0>>,
    watches: Arc<GaugeFamily<2>>,
    failing: Arc<GaugeFamily<1>>,
    unreadable: Arc<GaugeFamily<1>>,
    status_writes: Arc<CounterFamily<1>>,
    events: Arc<CounterFamily<1>>,
    leader: Arc<GaugeFamily<0>>,
    requests: Arc<CounterFamily<0>>,
    issued: Arc<CounterFamily<0>>,
    unauthenticated: Arc<CounterFamily<0>>,
    refused: Arc<CounterFamily<1>>,
    root_expiry: Arc<GaugeFamily<0>>,
    issuer_expiry: Arc<GaugeFamily<0>>,
    clock_ahead: Arc<GaugeFamily<0>>,
    clock_doubtful: Arc<GaugeFamily<0>>,
    log: Arc<LogLines>,
    runtime: Arc<Runtime>,
}

/// What of the control plane is read when metrics are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlPlaneState {
    /// How many proxies are connected, by the version that they say they have.
    pub proxies: Vec<(String, usize)>,
    /// Of those, how many have not acknowledged everything that they were sent.
    pub unacknowledged: usize,
    /// How many workloads, services and policies are served.
    pub workloads: usize,
    /// Services.
    pub services: usize,
    /// Policies.
    pub policies: usize,
    /// How many objects of each kind are known.
    pub objects: Vec<(String, usize)>,
    /// The revision of the store that is served.
    pub revision: u64,
    /// Each watched kind with the state of its watch.
    pub watches: Vec<Watch>,
    /// Whether this replica leads.
    pub leader: bool,
    /// When the CA's root and the certificate that signs end, in seconds since 1970.
    pub root_expiry: Option<i64>,
    /// See there.
    pub issuer_expiry: Option<i64>,
}

/// How it is with watching one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The kind.
    pub kind: String,
    /// A short stable word.
    pub state: &'static str,
    /// Whether it is not kept up to date now.
    pub failing: bool,
    /// How many objects cannot be read as they are now.
    pub unreadable: usize,
}

impl ControlPlaneMetrics {
    /// Metrics of which none has counted anything.
    pub fn new(version: &str) -> Self {
        let mut families = Families::default();
        let inner = Inner::register(&mut families);
        let build = families.gauges("istio_build", "Version of the component", ["component", "tag"]);
        build.set(["control-plane", version], 1);
        Self {
            registry: Arc::new(families.into_registry()),
            inner: Arc::new(inner),
        }
    }

    /// A response of `bytes` was handed to a client's connection after it had waited for that.
    pub fn pushed(&self, kind: &str, bytes: usize, waited: Duration) {
        let kind = known_type(kind);
        self.inner.pushes.add([kind], 1);
        if let Some(sizes) = self.inner.push_sizes.of(kind) {
            sizes.observe_number(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
        if let Some(times) = self.inner.push_times.of(kind) {
            times.observe(waited);
        }
    }

    /// A proxy has acknowledged everything up to a change, this long after the change was compiled.
    pub fn converged(&self, after: Duration) {
        self.inner.convergence.histogram.observe(after);
    }

    /// A proxy did not accept a resource.
    pub fn rejected(&self, kind: &str) {
        self.inner.rejections.add([known_type(kind)], 1);
    }

    /// A proxy answered with a nonce that is not that of the response that waits for an answer.
    pub fn expired_nonce(&self, kind: &str) {
        self.inner.expired_nonces.add([known_type(kind)], 1);
    }

    /// A proxy did not answer in time.
    pub fn answer_overdue(&self) {
        self.inner.overdue.add([], 1);
    }

    /// A discovery stream was refused; `reason` is a short stable word.
    pub fn stream_refused(&self, reason: &str) {
        self.inner.refused_streams.add([reason], 1);
    }

    /// Objects of this kind were changed or deleted.
    pub fn objects_changed(&self, kind: &str, count: usize) {
        self.inner
            .triggers
            .add([kind], u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// How many changed objects wait to be compiled.
    pub fn set_queue(&self, waiting: usize) {
        self.inner.queue.set([], as_gauge(waiting));
    }

    /// Changes were compiled, after the first of them had waited so long, within this time.
    pub fn compiled(&self, waited: Duration, took: Duration) {
        self.inner.debounce.histogram.observe(waited);
        self.inner.compile.histogram.observe(took);
    }

    /// A status was written, or not; `result` is a short stable word.
    pub fn status_written(&self, result: &str) {
        self.inner.status_writes.add([result], 1);
    }

    /// An Event was written, or not; `result` is a short stable word.
    pub fn event_written(&self, result: &str) {
        self.inner.events.add([result], 1);
    }

    /// A certificate was issued.
    pub fn certificate_issued(&self) {
        self.inner.requests.add([], 1);
        self.inner.issued.add([], 1);
    }

    /// A certificate was refused; `reason` is a short stable word.
    pub fn certificate_refused(&self, reason: &str, unauthenticated: bool) {
        self.inner.requests.add([], 1);
        self.inner.refused.add([reason], 1);
        if unauthenticated {
            self.inner.unauthenticated.add([], 1);
        }
    }

    /// Publishes how many log lines are dropped.
    pub fn observe_log(&self, dropped: DroppedLines) {
        self.inner.log.observe(dropped);
    }

    /// Publishes the state of the runtime that serves.
    pub fn observe_runtime(&self, runtime: &tokio::runtime::Handle) {
        self.inner.runtime.observe(runtime);
    }

    /// Takes over what is read when metrics are asked for.
    pub fn set(&self, state: &ControlPlaneState) {
        let inner = &self.inner;
        inner.proxies.replace(
            state
                .proxies
                .iter()
                .map(|(version, count)| ([&**version], as_gauge(*count))),
        );
        inner.unacknowledged.set([], as_gauge(state.unacknowledged));
        inner.services.set([], as_gauge(state.services));
        inner.served.set(["workload"], as_gauge(state.workloads));
        inner.served.set(["service"], as_gauge(state.services));
        inner.served.set(["policy"], as_gauge(state.policies));
        inner.objects.replace(
            state
                .objects
                .iter()
                .map(|(kind, count)| ([&**kind], as_gauge(*count))),
        );
        inner
            .revision
            .set([], i64::try_from(state.revision).unwrap_or(i64::MAX));
        let watches = state.watches.iter();
        inner
            .watches
            .replace(watches.clone().map(|watch| ([&*watch.kind, watch.state], 1)));
        inner.failing.replace(
            watches
                .clone()
                .map(|watch| ([&*watch.kind], i64::from(watch.failing))),
        );
        inner
            .unreadable
            .replace(watches.map(|watch| ([&*watch.kind], as_gauge(watch.unreadable))));
        inner.leader.set([], i64::from(state.leader));
        inner.root_expiry.set([], state.root_expiry.unwrap_or(0));
        inner.issuer_expiry.set([], state.issuer_expiry.unwrap_or(0));
    }

    /// How it stands with the clock; by how many seconds it is ahead of another, where there is one to compare it with.
    pub fn set_clock(&self, ahead: Option<i64>, is_doubtful: bool) {
        self.inner.clock_ahead.set([], ahead.unwrap_or(0));
        self.inner.clock_doubtful.set([], i64::from(is_doubtful));
    }

    /// Everything, as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        let written: fmt::Result = text::encode(&mut out, &self.registry);
        // Writing into a string cannot fail; if a collector ever does, what is there is not a whole exposition.
        if written.is_err() {
            tracing::error!("metrics cannot be encoded");
            out.clear();
        }
        out
    }
}

fn known_type(kind: &str) -> &'static str {
    let known = TYPES.into_iter().find(|known| *known == kind);
    known.unwrap_or("other")
}

impl Inner {
    fn register(families: &mut Families) -> Self {
        let times = |name, help| PlainHistogram {
            name,
            help,
            histogram: Histogram::new(&TIMES),
        };
        Self {
            proxies: families.gauges(
                "pilot_xds",
                "Proxies connected over xDS, by their version",
                ["version"],
            ),
            unacknowledged: families.gauges(
                "ztunnel_control_plane_proxies_unacknowledged",
                "Connected proxies that have not acknowledged everything that they were sent",
                [],
            ),
            pushes: families.counters("pilot_xds_pushes", "Responses sent over xDS, by type", ["type"]),
            push_sizes: families.collect(Histograms::new(
                "pilot_xds_config_size_bytes",
                "Sizes of the responses sent over xDS, by type",
                "type",
                TYPES,
                || Histogram::of_numbers(&SIZES),
            )),
            push_times: families.collect(Histograms::new(
                "pilot_xds_send_time",
                "Seconds that a response waited until the connection took it, by type",
                "type",
                TYPES,
                || Histogram::new(&TIMES),
            )),
            convergence: families.collect(times(
                "pilot_proxy_convergence_time",
                "Seconds from when a change was compiled until a proxy had acknowledged all of it",
            )),
            rejections: families.counters(
                "pilot_total_xds_rejects",
                "Resources that proxies did not accept, by type",
                ["type"],
            ),
            expired_nonces: families.counters(
                "pilot_xds_expired_nonce",
                "Answers to another response than the last, by type",
                ["type"],
            ),
            overdue: families.counters(
                "ztunnel_control_plane_answers_overdue",
                "Responses that a proxy did not answer in time",
                [],
            ),
            refused_streams: families.counters(
                "ztunnel_control_plane_streams_refused",
                "Discovery streams refused, by the reason's code",
                ["reason"],
            ),
            triggers: families.counters(
                "pilot_push_triggers",
                "Changed objects that were compiled, by kind",
                ["type"],
            ),
            services: families.gauges("pilot_services", "Services that are served", []),
            served: families.gauges(
                "ztunnel_control_plane_served_resources",
                "Workloads, services and policies that are served",
                ["resource"],
            ),
            objects: families.gauges(
                "ztunnel_control_plane_objects",
                "Objects that are known, by kind",
                ["kind"],
            ),
            queue: families.gauges(
                "pilot_worker_queue_depth",
                "Changed objects that wait to be compiled",
                [],
            ),
            compile: families.collect(times(
                "ztunnel_control_plane_compile_time",
                "Seconds that it took to compile what had changed",
            )),
            debounce: families.collect(times(
                "pilot_debounce_time",
                "Seconds that the first of several changes waited to be compiled",
            )),
            revision: families.gauges(
                "ztunnel_control_plane_revision",
                "The revision of the store that is served",
                [],
            ),
            watches: families.gauges(
                "ztunnel_control_plane_watch",
                "The state of the watch of each kind",
                ["kind", "state"],
            ),
            failing: families.gauges(
                "ztunnel_control_plane_watch_failing",
                "1 while objects of a kind are not kept up to date",
                ["kind"],
            ),
            unreadable: families.gauges(
                "ztunnel_control_plane_objects_unreadable",
                "Objects of a kind that cannot be read as they are now",
                ["kind"],
            ),
            status_writes: families.counters(
                "ztunnel_control_plane_status_writes",
                "Statuses written on objects, by result",
                ["result"],
            ),
            events: families.counters(
                "ztunnel_control_plane_events",
                "Events written, by result",
                ["result"],
            ),
            leader: families.gauges(
                "ztunnel_control_plane_leader",
                "1 where this replica does what only one must do",
                [],
            ),
            requests: families.counters("citadel_server_csr_count", "Certificates asked for", []),
            issued: families.counters(
                "citadel_server_success_cert_issuance_count",
                "Certificates issued",
                [],
            ),
            unauthenticated: families.counters(
                "citadel_server_authentication_failure_count",
                "Certificates refused because it is not known who asks",
                [],
            ),
            refused: families.counters(
                "ztunnel_control_plane_certificates_refused",
                "Certificates refused, by the reason's code",
                ["reason"],
            ),
            root_expiry: families.gauges(
                "citadel_server_root_cert_expiry_timestamp",
                "When the first certificate from the one that signs up to the root ends, in seconds since 1970",
                [],
            ),
            issuer_expiry: families.gauges(
                "citadel_server_cert_chain_expiry_timestamp",
                "The same: certificates above others outlive them",
                [],
            ),
            clock_ahead: families.gauges(
                "ztunnel_control_plane_clock_ahead_seconds",
                "By how many seconds this clock is ahead of the API server's; behind, where it is negative",
                [],
            ),
            clock_doubtful: families.gauges(
                "ztunnel_control_plane_clock_doubtful",
                "Whether this clock was set or differs from the API server's, so that nothing is forgotten by it",
                [],
            ),
            log: families.collect(LogLines::default()),
            runtime: families.collect(Runtime::default()),
        }
    }
}

#[cfg(test)]
mod tests;
