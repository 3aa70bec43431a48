//! `make bench-scale`: a control plane under a large mesh. See `benches::scale`.

use std::process::ExitCode;

use benches::scale::{self, Options, Outcome, PlaneOptions, Size, StreamOptions};
use clap::Parser;

/// Measure a control plane under a large mesh and a tenth of it
#[derive(Parser)]
#[command(name = "bench-scale", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The processes that it starts
#[derive(clap::Subcommand)]
enum Part {
    #[command(hide = true)]
    Plane(PlaneOptions),
    #[command(hide = true)]
    Objects(Size),
    #[command(hide = true)]
    Streams(StreamOptions),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Outcome<()> {
    let Some(part) = arguments.part else {
        return scale::drive(&arguments.options);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match part {
            Part::Plane(options) => scale::plane(options).await,
            Part::Objects(size) => scale::serve_objects(size).await,
            Part::Streams(options) => scale::hold_streams(options).await,
        }
    })
}
