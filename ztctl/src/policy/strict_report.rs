//! `ztctl policy strict-report`.

use clap::Args;

use super::{Failure, NO, On, Output};
use crate::print;

#[derive(Args)]
pub(crate) struct Ask {
    /// Only for the pods of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// A network plugin enforces NetworkPolicy in the cluster that is meant, so callers that it keeps away lose nothing;
    /// nothing does in a lab
    #[arg(long)]
    network_policy_enforced: bool,
    #[command(flatten)]
    on: On,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Ask {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        if self.network_policy_enforced && self.on.is_lab() {
            return Err(Failure::Usage(
                "nothing enforces NetworkPolicy in a lab: use --network-policy-enforced with -f or --kubernetes".to_owned(),
            ));
        }
        let mut world = self.on.world().await?;
        let report = world.strict_report(self.namespace.as_deref(), self.network_policy_enforced);
        if report.looked_at == 0 {
            let place = self
                .namespace
                .map_or_else(String::new, |namespace| format!(" of namespace {namespace}"));
            return Err(Failure::Unknown(format!(
                "no pod{place} is in the mesh, so nobody would refuse anything"
            )));
        }
        match self.output {
            Output::Table => print::line(&report.to_string()),
            Output::Json => print::pretty_json(&report.to_json()),
        }
        Ok(if report.breaking.is_empty() { 0 } else { NO })
    }
}
