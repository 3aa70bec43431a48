//! What the programs say about themselves: metrics, the access log, and the log.
//!
//! [`Metrics`] counts under the names and labels that existing dashboards expect, with a cap on the number of
//! series. [`AccessLog`] is one line for each closed connection. [`init`] installs the process's log: a bounded
//! queue that one thread empties, so that a slow terminal or disk never makes a connection wait; what does not fit
//! is dropped and counted.
//!
//! This crate deliberately decides nothing and serves nothing: it has no listener and no HTTP. It knows neither
//! workloads nor policies, only the strings it is given.

mod access_log;
mod log;
mod metrics;

pub use access_log::{AccessEndpoint, AccessFailure, AccessLog, Direction};
pub use log::{
    DroppedLines, FilterError, FilterHandle, Format, InitError, LogGuard, LogOutput, LogSettings, MAX_LINE,
    MAX_QUEUED_BYTES, MAX_QUEUED_LINES, init,
};
pub use metrics::{
    CertificateState, ControlPlaneMetrics, ControlPlaneState, DEFAULT_SERIES_LIMIT, DnsLabels, IdleNames,
    Label, MAX_LABEL_BYTES, Metrics, MetricsSettings, OPENMETRICS_CONTENT_TYPE, OpenConnection, OpenSocket,
    Reporter, ResponseFlags, SecurityPolicy, TrafficLabels, Watch, WorkloadLabels,
};
