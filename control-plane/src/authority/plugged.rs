//! Where a plugged-in authority is, and whether it has changed.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ca::{MAX_PART_BYTES, Plugged, plugged_parts};
use zeroize::Zeroizing;

use super::Pace;
use crate::kubernetes::secret;

/// What a volume that is replaced as a whole has: a link to the current state.
const CURRENT: &str = "..data";

/// Where it is.
pub(super) enum Source {
    /// In files, by their usual names.
    Files(PathBuf),
    /// In a Secret.
    Secret { client: kube::Client, namespace: String },
}

/// Why it could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The place does not answer; it may later.
    #[error("{0}")]
    Unavailable(String),
    /// What is there is wrong.
    #[error("{0}")]
    Wrong(String),
}

type Parts = BTreeMap<String, Zeroizing<Vec<u8>>>;

impl Source {
    pub(super) fn secret(client: kube::Client, namespace: &str) -> Source {
        let namespace = namespace.to_owned();
        Source::Secret { client, namespace }
    }

    pub(super) fn place(&self) -> String {
        match self {
            Source::Files(directory) => directory.display().to_string(),
            Source::Secret { namespace, .. } => format!("Secret {namespace}/{}", secret::PLUGGED),
        }
    }

    /// Reads it and puts it together; nothing when there is no such Secret. Files are always there. `more_roots` are trusted
    /// besides.
    pub(super) async fn read(&self, more_roots: &str, now: SystemTime) -> Result<Option<Plugged>, Problem> {
        let Some(parts) = self.parts().await? else {
            return Ok(None);
        };
        let plugged = Plugged::from_parts(&parts, more_roots, now);
        plugged
            .map(Some)
            .map_err(|error| Problem::Wrong(error.to_string()))
    }

    /// Waits until it is time to look again.
    pub(super) async fn changed(&self, pace: Pace) {
        tokio::time::sleep(match self {
            Source::Files(_) => pace.files,
            Source::Secret { .. } => pace.secrets,
        })
        .await;
    }

    async fn parts(&self) -> Result<Option<Parts>, Problem> {
        match self {
            Source::Files(directory) => {
                let directory = directory.clone();
                let reading = tokio::task::spawn_blocking(move || files(&directory)).await;
                let parts = reading.map_err(|stopped| Problem::Unavailable(stopped.to_string()))?;
                parts.map(Some).map_err(Problem::Wrong)
            }
            Source::Secret { client, namespace } => {
                let found = secret::parts(client, namespace, secret::PLUGGED).await;
                found.map_err(|error| match error.code() {
                    401 | 403 => Problem::Unavailable(format!(
                        "{error}; grant this service account get on secrets in its namespace"
                    )),
                    _ => Problem::Unavailable(error.to_string()),
                })
            }
        }
    }
}

/// Those parts that are there. All of one state, where the directory is a volume that is replaced as a whole.
fn files(directory: &Path) -> Result<Parts, String> {
    let current = directory.join(CURRENT);
    let directory = std::fs::canonicalize(&current).unwrap_or_else(|_| directory.to_owned());
    let mut parts = Parts::new();
    for name in plugged_parts() {
        let path = directory.join(name);
        let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
        file.take(MAX_PART_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        parts.insert(name.to_owned(), bytes);
    }
    Ok(parts)
}
