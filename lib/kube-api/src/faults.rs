//! Things that go wrong on purpose, for tests. They are steered from Rust only, never over HTTP.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::status::StatusError;
use crate::store::Store;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads many.
    List,
    /// Follows changes.
    Watch,
    /// Makes an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes an object, apply included.
    Patch,
    /// Removes an object.
    Delete,
    /// Removes many.
    DeleteCollection,
}

/// Which requests a fault is for; what is left out is any.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// Only this verb.
    pub verb: Option<Verb>,
    /// Only this resource: `pods`, `peerauthentications.security.istio.io`.
    pub resource: Option<String>,
}

impl Requests {
    /// Every request for an object.
    pub fn any() -> Requests {
        Requests::default()
    }

    /// Every request with this verb.
    pub fn with_verb(verb: Verb) -> Requests {
        Requests {
            verb: Some(verb),
            resource: None,
        }
    }

    /// Only those for this resource.
    #[must_use]
    pub fn of(mut self, resource: &str) -> Requests {
        self.resource = Some(resource.to_owned());
        self
    }

    fn covers(&self, verb: Verb, resource: &str) -> bool {
        self.verb.is_none_or(|wanted| wanted == verb)
            && self.resource.as_deref().is_none_or(|wanted| wanted == resource)
    }
}

/// The handle by which a test breaks things. Cheap to clone.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    signals: watch::Sender<Signals>,
    store: Store,
}

#[derive(Default)]
struct State {
    delays: Vec<(Requests, Duration)>,
    failures: VecDeque<Failure>,
    dropped: Vec<(String, usize)>,
}

struct Failure {
    which: Requests,
    answer: StatusError,
    /// None: until [`Faults::clear`].
    left: Option<usize>,
}

/// What open watches listen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// Counts the cuts.
    pub(crate) cuts: u64,
    /// Counts the replays, with the revision to replay from.
    pub(crate) replays: (u64, u64),
    /// What watches and cached reads are held at.
    pub(crate) frozen: Option<u64>,
}

impl Faults {
    pub(crate) fn new(store: &Store) -> Faults {
        Faults {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                signals: watch::Sender::new(Signals::default()),
                store: store.clone(),
            }),
        }
    }

    /// Breaks every open watch, in the middle of its answer, as a connection that is lost.
    pub fn cut_watches(&self) {
        self.shared.signals.send_modify(|signals| signals.cuts += 1);
    }

    /// Answers these requests only after this time; for a watch, its beginning.
    pub fn delay(&self, which: Requests, by: Duration) {
        self.lock().delays.push((which, by));
    }

    /// Answers the next `times` of these requests so; without a number, all until [`Faults::clear`].
    pub fn fail(&self, which: Requests, answer: StatusError, times: Option<usize>) {
        self.lock().failures.push_back(Failure {
            which,
            answer,
            left: times,
        });
    }

    /// From now on watches tell nothing new, and reads that accept any age (`resourceVersion=0`) show the present
    /// state, as an API server does whose cache does not follow. Other reads stay right.
    pub fn freeze(&self) {
        let revision = self.shared.store.revision();
        self.shared
            .signals
            .send_modify(|signals| signals.frozen = Some(revision));
    }

    /// Ends [`Faults::freeze`]: watches tell what they held back.
    pub fn thaw(&self) {
        self.shared.signals.send_modify(|signals| signals.frozen = None);
    }

    /// Each watch of this resource tells nothing of the next `count` changes (counted over all its watches): what
    /// no API server may do, to see that a client finds back.
    pub fn drop_events(&self, resource: &str, count: usize) {
        self.lock().dropped.push((resource.to_owned(), count));
    }

    /// Open watches tell again every change after this revision, as far as it is remembered.
    pub fn replay_events(&self, revision: u64) {
        self.shared
            .signals
            .send_modify(|signals| signals.replays = (signals.replays.0 + 1, revision));
    }

    /// Ends delays, failures, drops and the freeze.
    pub fn clear(&self) {
        *self.lock() = State::default();
        self.thaw();
    }

    /// What this request must suffer.
    pub(crate) fn strike(&self, verb: Verb, resource: &str) -> (Duration, Option<StatusError>) {
        let mut state = self.lock();
        let delay = state
            .delays
            .iter()
            .filter(|(which, _)| which.covers(verb, resource))
            .map(|(_, by)| *by)
            .max()
            .unwrap_or_default();
        let found = state
            .failures
            .iter_mut()
            .find(|failure| failure.left != Some(0) && failure.which.covers(verb, resource));
        let answer = found.map(|failure| {
            failure.left = failure.left.map(|left| left - 1);
            failure.answer.clone()
        });
        state.failures.retain(|failure| failure.left != Some(0));
        (delay, answer)
    }

    /// Whether this event is to be swallowed.
    pub(crate) fn swallows(&self, resource: &str) -> bool {
        let mut state = self.lock();
        let found = state
            .dropped
            .iter_mut()
            .find(|(of, left)| of == resource && *left > 0);
        found.map(|(_, left)| *left -= 1).is_some()
    }

    pub(crate) fn signals(&self) -> watch::Receiver<Signals> {
        self.shared.signals.subscribe()
    }

    pub(crate) fn frozen(&self) -> Option<u64> {
        self.shared.signals.borrow().frozen
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
