//! The node agent's command line.

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Parser;
use node_agent::{CHECK_INTERVAL, Config, Preflight, Settings};
use telemetry::{Format, LogOutput, LogSettings};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let config = Config::parse();
    if config.check {
        return check(config);
    }
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn check(config: Config) -> ExitCode {
    let proc = config.proc.unwrap_or_else(|| "/proc".into());
    let found = Preflight::run(&config.network_settings, Some(proc)).await;
    print!("{found}");
    match found.ready() {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => {
            eprintln!("node-agent: this node cannot be in the mesh: see what is MISSING");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(config: Config) -> Result<(), Box<dyn Error>> {
    let format = if config.log_format == "json" {
        Format::Json
    } else {
        Format::Text
    };
    let settings = LogSettings {
        filter: config.log.clone(),
        format,
        output: LogOutput::Stdout,
    };
    let (_log, _) = telemetry::init(&settings)?;
    let objects = config.store()?;
    let finder = config.finder()?;
    let settings = Settings {
        // This and the socket are demanded of the command line.
        node: config.node.unwrap_or_default(),
        excluded_namespaces: config.exclude_namespaces,
        zds_socket: config.zds_socket,
        status_socket: config.status_socket.unwrap_or_default(),
        health_listen: config.health_listen,
        network_settings: config.network_settings,
        grace: Duration::from_secs(config.grace_period.into()),
        check_interval: CHECK_INTERVAL,
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    Ok(node_agent::run(settings, objects.clone(), objects, finder, stop).await?)
}
