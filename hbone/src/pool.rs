//! Client connections kept for reuse: many tunnels of one key share a connection.
//!
//! [`Pool`] is a thin shell around [`state::State`], which decides everything and does no I/O. The shell dials
//! outside its lock, one dial per key at a time, and hands the one outcome to all who wait for it.

pub mod state;

mod janitor;
mod lease;

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, SetOnce, oneshot};
use tokio::time::{Instant, timeout};

use crate::client::Client;
pub use lease::Lease;
pub(crate) use lease::Ticket;
use lease::{Probing, Release};
use state::{Checkout, Condition, ConnectionId, DialId, Limits, Refusal, State};

/// Client connections by key `K`, each with what its dialler knows about it, `T`. `E` is the dialler's error.
///
/// The key decides who may share: whatever must never share a connection (another source, another accepted identity)
/// must differ in the key. Clones are handles to the same pool.
pub struct Pool<K, T, E> {
    inner: Arc<Inner<K, T, E>>,
}

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError<E> {
    /// The dial failed. All who waited for it share the error.
    #[error("{0}")]
    Dial(Arc<E>),
    /// Neither a free connection nor a new one within this time.
    #[error("no tunnel connection within {0:?}")]
    Timeout(Duration),
    /// A limit of the pool, or the pool is being drained.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection was closed by this proxy while it was being made ready ([`Pool::close_matching`]).
    #[error("the tunnel connection was closed by this proxy while it was dialled")]
    Closed,
    /// The dialler ended without a result.
    #[error("the dialler ended without a result; this is a defect of this proxy")]
    Abandoned,
}

impl<K, T, E> Pool<K, T, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// An empty pool with its janitor, a task that ends with the pool.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(limits: Limits) -> Self {
        let sweep = (limits.idle_after / 4).clamp(Duration::from_millis(10), Duration::from_secs(15));
        let probing = Probing {
            after: limits.probe_after,
            timeout: limits.probe_timeout,
        };
        let inner = Arc::new(Inner {
            probing,
            book: Mutex::new(Book {
                state: State::new(limits),
                flights: HashMap::new(),
            }),
            returned: Notify::new(),
        });
        janitor::start(&inner, sweep);
        Self { inner }
    }

    /// A place for one tunnel on a connection of this key: on one that is open and has room, else on a new one.
    ///
    /// Only if a new one is needed and nobody dials this key yet, `dial` is run, in a task of its own, so that
    /// whoever waits with us is not let down when this future is dropped. `deadline` bounds both the dial and the
    /// wait. The dialler also spawns the connection's driver.
    pub async fn get<D, F>(&self, key: &K, deadline: Duration, dial: D) -> Result<Lease<T>, GetError<E>>
    where
        D: FnOnce() -> F,
        F: Future<Output = Result<(Client, T), E>> + Send + 'static,
    {
        timeout(deadline, self.lease(key, deadline, dial))
            .await
            .unwrap_or(Err(GetError::Timeout(deadline)))
    }

    async fn lease<D, F>(&self, key: &K, deadline: Duration, dial: D) -> Result<Lease<T>, GetError<E>>
    where
        D: FnOnce() -> F,
        F: Future<Output = Result<(Client, T), E>> + Send + 'static,
    {
        loop {
            match self.inner.checkout(key)? {
                Step::Leased(lease) => return Ok(lease),
                Step::Wait(flight) => flight.wait().await.clone()?,
                Step::Dial(id, flight) => {
                    let (sender, receiver) = oneshot::channel();
                    let landing = Landing {
                        inner: Arc::clone(&self.inner),
                        id,
                        flight,
                    };
                    let dial = timeout(deadline, dial());
                    tokio::spawn(async move {
                        let outcome = match dial.await {
                            Ok(Ok((client, info))) => landing.landed(client, info),
                            Ok(Err(error)) => landing.failed(GetError::Dial(Arc::new(error))),
                            Err(_) => landing.failed(GetError::Timeout(deadline)),
                        };
                        // If nobody waits any more, the lease comes back with its drop.
                        let _ = sender.send(outcome);
                    });
                    return receiver.await.unwrap_or(Err(GetError::Abandoned));
                }
            }
        }
    }

    /// Ends all connections, and dials under way, whose key matches. Their tunnels are reset.
    pub fn close_matching(&self, matches: impl Fn(&K) -> bool, reason: &'static str) {
        let closed = self.inner.lock().state.close_matching(matches);
        for kept in closed {
            kept.client.close(reason);
        }
    }

    /// Ends all connections, and dials under way. Their tunnels are reset.
    pub fn close_all(&self, reason: &'static str) {
        self.close_matching(|_| true, reason);
    }

    /// Hands out nothing more. Connections close once their last tunnel has ended; await [`Pool::drained`] for that,
    /// with a deadline of your own and [`Pool::close_all`] after it.
    pub fn drain(&self) {
        // Connections stay listed, so that `close_all` can still reach them.
        let unused = self.inner.lock().state.drain();
        drop(unused);
        self.inner.returned.notify_waiters();
    }

    /// Completes when [`Pool::drain`] was called and no tunnel is left.
    pub async fn drained(&self) {
        loop {
            let returned = self.inner.returned.notified();
            let mut returned = std::pin::pin!(returned);
            returned.as_mut().enable();
            if self.inner.lock().state.is_drained() {
                return;
            }
            returned.await;
        }
    }

    /// Connections listed, tunnels on them, and keys, for metrics.
    pub fn counts(&self) -> state::Counts {
        self.inner.lock().state.counts()
    }
}

