//! Settings, read once from the environment under the names that existing deployments use.
//!
//! A value that cannot be used is an error that names the variable, the value and what is accepted. Unset means
//! the default; an empty string counts as unset, as a DaemonSet that leaves a value blank intends.

mod duration;

pub use duration::{DurationError, parse_duration};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything the node proxy can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this node, as `Workload.node` spells it (`NODE_NAME`).
    pub node_name: String,
    /// This proxy's own pod (`POD_NAME`, `POD_NAMESPACE`, `SERVICE_ACCOUNT`, `INSTANCE_IP`).
    pub own_pod: OwnPod,
    /// Trust domain of every identity this proxy acts for (`TRUST_DOMAIN`).
    pub trust_domain: String,
    /// DNS suffix of services (`CLUSTER_DOMAIN`).
    pub cluster_domain: String,
    /// Cluster this node belongs to (`ISTIO_META_CLUSTER_ID` or `CLUSTER_ID`).
    pub cluster_id: String,
    /// Network this node belongs to (`NETWORK`).
    pub network: String,
    /// Where discovery is served (`XDS_ADDRESS`).
    pub discovery: Endpoint,
    /// Where certificates are signed (`CA_ADDRESS`).
    pub authority: Endpoint,
    /// Bearer token for both: a file that is re-read, or the token itself (`AUTH_TOKEN`).
    pub token: String,
    /// Certificate life asked for (`SECRET_TTL`).
    pub certificate_life: Duration,
    /// Socket on which the node agent listens (`INPOD_UDS`).
    pub agent_socket: PathBuf,
    /// Whether `[::]` is bound besides IPv4 (`IPV6_ENABLED`).
    pub ipv6: bool,
    /// Whether DNS of captured pods is answered here (`ISTIO_META_DNS_CAPTURE`).
    pub dns_capture: bool,
    /// Whether listeners share their port, for an upgrade without a gap (`INPOD_PORT_REUSE`).
    pub port_reuse: bool,
    /// How long open connections live on after their pod left or the proxy was told to stop
    /// (`CONNECTION_TERMINATION_DEADLINE`, else from `TERMINATION_GRACE_PERIOD_SECONDS`).
    pub drain_deadline: Duration,
    /// Streams per tunnel before another tunnel is opened (`POOL_MAX_STREAMS_PER_CONNECTION`).
    pub pool_max_streams: usize,
    /// How long an unused tunnel is kept (`POOL_UNUSED_RELEASE_TIMEOUT`).
    pub pool_idle: Duration,
    /// Whether a 200 carries our workload's description (`ENABLE_RESPONSE_BAGGAGE`).
    pub response_baggage: bool,
    /// Threads that move connections (`ZTUNNEL_WORKER_THREADS`).
    pub worker_threads: usize,
    /// Log filter (`RUST_LOG`).
    pub log_filter: String,
    /// Whether log lines are JSON (`LOG_FORMAT=json`).
    pub log_json: bool,
    /// Metadata sent to discovery besides the fixed keys (`ISTIO_META_*`).
    pub node_metadata: BTreeMap<String, String>,
}

/// The proxy's own pod.
#[derive(Clone, Debug)]
pub struct OwnPod {
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Pod address, sent to discovery.
    pub address: Option<IpAddr>,
}

/// One part of the control plane.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `https://host:port`.
    pub address: String,
    /// `SYSTEM`, a path, or PEM text.
    pub roots: String,
    /// Name to verify instead of the host.
    pub alternative_name: Option<String>,
    /// More gRPC metadata.
    pub headers: Vec<(String, String)>,
}

/// A variable that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConfigError {
    /// The value is not of the kind expected.
    #[error("{variable}={value:?} cannot be used: {accepted}")]
    Invalid {
        /// Name of the variable.
        variable: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        accepted: String,
    },
    /// The variable has no default and is not set.
    #[error("{variable} is not set; {purpose}")]
    Missing {
        /// Name of the variable.
        variable: &'static str,
        /// What it is needed for.
        purpose: &'static str,
    },
}

/// Reads the settings from `lookup`, which answers like the process environment; `all` lists every variable.
pub fn from_environment(
    lookup: impl Fn(&str) -> Option<String>,
    all: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let variables = Variables { lookup };
    let all: Vec<(String, String)> = all.into_iter().collect();
    let token = variables.text("AUTH_TOKEN", "./var/run/secrets/tokens/istio-token");
    Ok(Config {
        node_name: variables.required("NODE_NAME", "it says which workloads are on this node")?,
        own_pod: OwnPod {
            name: variables.text("POD_NAME", "ztunnel"),
            namespace: variables.text("POD_NAMESPACE", "istio-system"),
            service_account: variables.text("SERVICE_ACCOUNT", "ztunnel"),
            address: variables.optional_parsed("INSTANCE_IP", "an IP address")?,
        },
        trust_domain: variables.text("TRUST_DOMAIN", "cluster.local"),
        cluster_domain: variables.text("CLUSTER_DOMAIN", "cluster.local"),
        cluster_id: variables
            .optional("ISTIO_META_CLUSTER_ID")
            .or_else(|| variables.optional("CLUSTER_ID"))
            .unwrap_or_else(|| "Kubernetes".into()),
        network: variables.text("NETWORK", ""),
        discovery: variables.endpoint("XDS", &all),
        authority: variables.endpoint("CA", &all),
        token,
        certificate_life: variables.duration("SECRET_TTL", Duration::from_secs(24 * 3600))?,
        agent_socket: variables
            .text("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock")
            .into(),
        ipv6: variables.switch("IPV6_ENABLED", true)?,
        dns_capture: variables.switch("ISTIO_META_DNS_CAPTURE", true)?,
        port_reuse: variables.switch("INPOD_PORT_REUSE", true)?,
        drain_deadline: variables.drain_deadline()?,
        pool_max_streams: variables.parsed("POOL_MAX_STREAMS_PER_CONNECTION", 100, "a number of streams")?,
        pool_idle: variables.duration("POOL_UNUSED_RELEASE_TIMEOUT", Duration::from_secs(300))?,
        response_baggage: variables.switch("ENABLE_RESPONSE_BAGGAGE", true)?,
        worker_threads: variables.worker_threads()?,
        log_filter: variables.text("RUST_LOG", "info"),
        log_json: match variables.text("LOG_FORMAT", "text").as_str() {
            "json" => true,
            "text" => false,
            other => return Err(invalid("LOG_FORMAT", other, "`text` or `json`")),
        },
        node_metadata: node_metadata(&all),
    })
}

