//! The node agent's command line.

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use kube_source::{ApiServer, KubernetesStore, Wanted};
use node_agent::{CHECK_INTERVAL, PinnedNamespaces, Settings};
use object_store::{Directory, ObjectSource, ObjectWriter};
use telemetry::{Format, LogOutput, LogSettings};
use tokio::signal::unix::{SignalKind, signal};

/// Enrols the pods of one node in the mesh.
#[derive(Debug, Parser)]
#[command(name = "node-agent", version)]
struct Arguments {
    /// Name of the node whose pods are enrolled
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// Directory of objects
    #[arg(long, required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    objects: Option<PathBuf>,
    /// Follow the pods of the node in a Kubernetes API in place of a directory: that of the cluster whose pod this is, or
    /// the one at --kubernetes-url
    #[arg(long)]
    kubernetes: bool,
    /// URL of the Kubernetes API
    #[arg(long, requires = "kubernetes")]
    kubernetes_url: Option<String>,
    /// PEM file with the certificates that the API server's own is held against; without it, those of the system
    #[arg(long, requires = "kubernetes_url")]
    kubernetes_root_ca: Option<PathBuf>,
    /// File with the token that the API server is sent; without it, none is sent
    #[arg(long, requires = "kubernetes_url")]
    kubernetes_token: Option<PathBuf>,
    /// Directory of pinned network namespaces, each named by its pod's uid
    #[arg(long)]
    namespaces: PathBuf,
    /// Socket on which node proxies connect
    #[arg(long, default_value = "/var/run/ztunnel/ztunnel.sock")]
    zds_socket: PathBuf,
    /// Seconds that the node proxy has for the open connections of a pod that leaves the mesh
    #[arg(long, default_value_t = 30)]
    grace_period: u32,
    /// Socket that answers GET /status
    #[arg(long)]
    status_socket: PathBuf,
    /// Which log lines are written: a level, or scope=level separated by commas
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log: String,
    /// How log lines are written: text or json
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let format = if arguments.log_format == "json" {
        Format::Json
    } else {
        Format::Text
    };
    let settings = LogSettings {
        filter: arguments.log.clone(),
        format,
        output: LogOutput::Stdout,
    };
    let (_log, _) = telemetry::init(&settings)?;
    let objects = store(&arguments)?;
    let finder = PinnedNamespaces::new(&arguments.namespaces)?;
    let settings = Settings {
        node: arguments.node,
        zds_socket: arguments.zds_socket,
        status_socket: arguments.status_socket,
        grace: Duration::from_secs(arguments.grace_period.into()),
        check_interval: CHECK_INTERVAL,
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        ended = node_agent::run(settings, objects.clone(), objects.clone(), Arc::new(finder)) => Ok(ended?),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// Objects to follow and to annotate.
trait Store: ObjectSource + ObjectWriter {}

impl<T: ObjectSource + ObjectWriter> Store for T {}

fn store(arguments: &Arguments) -> Result<Arc<dyn Store>, Box<dyn Error>> {
    if let Some(directory) = &arguments.objects {
        return Ok(Arc::new(Directory::open(directory)?));
    }
    let server = match &arguments.kubernetes_url {
        Some(url) => ApiServer::at(
            url,
            arguments.kubernetes_root_ca.as_deref(),
            arguments.kubernetes_token.as_deref(),
        )?,
        None => ApiServer::in_cluster()?,
    };
    Ok(Arc::new(KubernetesStore::new(
        server,
        Wanted::for_node(&arguments.node),
    )))
}
