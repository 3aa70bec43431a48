//! What the control plane is told on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ca::rotation::RotationSettings;
use kube_source::{ApiServer, ConfigError, KubernetesStore, Wanted};
use object_store::{Directory, ObjectSource, ObjectWriter, StoreError};
use telemetry::{ControlPlaneMetrics, DroppedLines, FilterHandle};

use crate::clock::Clock;
use crate::mesh_settings::{self, Flags, MeshSettings};
use crate::rotation;
use crate::xds::session::MAX_RESPONSE_BYTES;

/// The least that `--max-response-bytes` takes: one resource is never divided, and few are longer.
const MIN_RESPONSE_BYTES: usize = 64 * 1024;

/// Watches objects, serves what they mean to node proxies over delta xDS, and signs certificates for them.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "control-plane", version)]
pub struct Config {
    /// The directory of objects to watch
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes"
    )]
    pub objects: Option<PathBuf>,
    /// Watch the objects of a Kubernetes API in place of a directory: that of the cluster whose pod this is, or the one
    /// at --kubernetes-url
    #[arg(long)]
    pub kubernetes: bool,
    /// The URL of the Kubernetes API
    #[arg(long, value_name = "URL", requires = "kubernetes")]
    pub kubernetes_url: Option<String>,
    /// A PEM file with the certificates that the API server's own is held against; without it, those of the system
    #[arg(long, value_name = "FILE", requires = "kubernetes_url")]
    pub kubernetes_root_ca: Option<PathBuf>,
    /// A file with the token that the API server is sent; without it, none is sent
    #[arg(long, value_name = "FILE", requires = "kubernetes_url")]
    pub kubernetes_token: Option<PathBuf>,
    /// Whether replicas elect the one that writes status and the like, by a Lease in the namespace of this pod; only
    /// with --kubernetes. Without, this process does it
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// The name of this pod, by which it stands for election
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "control-plane")]
    pub pod_name: String,
    /// The namespace of this pod, where the Lease is
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "istio-system"
    )]
    pub pod_namespace: String,
    /// Where the CA keeps its root; made if it does not exist. Without, with --kubernetes, the Secret istio-ca-secret
    /// in the namespace of this pod, or the plugged-in authority of the Secret cacerts, if there is one at the start
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present_any = ["kubernetes", "ca_plugged_dir"]
    )]
    pub ca_dir: Option<PathBuf>,
    /// A directory with an intermediate authority that signs in place of a root of our own: ca-cert.pem, ca-key.pem,
    /// cert-chain.pem, root-cert.pem and, if there is one, ca-crl.pem; or tls.crt, tls.key and ca.crt
    #[arg(long, value_name = "DIR", conflicts_with = "ca_dir")]
    pub ca_plugged_dir: Option<PathBuf>,
    /// The address for xDS and CA, usually port 15012
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// A DNS name or address by which clients call this server; may be given several times
    #[arg(long = "server-name", value_name = "NAME", required = true, num_args = 1..)]
    pub server_names: Vec<String>,
    /// A PEM file with the public keys that verify callers' tokens. Without, with --kubernetes, the API server reviews
    /// them
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "kubernetes",
        requires = "token_issuer"
    )]
    pub token_keys: Option<PathBuf>,
    /// The issuer that callers' tokens must name
    #[arg(long, value_name = "ISSUER", requires = "token_keys")]
    pub token_issuer: Option<String>,
    /// The audience that callers' tokens must name
    #[arg(long, value_name = "AUDIENCE", default_value = "istio-ca")]
    pub token_audience: String,
    /// Where to answer questions about this program over HTTP on a unix socket
    #[arg(long, value_name = "PATH")]
    pub debug_socket: PathBuf,
    /// The address for /metrics, /ready, /live and /version, over plain HTTP
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:15014")]
    pub monitoring_listen: SocketAddr,
    /// The log of this program, where it may be changed while it runs.
    #[arg(skip)]
    pub log: Option<FilterHandle>,
    /// How many lines of the log are dropped.
    #[arg(skip)]
    pub dropped_lines: Option<DroppedLines>,
    /// The trust domain of every identity; by default what the mesh's settings say (ConfigMap istio, key mesh, in the
    /// namespace of this pod), else cluster.local
    #[arg(long, value_name = "DOMAIN")]
    pub trust_domain: Option<String>,
    /// The DNS domain of Services
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The name of this cluster
    #[arg(long, value_name = "ID", default_value = "Kubernetes")]
    pub cluster_id: String,
    /// The network that pods are on
    #[arg(long, value_name = "NETWORK", default_value = "")]
    pub network: String,
    /// The namespace whose policies apply to the whole mesh; by default what the mesh's settings say, else istio-system
    #[arg(long, value_name = "NAMESPACE")]
    pub root_namespace: Option<String>,
    /// A namespace beside the root namespace whose Gateways may be those of a network (class istio-remote), or * for every
    /// one; may be given several times
    #[arg(long = "network-gateway-namespace", value_name = "NAMESPACE")]
    pub network_gateway_namespaces: Vec<String>,
    /// A namespace beside the root namespace whose ServiceEntries and WorkloadEntries may stand for a large part of the world,
    /// and for blocks with addresses of other namespaces in them, or * for every one; may be given several times
    #[arg(long = "trusted-entry-namespace", value_name = "NAMESPACE")]
    pub trusted_entry_namespaces: Vec<String>,
    /// Whether to follow the clusters that Secrets beside this control plane name (label istio/multiCluster: "true", one
    /// kubeconfig a key), and to make Services that are for all clusters one with those there (docs/multicluster.md); only
    /// with --kubernetes
    #[arg(long, value_name = "true|false", default_value_t = false, action = clap::ArgAction::Set)]
    pub multi_network: bool,
    /// The revision of this control plane: policies and entries with another label istio.io/rev are none of its own
    #[arg(long, value_name = "NAME", default_value = "")]
    pub revision: String,
    /// Which proxies are told of dry-run policies: those that announce that they know them (ZTUNNEL_DRY_RUN_POLICIES
    /// "true" in their node metadata), all, or none. A proxy that does not know them enforces them
    #[arg(long, value_name = "WHO", value_enum, default_value_t = DryRunPolicies::Announced)]
    pub dry_run_policies: DryRunPolicies,
    /// About how long a response of discovery is at most, in bytes; more is told by several, one after the other. For
    /// proxies that read less than 200 MiB: tonic and grpc-go read 4 MiB unless told otherwise
    #[arg(long, value_name = "BYTES", default_value_t = MAX_RESPONSE_BYTES, value_parser = response_length)]
    pub max_response_bytes: usize,
    /// Whether to write on objects what became of them (status.conditions), and the addresses that are chosen for hosts of
    /// ServiceEntries
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub write_status: bool,
    /// Whether to tell of refusals, and of policies that are not in force as written, by Events; only with --kubernetes
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub write_events: bool,
    /// Who sees ServiceEntries that do not say it by exportTo: every namespace (public), or their own (namespace)
    #[arg(long, value_name = "WHO", value_enum, default_value_t = EntryVisibility::Public)]
    pub service_entry_visibility: EntryVisibility,
    /// How long a certificate lives when its request does not say
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub certificate_life: Duration,
    /// The longest life that a request for a certificate is given; by default the greater of --certificate-life and 24h.
    /// A rotation of the CA's root may have to wait so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_certificate_life: Option<Duration>,
    /// The shortest time between two phases of a rotation of the CA's root: in it copies of the roots in files must
    /// reach those who verify this server by them, and other replicas take over what is kept
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub ca_rotation_pause: Duration,
    /// A service account whose pods are node proxies; may be given several times
    #[arg(
        long = "trusted-node-account",
        value_name = "NAMESPACE/NAME",
        default_value = "istio-system/ztunnel",
        value_parser = account
    )]
    pub trusted_node_accounts: Vec<(String, String)>,
}

