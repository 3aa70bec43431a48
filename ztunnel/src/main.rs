//! The node proxy. All of it is in the library.

use std::process::ExitCode;
use telemetry::{Format, LogSettings};

/// It gives memory back, and says who holds it (`/debug/pprof/heap`).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: sys::heap::Allocator = sys::heap::Allocator;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("proxy") => {}
        Some("version" | "--version" | "-V") => {
            println!("ztunnel {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    let config = match ztunnel::config::load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ztunnel: {error}");
            return ExitCode::from(2);
        }
    };
    let format = if config.log_json {
        Format::Json
    } else {
        Format::Text
    };
    let settings = LogSettings {
        filter: config.log_filter.clone(),
        format,
        ..LogSettings::default()
    };
    let (guard, filter) = match telemetry::init(&settings) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("ztunnel: {error}");
            return ExitCode::from(2);
        }
    };
    // Every connection takes two descriptors or more.
    if let Err(error) = sys::descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    #[cfg(feature = "jemalloc")]
    if let Err(error) = sys::heap::give_back_in_background() {
        tracing::warn!(%error, "memory that is free is given back only while more is used");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads)
        .thread_name("ztunnel")
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime
            .block_on(ztunnel::run(config, filter, guard.dropped()))
            .map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot start threads: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            drop(guard);
            eprintln!("ztunnel: {error}");
            ExitCode::from(3)
        }
    }
}

const USAGE: &str = "\
ztunnel: the node proxy of the mesh

usage: ztunnel proxy [ztunnel]   run; settings come from the environment (see docs/configuration.md)
       ztunnel version
       ztunnel help";
