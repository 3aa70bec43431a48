//! Hosting the authority: where its key comes from, and following it while it runs.
//!
//! Three places, the first that is there: files that somebody plugged in (`--ca-plugged-dir`); in Kubernetes, a
//! Secret that somebody plugged in; a root of our own, in a directory (`--ca-dir`) or in a Secret, which is made once
//! by the leader. What is wrong at the start ends the program; what becomes wrong later is said, and the last good one
//! stays.

mod learned;
pub(crate) mod memory;
mod plugged;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ca::{
    Authority, AuthorityError, AuthorityStore, DirectoryStore, Material, Moment, Plugged, StoreError,
    StoredAuthority, Versioned, load_material, load_or_create,
};
use tokio::sync::{Mutex, watch};

use crate::clock::Clock;
use crate::kubernetes::secret::SecretStore;
use crate::leadership::Leadership;
use learned::Learned;
use memory::Memory;
use plugged::{Problem, Source};

/// The pause after the API could not be asked at the start, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// How often it is looked whether what signs has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Files of a plugged-in authority; a mounted Secret follows its object within a minute anyway.
    pub(crate) files: Duration,
    /// Secrets.
    pub(crate) secrets: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            files: Duration::from_secs(2),
            secrets: Duration::from_secs(5),
        }
    }
}

/// Where to look for the authority.
pub(crate) struct Places {
    /// Files of a plugged-in authority.
    pub(crate) plugged_files: Option<PathBuf>,
    /// A directory with a root of our own.
    pub(crate) directory: Option<PathBuf>,
    /// A cluster, and the namespace of the control plane in it.
    pub(crate) cluster: Option<(kube::Client, String)>,
    /// And how often.
    pub(crate) pace: Pace,
    /// The longest life of a certificate: so long another root of a plugged-in authority is waited for.
    pub(crate) longest_life: Duration,
    pub(crate) clock: Clock,
}

/// An authority that signs, and where it comes from.
pub(crate) struct Host {
    pub(crate) authority: Arc<Authority>,
    /// Where the root is our own: what is kept of it.
    pub(crate) kept: Option<Arc<Kept>>,
    revocation_list: watch::Sender<Option<String>>,
    source: Option<(Source, Mutex<Following>)>,
    pace: Pace,
    clock: Clock,
}

/// What is known of a plugged-in authority.
struct Following {
    learned: Learned,
    memory: Memory,
}

