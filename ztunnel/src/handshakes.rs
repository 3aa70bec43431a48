//! How many peers may be unknown at once.
//!
//! A peer that has connected and proven nothing yet costs a slot and memory. So those are few, and one address
//! has a small share of them: whoever connects and stays silent keeps nobody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Unfinished handshakes of one pod.
pub(crate) const MAX_UNFINISHED: usize = 1024;

/// Unfinished handshakes of one address.
pub(crate) const MAX_UNFINISHED_OF_ONE: usize = 64;

/// Counts unfinished handshakes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshakes {
    unfinished: Arc<Mutex<Unfinished>>,
}

#[derive(Debug, Default)]
struct Unfinished {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Handshakes {
    /// A place for a peer at `address`, until the guard is dropped; none when its share or all are taken.
    pub(crate) fn begin(&self, address: IpAddr) -> Option<Beginning> {
        let mut unfinished = self.lock();
        let of_one = unfinished.by_address.get(&address).copied().unwrap_or(0);
        if unfinished.all >= MAX_UNFINISHED || of_one >= MAX_UNFINISHED_OF_ONE {
            return None;
        }
        unfinished.all += 1;
        unfinished.by_address.insert(address, of_one + 1);
        drop(unfinished);
        Some(Beginning {
            address,
            handshakes: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Unfinished> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One unfinished handshake.
#[derive(Debug)]
pub(crate) struct Beginning {
    address: IpAddr,
    handshakes: Handshakes,
}

impl Drop for Beginning {
    fn drop(&mut self) {
        let mut unfinished = self.handshakes.lock();
        unfinished.all = unfinished.all.saturating_sub(1);
        if let Some(count) = unfinished.by_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                unfinished.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests;
