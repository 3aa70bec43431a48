//! Certificates with their keys on disk, for a start while the authority is away. Only where a directory is named.
//!
//! One file an identity, readable by this process' user alone. A file proves nothing by itself: what is read is held
//! to the identity that it is wanted for, as an authority's answer is. It goes with the identity's last pod. Beside them
//! is the last bundle of roots from the control plane, so that peers are held against no older one after a start.

use super::{Bundle, Revoked};
use mesh::Identity;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tls::{PrivateKey, Roots, WorkloadCertificate};
use tracing::{info, warn};

/// The largest file read, in bytes.
const MAX_BYTES: u64 = 2 * 1024 * 1024;
/// Stands between the chain and the roots.
const ROOTS: &str = "# roots\n";
/// The file of the last bundle of roots.
const BUNDLE: &str = "trust-bundle";
/// What the names of certificates' files end in.
const KEPT: &str = "pem";
/// And those of files that are being written.
const FRESH: &str = "new";
/// Stands before the generation in it.
const GENERATION: &str = "# generation ";
/// Stands before the number of what is revoked, whose lists follow.
const REVOKED: &str = "# revoked ";
/// The permissions that nobody but the owner may have.
const OTHERS: u32 = 0o077;

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct KeyStore {
    directory: PathBuf,
}

impl KeyStore {
    /// Uses `directory`, which is made if it is not there. Keys that are older than `life`, the longest that a certificate
    /// lives, are deleted; what is not of this store is left alone.
    ///
    /// # Errors
    /// When others than its owner may enter it, or it cannot be made or read.
    pub(crate) fn open(directory: &Path, life: Duration) -> io::Result<Self> {
        let named = |error| named(directory, error);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(named)?;
        let mode = fs::metadata(directory).map_err(named)?.mode();
        if mode & OTHERS != 0 {
            let path = directory.display();
            return Err(io::Error::other(format!(
                "{path} may be entered by others (mode {:o}), and keys are kept in it: chmod 0700 {path}",
                mode & 0o777
            )));
        }
        for entry in fs::read_dir(directory).map_err(named)? {
            let path = entry.map_err(named)?.path();
            if let Err(error) = remove_outdated(&path, life) {
                warn!(path = %path.display(), %error, "a key that nobody needs any more cannot be deleted");
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// The certificate kept for `identity`, if it is valid now.
    pub(crate) fn load(&self, identity: &Identity) -> Option<WorkloadCertificate> {
        let path = self.path(identity);
        match read(&path, identity) {
            Ok(certificate) if certificate.is_valid_at(SystemTime::now()) => {
                info!(%identity, serial = %certificate.serial(), "a certificate kept on disk is used until the authority answers");
                Some(certificate)
            }
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(%identity, path = %path.display(), %error, "a certificate kept on disk cannot be used");
                None
            }
        }
    }

    /// Keeps `certificate` in place of the one before.
    pub(crate) fn save(&self, certificate: &WorkloadCertificate) {
        let identity = certificate.identity();
        let path = self.path(identity);
        if let Err(error) = write(&path, certificate) {
            warn!(%identity, path = %path.display(), %error, "a certificate cannot be kept on disk");
        }
    }

    /// The bundle of roots that was kept.
    pub(crate) fn load_bundle(&self) -> Option<Bundle> {
        let path = self.directory.join(BUNDLE);
        match read_bundle(&path) {
            Ok(bundle) => Some(bundle),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(path = %path.display(), %error, "the bundle of roots kept on disk cannot be used");
                None
            }
        }
    }

    /// Keeps `bundle` in place of the one before.
    pub(crate) fn save_bundle(&self, bundle: &Bundle) {
        let path = self.directory.join(BUNDLE);
        let text = format!(
            "{GENERATION}{}\n{}{REVOKED}{}\n{}",
            bundle.generation,
            bundle.roots.to_pem().concat(),
            bundle.revoked.number,
            bundle.revoked.text
        );
        if let Err(error) = replace(&path, |file| file.write_all(text.as_bytes())) {
            warn!(path = %path.display(), %error, "the bundle of roots cannot be kept on disk");
        }
    }

    /// Deletes what is kept for `identity`.
    pub(crate) fn remove(&self, identity: &Identity) {
        let path = self.path(identity);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%identity, path = %path.display(), %error, "a key that is not needed any more cannot be deleted");
            }
            _ => {}
        }
    }

    /// Names of identities hold no slash. Two that give one name would only overwrite each other's file.
    fn path(&self, identity: &Identity) -> PathBuf {
        self.directory.join(format!(
            "{}_{}_{}.{KEPT}",
            identity.trust_domain(),
            identity.namespace(),
            identity.service_account()
        ))
    }
}