/// Which proxies are told of dry-run policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DryRunPolicies {
    /// Those that say that they do not enforce them.
    Announced,
    /// All; older ones enforce them.
    All,
    /// None.
    None,
}

/// Who sees ServiceEntries that do not say it themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EntryVisibility {
    /// Every namespace.
    Public,
    /// Their own namespace.
    Namespace,
}

impl Config {
    /// The objects to watch and to write.
    ///
    /// # Errors
    /// When the directory cannot be used, or it is not known where the Kubernetes API is.
    pub fn store(&self) -> Result<Arc<dyn Store>, StoreUnavailable> {
        if let Some(directory) = &self.objects {
            return Ok(Arc::new(Directory::open(directory)?));
        }
        let wanted =
            Wanted::for_control_plane().and_config_map(&self.pod_namespace, mesh_settings::CONFIG_MAP);
        let store = KubernetesStore::of_manager(self.api_server()?, wanted, &self.field_manager());
        Ok(Arc::new(store))
    }

    /// How what is written on objects is named: control planes of several revisions must be told apart.
    fn field_manager(&self) -> String {
        match self.revision.as_str() {
            "" => kube_source::FIELD_MANAGER.to_owned(),
            revision => format!("{}-{revision}", kube_source::FIELD_MANAGER),
        }
    }

