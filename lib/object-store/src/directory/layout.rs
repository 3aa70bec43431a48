//! Which file is what.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use objects::{Kind, ObjectKey};

use crate::StoreError;

/// The folder of kinds that have no namespace. An underscore is no part of a namespace's name.
const CLUSTER: &str = "_cluster";
const SUFFIX: &str = ".yaml";
/// Names are DNS subdomains (RFC 1123), as Kubernetes has it.
const MAX_NAME: usize = 253;

pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn create(root: &Path) -> Result<Layout, StoreError> {
        let layout = Layout {
            root: root.to_owned(),
        };
        create_dir(&layout.staging())?;
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.root.join(".staging")
    }

    pub(super) fn kind_dir(&self, kind: Kind) -> PathBuf {
        self.root.join(kind.plural())
    }

    pub(super) fn object_dir(&self, key: &ObjectKey) -> PathBuf {
        let namespace = if key.kind.is_namespaced() {
            &key.namespace
        } else {
            CLUSTER
        };
        self.kind_dir(key.kind).join(namespace)
    }

    pub(super) fn object(&self, key: &ObjectKey) -> PathBuf {
        self.object_dir(key).join(format!("{}{SUFFIX}", key.name))
    }

    /// The namespace whose objects a folder below that of the kind holds: empty for kinds without one, `None` when
    /// the folder is not of this store.
    pub(super) fn namespace_of(kind: Kind, folder: &OsStr) -> Option<String> {
        let folder = folder.to_str()?;
        if kind.is_namespaced() {
            problem(folder).is_none().then(|| folder.to_owned())
        } else {
            (folder == CLUSTER).then(String::new)
        }
    }

    /// The object that a file in a namespace's folder holds; `None` when the file is not of this store.
    pub(super) fn key_of(kind: Kind, namespace: &str, file: &OsStr) -> Option<ObjectKey> {
        let name = file.to_str()?.strip_suffix(SUFFIX)?;
        problem(name)
            .is_none()
            .then(|| ObjectKey::new(kind, namespace, name))
    }

    /// Refuses keys that are no file name: nothing outside the directory is ever touched.
    pub(super) fn check(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let namespace = key
            .kind
            .is_namespaced()
            .then(|| problem(&key.namespace))
            .flatten();
        let bad = namespace
            .map(|problem| ("namespace", problem))
            .or(problem(&key.name).map(|problem| ("name", problem)));
        match bad {
            Some((part, problem)) => Err(StoreError::BadName {
                key: key.clone(),
                part,
                problem,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn revision(&self) -> PathBuf {
        self.root.join("revision")
    }

    /// The revision; 0 before the first transaction.
    pub(super) fn read_revision(&self) -> Result<u64, StoreError> {
        let path = self.revision();
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| StoreError::Damaged {
                path,
                problem: "it is not a number".to_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(StoreError::io("read", &path, error)),
        }
    }
}

/// Makes a folder and those above it.
pub(super) fn create_dir(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|error| StoreError::io("create", path, error))
}

fn problem(name: &str) -> Option<&'static str> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    if name.is_empty() {
        Some("is empty; it must be a lower case DNS name")
    } else if name.len() > MAX_NAME {
        Some("is longer than 253 characters")
    } else if name.starts_with(['.', '-']) || !name.bytes().all(allowed) {
        Some("must be of lower case letters, digits, '-' and '.', and begin with a letter or digit")
    } else {
        None
    }
}
