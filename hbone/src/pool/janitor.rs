use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Inner, Kept, now};

/// Starts the one task that lets go of connections which are idle, closed or going away.
pub(super) fn start<K, T, E>(inner: &Arc<Inner<K, T, E>>, every: Duration)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            if !sweep(&inner) {
                return;
            }
        }
    });
}

fn sweep<K, T, E>(inner: &Weak<Inner<K, T, E>>) -> bool
where
    K: Hash + Eq + Clone,
    T: Clone,
{
    let Some(inner) = inner.upgrade() else {
        return false;
    };
    let mut book = inner.lock();
    book.state.expire(now(), Kept::look);
    let discarded = book.state.take_discarded();
    // Dropping the last handle closes a connection; that needs no lock of ours.
    drop(book);
    drop(discarded);
    true
}
