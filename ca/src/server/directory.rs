//! An authority in a directory.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use tls::BoxFuture;
use zeroize::Zeroizing;

use super::authority::AuthorityError;
use super::files::{self, FileError};
use super::material::hexadecimal;
use super::store::{AuthorityStore, StoreError, Versioned};
use super::stored::{KeyAndCertificate, StoredAuthority};

/// The secret file: everything in one, so that keys and certificates cannot come apart.
const SECRET_FILE: &str = "root-key.pem";
/// The public copy of the roots, for whoever must trust them.
const PUBLIC_FILE: &str = "root-cert.pem";

/// The headings of the parts in the secret file. What stands before the first is the current root.
const NEXT: &str = "# next";
const PREVIOUS: &str = "# previous";
const ROTATION: &str = "# rotation ";
const REVOKED: &str = "# revoked ";

/// Keeps an authority in a directory: `root-key.pem` (mode 0600) holds the keys with their certificates,
/// `root-cert.pem` a public copy of the roots. The secret file is replaced as a whole, by rename, so that a crash
/// leaves the old one or the new one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    directory: PathBuf,
}

impl DirectoryStore {
    /// The store in this directory, which is made if it does not exist.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(directory: &Path) -> Result<Self, FileError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(|error| files::failed("create", directory, &error))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// The file with the keys.
    pub fn secret_file(&self) -> PathBuf {
        self.directory.join(SECRET_FILE)
    }

    /// What is kept, or what `fresh` makes, with its version.
    pub(super) fn read_or_create(
        &self,
        fresh: impl FnOnce() -> Result<StoredAuthority, AuthorityError>,
    ) -> Result<(StoredAuthority, String), AuthorityError> {
        let _lock = self.lock()?;
        if let Some(found) = self.read()? {
            files::publish(&self.directory.join(PUBLIC_FILE), &found.0.roots_pem())?;
            return Ok(found);
        }
        let fresh = fresh()?;
        let version = self.write(&fresh)?;
        Ok((fresh, version))
    }

    fn read(&self) -> Result<Option<(StoredAuthority, String)>, FileError> {
        let path = self.secret_file();
        let Some(text) = files::read_secret(&path)? else {
            return Ok(None);
        };
        let stored = parse(&text).map_err(|reason| FileError::Content {
            path,
            reason: format!("{reason}; restore the file or delete it"),
        })?;
        Ok(Some((stored, version_of(&text))))
    }

    /// Reads, and mends the public copy where it is not the same. What was read without the lock may be old when it is
    /// written.
    fn read_and_publish(&self) -> Result<Option<(StoredAuthority, String)>, FileError> {
        let found = self.read()?;
        let public = self.directory.join(PUBLIC_FILE);
        let is_right = |stored: &StoredAuthority| {
            fs::read(&public).is_ok_and(|roots| roots == stored.roots_pem().as_bytes())
        };
        if found.as_ref().is_none_or(|(stored, _)| is_right(stored)) {
            return Ok(found);
        }
        let _lock = self.lock()?;
        let found = self.read()?;
        if let Some((stored, _)) = &found {
            files::publish(&public, &stored.roots_pem())?;
        }
        Ok(found)
    }

    fn write(&self, stored: &StoredAuthority) -> Result<String, FileError> {
        let text = render(stored);
        // Whoever reads the public copy must trust a root before anything is signed with it.
        files::publish(&self.directory.join(PUBLIC_FILE), &stored.roots_pem())?;
        files::replace_secret(&self.secret_file(), &text)?;
        Ok(version_of(&text))
    }

    /// Keeps other processes and threads from writing until it is dropped.
    fn lock(&self) -> Result<File, FileError> {
        let failed = |error| files::failed("lock", &self.directory, &error);
        let directory = File::open(&self.directory).map_err(failed)?;
        directory.lock().map_err(failed)?;
        Ok(directory)
    }

    fn save_now(&self, stored: &StoredAuthority, expected: Option<&str>) -> Result<String, StoreError> {
        let _lock = self.lock().map_err(|error| self.failed(&error))?;
        let found = self.read().map_err(|error| self.failed(&error))?;
        if found.as_ref().map(|(_, version)| version.as_str()) != expected {
            return Err(StoreError::Conflict { place: self.place() });
        }
        self.write(stored).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &FileError) -> StoreError {
        let (place, reason) = (self.place(), error.to_string());
        match error {
            FileError::Io { .. } => StoreError::Unavailable { place, reason },
            _ => StoreError::Unusable { place, reason },
        }
    }
}

