//! Workloads, services and policies that come from a file or a setting instead of discovery.
//!
//! A file is followed. A version of it that cannot be read, or of which anything is not accepted, changes nothing and
//! is told in the log: half of a mesh would be another mesh.

mod policy;
mod read;

use crate::config::LocalSource;
use crate::state::{Kinds, Writer};
use mesh::Change;
use objects::ParseErrors;
use prost::bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::{info, warn};

/// How often the file is looked at. Files that are mounted from a ConfigMap are exchanged by links, which the kernel
/// does not tell of at the file itself.
const LOOK: Duration = Duration::from_secs(1);

/// Why local state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The file cannot be read.
    #[error("LOCAL_XDS_PATH={path}: {error}", path = .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The text is wrong.
    #[error("{0}")]
    Text(#[from] ParseErrors),
    /// A resource is not accepted.
    #[error("{origin}: {resource}: {reason}")]
    Resource {
        /// `LOCAL_XDS` or the file.
        origin: String,
        /// Uid, `namespace/hostname` or `namespace/name`.
        resource: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Address,
    Policy,
}

/// One resource, as discovery would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resource {
    kind: Kind,
    name: String,
    payload: Bytes,
}

type Resources = BTreeMap<(Kind, String), Bytes>;

/// Local state that is in force.
pub(crate) struct Local {
    source: LocalSource,
    in_force: Resources,
    /// The text that was looked at last, in force or not.
    seen: String,
}

impl Local {
    /// Reads `source` and puts it in force. `alone`: nothing else tells of the mesh, so this is all there is.
    ///
    /// # Errors
    /// When it cannot be read or anything of it is not accepted; then nothing is in force.
    pub(crate) async fn start(source: LocalSource, writer: &Writer, alone: bool) -> Result<Self, LocalError> {
        let mut local = Self {
            source,
            in_force: Resources::new(),
            seen: String::new(),
        };
        let text = local.text().await?;
        let counts = if alone { Kinds::ALL } else { Kinds::NONE };
        local.take(text, writer, counts).await?;
        Ok(local)
    }

    /// Follows the file for ever; ends at once where there is none.
    pub(crate) async fn follow(mut self, writer: Writer) {
        let LocalSource::File(path) = self.source.clone() else {
            return;
        };
        let mut gone = false;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.text().await {
                Ok(text) if text == self.seen => gone = false,
                Ok(text) => {
                    gone = false;
                    match self.take(text, &writer, Kinds::NONE).await {
                        Ok(()) => {
                            info!(path = %path.display(), "the new version of the local state is in force")
                        }
                        Err(error) => {
                            warn!(path = %path.display(), %error, "the new version of the local state is refused; the last good one stays in force");
                        }
                    }
                }
                Err(error) if !gone => {
                    gone = true;
                    warn!(%error, "the local state cannot be read; the last good version stays in force");
                }
                Err(_) => {}
            }
        }
    }

    async fn text(&self) -> Result<String, LocalError> {
        match &self.source {
            LocalSource::Inline(text) => Ok(text.clone()),
            LocalSource::File(path) => read_file(path).await,
        }
    }

    async fn take(&mut self, text: String, writer: &Writer, counts: Kinds) -> Result<(), LocalError> {
        let origin = match &self.source {
            LocalSource::Inline(_) => "LOCAL_XDS".to_owned(),
            LocalSource::File(path) => path.display().to_string(),
        };
        self.seen.clone_from(&text);
        let next = resources(&origin, &text)?;
        let changes = changes(&origin, &self.in_force, &next)?;
        self.in_force = next;
        writer.write(changes, counts).await;
        Ok(())
    }
}

async fn read_file(path: &Path) -> Result<String, LocalError> {
    tokio::fs::read_to_string(path)
        .await
        .map_err(|error| LocalError::File {
            path: path.to_owned(),
            error,
        })
}

/// Whether a text could be put in force.
#[cfg(feature = "fuzzing")]
pub(crate) fn check(origin: &str, text: &str) -> Result<(), LocalError> {
    let resources = resources(origin, text)?;
    changes(origin, &Resources::new(), &resources).map(|_| ())
}

fn resources(origin: &str, text: &str) -> Result<Resources, LocalError> {
    let mut resources = Resources::new();
    for Resource { kind, name, payload } in read::read(origin, text)? {
        if resources.insert((kind, name.clone()), payload).is_some() {
            return Err(LocalError::Resource {
                origin: origin.to_owned(),
                resource: name,
                reason: "is there twice".into(),
            });
        }
    }
    Ok(resources)
}

/// What leads from `before` to `next`.
fn changes(origin: &str, before: &Resources, next: &Resources) -> Result<Vec<Change>, LocalError> {
    let mut changes = Vec::new();
    for ((kind, name), payload) in next {
        let change = match kind {
            Kind::Address => Change::decode_address(name, payload),
            Kind::Policy => Change::decode_policy(name, payload),
        };
        if let Change::RejectedAddress(rejected) | Change::RejectedPolicy(rejected) = change {
            return Err(LocalError::Resource {
                origin: origin.to_owned(),
                resource: rejected.name,
                reason: rejected.reason,
            });
        }
        if before.get(&(*kind, name.clone())) != Some(payload) {
            changes.push(change);
        }
    }
    let gone = before.keys().filter(|key| !next.contains_key(*key));
    changes.extend(gone.map(|(kind, name)| match kind {
        Kind::Address => Change::RemoveAddress(name.clone()),
        Kind::Policy => Change::RemovePolicy(name.clone()),
    }));
    Ok(changes)
}

#[cfg(test)]
mod tests;
