//! What the node agent is told on the command line and by the environment.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kube_source::{ApiServer, KubernetesStore, Wanted};
use object_store::{Directory, ObjectSource, ObjectWriter};
use sys::NamespaceError;

use crate::finder::{NamespaceFinder, PinnedNamespaces, ProcessNamespaces};
use crate::preflight::PROCESSES_REMEDY;

/// Enrols the pods of one node in the mesh.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "node-agent", version)]
pub struct Config {
    /// Try out whether this node has what agent and node proxy need, say what is missing and what to do, and end: with exit
    /// code 0 when nothing is missing that must be there, 1 otherwise. Needs --proc and --network-settings only where they
    /// are elsewhere
    #[arg(long)]
    pub check: bool,
    /// Name of the node whose pods are enrolled
    #[arg(long, env = "NODE_NAME", required_unless_present = "check")]
    pub node: Option<String>,
    /// Directory of objects
    #[arg(long, required_unless_present_any = ["kubernetes", "check"], conflicts_with = "kubernetes")]
    pub objects: Option<PathBuf>,
    /// Follow the pods of the node in a Kubernetes API in place of a directory: that of the cluster whose pod this is, or
    /// the one at --kubernetes-url
    #[arg(long)]
    pub kubernetes: bool,
    /// URL of the Kubernetes API
    #[arg(long, requires = "kubernetes")]
    pub kubernetes_url: Option<String>,
    /// PEM file with the certificates that the API server's own is held against; without it, those of the system
    #[arg(long, requires = "kubernetes_url")]
    pub kubernetes_root_ca: Option<PathBuf>,
    /// File with the token that the API server is sent; without it, none is sent
    #[arg(long, requires = "kubernetes_url")]
    pub kubernetes_token: Option<PathBuf>,
    /// Namespaces whose pods are not enrolled whatever their labels say, separated by commas, beside kube-system
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACES")]
    pub exclude_namespaces: Vec<String>,
    /// Directory of pinned network namespaces, each named by its pod's uid
    #[arg(long, required_unless_present_any = ["proc", "check"], conflicts_with = "proc")]
    pub namespaces: Option<PathBuf>,
    /// Find the network namespaces of pods by their processes, as a Kubernetes node has them: this is the node's /proc
    #[arg(long)]
    pub proc: Option<PathBuf>,
    /// Where the settings below /proc/sys/net can be written; in a container /proc/sys itself is read-only
    #[arg(long, default_value = "/proc/sys/net")]
    pub network_settings: PathBuf,
    /// Socket on which node proxies connect
    #[arg(long, default_value = "/var/run/ztunnel/ztunnel.sock")]
    pub zds_socket: PathBuf,
    /// Seconds that the node proxy has for the open connections of a pod that leaves the mesh
    #[arg(long, default_value_t = 30)]
    pub grace_period: u32,
    /// Socket that answers GET /status
    #[arg(long, required_unless_present = "check")]
    pub status_socket: Option<PathBuf>,
    /// Address that answers GET /healthz/ready and /healthz/live, for probes; without it, there is none
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub health_listen: Option<SocketAddr>,
    /// Which log lines are written: a level, or scope=level separated by commas
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
    /// How log lines are written: text or json
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

/// Objects to follow and to annotate.
pub trait Store: ObjectSource + ObjectWriter {}

impl<T: ObjectSource + ObjectWriter> Store for T {}

impl Config {
    /// The objects to follow and to annotate.
    ///
    /// # Errors
    /// When the directory cannot be used, or it is not known where the Kubernetes API is.
    pub fn store(&self) -> Result<Arc<dyn Store>, Box<dyn Error>> {
        if let Some(directory) = &self.objects {
            return Ok(Arc::new(Directory::open(directory)?));
        }
        let server = match &self.kubernetes_url {
            Some(url) => ApiServer::at(
                url,
                self.kubernetes_root_ca.as_deref(),
                self.kubernetes_token.as_deref(),
            )?,
            None => ApiServer::in_cluster()?,
        };
        let wanted = Wanted::for_node(self.node.as_deref().unwrap_or_default());
        Ok(Arc::new(KubernetesStore::new(server, wanted)))
    }