impl AuthorityStore for DirectoryStore {
    fn load(&self) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        let store = self.clone();
        Box::pin(async move {
            let reading = move || store.read_and_publish().map_err(|error| store.failed(&error));
            let found = off_the_runtime(&self.directory, reading).await?;
            Ok(found.map(|(stored, version)| Versioned { stored, version }))
        })
    }

    fn save<'a>(
        &'a self,
        stored: &'a StoredAuthority,
        expected: Option<&'a str>,
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        let (store, stored, expected) = (self.clone(), stored.clone(), expected.map(str::to_owned));
        Box::pin(off_the_runtime(&self.directory, move || {
            store.save_now(&stored, expected.as_deref())
        }))
    }

    fn place(&self) -> String {
        self.directory.display().to_string()
    }
}

/// Files and locks may wait.
async fn off_the_runtime<T: Send + 'static>(
    directory: &Path,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|stopped| {
        Err(StoreError::Unavailable {
            place: directory.display().to_string(),
            reason: stopped.to_string(),
        })
    })
}

fn render(stored: &StoredAuthority) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(16 * 1024));
    let line = |text: &mut String, part: &str| {
        text.push_str(part.trim());
        text.push('\n');
    };
    let pair = |text: &mut String, pair: &KeyAndCertificate| {
        line(text, &pair.key);
        line(text, &pair.certificate);
    };
    pair(&mut text, &stored.current);
    if let Some(next) = &stored.next {
        line(&mut text, NEXT);
        pair(&mut text, next);
    }
    if let Some(previous) = &stored.previous {
        line(&mut text, PREVIOUS);
        if let Some(key) = &stored.previous_key {
            line(&mut text, key);
        }
        line(&mut text, previous);
    }
    if let Some(revoked) = &stored.revoked {
        line(
            &mut text,
            &format!("{REVOKED}{}", revoked.replace(['\r', '\n'], " ")),
        );
    }
    if let Some(rotation) = &stored.rotation {
        // One line; whoever writes it has no use for line ends outside of texts, where they are escaped.
        line(
            &mut text,
            &format!("{ROTATION}{}", rotation.replace(['\r', '\n'], " ")),
        );
    }
    text
}

fn parse(text: &str) -> Result<StoredAuthority, &'static str> {
    let mut parts = [const { None }; 3].map(|part: Option<Zeroizing<String>>| part);
    let mut at = 0;
    let (mut rotation, mut revoked) = (None, None);
    parts[0] = Some(Zeroizing::default());
    for line in text.lines() {
        if let Some(state) = line.strip_prefix(ROTATION) {
            rotation = Some(state.to_owned());
            continue;
        }
        if let Some(list) = line.strip_prefix(REVOKED) {
            revoked = Some(list.to_owned());
            continue;
        }
        at = match line {
            NEXT => 1,
            PREVIOUS => 2,
            _ => at,
        };
        let part = parts[at].get_or_insert_default();
        if !line.starts_with('#') {
            // Never longer than the whole, so that no copy is left behind by growing.
            let more = text.len().saturating_sub(part.len());
            part.reserve_exact(more);
            part.push_str(line);
            part.push('\n');
        }
    }
    let [current, next, previous] = parts;
    let current = current.as_deref().map(|part| pair(part)).transpose()?;
    Ok(StoredAuthority {
        current: current.ok_or("there is no PRIVATE KEY in it")?,
        next: next.as_deref().map(|part| pair(part)).transpose()?,
        previous_key: previous
            .as_deref()
            .and_then(|part| block(part, "PRIVATE KEY"))
            .map(|key| Zeroizing::new(key.to_owned())),
        previous: previous.as_deref().map(|part| certificate(part)).transpose()?,
        revoked,
        rotation,
    })
}

fn pair(text: &str) -> Result<KeyAndCertificate, &'static str> {
    Ok(KeyAndCertificate {
        key: Zeroizing::new(
            block(text, "PRIVATE KEY")
                .ok_or("there is no PRIVATE KEY in it")?
                .to_owned(),
        ),
        certificate: certificate(text)?,
    })
}

fn certificate(text: &str) -> Result<String, &'static str> {
    let found = block(text, "CERTIFICATE").ok_or("there is no CERTIFICATE in it")?;
    Ok(found.to_owned())
}

/// The first block of this kind, its line end included.
fn block<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (begin, end) = (format!("-----BEGIN {tag}-----"), format!("-----END {tag}-----\n"));
    let rest = &text[text.find(&begin)?..];
    Some(&rest[..rest.find(&end)? + end.len()])
}

fn version_of(text: &str) -> String {
    hexadecimal(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests;
