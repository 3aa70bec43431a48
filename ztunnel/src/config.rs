//! Settings, read once from the environment under the names that existing deployments use.
//!
//! A value that cannot be used is an error that names the variable, the value and what is accepted. Unset means
//! the default; an empty string counts as unset, as a DaemonSet that leaves a value blank intends. The one exception
//! are `XDS_ADDRESS` and `CA_ADDRESS`, which the empty string turns off.

mod duration;
mod endpoint;
mod error;
mod mesh_config;
mod metadata;
mod mode;
mod reference;
mod sockets;
mod threads;
mod trust;
mod variables;

pub use duration::{DurationError, parse_duration};
pub use endpoint::Endpoint;
pub use error::ConfigError;
pub use mode::{LocalSource, ProxyMode, WorkloadInfo};
pub use sockets::{DnsAddress, Http2Settings, SocketSettings};
pub use trust::TrustSettings;

use error::invalid;
use mesh::route::OutboundPolicy;
use mesh_config::MeshConfig;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use variables::Variables;

/// Everything the node proxy can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether connections are served at all (`ENABLE_PROXY`).
    pub enable_proxy: bool,
    /// Whom the proxy serves (`PROXY_MODE`, `PROXY_WORKLOAD_INFO`).
    pub mode: ProxyMode,
    /// Name of this node, as `Workload.node` spells it (`NODE_NAME`).
    pub node_name: String,
    /// This proxy's own pod (`POD_NAME`, `POD_NAMESPACE`, `SERVICE_ACCOUNT`, `INSTANCE_IP`).
    pub own_pod: OwnPod,
    /// Whether tunnels to the proxy itself are taken, for scraping: in shared mode, where its own pod is named
    /// (`POD_NAME`, `POD_NAMESPACE` and `SERVICE_ACCOUNT`).
    pub self_inbound: bool,
    /// Trust domain of every identity this proxy acts for (`TRUST_DOMAIN`).
    pub trust_domain: String,
    /// What peers are held against (`CRL_PATH`, `COMPLIANCE_POLICY`, `ZTUNNEL_TRUST_DOMAIN_ALIASES`).
    pub trust: TrustSettings,
    /// DNS suffix of services (`CLUSTER_DOMAIN`).
    pub cluster_domain: String,
    /// Cluster this node belongs to (`ISTIO_META_CLUSTER_ID` or `CLUSTER_ID`).
    pub cluster_id: String,
    /// Network this node belongs to (`NETWORK`).
    pub network: String,
    /// Where discovery is served (`XDS_ADDRESS`). None: nowhere.
    pub discovery: Option<Endpoint>,
    /// Whether workloads and services are asked for when they are needed, not all at once (`XDS_ON_DEMAND`).
    pub on_demand: bool,
    /// Workloads, services and policies besides those of discovery (`LOCAL_XDS_PATH`, `LOCAL_XDS`).
    pub local: Option<LocalSource>,
    /// Where the state is kept for a start without the control plane (`ZTUNNEL_STATE_DIR`). None: nowhere.
    pub state_directory: Option<PathBuf>,
    /// State on disk that is older is not used (`ZTUNNEL_STATE_MAX_AGE`).
    pub state_max_age: Duration,
    /// Where certificates are signed (`CA_ADDRESS`). None: nowhere.
    pub authority: Option<Endpoint>,
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
    /// Where it is taken in the pods (`ISTIO_META_DNS_PROXY_ADDR`).
    pub dns_address: DnsAddress,
    /// Whether pods find a SOCKS 5 proxy on their loopback (`UNSTABLE_ENABLE_SOCKS5`).
    pub socks5: bool,
    /// Whether listeners share their port, for an upgrade without a gap (`INPOD_PORT_REUSE`).
    pub port_reuse: bool,
    /// How long open connections live on after their pod left or the proxy was told to stop
    /// (`CONNECTION_TERMINATION_DEADLINE`, else from `TERMINATION_GRACE_PERIOD_SECONDS`).
    pub drain_deadline: Duration,
    /// Streams per tunnel before another tunnel is opened (`POOL_MAX_STREAMS_PER_CONNECTION`).
    pub pool_max_streams: usize,
    /// How long an unused tunnel is kept (`POOL_UNUSED_RELEASE_TIMEOUT`).
    pub pool_idle: Duration,
    /// Bytes that peers of all tunnels together may hold here unread (`ZTUNNEL_MAX_BUFFERED_BYTES`). None: half of the
    /// memory that there is.
    pub max_buffered_bytes: Option<usize>,
    /// Flow control of tunnels (`HTTP2_*`).
    pub http2: Http2Settings,
    /// Settings of sockets (`PACKET_MARK`, `KEEPALIVE_*`, `USER_TIMEOUT_ENABLED`, `ENABLE_ORIG_SRC`).
    pub sockets: SocketSettings,
    /// Whether a proxy in the pod that takes PROXY headers is reached on loopback (`LOCALHOST_APP_TUNNEL`).
    pub localhost_app_tunnel: bool,
    /// Whether a 200 carries our workload's description (`ENABLE_RESPONSE_BAGGAGE`).
    pub response_baggage: bool,
    /// Whether connections to places that the mesh does not know pass (`ZTUNNEL_OUTBOUND_POLICY`).
    pub outbound_policy: OutboundPolicy,
    /// The namespace whose service is meant when several hold one address (`PREFERED_SERVICE_NAMESPACE`).
    pub preferred_service_namespace: Option<String>,
    /// Whether decisions of policy are logged at the level info (`AUTHZ_POLICY_INFO_LOGGING`).
    pub log_policy_decisions: bool,
    /// Threads that move connections (`ZTUNNEL_WORKER_THREADS`).
    pub worker_threads: usize,
    /// Log filter (`RUST_LOG`).
    pub log_filter: String,
    /// Whether log lines are JSON (`LOG_FORMAT=json`).
    pub log_json: bool,
    /// Port of the admin pages (`proxyAdminPort` in the mesh configuration).
    pub admin_port: u16,
    /// Port of the metrics (`statsPort` in the mesh configuration).
    pub metrics_port: u16,
    /// Metadata sent to discovery besides the fixed keys (`ISTIO_META_*`, `ISTIO_METAJSON_*`).
    pub node_metadata: BTreeMap<String, serde_json::Value>,
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