/// There is no authority.
#[derive(Debug, thiserror::Error)]
pub enum NoAuthority {
    /// That of our own cannot be used.
    #[error("the CA cannot start: {0}")]
    Own(#[from] AuthorityError),
    /// The plugged-in one cannot be used.
    #[error("the CA cannot start: the plugged-in authority in {place} cannot be used: {problem}")]
    Plugged {
        /// Where it is.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// It was not said where it is.
    #[error("the CA cannot start: give --ca-dir, --ca-plugged-dir or --kubernetes")]
    Nowhere,
}

/// A root of our own, in its store, and what signs with it: both are changed together.
pub(crate) struct Kept {
    store: Arc<dyn AuthorityStore>,
    authority: Arc<Authority>,
    clock: Clock,
    /// The lists of what is revoked, in PEM.
    revocation_list: watch::Sender<Option<String>>,
    /// Held while one follows the other, so that an older state never replaces a newer one.
    turn: Mutex<()>,
}

impl Host {
    /// Finds the authority, or waits for it; only the leader makes a new root.
    pub(crate) async fn open(places: Places, leadership: Leadership) -> Result<Host, NoAuthority> {
        let source = match (&places.plugged_files, &places.directory, &places.cluster) {
            (Some(files), _, _) => Some(Source::Files(files.clone())),
            (None, None, Some((client, namespace))) => Some(Source::secret(client.clone(), namespace)),
            _ => None,
        };
        if let Some(source) = source
            && let Some(plugged) = find(&source, &places.clock).await?
        {
            let memory = Memory::new(places.cluster.as_ref());
            let (plugged, following) =
                begin(&source, plugged, memory, places.longest_life, &places.clock).await;
            tracing::info!(place = source.place(), "signing as a plugged-in authority");
            return Ok(Host {
                authority: Arc::new(Authority::new(plugged.material)),
                kept: None,
                revocation_list: watch::Sender::new(plugged.revocation_list),
                source: Some((source, Mutex::new(following))),
                pace: places.pace,
                clock: places.clock,
            });
        }
        let store: Arc<dyn AuthorityStore> = match (places.directory, places.cluster) {
            (Some(directory), _) => Arc::new(DirectoryStore::open(&directory).map_err(AuthorityError::from)?),
            (None, Some((client, namespace))) => {
                Arc::new(SecretStore::new(client, &namespace, places.pace.secrets))
            }
            (None, None) => return Err(NoAuthority::Nowhere),
        };
        let (found, material) = own(store.clone(), leadership, &places.clock).await?;
        if let Some(written) = found.stored.last_written() {
            places.clock.begins_with(written);
        }
        let authority = Arc::new(Authority::new(material));
        let lists = found.stored.revocations().map(|revocations| revocations.lists);
        let revocation_list = watch::Sender::new(lists);
        Ok(Host {
            kept: Some(Arc::new(Kept {
                store,
                authority: authority.clone(),
                clock: places.clock.clone(),
                revocation_list: revocation_list.clone(),
                turn: Mutex::default(),
            })),
            authority,
            revocation_list,
            source: None,
            pace: places.pace,
            clock: places.clock,
        })
    }

    /// The lists of certificates that the authority has revoked, in PEM, where there are any.
    pub(crate) fn revocation_list(&self) -> watch::Receiver<Option<String>> {
        self.revocation_list.subscribe()
    }

    /// Follows what signs, until the future is dropped.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut said = None;
        loop {
            let problem = match (&self.source, &self.kept) {
                (Some((source, following)), _) => {
                    source.changed(self.pace).await;
                    let looked = self
                        .look(source, &mut *following.lock().await, self.clock.now())
                        .await;
                    looked.err().map(|problem| problem.to_string())
                }
                (None, Some(kept)) => {
                    kept.store.changed().await;
                    match kept.load().await {
                        Ok(Some(_)) => None,
                        Ok(None) => Some(format!(
                            "{} is gone; the root in use stays until this process ends. Restore it from a backup",
                            kept.store.place()
                        )),
                        Err(error) => Some(error.to_string()),
                    }
                }
                (None, None) => return,
            };
            // Once, not every few seconds.
            if problem != said {
                match &problem {
                    Some(problem) => tracing::error!("the authority stays as it was: {problem}"),
                    None => tracing::info!("the authority can be read again"),
                }
                said = problem;
            }
        }
    }

    async fn look(
        &self,
        source: &Source,
        following: &mut Following,
        now: impl Into<Moment>,
    ) -> Result<(), Problem> {
        let now = now.into();
        let Following { learned, memory } = following;
        let gone = || Problem::Wrong(format!("{} is gone", source.place()));
        let mut plugged = source.read("", now.wall).await?.ok_or_else(gone)?;
        let given = plugged.material.roots().to_vec();
        let signing = self.authority.material();
        if let Some(root) = signing.root() {
            learned.signs(root, now);
        }
        // Workloads learn roots with their own next certificate: until then they would refuse each other.
        if !plugged.material.is_trusted_with(&signing) {
            return Err(Problem::Wrong(format!(
                "{} signs under a root that no workload trusts yet: put that root beside those in use first, and let it sign \
                 once every workload has a new certificate",
                source.place()
            )));
        }
        if signing.root() != plugged.material.root()
            && let Some(ready) = plugged.material.root().and_then(|root| learned.ready(root))
            && let Ok(left) = ready.duration_since(now.earliest)
            && !left.is_zero()
        {
            return Err(Problem::Wrong(format!(
                "{} signs under a root that not every workload has learned yet; it is taken up by itself once the last \
                 certificate from before has expired, which is within {}",
                source.place(),
                in_words(learned.life())
            )));
        }
        // What is left out too early is kept beside.
        let missing = learned.missing(plugged.material.roots(), now);
        if !missing.is_empty() {
            plugged = source.read(&missing, now.wall).await?.ok_or_else(gone)?;
        }
        learned.trusted(plugged.material.roots(), now);
        // First, so that whoever comes next knows what this has signed with.
        memory.keep(learned, &given, now).await;
        if self.authority.replace(plugged.material) {
            tracing::info!(
                place = source.place(),
                "signing with another authority from now on"
            );
        }
        self.revocation_list.send_if_modified(|list| {
            let is_new = *list != plugged.revocation_list;
            *list = plugged.revocation_list;
            is_new
        });
        Ok(())
    }
}

impl Kept {
    /// What is kept now; signing follows it.
    pub(crate) async fn load(&self) -> Result<Option<Versioned>, StoreError> {
        let _turn = self.turn.lock().await;
        let found = load_material(&*self.store, self.clock.now().wall).await?;
        Ok(found.map(|(versioned, material)| {
            if self.authority.replace(material) {
                tracing::info!(
                    place = self.store.place(),
                    "signing with what is kept there from now on"
                );
            }
            self.tell_revoked(&versioned.stored);
            versioned
        }))
    }

