//! Who is served at once on a listener that anybody may call.
//!
//! A client that says nothing must not keep out one that asks: it holds its place only until somebody else needs it, and
//! whoever has most of such clients loses one first.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Descriptors kept for the day when there are none left.
const SPARE_DESCRIPTORS: usize = 4;

const ANY_FILE: &str = "/dev/null";

/// The places of one listener.
#[derive(Clone)]
pub(super) struct Places {
    table: Arc<Mutex<Table>>,
    most: usize,
    share: usize,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// In the order in which they came.
    taken: BTreeMap<u64, Taken>,
}

struct Taken {
    address: IpAddr,
    has_asked: bool,
    cut: CancellationToken,
}

/// The place of one client, until this is dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
    cut: CancellationToken,
}

impl Places {
    /// So many, of which one address may have `share`.
    pub(super) fn new(most: usize, share: usize) -> Self {
        Self {
            table: Arc::default(),
            most,
            share,
        }
    }

    /// A place for a client at `address`; where there is none left, one that has not asked for anything yet loses its
    /// own. None: all have asked.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let mut table = self.lock();
        let of_address = |taken: &Taken| taken.address == address;
        let had = table.taken.values().filter(|taken| of_address(taken)).count();
        if had >= self.share && !table.cut_silent(of_address) {
            return None;
        }
        if table.taken.len() >= self.most && !table.cut_silent(|_| true) {
            return None;
        }
        let (number, cut) = (table.next, CancellationToken::new());
        table.next += 1;
        let taken = Taken {
            address,
            has_asked: false,
            cut: cut.clone(),
        };
        table.taken.insert(number, taken);
        Some(Place {
            places: self.clone(),
            number,
            cut,
        })
    }

    /// Takes the place of a client that has not asked for anything yet. `false`: all have.
    pub(super) fn cut_one(&self) -> bool {
        self.lock().cut_silent(|_| true)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Of the clients among `whom` that have not asked, those of the address that has most of them: the oldest goes.
    fn cut_silent(&mut self, whom: impl Fn(&Taken) -> bool) -> bool {
        let silent = || {
            self.taken
                .iter()
                .filter(|(_, taken)| !taken.has_asked && whom(taken))
        };
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        for (_, taken) in silent() {
            *of_address.entry(taken.address).or_default() += 1;
        }
        let most = of_address.values().max().copied().unwrap_or_default();
        let found = silent().find(|(_, taken)| of_address.get(&taken.address) == Some(&most));
        let Some(number) = found.map(|(number, _)| *number) else {
            return false;
        };
        if let Some(taken) = self.taken.remove(&number) {
            taken.cut.cancel();
        }
        true
    }
}

impl Place {
    /// The client has asked: it is served to its end.
    pub(super) fn has_asked(&self) {
        if let Some(taken) = self.places.lock().taken.get_mut(&self.number) {
            taken.has_asked = true;
        }
    }

    /// Completes when somebody else needs the place.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.number);
    }
}

/// Descriptors that are given up to accept a client when the process has no others. Whether it lives and is ready is
/// asked for then too, and must not depend on how many connections its pods have.
pub(super) struct Spares {
    kept: Mutex<Vec<File>>,
}

impl Spares {
    pub(super) fn new() -> Self {
        let spares = Self {
            kept: Mutex::default(),
        };
        spares.refill();
        spares
    }

    /// Gives one up. `false`: there is none.
    pub(super) fn give_up(&self) -> bool {
        self.lock().pop().is_some()
    }

    /// Takes back what there is to be had.
    pub(super) fn refill(&self) {
        let mut kept = self.lock();
        while kept.len() < SPARE_DESCRIPTORS {
            match File::open(ANY_FILE) {
                Ok(file) => kept.push(file),
                // Once a client has gone there is another chance.
                Err(_) => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn is_cut(place: &Place) -> bool {
        place.cut.is_cancelled()
    }

    #[test]
    fn an_address_that_has_its_share_loses_its_own_oldest_silent_client() {
        let places = Places::new(10, 2);
        let asked = places.take(ip(1)).unwrap();
        asked.has_asked();
        let silent = places.take(ip(1)).unwrap();
        let other = places.take(ip(2)).unwrap();
        let newest = places.take(ip(1)).unwrap();
        assert_eq!(
            [&asked, &silent, &other, &newest].map(is_cut),
            [false, true, false, false]
        );
        newest.has_asked();
        assert!(places.take(ip(1)).is_none(), "both are being served");
        drop(asked);
        assert!(places.take(ip(1)).is_some());
    }

    #[test]
    fn whoever_has_most_silent_clients_makes_room() {
        let places = Places::new(4, 4);
        let one = places.take(ip(1)).unwrap();
        let many: Vec<_> = (0..3).map(|_| places.take(ip(2)).unwrap()).collect();
        let third = places.take(ip(3)).unwrap();
        assert_eq!(many.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false]);
        assert!(!is_cut(&one) && !is_cut(&third));
        // A place that was lost is not given back twice.
        drop(many);
        assert_eq!(places.lock().taken.len(), 2);
        for place in [&one, &third] {
            place.has_asked();
        }
        assert!(!places.cut_one(), "all have asked");
    }
}
