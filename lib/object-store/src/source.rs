//! Watching objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use objects::{Kind, Object, ObjectKey};

use crate::SourceError;

/// Something that can be watched for objects.
pub trait ObjectSource: Send + Sync + 'static {
    /// Everything there is, and then every change.
    ///
    /// The first batch holds every object and is sent also when there is none. The stream never ends by itself: an
    /// error is followed by further attempts, and what was missed is in the next batch. A reader that is slow gets
    /// fewer and larger batches, never a longer queue.
    fn watch(&self) -> BoxStream<'static, Result<Batch, SourceError>>;

    /// How far the stream that was begun last is, in the words of the store itself; nothing where revisions say that
    /// already.
    fn position(&self) -> Option<Position> {
        None
    }

    /// How it is with each kind in the stream that was begun last, where kinds are watched one by one.
    fn status(&self) -> Vec<WatchStatus> {
        Vec::new()
    }
}

/// How far a stream is that counts its batches by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Position {
    /// Who knows the batch of this revision knows all that is said here.
    pub revision: u64,
    /// Up to which of its own versions the store has told everything, by the plural name of the kind. Kinds that do not
    /// exist there are left out. Only the store itself can say what these numbers mean.
    pub versions: BTreeMap<&'static str, u64>,
}

/// How it is with watching one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchStatus {
    /// The kind.
    pub kind: Kind,
    /// `waiting` (not listed yet), `present`, or `absent` (there is no such kind).
    pub state: &'static str,
    /// How many objects cannot be read as they are now.
    pub unreadable: usize,
    /// Why objects are not kept up to date at the moment, in one stable word that tells nothing of the store.
    pub reason: Option<&'static str>,
    /// The same in the store's own words, which are not for everybody.
    pub problem: Option<String>,
}

/// What changed, up to a revision at which nothing was half done.
#[derive(Clone, Debug)]
pub struct Batch {
    /// With this batch the reader knows everything up to this revision of the store.
    pub revision: u64,
    /// The changes; each object at most once. May be empty. An object that was deleted and made again is one
    /// [`StoreChange::Put`] with another uid.
    pub changes: Vec<StoreChange>,
    /// True for the batch that holds everything: what is not in it does not exist.
    pub initial: bool,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub enum StoreChange {
    /// The object is new, or other than it was.
    Put(Arc<Object>),
    /// The object is gone.
    Delete(ObjectKey),
}
