//! `ztctl policy can`.

use clap::Args;
use explain::{Caller, Target};

use super::{Failure, NO, On, Output};
use crate::print;

#[derive(Args)]
pub(crate) struct Can {
    /// Who calls: NAMESPACE/POD, sa:NAMESPACE/NAME[@IP] (any pod of that account, over mTLS) or plaintext:IP
    from: Caller,
    /// Who is called: NAMESPACE/POD:PORT or service:NAMESPACE/NAME:PORT
    to: Target,
    #[command(flatten)]
    on: On,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Can {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let answer = self.on.world().await?.ask(&self.from, &self.to)?;
        match self.output {
            Output::Table => print::line(&answer.to_string()),
            Output::Json => print::pretty_json(&answer.to_json()),
        }
        Ok(if answer.is_allowed() { 0 } else { NO })
    }
}
