//! `ztctl`, the command line: the lab, questions about policy, the CA's roots, installation, and the lab's test
//! application.
//!
//! It holds no logic that another program needs: it reads arguments, calls the crate that does the work, and prints.
//! Tables go to standard output, everything else to standard error. Exit codes: 0 good, 1 the answer is no, 2 used
//! wrongly, 3 could not find out.

mod app;
mod args;
mod ca;
mod install;
mod lab_commands;
mod policy;
mod print;
mod values;

use std::process::ExitCode;

use clap::Parser;

use args::{Command, Ztctl};

fn main() -> ExitCode {
    let arguments = Ztctl::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ztctl: cannot start: {error}");
            return ExitCode::from(3);
        }
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Lab(command) => lab_commands::run(command).await,
            Command::Policy(command) => policy::run(command).await,
            Command::Ca(command) => ca::run(command).await,
            Command::App(command) => app::run(command).await,
            Command::Install(arguments) => install::install(arguments).await,
            Command::Uninstall(arguments) => install::uninstall(arguments).await,
        }
    });
    // A read of standard input that nobody waits for must not keep us.
    runtime.shutdown_background();
    ExitCode::from(code)
}
