//! The store: what a source and a writer of one API server share.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use futures_util::stream::BoxStream;
use object_store::{Batch, ObjectSource, Position, SourceError, WatchStatus};

use crate::config::ApiServer;
use crate::http_client;
use crate::kinds::Wanted;
use crate::mirror::{KindState, KindStatus};
use crate::stream::{self, Shared};
use crate::writer::FIELD_MANAGER;

/// The objects of a Kubernetes API: an [`ObjectSource`] and an [`ObjectWriter`](object_store::ObjectWriter). Cheap to
/// clone.
///
/// Nothing is asked of the server before a stream is polled or a write awaited, which must be within a Tokio runtime
/// (always the same one).
///
/// [`Batch::revision`] counts batches, since the resource versions of several kinds cannot be compared. What a write
/// returns is the revision of a batch by which the stream that was begun last knows the write; it is far ahead until
/// the write has come back by the watch. Objects carry the resource version at which their content last changed: one
/// that is new in nothing that is read here is not told again.
#[derive(Clone)]
pub struct KubernetesStore {
    inner: Arc<Inner>,
}

struct Inner {
    server: ApiServer,
    wanted: Wanted,
    /// How its writes of status are named.
    manager: String,
    client: OnceLock<kube::Client>,
    /// Of the stream that was begun last.
    current: Mutex<Weak<Shared>>,
}

impl KubernetesStore {
    /// A store over the server, for the objects that are wanted.
    pub fn new(server: ApiServer, wanted: Wanted) -> KubernetesStore {
        KubernetesStore::of_manager(server, wanted, FIELD_MANAGER)
    }

    /// One whose writes of status are named so in `managedFields`. Those who write the same types of conditions and may
    /// take each other's place, as control planes of several revisions do, each need a name of their own.
    pub fn of_manager(server: ApiServer, wanted: Wanted, manager: &str) -> KubernetesStore {
        KubernetesStore {
            inner: Arc::new(Inner {
                server,
                wanted,
                manager: manager.to_owned(),
                client: OnceLock::new(),
                current: Mutex::default(),
            }),
        }
    }

    /// How it is with every kind in the stream that was begun last; nothing when there is none.
    pub fn status(&self) -> Vec<KindStatus> {
        self.current()
            .map_or_else(Vec::new, |shared| shared.mirror().status())
    }

    pub(crate) fn manager(&self) -> &str {
        &self.inner.manager
    }

    pub(crate) fn client(&self) -> kube::Client {
        let make = || http_client::client(&self.inner.server);
        self.inner.client.get_or_init(make).clone()
    }

    pub(crate) fn current(&self) -> Option<Arc<Shared>> {
        let current = self.inner.current.lock();
        current.unwrap_or_else(PoisonError::into_inner).upgrade()
    }
}

impl ObjectSource for KubernetesStore {
    fn watch(&self) -> BoxStream<'static, Result<Batch, SourceError>> {
        let shared = Arc::new(Shared::new(&self.inner.wanted));
        let mut current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::downgrade(&shared);
        let store = self.clone();
        stream::stream(shared, self.inner.wanted.clone(), move || store.client())
    }

    /// The versions are the resource versions of the API: an API server that numbers kinds apart cannot be compared by
    /// them.
    fn position(&self) -> Option<Position> {
        self.current()?.mirror().position()
    }

    fn status(&self) -> Vec<WatchStatus> {
        let status = KubernetesStore::status(self).into_iter();
        let told = status.map(|status| WatchStatus {
            kind: status.kind,
            state: match status.state {
                KindState::Waiting => "waiting",
                KindState::Present => "present",
                KindState::Absent => "absent",
            },
            unreadable: status.unreadable,
            reason: status.reason,
            problem: status.problem,
        });
        told.collect()
    }
}
