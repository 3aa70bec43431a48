use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use compile::Settings;
use explain::{Basis, Unanswerable, World};
use lab::{LabError, Layout};
use objects::Object;

use cluster::Cluster;
use mesh::Mesh;

use crate::args::Name;

mod can;
mod cluster;
mod lint;
mod manifests;
mod mesh;
mod strict_report;
mod test;

/// The answer is no.
const NO: u8 = 1;
/// The command was used wrongly.
const WRONG: u8 = 2;
/// The question could not be answered.
const UNKNOWN: u8 = 3;

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Whether FROM may connect to TO, and why; exit code 0 allowed, 1 denied, 3 could not be answered
    Can(can::Can),
    /// What policies will not do though their authors mean it; exit code 1 with errors
    Lint(lint::Lint),
    /// The whole answer: which policies select, which of their rules were tried, and what failed in each
    Explain(can::Can),
    /// Who would break if plaintext were refused; exit code 1 when anybody would
    StrictReport(strict_report::Ask),
    /// Run policy tests: files of questions with the answers that are expected; exit code 1 when any fails
    Test(test::Test),
}

/// On which objects a question is asked.
#[derive(Args)]
pub(crate) struct On {
    /// A manifest, a directory of manifests, or - for standard input; may be given several times. Without it the
    /// objects of the running lab count
    #[arg(short, long = "filename")]
    pub(crate) filename: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) name: Name,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    mesh: Mesh,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

/// Why a command ends without an answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was used wrongly.
    Usage(String),
    /// What it would have to know could not be found out.
    Unknown(String),
}

/// Runs one of the questions; its exit code.
pub(crate) async fn run(command: PolicyCommand) -> u8 {
    let result = match command {
        PolicyCommand::Lint(lint) => lint.run().await,
        PolicyCommand::Can(can) => can.run(false).await,
        PolicyCommand::Explain(can) => can.run(true).await,
        PolicyCommand::StrictReport(ask) => ask.run().await,
        PolicyCommand::Test(test) => test.run(),
    };
    result.unwrap_or_else(|failure| {
        let (text, code) = match failure {
            Failure::Usage(text) => (text, WRONG),
            Failure::Unknown(text) => (text, UNKNOWN),
        };
        eprintln!("ztctl policy: {text}");
        code
    })
}

/// The settings of a lab's mesh with these objects, and the objects that take part in it: what its control plane, which
/// is given no flags for them, makes of them.
pub(crate) fn in_lab(objects: Vec<Arc<Object>>) -> Result<(Settings, Vec<Arc<Object>>), Failure> {
    Mesh::default().of(objects)
}

impl On {
    /// The mesh to ask.
    pub(crate) async fn world(&self) -> Result<World, Failure> {
        let (basis, objects) = if self.cluster.kubernetes {
            let objects = self.cluster.objects(&self.mesh.reading.home()).await?;
            (Basis::Applied, objects)
        } else if self.is_lab() {
            (
                Basis::Applied,
                lab::objects(&Layout::new(&self.name.name)?).await?,
            )
        } else {
            (Basis::Manifests, manifests::read(&self.filename)?)
        };
        let (settings, objects) = self.mesh.of(objects)?;
        Ok(World::new(basis, settings, objects))
    }

    /// Whether a running lab is meant.
    pub(crate) fn is_lab(&self) -> bool {
        self.filename.is_empty() && !self.cluster.kubernetes
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Failure {
        match error.exit_code() {
            WRONG => Failure::Usage(error.to_string()),
            _ => Failure::Unknown(error.to_string()),
        }
    }
}

impl From<Unanswerable> for Failure {
    fn from(error: Unanswerable) -> Failure {
        Failure::Unknown(error.to_string())
    }
}