    /// What knows the network namespaces of pods.
    ///
    /// # Errors
    /// When this process' own network namespace, or that of the node, cannot be looked at.
    pub fn finder(&self) -> Result<Arc<dyn NamespaceFinder>, NoFinder> {
        Ok(match (&self.namespaces, &self.proc) {
            (Some(directory), _) => Arc::new(PinnedNamespaces::new(directory).map_err(NoFinder::Pinned)?),
            (None, proc) => {
                let proc = proc.clone().unwrap_or_else(|| PathBuf::from("/proc"));
                Arc::new(ProcessNamespaces::new(proc).map_err(NoFinder::Processes)?)
            }
        })
    }
}

/// Why the network namespaces of pods cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum NoFinder {
    /// The agent's own namespace cannot be looked at.
    #[error(transparent)]
    Pinned(NamespaceError),
    /// That of the node's processes cannot.
    #[error("this node cannot be in the mesh: {0}: {PROCESSES_REMEDY}")]
    Processes(NamespaceError),
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parse(more: &[&str]) -> Result<Config, clap::Error> {
        let needed = ["node-agent", "--node=n", "--status-socket=/s"];
        Config::try_parse_from(needed.iter().chain(more))
    }

    #[test]
    fn namespaces_are_found_in_one_way() {
        for good in [
            &["--kubernetes", "--proc=/host/proc"][..],
            &["--objects=/o", "--namespaces=/n"],
        ] {
            assert!(parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            &["--kubernetes"][..],
            &["--kubernetes", "--proc=/p", "--namespaces=/n"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_check_needs_nothing_else() {
        let config = Config::try_parse_from(["node-agent", "--check"]).unwrap();
        assert!(config.check && config.proc.is_none());
        assert!(!parse(&["--kubernetes", "--proc=/p"]).unwrap().check);
        for missing in [
            &["--node=n", "--kubernetes", "--proc=/p"][..],
            &["--status-socket=/s", "--node=n", "--kubernetes"],
        ] {
            let all = ["node-agent"].into_iter().chain(missing.iter().copied());
            assert!(Config::try_parse_from(all).is_err(), "{missing:?}");
        }
    }

    /// What the chart starts in its containers is understood here.
    #[test]
    fn the_chart_starts_what_there_is() {
        let mut seen = 0;
        for values in ["defaults", "everything", "control-plane-and-agent", "edges"] {
            for object in charts::rendered(values).unwrap() {
                if object["kind"] != "DaemonSet" || object["metadata"]["name"] != "ztunnel-node-agent" {
                    continue;
                }
                let container = &object["spec"]["template"]["spec"]["containers"][0];
                let arguments = container["args"].as_array().unwrap();
                let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
                // NODE_NAME is set by the environment of the container.
                let environment = container["env"].as_array().unwrap();
                assert!(environment.iter().any(|variable| variable["name"] == "NODE_NAME"));
                let all = ["node-agent", "--node=n"].into_iter().chain(arguments);
                let config = Config::try_parse_from(all).unwrap_or_else(|error| panic!("{values}: {error}"));
                assert!(config.kubernetes && config.proc.is_some());
                let excluded: &[&str] = if values == "everything" {
                    &["monitoring", "storage"]
                } else {
                    &[]
                };
                assert_eq!(config.exclude_namespaces, excluded);

                // Paths that it uses are mounted, those that it writes to writably.
                let mounts = container["volumeMounts"].as_array().unwrap();
                let mounted = |path: &std::path::Path, writable: bool| {
                    mounts.iter().any(|mount| {
                        path.starts_with(mount["mountPath"].as_str().unwrap())
                            && !(writable && mount["readOnly"] == true)
                    })
                };
                assert!(mounted(&config.zds_socket, true));
                assert!(mounted(config.status_socket.as_deref().unwrap(), true));
                assert!(mounted(&config.network_settings, true));
                assert!(mounted(config.proc.as_deref().unwrap(), false));

                // Probes ask the port that is listened on.
                let port = config.health_listen.unwrap().port();
                let named = container["ports"].as_array().unwrap();
                assert!(
                    named
                        .iter()
                        .any(|entry| entry["name"] == "health" && entry["containerPort"] == port)
                );
                for (probe, path) in [
                    ("readinessProbe", crate::health::READY),
                    ("livenessProbe", crate::health::LIVE),
                ] {
                    assert_eq!(container[probe]["httpGet"]["port"], "health");
                    assert_eq!(container[probe]["httpGet"]["path"], path);
                }
                seen += 1;
            }
        }
        assert_eq!(seen, 4);
    }
}
