//! The file, or directory, of revocation lists.
//!
//! Mounted files change in pieces or by exchange of a symbolic link. So a change is taken up once nothing has
//! changed for a while. What cannot be read leaves in force what was read before: an old list is better than none.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tls::{MAX_REVOCATION_BYTES, Revocation, RevocationError, RevocationLists, Trust};
use tracing::{info, warn};

/// How long a file has to stay as it is before it is read.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// The most files read in one directory.
const MAX_FILES: usize = 256;

/// Why lists could not be taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// System or configuration: no such file.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// Configuration: too many files.
    #[error("{} holds more than {MAX_FILES} files", .0.display())]
    TooManyFiles(PathBuf),
    /// Configuration: no list.
    #[error("{}: {error}", path.display())]
    Parse {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        error: RevocationError,
    },
}

/// Watches for changes.
#[derive(Debug)]
pub(crate) struct RevocationFile {
    path: PathBuf,
    required: bool,
    trust: Trust,
    seen: Debounce<Stamp>,
}

impl RevocationFile {
    /// Watches `path`, which has been read just now.
    pub(crate) fn new(path: PathBuf, required: bool, trust: Trust) -> Self {
        // What changed in between is taken up with the first look that finds it settled.
        let seen = Debounce::new(Stamp::default());
        Self {
            path,
            required,
            trust,
            seen,
        }
    }

    /// Takes up a change that has settled. Blocks while files are read.
    pub(crate) fn look(&mut self, now: Instant) {
        let stamp = Stamp::of(&self.path);
        if !self.seen.observe(now, stamp) {
            return;
        }
        match load(&self.path) {
            Ok(lists) => {
                info!(path = %self.path.display(), lists = lists.len(), "revocation lists read");
                self.trust.set_revocation(in_force(lists, self.required));
            }
            Err(error) => {
                warn!(%error, "the changed revocation lists cannot be used; those read before stay in force");
            }
        }
    }
}

/// Reads the lists at the start. Without any, and where they are required, nobody is accepted.
pub(crate) fn load_first(path: &Path, required: bool, trust: &Trust) {
    match load(path) {
        Ok(lists) => {
            info!(path = %path.display(), lists = lists.len(), required, "revocation lists read");
            trust.set_revocation(in_force(lists, required));
        }
        Err(error) if required => {
            warn!(%error, "no revocation list can be read, and ZTUNNEL_CRL_REQUIRED is set: every peer is refused until one can");
            trust.set_revocation(Revocation::Closed(error.to_string().into()));
        }
        Err(error) => {
            warn!(%error, "no revocation list can be read: revoked certificates are accepted until one can; set ZTUNNEL_CRL_REQUIRED=true to refuse instead");
        }
    }
}

fn in_force(lists: RevocationLists, required: bool) -> Revocation {
    if required {
        Revocation::Required(lists)
    } else {
        Revocation::Listed(lists)
    }
}

/// Reads all lists in the file or directory at `path`.
fn load(path: &Path) -> Result<RevocationLists, LoadError> {
    let failed = |path: &Path, error| LoadError::Read {
        path: path.to_owned(),
        error,
    };
    let files = files(path).map_err(|error| failed(path, error))?;
    if files.len() > MAX_FILES {
        return Err(LoadError::TooManyFiles(path.to_owned()));
    }
    let mut texts = Vec::new();
    let mut left = MAX_REVOCATION_BYTES as u64 + 1;
    for (file, _) in &files {
        let mut text = Vec::new();
        let read = fs::File::open(file)
            .and_then(|open| open.take(left).read_to_end(&mut text))
            .map_err(|error| failed(file, error))?;
        left = left.saturating_sub(read as u64);
        texts.push(text);
    }
    RevocationLists::parse(texts.iter().map(Vec::as_slice)).map_err(|error| LoadError::Parse {
        path: path.to_owned(),
        error,
    })
}

/// The file itself, or those in the directory, by name. Names that begin with a dot are the machinery of mounts.
fn files(path: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(vec![(path.to_owned(), metadata)]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)?.take(4 * MAX_FILES) {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Follows links, as mounts are made of them.
        let metadata = fs::metadata(entry.path())?;
        if metadata.is_file() {
            files.push((entry.path(), metadata));
        }
    }
    files.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(files)
}

/// What shows that files have changed, without reading them. A path that cannot be looked at has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<(PathBuf, u64, u64, i64, i64, u64)>);

impl Stamp {
    /// Of the file or directory at `path`.
    pub(crate) fn of(path: &Path) -> Self {
        let files = files(path).unwrap_or_default();
        let stamp = |(path, metadata): (PathBuf, Metadata)| {
            let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
            (
                path,
                metadata.dev(),
                metadata.ino(),
                seconds,
                nanoseconds,
                metadata.len(),
            )
        };
        Self(files.into_iter().map(stamp).collect())
    }
}

/// Reports a value that has changed once it has stayed the same for [`SETTLED`].
#[derive(Debug)]
pub(crate) struct Debounce<T> {
    taken: T,
    latest: Option<(T, Instant)>,
}

impl<T: PartialEq> Debounce<T> {
    /// `taken` is known already.
    pub(crate) fn new(taken: T) -> Self {
        Self { taken, latest: None }
    }

    /// The value is `value` at `now`. True: it differs from the one taken last, and is taken now.
    pub(crate) fn observe(&mut self, now: Instant, value: T) -> bool {
        if value == self.taken {
            self.latest = None;
            return false;
        }
        match self.latest.take() {
            Some((latest, since)) if latest == value => {
                let settled = now.saturating_duration_since(since) >= SETTLED;
                if settled {
                    self.taken = value;
                } else {
                    self.latest = Some((latest, since));
                }
                settled
            }
            _ => {
                self.latest = Some((value, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