struct Variables<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    fn required(&self, name: &'static str, purpose: &'static str) -> Result<String, ConfigError> {
        self.optional(name).ok_or(ConfigError::Missing {
            variable: name,
            purpose,
        })
    }

    fn optional_parsed<T: std::str::FromStr>(
        &self,
        name: &str,
        accepted: &str,
    ) -> Result<Option<T>, ConfigError> {
        match self.optional(name) {
            None => Ok(None),
            Some(value) => value
                .parse()
                .map(Some)
                .map_err(|_| invalid(name, &value, accepted)),
        }
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str, default: T, accepted: &str) -> Result<T, ConfigError> {
        Ok(self.optional_parsed(name, accepted)?.unwrap_or(default))
    }

    fn switch(&self, name: &str, default: bool) -> Result<bool, ConfigError> {
        match self.optional(name).as_deref() {
            None => Ok(default),
            Some("true" | "1" | "yes" | "on") => Ok(true),
            Some("false" | "0" | "no" | "off") => Ok(false),
            Some(other) => Err(invalid(name, other, "`true` or `false`")),
        }
    }

    fn duration(&self, name: &str, default: Duration) -> Result<Duration, ConfigError> {
        match self.optional(name) {
            None => Ok(default),
            Some(value) => parse_duration(&value).map_err(|error| invalid(name, &value, &error.to_string())),
        }
    }

    /// The grace period covers the drain and what comes after it, so a little is kept back.
    fn drain_deadline(&self) -> Result<Duration, ConfigError> {
        let default =
            match self.optional_parsed::<u64>("TERMINATION_GRACE_PERIOD_SECONDS", "whole seconds")? {
                None => 5,
                Some(grace) if grace > 10 => grace - 5,
                Some(grace) => grace.saturating_sub(1).max(1),
            };
        self.duration("CONNECTION_TERMINATION_DEADLINE", Duration::from_secs(default))
    }

    /// A number, a share of the cores, or 0 for all of them.
    fn worker_threads(&self) -> Result<usize, ConfigError> {
        const NAME: &str = "ZTUNNEL_WORKER_THREADS";
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        let Some(value) = self.optional(NAME) else {
            return Ok(cores.div_ceil(4).max(2));
        };
        let accepted = "a number of threads, a share such as `50%`, or 0 for all cores";
        let threads = match value.strip_suffix('%') {
            Some(share) => share
                .parse::<usize>()
                .ok()
                .filter(|share| *share <= 100)
                .map(|share| (cores * share).div_ceil(100)),
            None => value
                .parse()
                .ok()
                .filter(|threads| *threads <= MAX_WORKER_THREADS),
        };
        match threads {
            Some(0) => Ok(cores),
            Some(threads) => Ok(threads),
            None => Err(invalid(NAME, &value, accepted)),
        }
    }

    fn endpoint(&self, part: &str, all: &[(String, String)]) -> Endpoint {
        let default = match self.optional("KUBERNETES_SERVICE_HOST") {
            Some(_) => "https://istiod.istio-system.svc:15012",
            None => "https://localhost:15012",
        };
        let address = self.text(&format!("{part}_ADDRESS"), default);
        let address = if address.contains("://") {
            address
        } else {
            format!("https://{address}")
        };
        let prefix = format!("{part}_HEADER_");
        Endpoint {
            address,
            roots: self.text(
                &format!("{part}_ROOT_CA"),
                "./var/run/secrets/istio/root-cert.pem",
            ),
            alternative_name: self.optional(&format!("ALT_{part}_HOSTNAME")),
            headers: all
                .iter()
                .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?.to_lowercase(), value.clone())))
                .collect(),
        }
    }
}

/// More threads than this help nobody and cost memory each.
const MAX_WORKER_THREADS: usize = 1024;

fn node_metadata(all: &[(String, String)]) -> BTreeMap<String, String> {
    all.iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("ISTIO_META_")?.to_owned(), value.clone())))
        .collect()
}

fn invalid(variable: &str, value: &str, accepted: &str) -> ConfigError {
    ConfigError::Invalid {
        variable: variable.into(),
        value: value.into(),
        accepted: accepted.into(),
    }
}

#[cfg(test)]
mod tests;
