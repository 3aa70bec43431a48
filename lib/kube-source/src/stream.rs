//! The stream of batches, and the tasks that feed it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::{Batch, SourceError};
use objects::Kind;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::crds::{self, Definition};
use crate::error::{Failure, Sort};
use crate::follow::{Listener, Subject, follow};
use crate::item::Item;
use crate::kinds::{Selection, Wanted, definition, definitions, resource};
use crate::mirror::{Complaint, Mirror};
use crate::read::{self, Seen};

/// What the tasks of one stream and its reader share.
pub(crate) struct Shared {
    mirror: Mutex<Mirror>,
    /// The reader may be owed something.
    news: Notify,
    /// Counts the reasons to look again for kinds that are not there.
    look_again: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(wanted: &Wanted) -> Shared {
        let kinds = wanted.selections.iter().map(|selection| selection.kind);
        Shared {
            mirror: Mutex::new(Mirror::new(kinds)),
            news: Notify::new(),
            look_again: watch::Sender::new(0),
        }
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Mirror) -> T) -> T {
        let value = change(&mut self.mirror());
        self.news.notify_one();
        value
    }

    pub(crate) fn look_again(&self) {
        self.look_again.send_modify(|count| *count += 1);
    }

    pub(crate) fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Batches for one reader. The client is asked for when the reader first asks, in its runtime; with the stream
/// everything that was begun for it ends.
pub(crate) fn stream(
    shared: Arc<Shared>,
    wanted: Wanted,
    client: impl FnOnce() -> kube::Client + Send + 'static,
) -> BoxStream<'static, Result<Batch, SourceError>> {
    let reader = async move {
        let tasks = begin(&shared, &wanted, &client());
        stream::unfold((shared, tasks), |(shared, mut tasks)| async move {
            let item = next(&shared, &mut tasks).await;
            Some((item, (shared, tasks)))
        })
    };
    stream::once(reader).flatten().boxed()
}

async fn next(shared: &Shared, tasks: &mut JoinSet<()>) -> Result<Batch, SourceError> {
    loop {
        let owed = shared.mirror().take();
        if let Some(owed) = owed {
            return owed;
        }
        tokio::select! {
            () = shared.news.notified() => {}
            // They end only by a panic, which must not pass for a quiet cluster.
            Some(Err(error)) = tasks.join_next() => {
                if error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

fn begin(shared: &Arc<Shared>, wanted: &Wanted, client: &kube::Client) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let never = watch::Sender::new(0).subscribe();
    let mut defined = BTreeSet::new();
    for Selection {
        kind,
        fields,
        namespace,
    } in &wanted.selections
    {
        let wake = match definition(*kind) {
            Some(name) => {
                defined.insert(name);
                shared.look_again.subscribe()
            }
            None => never.clone(),
        };
        let subject = Subject {
            client: client.clone(),
            versions: (0..kind.api_versions().len())
                .map(|version| resource(*kind, version))
                .collect(),
            fields: fields.clone(),
            namespace: namespace.clone(),
            wake,
        };
        let listener = Objects {
            shared: shared.clone(),
            kind: *kind,
            version: 0,
        };
        tasks.spawn(follow::<Item, _>(subject, listener));
    }
    if !defined.is_empty() {
        let subject = Subject {
            client: client.clone(),
            versions: vec![definitions()],
            fields: None,
            namespace: None,
            wake: never,
        };
        let listener = crds::Watcher::new(shared.clone(), defined);
        tasks.spawn(follow::<Definition, _>(subject, listener));
    }
    tasks
}

/// Tells the mirror of the objects of one kind.
struct Objects {
    shared: Arc<Shared>,
    kind: Kind,
    version: usize,
}

impl Objects {
    /// Reading takes a while, and is done before anything is locked.
    fn read(&self, item: Item) -> Option<Seen> {
        let versions = self.kind.api_versions();
        let seen = read::read(self.kind, versions[self.version % versions.len()], item);
        if seen.is_none() {
            tracing::warn!(
                "the API server sent something among {} without a name, or without the namespace it must have",
                self.kind.plural()
            );
        }
        seen
    }
}

impl Listener<Item> for Objects {
    fn list_begins(&mut self, version: usize) {
        self.version = version;
        self.shared.change(|mirror| {
            mirror.serves(self.kind, version);
            mirror.list_begins(self.kind);
        });
    }

    fn listed(&mut self, item: Item) {
        if let Some(seen) = self.read(item) {
            complain(self.shared.change(|mirror| mirror.listed(seen)));
        }
    }

    fn list_ends(&mut self, version: &str) {
        self.shared
            .change(|mirror| mirror.list_ends(self.kind, read::number(version)));
        tracing::debug!(kind = %self.kind, version, "listed");
    }

    fn changed(&mut self, item: Item) {
        if let Some(seen) = self.read(item) {
            complain(self.shared.change(|mirror| mirror.changed(seen)));
        }
    }

    fn deleted(&mut self, item: Item) {
        if let Some(seen) = self.read(item) {
            self.shared.change(|mirror| mirror.deleted(&seen));
        }
    }

    fn marked(&mut self, version: &str) {
        let mut mirror = self.shared.mirror();
        mirror.marked(self.kind, read::number(version));
    }

    fn failed(&mut self, failure: &Failure) {
        let news = self.shared.change(|mirror| mirror.failed(self.kind, failure));
        let plural = self.kind.plural();
        if news && failure.sort == Sort::Absent {
            tracing::info!("the cluster has no {plural}; they are read once it has");
        } else {
            tracing::debug!("{plural}: {}", failure.problem);
        }
    }
}

fn complain(complaint: Option<Complaint>) {
    if let Some(Complaint { key, problem, kept }) = complaint {
        let kept = if kept { "its last good version" } else { "nothing" };
        tracing::warn!("ignoring {key} as it is stored, keeping {kept}: {problem}");
    }
}
