//! What this node has seen of endpoints: which fail to be reached, and how many connections each has from here.
//!
//! One for all pods of the node: what one pod found out spares the others the wait.

use mesh::EndpointHealth;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Clones share what is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointLoad {
    health: Arc<Mutex<EndpointHealth>>,
}

/// One connection to an endpoint, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    load: EndpointLoad,
    uid: Arc<str>,
}

impl EndpointLoad {
    /// What is known now. The lock is held for two pointers' time only, never while a route is chosen.
    pub(crate) fn now(&self) -> EndpointHealth {
        self.lock().clone()
    }

    /// Counts a connection that is about to be made, so that others made at the same time see it.
    pub(crate) fn count(&self, uid: &Arc<str>) -> Counted {
        self.lock().connection_opened(uid);
        Counted {
            load: self.clone(),
            uid: uid.clone(),
        }
    }

    /// The endpoint could not be reached.
    pub(crate) fn failed(&self, uid: &Arc<str>) {
        self.lock().record_failure(uid, Instant::now());
    }

    /// The endpoint was reached.
    pub(crate) fn reached(&self, uid: &str) {
        self.lock().record_success(uid);
    }

    fn lock(&self) -> MutexGuard<'_, EndpointHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.load.lock().connection_closed(&self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_counts_until_it_ends_however_it_ends() {
        let load = EndpointLoad::default();
        let uid: Arc<str> = "Kubernetes//Pod/shop/cart".into();
        let counted = load.count(&uid);
        let cancelled = tokio::spawn({
            let counted = load.count(&uid);
            async move {
                std::future::pending::<()>().await;
                drop(counted);
            }
        });
        assert_eq!(load.now().open_connections(&uid), 2);
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        assert_eq!(load.now().open_connections(&uid), 1);
        drop(counted);
        assert_eq!(load.now().open_connections(&uid), 0);
    }

    #[test]
    fn failures_are_seen_by_all_and_end_with_success() {
        let (load, now) = (EndpointLoad::default(), Instant::now());
        let uid: Arc<str> = "Kubernetes//Pod/shop/cart".into();
        load.clone().failed(&uid);
        assert!(load.now().is_ejected(&uid, now));
        load.reached(&uid);
        assert!(!load.now().is_ejected(&uid, now));
    }
}