/// Deletes `path` if it is a key of this store and older than `life`. A directory may be shared, and a volume has its own.
fn remove_outdated(path: &Path, life: Duration) -> io::Result<()> {
    let extension = path.extension();
    if !extension.is_some_and(|extension| extension == KEPT || extension == FRESH) {
        return Ok(());
    }
    let of_what = fs::symlink_metadata(path)?;
    let age = of_what.modified()?.elapsed().unwrap_or_default();
    if of_what.is_file() && age > life {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn read(path: &Path, identity: &Identity) -> io::Result<WorkloadCertificate> {
    let text = read_private(path)?;
    let (chain, roots) = text
        .split_once(ROOTS)
        .ok_or_else(|| io::Error::other("it is not whole"))?;
    let (key, chain) = chain
        .split_once("-----BEGIN CERTIFICATE")
        .map(|(key, rest)| (key, format!("-----BEGIN CERTIFICATE{rest}")))
        .ok_or_else(|| io::Error::other("it is not whole"))?;
    let key = PrivateKey::from_pem(key).map_err(io::Error::other)?;
    WorkloadCertificate::from_pem(&[chain, roots.to_owned()], &key, identity).map_err(io::Error::other)
}

fn read_bundle(path: &Path) -> io::Result<Bundle> {
    let text = read_private(path)?;
    let generation = text.lines().next().and_then(|line| line.strip_prefix(GENERATION));
    let generation = generation
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| io::Error::other("it is not whole"))?;
    // One of an earlier version has no such part.
    let (text, revoked) = text.split_once(REVOKED).unwrap_or((text.as_str(), "0\n"));
    let (number, lists) = revoked.split_once('\n').unwrap_or((revoked, ""));
    let number = number.parse().map_err(|_| io::Error::other("it is not whole"))?;
    let revoked = Revoked::read(number, lists).map_err(io::Error::other)?;
    let roots = Roots::from_pem(text).map_err(io::Error::other)?;
    // No tunnel outlives the process, so nothing rests on retired ones.
    Ok(Bundle {
        generation,
        roots,
        retired: None,
        revoked,
    })
}

fn read_private(path: &Path) -> io::Result<zeroize::Zeroizing<String>> {
    let file = fs::File::open(path)?;
    if file.metadata()?.mode() & OTHERS != 0 {
        return Err(io::Error::other("others may read it or write it"));
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn write(path: &Path, certificate: &WorkloadCertificate) -> io::Result<()> {
    replace(path, |file| {
        file.write_all(certificate.secret_key().secret_pem().as_bytes())?;
        file.write_all(certificate.chain_pem().concat().as_bytes())?;
        file.write_all(ROOTS.as_bytes())?;
        file.write_all(certificate.roots_pem().concat().as_bytes())
    })
}

fn replace(path: &Path, content: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    let fresh = path.with_extension(FRESH);
    let written = write_fresh(&fresh, content).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        // What is left of it is of no use; that it cannot be deleted says nothing more.
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write_fresh(path: &Path, content: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    content(&mut file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
