//! Secrets in files: created atomically, readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The most that is read of a file of keys or certificates, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused.
    #[error("cannot {doing} {}: {message}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        message: String,
    },
    /// A secret that others can read is no secret.
    #[error("{} holds a private key and has mode {mode:o}; it must be 600: chmod 600 it, or delete it to make a new one", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is far too large to be what it should be.
    #[error("{} has more than {MAX_BYTES} bytes; that is no key file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The content is not what it should be.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a secret; `None` when there is no such file.
pub(super) fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path, &error)),
    };
    let metadata = file.metadata().map_err(|error| failed("inspect", path, &error))?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Zeroizing::new(String::with_capacity(metadata.len().min(MAX_BYTES) as usize + 1));
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed("read", path, &error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(Some(text))
}

/// Reads a public text.
pub(super) fn read(path: &Path) -> Result<String, FileError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| failed("read", path, &error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

/// Creates a secret with mode 0600, whole or not at all; `false` when somebody else was first.
pub(super) fn create_secret(path: &Path, text: &str) -> Result<bool, FileError> {
    let scratch = write_beside(path, text, 0o600)?;
    // Unlike a rename, a link never replaces what another process has made meanwhile.
    let linked = fs::hard_link(&scratch, path);
    let _ = fs::remove_file(&scratch);
    match linked {
        Ok(()) => sync_directory(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed("create", path, &error)),
    }
}

/// Replaces a secret by rename, with mode 0600.
pub(super) fn replace_secret(path: &Path, text: &str) -> Result<(), FileError> {
    let scratch = write_beside(path, text, 0o600)?;
    fs::rename(&scratch, path).map_err(|error| failed("replace", path, &error))?;
    sync_directory(path)
}

/// Replaces a public text by rename, if it differs.
pub(super) fn publish(path: &Path, text: &str) -> Result<(), FileError> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let scratch = write_beside(path, text, 0o644)?;
    fs::rename(&scratch, path).map_err(|error| failed("replace", path, &error))?;
    sync_directory(path)
}

fn write_beside(path: &Path, text: &str, mode: u32) -> Result<PathBuf, FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let scratch = path.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&scratch)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    match written {
        Ok(()) => Ok(scratch),
        Err(error) => {
            let _ = fs::remove_file(&scratch);
            Err(failed("write", &scratch, &error))
        }
    }
}

fn sync_directory(path: &Path) -> Result<(), FileError> {
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed("sync", directory, &error))
}

pub(super) fn failed(doing: &'static str, path: &Path, error: &io::Error) -> FileError {
    FileError::Io {
        doing,
        path: path.to_owned(),
        message: error.to_string(),
    }
}