impl<K, T, E> Clone for Pool<K, T, E> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<E> Clone for GetError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Dial(error) => Self::Dial(Arc::clone(error)),
            Self::Timeout(deadline) => Self::Timeout(*deadline),
            Self::Refused(refusal) => Self::Refused(*refusal),
            Self::Closed => Self::Closed,
            Self::Abandoned => Self::Abandoned,
        }
    }
}

struct Inner<K, T, E> {
    probing: Probing,
    book: Mutex<Book<K, T, E>>,
    /// A tunnel has ended while the pool drains.
    returned: Notify,
}

struct Book<K, T, E> {
    state: State<K, Kept<T>>,
    flights: HashMap<DialId, Flight<E>>,
}

/// The outcome of a dial, for those who wait for it.
type Flight<E> = Arc<SetOnce<Result<(), GetError<E>>>>;

#[derive(Clone)]
struct Kept<T> {
    client: Client,
    info: T,
}

impl<T> Kept<T> {
    /// How it is, or `None` if it takes no new tunnels.
    fn look(&self) -> Option<Condition> {
        self.client.is_usable().then(|| Condition {
            room: self.client.max_streams(),
            heard: self.client.heard().into_std(),
            blocked_since: self.client.blocked_since().map(Instant::into_std),
        })
    }
}

enum Step<T, E> {
    Leased(Lease<T>),
    Wait(Flight<E>),
    Dial(DialId, Flight<E>),
}

impl<K, T, E> Inner<K, T, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn checkout(self: &Arc<Self>, key: &K) -> Result<Step<T, E>, Refusal> {
        let mut book = self.lock();
        let checkout = book.state.checkout(key, now(), Kept::look);
        let discarded = book.state.take_discarded();
        let step = match checkout {
            Checkout::Use(id, kept) => Step::Leased(self.lease(id, kept)),
            Checkout::Wait(id) => Step::Wait(Arc::clone(book.flights.entry(id).or_default())),
            Checkout::Dial(id) => Step::Dial(id, Arc::clone(book.flights.entry(id).or_default())),
            Checkout::Refused(refusal) => return Err(refusal),
        };
        drop(book);
        drop(discarded);
        Ok(step)
    }

    fn lease(self: &Arc<Self>, id: ConnectionId, kept: Kept<T>) -> Lease<T> {
        let release: Arc<dyn Release> = self.clone();
        Lease::new(kept.client, kept.info, Ticket::new(release, id), self.probing)
    }
}

impl<K, T, E> Inner<K, T, E> {
    /// The book is consistent after each method of the state, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Book<K, T, E>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T, E> Release for Inner<K, T, E>
where
    K: Hash + Eq + Clone + Send + Sync,
    T: Clone + Send + Sync,
    E: Send + Sync,
{
    fn release(&self, id: ConnectionId) {
        let mut book = self.lock();
        book.state.release(id, now());
        let discarded = book.state.take_discarded();
        let drained = book.state.is_drained();
        drop(book);
        drop(discarded);
        if drained {
            self.returned.notify_waiters();
        }
    }

    fn doubt(&self, id: ConnectionId) {
        self.lock().state.doubt(id, now());
    }
}

/// Makes sure that a dial ends for those who wait, however it ends.
struct Landing<K, T, E>
where
    K: Hash + Eq + Clone,
    T: Clone,
{
    inner: Arc<Inner<K, T, E>>,
    id: DialId,
    flight: Flight<E>,
}

impl<K, T, E> Landing<K, T, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn landed(self, client: Client, info: T) -> Result<Lease<T>, GetError<E>> {
        let kept = Kept { client, info };
        let id = {
            let mut book = self.inner.lock();
            book.flights.remove(&self.id);
            book.state.dialled(self.id, kept.clone(), now())
        };
        let outcome = match id {
            Some(id) => Ok(self.inner.lease(id, kept)),
            None => {
                kept.client.close("closed while it was dialled");
                Err(GetError::Closed)
            }
        };
        let _ = self
            .flight
            .set(outcome.as_ref().map(drop).map_err(GetError::clone));
        outcome
    }

    fn failed(self, error: GetError<E>) -> Result<Lease<T>, GetError<E>> {
        self.fail(error.clone());
        Err(error)
    }
}

impl<K: Hash + Eq + Clone, T: Clone, E> Landing<K, T, E> {
    fn fail(&self, error: GetError<E>) {
        let mut book = self.inner.lock();
        book.flights.remove(&self.id);
        book.state.dial_failed(self.id);
        drop(book);
        let _ = self.flight.set(Err(error));
    }
}

impl<K: Hash + Eq + Clone, T: Clone, E> Drop for Landing<K, T, E> {
    fn drop(&mut self) {
        // Only a panic of the dialler, or the end of the runtime, leaves the outcome unset.
        if !self.flight.initialized() {
            self.fail(GetError::Abandoned);
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests;
