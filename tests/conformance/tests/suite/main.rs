//! Holds a node proxy against the protocol of the mesh, clause by clause, and prints a table.
//!
//! The subject is the built `ztunnel`, or whatever `ZTUNNEL_SUBJECT` names. What only our own promises is marked as an
//! extension, and left out for another subject or with `ZTUNNEL_CONFORMANCE_EXTENSIONS=0`. An argument, or
//! `ZTUNNEL_CONFORMANCE_ONLY`, leaves out clauses whose name does not contain it.

mod agent;
mod discovery;
mod envoy;
mod http;
mod inbound;
mod lifecycle;
mod on_demand;
mod outbound;
mod pages;
mod plaintext;
mod policy;
mod routing;
mod signing;
mod trust;

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;

use conformance::{Line, Outcome, Report, print, subject_path};

/// Areas tried at the same time; each has a node of its own.
const AT_ONCE: usize = 3;

/// Stack of an area's thread in bytes: unoptimised, the clauses of an area are one large future, polled in deep frames.
const STACK: usize = 64 << 20;

/// What our own proxy does not do yet. A foreign one is not excused.
const PENDING: &[&str] = &[];

struct Area {
    name: &'static str,
    run: fn(&mut Report) -> Outcome,
}

/// An area is a module with an `async fn run(report: &mut Report) -> Outcome`; it fails when it cannot be set up.
macro_rules! areas {
    ($($module:ident),* $(,)?) => {
        [$(Area { name: stringify!($module), run: |report| block_on($module::run(report)) }),*]
    };
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut only = arguments.into_iter().find(|argument| !argument.starts_with("--"));
    only = only.or_else(|| std::env::var("ZTUNNEL_CONFORMANCE_ONLY").ok());

    if !nix::unistd::geteuid().is_root() {
        println!("skipped: the conformance suite makes network namespaces and needs root");
        return match std::env::var("REQUIRE_ROOT").as_deref() {
            Ok("1") => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        };
    }
    match subject_path() {
        Ok(path) => println!("subject: {}", path.display()),
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::FAILURE;
        }
    }
    let areas = areas![
        inbound, outbound, plaintext, trust, policy, discovery, on_demand, signing, agent, lifecycle, pages,
        routing, envoy
    ];
    let lines = run(areas.into(), extensions(), only.as_deref());
    match print(&lines) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Extensions are asked of our own proxy, and of others on request.
fn extensions() -> bool {
    match std::env::var("ZTUNNEL_CONFORMANCE_EXTENSIONS").as_deref() {
        Ok("0") => false,
        Ok("1") => true,
        _ => std::env::var_os("ZTUNNEL_SUBJECT").is_none(),
    }
}

fn run(areas: Vec<Area>, extensions: bool, only: Option<&str>) -> Vec<Line> {
    let waiting = Mutex::new(areas.into_iter().enumerate());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let tries = || {
                while let Some((number, area)) = next() {
                    let elsewhere = |only: &str| {
                        only.split_once('/')
                            .is_some_and(|(wanted, _)| wanted != area.name)
                    };
                    if only.is_some_and(elsewhere) {
                        continue;
                    }
                    let mut report = Report::new(area.name, extensions, only.map(str::to_owned));
                    if std::env::var_os("ZTUNNEL_SUBJECT").is_none() {
                        report = report.pending(PENDING);
                    }
                    if let Err(failure) = (area.run)(&mut report) {
                        report.setup_failed(&failure);
                    }
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((number, report.into_lines()));
                }
            };
            let thread = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, tries);
            thread.expect("a thread can be started");
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().flat_map(|(_, lines)| lines).collect()
}

fn block_on(area: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(area);
    // Threads that wait for the subject are not waited for.
    runtime.shutdown_background();
    outcome
}
