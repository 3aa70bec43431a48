//! Objects in memory, as a source for the control plane.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::{Batch, ObjectSource, SourceError, StoreChange};
use objects::Object;
use tokio::sync::mpsc;

/// What is there at the start, and what is sent later. It has one reader.
pub(super) struct Feed {
    state: Mutex<Option<State>>,
}

struct State {
    first: Vec<Arc<Object>>,
    later: mpsc::UnboundedReceiver<Arc<Object>>,
}

impl Feed {
    /// These objects, and where changed ones are sent. A sender waits for nobody: who measures sends a known number.
    pub(super) fn new(first: Vec<Arc<Object>>) -> (Feed, mpsc::UnboundedSender<Arc<Object>>) {
        let (sender, later) = mpsc::unbounded_channel();
        let state = Mutex::new(Some(State { first, later }));
        (Feed { state }, sender)
    }
}

impl ObjectSource for Feed {
    fn watch(&self) -> BoxStream<'static, Result<Batch, SourceError>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(State { first, later }) = state else {
            return stream::pending().boxed();
        };
        let initial = Batch {
            revision: 1,
            changes: first.into_iter().map(StoreChange::Put).collect(),
            initial: true,
        };
        let changes = stream::unfold((later, 1), |(mut later, revision)| async move {
            let Some(object) = later.recv().await else {
                return std::future::pending().await;
            };
            let revision = revision + 1;
            let batch = Batch {
                revision,
                changes: vec![StoreChange::Put(object)],
                initial: false,
            };
            Some((Ok(batch), (later, revision)))
        });
        stream::once(async { Ok(initial) }).chain(changes).boxed()
    }
}