    /// The Kubernetes API, where that is the source of objects; for what else is asked of it.
    pub(crate) fn kubernetes(&self) -> Result<Option<ApiServer>, ConfigError> {
        self.kubernetes.then(|| self.api_server()).transpose()
    }

    fn api_server(&self) -> Result<ApiServer, ConfigError> {
        match &self.kubernetes_url {
            Some(url) => {
                let (roots, token) = (
                    self.kubernetes_root_ca.as_deref(),
                    self.kubernetes_token.as_deref(),
                );
                ApiServer::at(url, roots, token)
            }
            None => ApiServer::in_cluster(),
        }
    }

    pub(crate) fn metrics(&self) -> ControlPlaneMetrics {
        let metrics = ControlPlaneMetrics::new(env!("CARGO_PKG_VERSION"));
        if let Some(dropped) = &self.dropped_lines {
            metrics.observe_log(dropped.clone());
        }
        metrics.observe_runtime(&tokio::runtime::Handle::current());
        metrics
    }

    /// The longest life of a certificate.
    pub(crate) fn max_certificate_life(&self) -> Duration {
        let usual = self.certificate_life.max(ca::DEFAULT_TTL);
        self.max_certificate_life.unwrap_or(usual)
    }

    pub(crate) fn authority_settings(
        &self,
        trust_domain: &str,
        issues: Arc<ca::IssueLog>,
        clock: Clock,
    ) -> rotation::Settings {
        rotation::Settings {
            trust_domain: trust_domain.to_owned(),
            certificate_life: self.certificate_life,
            rotation: RotationSettings {
                pause: self.ca_rotation_pause,
                // Only over a Kubernetes API are there several replicas.
                alone: !self.kubernetes,
            },
            share: rotation::SHARE,
            issues,
            clock,
        }
    }

    /// Without what [`Config::mesh_settings`] adds.
    pub(crate) fn compile_settings(&self) -> compile::Settings {
        compile::Settings {
            cluster_domain: self.cluster_domain.clone(),
            cluster_id: self.cluster_id.clone(),
            network: self.network.clone(),
            network_gateway_namespaces: self.network_gateway_namespaces.clone(),
            trusted_entry_namespaces: self.trusted_entry_namespaces.clone(),
            service_entry_visibility: match self.service_entry_visibility {
                EntryVisibility::Public => compile::Visibility::Public,
                EntryVisibility::Namespace => compile::Visibility::Namespace,
            },
            list_dry_run: self.dry_run_policies == DryRunPolicies::All,
            ..compile::Settings::default()
        }
    }

    /// The settings that the ConfigMap may give too.
    pub(crate) fn mesh_settings(&self) -> MeshSettings {
        let flags = Flags {
            trust_domain: self.trust_domain.clone(),
            root_namespace: self.root_namespace.clone(),
        };
        MeshSettings::new(&self.pod_namespace, flags, &self.revision)
    }
}

/// Objects to watch and to write.
pub trait Store: ObjectSource + ObjectWriter {}

impl<T: ObjectSource + ObjectWriter> Store for T {}

/// There are no objects to watch.
#[derive(Debug, thiserror::Error)]
pub enum StoreUnavailable {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] StoreError),
    /// It is not known where the Kubernetes API is.
    #[error(transparent)]
    Kubernetes(#[from] ConfigError),
}

/// `90s`, `15m`, `24h` or `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let accepted = || "write a whole number and s, m, h or d, such as 24h".to_owned();
    let unit = text.chars().next_back().ok_or_else(accepted)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(accepted()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| accepted())?;
    let total = number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .filter(|total| *total <= ca::MAX_TTL);
    match total {
        Some(total) if !total.is_zero() => Ok(total),
        _ => Err(format!(
            "must be more than nothing and at most {} days",
            ca::MAX_TTL.as_secs() / 86_400
        )),
    }
}

/// What the shortest limit of a client leaves room for, to what all node proxies read.
fn response_length(text: &str) -> Result<usize, String> {
    let length: Option<usize> = text.parse().ok();
    length
        .filter(|length| (MIN_RESPONSE_BYTES..=MAX_RESPONSE_BYTES).contains(length))
        .ok_or_else(|| format!("write a number from {MIN_RESPONSE_BYTES} to {MAX_RESPONSE_BYTES}"))
}

fn account(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write NAMESPACE/NAME, such as istio-system/ztunnel".to_owned()),
    }
}

#[cfg(test)]
mod tests;
