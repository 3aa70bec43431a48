//! `ztctl policy test`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use explain::suite::{MAX_BYTES, Suite};
use explain::{Basis, World};
use serde_json::json;

use super::mesh::Mesh;
use super::{Failure, NO, Output, manifests};
use crate::print;

#[derive(Args)]
pub(crate) struct Test {
    /// Files of policy tests
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    mesh: Mesh,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Test {
    pub(super) fn run(self) -> Result<u8, Failure> {
        // All are read before any is run, so that a mistake in one does not hide behind the results of others.
        let mut suites = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let name = file.display().to_string();
            let suite =
                Suite::read(&name, &text(file)?).map_err(|errors| Failure::Usage(errors.to_string()))?;
            let place = file.parent().unwrap_or(Path::new(""));
            let paths: Vec<PathBuf> = suite.manifests.iter().map(|path| place.join(path)).collect();
            let objects = manifests::read(&paths)?;
            suites.push((name, suite, objects));
        }
        let (mut passed, mut failed) = (0u64, 0u64);
        let mut cases = Vec::new();
        let mut noted = BTreeSet::new();
        for (file, suite, objects) in suites {
            let (settings, objects) = self.mesh.of(objects)?;
            let mut world = World::new(Basis::Manifests, settings, objects);
            for case in &suite.cases {
                let result = case.run(&mut world);
                match &result {
                    Ok(_) => passed += 1,
                    Err(_) => failed += 1,
                }
                match (self.output, result) {
                    (Output::Table, Ok(answer)) => {
                        // What holds for many cases is said of the first.
                        for note in answer.notes {
                            if !noted.contains(&note) {
                                eprintln!("{file}:{}: {}: note: {note}", case.line, case.name);
                                noted.insert(note);
                            }
                        }
                    }
                    (Output::Table, Err(why)) => {
                        print::line(&format!("FAILED {file}:{}: {}: {why}", case.line, case.name));
                    }
                    (Output::Json, result) => {
                        let mut told = case.to_json(&result);
                        told["file"] = file.as_str().into();
                        cases.push(told);
                    }
                }
            }
        }
        match self.output {
            Output::Table => print::line(&format!("{passed} passed, {failed} failed")),
            Output::Json => {
                print::pretty_json(&json!({"passed": passed, "failed": failed, "cases": cases}));
            }
        }
        Ok(if failed == 0 { 0 } else { NO })
    }
}

fn text(file: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| Failure::Usage(format!("{}: {error}", file.display()));
    let mut text = String::new();
    let source = File::open(file).map_err(unreadable)?;
    // One byte more than is accepted, so that a longer file is seen to be one.
    source
        .take(MAX_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}
