//! The node agent's command line.

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use node_agent::{CHECK_INTERVAL, PinnedNamespaces, Settings};
use object_store::Directory;
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
    #[arg(long)]
    objects: PathBuf,
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
        filter: arguments.log,
        format,
        output: LogOutput::Stdout,
    };
    let (_log, _) = telemetry::init(&settings)?;
    let objects = Directory::open(&arguments.objects)?;
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
        ended = node_agent::run(settings, &objects, Arc::new(objects.clone()), Arc::new(finder)) => Ok(ended?),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
