//! `ztctl policy test`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use explain::suite::{MAX_BYTES, Suite};
use explain::{Basis, World};

use super::{Failure, Mesh, NO, manifests};
use crate::print;

#[derive(Args)]
pub(crate) struct Test {
    /// Files of policy tests
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    mesh: Mesh,
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
        for (file, suite, objects) in suites {
            let mut world = World::new(Basis::Manifests, self.mesh.settings(), objects);
            for case in &suite.cases {
                match case.run(&mut world) {
                    Ok(()) => passed += 1,
                    Err(why) => {
                        failed += 1;
                        print::line(&format!("FAILED {file}:{}: {}: {why}", case.line, case.name));
                    }
                }
            }
        }
        print::line(&format!("{passed} passed, {failed} failed"));
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
