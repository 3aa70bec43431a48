//! `ztctl ca`: the roots of the CA, and their exchange.

mod cluster;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use lab::{LabError, Layout, RootQuestion};
use serde_json::Value;

use cluster::Cluster;

use crate::args::Name;
use crate::print;
use crate::values::duration;

/// The answer is no.
const NO: u8 = 1;
/// How often it is looked whether a rotation is over.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Subcommand)]
pub(crate) enum CaCommand {
    /// Which roots are trusted, how far a rotation is and whom it waits for; exit code 1 when the CA cannot go on
    Status(Ask),
    /// Exchange the root, without a connection that fails; exit code 1 when that is refused
    Rotate(Rotate),
    /// Take certificates back by their serial numbers: whoever shows one loses its connections and gets no new one; exit
    /// code 1 when that is refused
    Revoke(Revoke),
}

#[derive(Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    name: Name,
    /// The debug socket of a control plane, in place of a lab's
    #[arg(long, value_name = "PATH", conflicts_with = "name")]
    debug_socket: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    ask: Ask,
    /// Give the new root up; possible as long as it signs nothing
    #[arg(long)]
    abort: bool,
    /// Wait so long for the end of the rotation; exit code 3 and whom it waits for after that
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

#[derive(Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    ask: Ask,
    /// Serial numbers, as the control plane's line `certificate issued` has them
    #[arg(required = true, value_name = "SERIAL")]
    serials: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Runs one of the commands; its exit code.
pub(crate) async fn run(command: CaCommand) -> u8 {
    let outcome = match command {
        CaCommand::Status(ask) => ask.status().await,
        CaCommand::Rotate(rotate) => rotate.run().await,
        CaCommand::Revoke(revoke) => revoke.run().await,
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("ztctl ca: {error}");
        error.exit_code()
    })
}

impl Ask {
    async fn ask(&self, question: RootQuestion) -> Result<Value, LabError> {
        match &self.debug_socket {
            _ if self.cluster.is_meant() => self.cluster.ask(question).await,
            Some(socket) => lab::roots_at(socket, question).await,
            None => lab::roots(&Layout::new(&self.name.name)?, question).await,
        }
    }

    async fn status(self) -> Result<u8, LabError> {
        let status = self.ask(RootQuestion::Status).await?;
        self.show(&status);
        Ok(if status["failure"].is_null() { 0 } else { NO })
    }

    fn show(&self, status: &Value) {
        match self.output {
            Output::Json => print::pretty_json(status),
            Output::Table => table(status),
        }
    }
}

impl Revoke {
    async fn run(self) -> Result<u8, LabError> {
        let colons = |serial: &String| serial.replace(':', "");
        let serials = self.serials.iter().map(colons).collect();
        let status = self.ask.ask(RootQuestion::Revoke(serials)).await?;
        self.ask.show(&status);
        Ok(0)
    }
}

impl Rotate {
    async fn run(self) -> Result<u8, LabError> {
        let question = if self.abort {
            RootQuestion::Abort
        } else {
            RootQuestion::Rotate
        };
        let before = self.ask.ask(RootQuestion::Status).await?;
        let mut status = self.ask.ask(question).await?;
        if let Some(wait) = self.wait {
            let deadline = Instant::now() + wait;
            while !is_over(&before, &status) {
                if Instant::now() >= deadline {
                    return Err(late(wait, &status));
                }
                tokio::time::sleep(LOOK).await;
                // A control plane that is being restarted answers again soon.
                match self.ask.ask(RootQuestion::Status).await {
                    Ok(now) => status = now,
                    Err(error) if Instant::now() >= deadline => return Err(error),
                    Err(_) => {}
                }
            }
        }
        self.ask.show(&status);
        Ok(0)
    }
}

/// Whether it is steady, and not because nothing has begun yet.
fn is_over(before: &Value, status: &Value) -> bool {
    status["phase"] == "steady" && status["generation"] != before["generation"]
}

fn late(wait: Duration, status: &Value) -> LabError {
    let reasons: Vec<String> = list(&status["blockers"]).map(reason).collect();
    LabError::Late(format!(
        "not over within {} s; it goes on. Phase {}, which waits for: {}",
        wait.as_secs(),
        text(&status["phase"]),
        reasons.join("; ")
    ))
}

fn table(status: &Value) {
    let (phase, since) = (text(&status["phase"]), text(&status["since"]));
    print::line(&format!(
        "{phase} since {since}, generation {}",
        status["generation"]
    ));
    if !status["acknowledged"].is_null() {
        let done = if phase == "switched" {
            "have renewed"
        } else {
            "have acknowledged"
        };
        print::line(&format!(
            "{} of {} holders of certificates {done}",
            status["acknowledged"], status["holders"]
        ));
    }
    if status["revoked"].as_u64().is_some_and(|revoked| revoked > 0) {
        print::line(&format!("{} certificates are revoked", status["revoked"]));
    }
    if let Some(failure) = status["failure"].as_str() {
        print::line(&format!("failure: {failure}"));
    }
    let root = |root: &Value| {
        vec![
            text(&root["role"]).to_owned(),
            text(&root["fingerprint"]).to_owned(),
            text(&root["notAfter"]).to_owned(),
        ]
    };
    print::table(
        &["ROOT", "SHA-256", "NOT AFTER"],
        list(&status["roots"])
            .chain(list(&status["retired"]))
            .map(root)
            .collect(),
    );
    let blockers: Vec<_> = list(&status["blockers"])
        .map(|blocker| {
            vec![
                named(blocker),
                text(&blocker["until"]).to_owned(),
                text(&blocker["reason"]).to_owned(),
            ]
        })
        .collect();
    if !blockers.is_empty() {
        print::table(&["WAITS FOR", "AT MOST UNTIL", "WHY"], blockers);
    }
}

fn reason(blocker: &Value) -> String {
    format!("{}: {}", named(blocker), text(&blocker["reason"]))
}

/// Who a blocker is about.
fn named(blocker: &Value) -> String {
    match (blocker["node"].as_str(), blocker["pod"].as_str()) {
        (Some(node), Some(pod)) => format!("{node} ({pod})"),
        _ => blocker["replica"].as_str().unwrap_or("time").to_owned(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
