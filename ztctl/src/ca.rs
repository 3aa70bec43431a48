//! `ztctl ca`: the roots of the CA, and their exchange.

mod cluster;
mod show;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use lab::{Issued, LabError, Layout, RootQuestion};
use serde_json::Value;

use cluster::Cluster;

use crate::args::Name;
use crate::print;
use crate::values::duration;

/// The answer is no.
const NO: u8 = 1;
/// How often it is looked whether a rotation is over.
const LOOK: Duration = Duration::from_millis(500);
/// How long a revocation by identity or node waits for the answers of all replicas, which look every 5 s.
const ANSWERS: Duration = Duration::from_secs(15);

#[derive(Subcommand)]
pub(crate) enum CaCommand {
    /// Which roots are trusted, how far a rotation is and whom it waits for; exit code 1 when the CA cannot go on
    Status(Ask),
    /// Exchange the root, without a connection that fails; exit code 1 when that is refused
    Rotate(Rotate),
    /// Take certificates back, by their serial numbers or all of an identity or a node: whoever shows one loses its
    /// connections and gets no new one, and its holder gets another; exit code 1 when that is refused
    Revoke(Revoke),
    /// Which certificates the control plane that is asked has issued since it began, and are valid
    Issued(IssuedArgs),
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
    #[command(flatten)]
    which: Which,
    /// Serial numbers, as `ztctl ca issued` and the control plane's line `certificate issued` have them
    #[arg(required_unless_present_any = ["identity", "node"], conflicts_with_all = ["identity", "node"], value_name = "SERIAL")]
    serials: Vec<String>,
}

#[derive(Args)]
pub(crate) struct IssuedArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(flatten)]
    which: Which,
}

/// Some certificates.
#[derive(Args)]
struct Which {
    /// Those that name this identity: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT
    #[arg(long, value_name = "SPIFFE-ID")]
    identity: Option<String>,
    /// Those that were asked for on this node, by its node proxy or by workloads themselves
    #[arg(long, value_name = "NAME", conflicts_with = "identity")]
    node: Option<String>,
}

impl Which {
    fn issued(self) -> Option<Issued> {
        let node = self.node.map(Issued::Node);
        self.identity.map(Issued::Identity).or(node)
    }
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
        CaCommand::Issued(issued) => issued.run().await,
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
            Output::Table => show::status(status),
        }
    }
}

impl Revoke {
    async fn run(self) -> Result<u8, LabError> {
        let colons = |serial: &String| serial.replace(':', "");
        let serials = self.serials.iter().map(colons).collect();
        let Some(which) = self.which.issued() else {
            let status = self.ask.ask(RootQuestion::Revoke(serials)).await?;
            self.ask.show(&status);
            return Ok(0);
        };
        let selection = which.written(' ');
        let before = number(&self.ask.ask(RootQuestion::Status).await?, &selection);
        let mut status = self.ask.ask(RootQuestion::RevokeAll(which)).await?;
        // Replicas that are there answer soon; those that are not are named.
        let deadline = Instant::now() + ANSWERS;
        while !is_answered(&status, &selection, before) && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
            status = self.ask.ask(RootQuestion::Status).await?;
        }
        self.ask.show(&status);
        Ok(0)
    }
}

fn order<'a>(status: &'a Value, selection: &str) -> Option<&'a Value> {
    show::list(&status["revocations"]).find(|order| order["selection"] == selection)
}

fn number(status: &Value, selection: &str) -> Option<u64> {
    order(status, selection)?["number"].as_u64()
}

/// Whether everybody who is there has revoked what it has issued of this, since it was `before`.
fn is_answered(status: &Value, selection: &str, before: Option<u64>) -> bool {
    let is_missing = |unknown: &Value| unknown["replica"].is_string();
    order(status, selection).is_some_and(|order| {
        order["number"].as_u64() != before
            && order["answered"].as_u64().is_some_and(|count| count > 0)
            && !show::list(&order["unknown"]).any(is_missing)
    })
}

impl IssuedArgs {
    async fn run(self) -> Result<u8, LabError> {
        let answer = self.ask.ask(RootQuestion::Issued(self.which.issued())).await?;
        match self.ask.output {
            Output::Json => print::pretty_json(&answer),
            Output::Table => show::issued(&answer),
        }
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
    let reasons: Vec<String> = show::list(&status["blockers"]).map(show::reason).collect();
    LabError::Late(format!(
        "not over within {} s; it goes on. Phase {}, which waits for: {}",
        wait.as_secs(),
        show::text(&status["phase"]),
        reasons.join("; ")
    ))
}
