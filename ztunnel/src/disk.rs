//! Workloads, services and policies on disk, for a start while the control plane is away.
//!
//! What discovery delivers is noted and written a moment later, as one file that replaces the last one as a whole. It
//! holds no secret, but whoever can write it says what the mesh is; so it is 0600 and one of another owner is refused.
//! A file that is damaged, too old, or of another trust domain, network, cluster or node is not used, and the log says
//! why.

pub(crate) mod file;

pub(crate) use file::Loaded;

use prost::bytes::Bytes;
use proto::workload::ADDRESS_TYPE_URL;
use std::collections::HashSet;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;
use tracing::{info, warn};
use xds_client::{Rejection, ResourceUpdate, Unreadable, Update};

/// The largest file written or read, bytes. A mesh beyond it is not kept.
const MAX_BYTES: usize = 512 << 20;
/// Changes are collected for at least this long.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// And for at most this long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Writing takes at most one part in so many of the time.
const SHARE: u32 = 50;

const NAME: &str = "mesh-state";

/// For whom a state holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Scope {
    pub(crate) trust_domain: String,
    pub(crate) cluster: String,
    pub(crate) network: String,
    pub(crate) node: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            cluster,
            network,
            node,
        } = self;
        write!(
            formatter,
            "trust domain {trust_domain}, cluster {cluster}, network {network:?}, node {node}"
        )
    }
}

/// Resources of one type, by name. A clone is cheap and does not change.
pub(crate) type Stored = rpds::RedBlackTreeMapSync<String, Entry>;

/// What is kept of a resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// Its encoded message. The version is empty where it was refused.
    Message { version: String, payload: Bytes },
    /// It came without a message, and no version of it is in force.
    Unreadable { aliases: Vec<String> },
}

impl Entry {
    /// Whether a version is in force.
    fn is_good(&self) -> bool {
        matches!(self, Self::Message { version, .. } if !version.is_empty())
    }
}

impl From<&ResourceUpdate> for Entry {
    fn from(resource: &ResourceUpdate) -> Self {
        Self::Message {
            version: resource.version.clone(),
            payload: resource.payload.clone(),
        }
    }
}

impl From<&Unreadable> for Entry {
    fn from(resource: &Unreadable) -> Self {
        Self::Unreadable {
            aliases: resource.aliases.clone(),
        }
    }
}

/// Keeps the state on disk. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Disk {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    scope: Scope,
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    addresses: Stored,
    policies: Stored,
    unwritten: bool,
}

impl Disk {
    /// Opens `directory`, which is made if need be, and reads what was kept there. Nothing that is wrong with it stops
    /// the proxy; it is told in the log.
    pub(crate) fn open(directory: &Path, scope: Scope, limit: Duration) -> (Self, Option<Loaded>) {
        let path = directory.join(NAME);
        let loaded = match load(&path, &scope, limit) {
            Ok(loaded) => loaded,
            Err(reason) => {
                warn!(path = %path.display(), reason, "the state on disk is not used");
                None
            }
        };
        let mut kept = Kept::default();
        if let Some(loaded) = &loaded {
            for (stored, update) in [
                (&mut kept.addresses, &loaded.addresses),
                (&mut kept.policies, &loaded.policies),
            ] {
                *stored = entries(update);
            }
        }
        let disk = Self {
            inner: Arc::new(Inner {
                directory: directory.to_owned(),
                scope,
                kept: Mutex::new(kept),
                changed: Notify::new(),
            }),
        };
        (disk, loaded)
    }

