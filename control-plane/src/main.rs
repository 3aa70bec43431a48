//! The program: command line, log and signals around the library.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use control_plane::Config;
use object_store::ObjectWriter;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let mut config = Config::parse();
    let mut log = telemetry::LogSettings::default();
    if let Ok(filter) = std::env::var("RUST_LOG") {
        log.filter = filter;
    }
    let (log, filter) = match telemetry::init(&log) {
        Ok(log) => log,
        Err(error) => return failed(&error),
    };
    (config.log, config.dropped_lines) = (Some(filter), Some(log.dropped()));
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

async fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    let objects = config.store()?;
    let writer = config
        .write_status
        .then(|| objects.clone() as Arc<dyn ObjectWriter>);
    let running = control_plane::start(config, objects, writer, shutdown).await?;
    Ok(running.stopped().await?)
}

/// To standard error, also when the log goes elsewhere.
fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("control-plane: {error}");
    ExitCode::FAILURE
}
