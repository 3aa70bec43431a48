//! `ztctl policy can` and `ztctl policy explain`.

use clap::Args;
use explain::{Caller, Target};

use super::{Failure, NO, On, Output};
use crate::print;

#[derive(Args)]
pub(crate) struct Can {
    /// Who calls: NAMESPACE/POD, sa:NAMESPACE/NAME or sa:NAMESPACE/NAME@IP (any pod of that account, over mTLS), or
    /// plaintext:IP
    from: Caller,
    /// Who is called: NAMESPACE/POD:PORT or service:NAMESPACE/NAME:PORT
    to: Target,
    #[command(flatten)]
    on: On,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Can {
    pub(super) async fn run(self, whole: bool) -> Result<u8, Failure> {
        let world = self.on.world().await?;
        let answer = if whole {
            world.explain(&self.from, &self.to)?
        } else {
            world.ask(&self.from, &self.to)?
        };
        match (self.output, whole) {
            (Output::Table, false) => print::line(&answer.to_string()),
            (Output::Table, true) => print::line(&answer.tree().to_string()),
            (Output::Json, false) => print::pretty_json(&answer.to_json()),
            (Output::Json, true) => print::pretty_json(&answer.tree().to_json()),
        }
        Ok(if answer.is_allowed() { 0 } else { NO })
    }
}