    /// Notes an update that is in force now. Of a resource that was refused the last good version is kept; where there
    /// is none the refused one is, without a version, so that it closes what it concerns after a restart as well. So
    /// does what came without a message.
    pub(crate) fn note(&self, update: &Update, rejections: &[Rejection]) {
        let refused: HashSet<&str> = rejections.iter().map(|one| one.name.as_str()).collect();
        let mut kept = self.lock();
        let stored = if update.type_url == ADDRESS_TYPE_URL {
            &mut kept.addresses
        } else {
            &mut kept.policies
        };
        for resource in &update.resources {
            let mut entry = Entry::from(resource);
            if refused.contains(resource.name.as_str()) {
                if stored.get(&resource.name).is_some_and(Entry::is_good) {
                    continue;
                }
                if let Entry::Message { version, .. } = &mut entry {
                    version.clear();
                }
            }
            stored.insert_mut(resource.name.clone(), entry);
        }
        for resource in &update.unreadable {
            if !stored.get(&resource.name).is_some_and(Entry::is_good) {
                stored.insert_mut(resource.name.clone(), resource.into());
            }
        }
        for name in &update.removed {
            stored.remove_mut(name);
        }
        kept.unwritten = true;
        drop(kept);
        self.inner.changed.notify_one();
    }

    /// Writes changes for ever, soon after they come.
    pub(crate) async fn run(self) {
        let mut wait = SHORTEST_WAIT;
        let mut failing = false;
        loop {
            self.inner.changed.notified().await;
            tokio::time::sleep(wait).await;
            let begun = Instant::now();
            match self.write().await {
                Ok(_) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    warn!(directory = %self.inner.directory.display(), %error, "cannot keep the state on disk; a start without the control plane would begin with an older one");
                }
                Err(_) => {}
            }
            wait = (begun.elapsed() * SHARE).clamp(SHORTEST_WAIT, LONGEST_WAIT);
            if failing {
                self.lock().unwritten = true;
                self.inner.changed.notify_one();
            }
        }
    }

    /// Writes what is not written yet, if anything, and says whether there was.
    pub(crate) async fn write(&self) -> io::Result<bool> {
        let (addresses, policies) = {
            let mut kept = self.lock();
            if !std::mem::take(&mut kept.unwritten) {
                return Ok(false);
            }
            (kept.addresses.clone(), kept.policies.clone())
        };
        let inner = self.inner.clone();
        let written = tokio::task::spawn_blocking(move || {
            let bytes = file::encode(&inner.scope, SystemTime::now(), &addresses, &policies)?;
            replace(&inner.directory, &bytes)
        });
        written.await.map_err(io::Error::other)??;
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a file held, to be written again.
pub(crate) fn entries(update: &Update) -> Stored {
    let resources = update.resources.iter().map(|one| (one.name.clone(), one.into()));
    let unreadable = update.unreadable.iter().map(|one| (one.name.clone(), one.into()));
    resources.chain(unreadable).collect()
}

/// What is kept at `path`. Nothing there is no error.
fn load(path: &Path, scope: &Scope, limit: Duration) -> Result<Option<Loaded>, String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let own_user = fs::metadata("/proc/self")
        .map_err(|error| error.to_string())?
        .uid();
    if metadata.uid() != own_user || metadata.mode() & 0o077 != 0 {
        return Err("others than this proxy's user may read or write it; it should be 0600".into());
    }
    if metadata.len() > MAX_BYTES as u64 {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let loaded = file::decode(&bytes, scope, SystemTime::now(), limit).map_err(|error| error.to_string())?;
    info!(
        path = %path.display(),
        addresses = loaded.addresses.resources.len(),
        policies = loaded.policies.resources.len(),
        "read the state on disk; it is used if the control plane does not answer"
    );
    Ok(Some(loaded))
}

/// Puts `bytes` in the place of the file as a whole: after a crash there is the old one or the new one.
fn replace(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > MAX_BYTES {
        // Better none than one that grows old unseen.
        let _ = fs::remove_file(directory.join(NAME));
        return Err(io::Error::other(format!(
            "the mesh takes {} bytes, more than the {MAX_BYTES} that are kept",
            bytes.len()
        )));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let temporary = directory.join(format!("{NAME}.new"));
    // One of a process that died may be there, with any mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