    /// Replaces what is kept in this version; signing follows it. The new version.
    pub(crate) async fn save(&self, stored: &StoredAuthority, expected: &str) -> Result<String, StoreError> {
        let _turn = self.turn.lock().await;
        let material =
            Material::of_stored(stored, self.clock.now().wall).map_err(|error| StoreError::Unusable {
                place: self.store.place(),
                reason: error.to_string(),
            })?;
        let version = self.store.save(stored, Some(expected)).await?;
        self.authority.replace(material);
        self.tell_revoked(stored);
        Ok(version)
    }

    fn tell_revoked(&self, stored: &StoredAuthority) {
        let lists = stored.revocations().map(|revocations| revocations.lists);
        self.revocation_list.send_if_modified(|told| {
            let is_new = *told != lists;
            *told = lists;
            is_new
        });
    }
}

impl Kept {
    /// Waits until what is kept may have changed; may wake up for nothing.
    pub(crate) fn changed(&self) -> tls::BoxFuture<'_, ()> {
        self.store.changed()
    }

    /// What signs now.
    pub(crate) fn material(&self) -> Arc<Material> {
        self.authority.material()
    }

    /// Where it is kept, for people.
    pub(crate) fn place(&self) -> String {
        self.store.place()
    }
}

/// Goes on where an earlier process was: roots that it knew to be needed are trusted besides.
async fn begin(
    source: &Source,
    plugged: Plugged,
    mut memory: Memory,
    life: Duration,
    clock: &Clock,
) -> (Plugged, Following) {
    let given = plugged.material.roots().to_vec();
    let mut learned = memory.load(life, &given, clock).await;
    let now = clock.now();
    let signing = plugged.material.root().and_then(|root| learned.ready(root));
    if signing.is_some_and(|ready| now.earliest < ready) {
        tracing::warn!(
            "{} signs under a root that not every workload has learned yet: some refuse what it signs within {}",
            source.place(),
            in_words(life)
        );
    }
    memory.keep(&mut learned, &given, now).await;
    let missing = learned.missing(&given, now);
    let whole = match missing.is_empty() {
        true => None,
        false => source.read(&missing, now.wall).await.ok().flatten(),
    };
    // What cannot be read again at once is read with the next look.
    (whole.unwrap_or(plugged), Following { learned, memory })
}

/// A length of time as it is written on the command line.
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds => format!("{seconds}s"),
    }
}

/// A plugged-in authority, if there is one; waits until its place answers.
async fn find(source: &Source, clock: &Clock) -> Result<Option<Plugged>, NoAuthority> {
    let place = source.place();
    let mut pause = FIRST_PAUSE;
    loop {
        match source.read("", clock.now().wall).await {
            Ok(found) => return Ok(found),
            Err(Problem::Wrong(problem)) => return Err(NoAuthority::Plugged { place, problem }),
            Err(Problem::Unavailable(problem)) => {
                tracing::warn!(place, "the authority cannot be read yet: {problem}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

/// A root of our own: the leader makes it where there is none, others wait for that.
async fn own(
    store: Arc<dyn AuthorityStore>,
    mut leadership: Leadership,
    clock: &Clock,
) -> Result<(Versioned, Material), AuthorityError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let now = clock.now().wall;
        let found = if leadership.is_leader() {
            load_or_create(&*store, now).await.map(Some)
        } else {
            load_material(&*store, now).await.map_err(AuthorityError::from)
        };
        match found {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {
                tracing::info!(place = store.place(), "waiting for the leader to make a root");
                tokio::select! {
                    () = leadership.changed() => {}
                    () = store.changed() => {}
                }
            }
            Err(AuthorityError::Store(StoreError::Unavailable { place, reason })) => {
                tracing::warn!(place, "the authority cannot be read yet: {reason}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
