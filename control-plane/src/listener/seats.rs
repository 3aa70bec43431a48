//! Who may have how many connections at once, and who goes to make room.
//!
//! Whoever reaches the port may connect; who it is, is known only from the token of a request. So a connection that
//! has shown none must not be able to keep out one that will: where there is no room it goes first, then one that has
//! shown a token and has nothing under way. Of several the oldest goes, of the address that has the most of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How many connections are open at once.
const MAX_CONNECTIONS: usize = 16_384;
/// How many of them may come from one address. A node proxy has two, and several nodes may come from one address where
/// the network translates addresses.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 2_048;
/// How long a connection may be open without a request of somebody who is known. Clients connect when they have
/// something to ask.
const PROOF_DEADLINE: Duration = Duration::from_secs(30);
/// That there is no room is said at most so often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections that are open at once.
    pub(super) all: usize,
    /// Connections of one address that are open at once.
    pub(super) per_address: usize,
    /// How long a connection may be open without a request of somebody who is known.
    pub(super) proof: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            all: MAX_CONNECTIONS,
            per_address: MAX_CONNECTIONS_PER_ADDRESS,
            proof: PROOF_DEADLINE,
        }
    }
}

/// All places. Cheap to clone; every clone gives the same ones.
#[derive(Clone)]
pub(super) struct Seats {
    shared: Arc<Shared>,
}

/// The place of one connection; dropping it gives it back.
pub(super) struct Seat {
    seats: Seats,
    address: IpAddr,
    number: u64,
    standing: Arc<Standing>,
}

/// How a connection stands.
#[derive(Default)]
pub(super) struct Standing {
    is_known: AtomicBool,
    under_way: AtomicUsize,
    closing: CancellationToken,
}

/// A request of a known caller, until it is dropped.
pub(super) struct UnderWay {
    standing: Arc<Standing>,
}

struct Shared {
    limits: Limits,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Later ones have higher numbers.
    next: u64,
    by_address: HashMap<IpAddr, BTreeMap<u64, Arc<Standing>>>,
    complained: Option<Instant>,
}

impl Seats {
    pub(super) fn new(limits: Limits) -> Seats {
        Seats {
            shared: Arc::new(Shared {
                limits,
                taken: Mutex::default(),
                freed: Notify::new(),
            }),
        }
    }

    /// A place for a connection from this address, waited for where nobody has to make room. `None` when the address
    /// has all that it may have, and something is under way on each.
    pub(super) async fn take(&self, address: IpAddr) -> Option<Seat> {
        loop {
            {
                let limits = &self.shared.limits;
                let mut taken = self.taken();
                let of_address = taken.by_address.get(&address).map_or(0, BTreeMap::len);
                if of_address >= limits.per_address && !taken.make_room(Some(address)) {
                    return None;
                }
                if taken.all < limits.all || taken.make_room(None) {
                    return Some(self.seat(&mut taken, address));
                }
            }
            self.shared.freed.notified().await;
        }
    }

    fn seat(&self, taken: &mut Taken, address: IpAddr) -> Seat {
        let (number, standing) = (taken.next, Arc::new(Standing::default()));
        taken.next += 1;
        taken.all += 1;
        let of_address = taken.by_address.entry(address).or_default();
        of_address.insert(number, standing.clone());
        Seat {
            seats: self.clone(),
            address,
            number,
            standing,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub(super) fn standing(&self) -> Arc<Standing> {
        self.standing.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Whoever waits for it to be closed need not any more.
        self.standing.close();
        self.seats.taken().remove(self.address, self.number);
        self.seats.shared.freed.notify_one();
    }
}

impl Standing {
    /// Somebody who is known has a request under way.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        self.is_known.store(true, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay {
            standing: self.clone(),
        }
    }

    /// Whether there ever was a request of somebody who is known.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// The connection is to be closed.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Waits until the connection is to be closed, or is.
    pub(super) fn closing(&self) -> WaitForCancellationFutureOwned {
        self.closing.clone().cancelled_owned()
    }

    fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.standing.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Taken {
    /// Closes the connection that is worth least, of one address or of all. False: something is under way on each.
    fn make_room(&mut self, of: Option<IpAddr>) -> bool {
        let least = self
            .worth_least(of, |standing| !standing.is_known())
            .or_else(|| self.worth_least(of, Standing::is_idle));
        if self
            .complained
            .is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL)
        {
            self.complained = Some(Instant::now());
            let what = match least {
                Some(_) => "those without a request of a known caller make room",
                None => "further ones wait or are closed",
            };
            match of {
                Some(address) => {
                    tracing::warn!(%address, "as many connections of this address are open as may be; {what}");
                }
                None => tracing::warn!("{} connections are open, as many as may be; {what}", self.all),
            }
        }
        let Some((address, number)) = least else {
            return false;
        };
        if let Some(standing) = self.remove(address, number) {
            standing.close();
        }
        true
    }

    /// The oldest such connection of the address that has the most of them.
    fn worth_least(&self, of: Option<IpAddr>, is_such: impl Fn(&Standing) -> bool) -> Option<(IpAddr, u64)> {
        let concerned = self
            .by_address
            .iter()
            .filter(|(address, _)| of.is_none_or(|only| only == **address));
        let candidates = concerned.filter_map(|(address, seats)| {
            let mut such = seats.iter().filter(|(_, standing)| is_such(standing));
            let (oldest, _) = such.next()?;
            Some((such.count(), Reverse(*oldest), *address))
        });
        let (_, Reverse(number), address) = candidates.max()?;
        Some((address, number))
    }

    /// Takes a place back, unless it was already: who makes room loses it before the connection is closed.
    fn remove(&mut self, address: IpAddr, number: u64) -> Option<Arc<Standing>> {
        let of_address = self.by_address.get_mut(&address)?;
        let standing = of_address.remove(&number)?;
        if of_address.is_empty() {
            self.by_address.remove(&address);
        }
        self.all -= 1;
        Some(standing)
    }
}

#[cfg(test)]
mod tests;