/// Reads the settings of this process: its environment, and the mesh configuration where Istio mounts it.
///
/// # Errors
/// What cannot be used, with what is accepted.
pub fn load() -> Result<Config, ConfigError> {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    let mesh_config = match std::fs::read_to_string(mesh_config::FILE) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(ConfigError::MeshConfig {
                origin: mesh_config::FILE.into(),
                problem: error.to_string(),
            });
        }
    };
    from_environment(environment, mesh_config.as_deref())
}

/// Reads the settings from `environment` and the text of the mesh configuration, where there is one.
///
/// # Errors
/// What cannot be used, with what is accepted.
pub fn from_environment(
    environment: impl IntoIterator<Item = (String, String)>,
    mesh_config: Option<&str>,
) -> Result<Config, ConfigError> {
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let proxy_config = environment.get(PROXY_CONFIG).map(String::as_str);
    let mut mesh_config = mesh_config::read(mesh_config, proxy_config)?;
    let variables = Variables::new(environment, std::mem::take(&mut mesh_config.metadata));
    let _ = variables.raw(PROXY_CONFIG);
    read(&variables, &mesh_config)
}

const PROXY_CONFIG: &str = "PROXY_CONFIG";

fn read(variables: &Variables, mesh_config: &MeshConfig) -> Result<Config, ConfigError> {
    reference::ignore(variables);
    reference::refuse_fake_authority(variables)?;
    let mode = mode::proxy_mode(variables)?;
    let local = mode::local_source(variables)?;
    let address = endpoint::default_address(variables, mesh_config.discovery_address.as_deref());
    // Whoever brings the state along does not mean a control plane that nobody named.
    let discovery_default = if local.is_some() { "" } else { address.as_str() };
    let discovery = endpoint::endpoint(variables, "XDS", discovery_default);
    if discovery.is_none() && local.is_none() {
        return Err(invalid(
            "XDS_ADDRESS",
            "",
            "the empty address turns discovery off, which needs LOCAL_XDS_PATH or LOCAL_XDS instead",
        ));
    }
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    let concurrency = mesh_config.concurrency.map(|threads| threads as usize);
    Ok(Config {
        enable_proxy: variables.switch("ENABLE_PROXY", true)?,
        node_name: node_name(variables, &mode)?,
        sockets: sockets::sockets(variables, &mode)?,
        self_inbound: mode == ProxyMode::Shared && names_own_pod(variables),
        mode,
        own_pod: OwnPod {
            name: variables.text("POD_NAME", "ztunnel"),
            namespace: variables.text("POD_NAMESPACE", "istio-system"),
            service_account: variables.text("SERVICE_ACCOUNT", "ztunnel"),
            address: variables.optional_parsed("INSTANCE_IP", "an IP address")?,
        },
        trust_domain: variables.text("TRUST_DOMAIN", "cluster.local"),
        trust: TrustSettings::read(variables)?,
        cluster_domain: variables.text("CLUSTER_DOMAIN", "cluster.local"),
        cluster_id: variables
            .optional("ISTIO_META_CLUSTER_ID")
            .or_else(|| variables.optional("CLUSTER_ID"))
            .unwrap_or_else(|| "Kubernetes".into()),
        network: variables.text("NETWORK", ""),
        discovery,
        on_demand: variables.switch("XDS_ON_DEMAND", false)?,
        local,
        state_directory: variables.optional("ZTUNNEL_STATE_DIR").map(PathBuf::from),
        state_max_age: variables.duration("ZTUNNEL_STATE_MAX_AGE", Duration::from_secs(24 * 3600))?,
        authority: endpoint::endpoint(variables, "CA", &address),
        token: variables.text("AUTH_TOKEN", "./var/run/secrets/tokens/istio-token"),
        certificate_life: variables.duration("SECRET_TTL", Duration::from_secs(24 * 3600))?,
        agent_socket: variables
            .text("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock")
            .into(),
        ipv6: variables.switch("IPV6_ENABLED", true)?,
        dns_capture: variables.switch("ISTIO_META_DNS_CAPTURE", true)?,
        dns_address: sockets::dns_address(variables)?,
        socks5: variables.switch("UNSTABLE_ENABLE_SOCKS5", false)?,
        port_reuse: variables.switch("INPOD_PORT_REUSE", true)?,
        drain_deadline: drain_deadline(variables)?,
        pool_max_streams: variables.number("POOL_MAX_STREAMS_PER_CONNECTION", 100, 1..=65_535)? as usize,
        pool_idle: variables.duration("POOL_UNUSED_RELEASE_TIMEOUT", Duration::from_secs(300))?,
        max_buffered_bytes: sockets::max_buffered_bytes(variables)?,
        http2: sockets::http2(variables)?,
        localhost_app_tunnel: variables.switch("LOCALHOST_APP_TUNNEL", true)?,
        response_baggage: variables.switch("ENABLE_RESPONSE_BAGGAGE", true)?,
        outbound_policy: variables.choice(
            "ZTUNNEL_OUTBOUND_POLICY",
            OutboundPolicy::AllowAny,
            &[
                ("ALLOW_ANY", OutboundPolicy::AllowAny),
                ("REGISTRY_ONLY", OutboundPolicy::RegistryOnly),
            ],
        )?,
        preferred_service_namespace: variables.optional("PREFERED_SERVICE_NAMESPACE"),
        log_policy_decisions: variables.switch("AUTHZ_POLICY_INFO_LOGGING", false)?,
        worker_threads: threads::worker_threads(variables, concurrency, cores)?,
        log_filter: variables.text("RUST_LOG", "info"),
        log_json: variables.choice("LOG_FORMAT", false, &[("text", false), ("json", true)])?,
        admin_port: mesh_config.admin_port.unwrap_or(15000),
        metrics_port: mesh_config.stats_port.unwrap_or(15020),
        node_metadata: metadata::node_metadata(variables)?,
    })
}

fn names_own_pod(variables: &Variables) -> bool {
    ["POD_NAME", "POD_NAMESPACE", "SERVICE_ACCOUNT"]
        .iter()
        .all(|name| variables.optional(name).is_some())
}

/// A dedicated proxy knows its workload by name; its node is told where somebody knows it.
fn node_name(variables: &Variables, mode: &ProxyMode) -> Result<String, ConfigError> {
    const NAME: &str = "NODE_NAME";
    match mode {
        ProxyMode::Shared => variables.required(NAME, "it says which workloads are on this node"),
        ProxyMode::Dedicated(_) => Ok(variables.text(NAME, "")),
    }
}

/// The grace period covers the drain and what comes after it, so a little is kept back.
fn drain_deadline(variables: &Variables) -> Result<Duration, ConfigError> {
    let grace: Option<u64> =
        variables.optional_parsed("TERMINATION_GRACE_PERIOD_SECONDS", "whole seconds")?;
    let default = match grace {
        None => 5,
        Some(grace) if grace > 10 => grace - 5,
        Some(grace) => grace.saturating_sub(1).max(1),
    };
    variables.duration("CONNECTION_TERMINATION_DEADLINE", Duration::from_secs(default))
}

#[cfg(test)]
mod tests;
