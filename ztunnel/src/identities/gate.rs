//! Who may ask the authority next: a connection that waits goes before a renewal, a renewal before a first
//! certificate that nobody waits for yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Why a certificate is asked for; the first goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// A connection waits for it.
    Connection,
    /// The one in use is to be replaced.
    Renewal,
    /// A pod has come and has not been talked to yet.
    Prefetch,
}

/// Lets a number of requests run at once, the others in order of priority.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    next: u64,
    waiting: BTreeMap<Place, oneshot::Sender<Permit>>,
}

/// Within one priority, who came first goes first.
type Place = (Priority, u64);

/// One running request.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Gate,
}

impl Gate {
    /// At most `running` at once.
    pub(crate) fn new(running: usize) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                free: running,
                next: 0,
                waiting: BTreeMap::new(),
            })),
        }
    }

    /// Waits for a turn. Whoever gives up waiting, or wants another priority, drops the future.
    pub(crate) async fn enter(&self, priority: Priority) -> Permit {
        let (place, turn) = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Permit { gate: self.clone() };
            }
            let place = (priority, state.next);
            state.next += 1;
            let (sender, turn) = oneshot::channel();
            state.waiting.insert(place, sender);
            (place, turn)
        };
        let _leave = Leave { gate: self, place };
        match turn.await {
            Ok(permit) => permit,
            // The sender leaves the map only to be used, or when this future is dropped.
            Err(_) => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        let Some((_, next)) = state.waiting.pop_first() else {
            state.free += 1;
            return;
        };
        drop(state);
        let gate = self.gate.clone();
        // Who has given up meanwhile drops what it is sent, and so passes it on.
        let _ = next.send(Permit { gate });
    }
}

struct Leave<'a> {
    gate: &'a Gate,
    place: Place,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_waits_most_urgently_goes_next() {
        let gate = Gate::new(1);
        let first = poll(pin!(gate.enter(Priority::Prefetch))).unwrap();
        let mut prefetch = pin!(gate.enter(Priority::Prefetch));
        let mut renewal = pin!(gate.enter(Priority::Renewal));
        let mut later = pin!(gate.enter(Priority::Renewal));
        let mut connection = pin!(gate.enter(Priority::Connection));
        for waiting in [&mut prefetch, &mut renewal, &mut later, &mut connection] {
            assert!(poll(waiting.as_mut()).is_none());
        }
        drop(first);
        assert!(poll(renewal.as_mut()).is_none());
        let permit = poll(connection.as_mut()).unwrap();
        drop(permit);
        assert!(poll(later.as_mut()).is_none());
        assert!(poll(prefetch.as_mut()).is_none());
        let permit = poll(renewal.as_mut()).unwrap();
        drop(permit);
        let permit = poll(later.as_mut()).unwrap();
        assert!(poll(prefetch.as_mut()).is_none());
        drop(permit);
        assert!(poll(prefetch.as_mut()).is_some());
    }

    #[test]
    fn who_gives_up_takes_no_turn_along() {
        let gate = Gate::new(1);
        let first = poll(pin!(gate.enter(Priority::Renewal))).unwrap();
        let mut last = pin!(gate.enter(Priority::Prefetch));
        assert!(poll(last.as_mut()).is_none());
        {
            let mut gone = pin!(gate.enter(Priority::Connection));
            assert!(poll(gone.as_mut()).is_none());
        }
        let mut told = Box::pin(gate.enter(Priority::Connection));
        assert!(poll(told.as_mut()).is_none());
        drop(first);
        // It has been given the turn and goes without having looked.
        drop(told);
        assert!(poll(last.as_mut()).is_some());
    }
}
