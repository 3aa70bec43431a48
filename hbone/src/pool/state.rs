//! Which connection carries the next tunnel, and which ones are let go. No I/O and no clock: time and the state of
//! each connection come as arguments.
//!
//! ```text
//!              checkout                dialled
//!   (no room) ──────────▶ Dial ──────────────────▶ in use ◀──────┐
//!                          │ failed / closed        │  ▲ checkout │ release, others left
//!                          ▼                last    ▼  │          │
//!                         gone ◀── expire ──────── idle ──────────┘
//! ```
//! A connection that is no longer usable (closed, GOAWAY) leaves from any state at the next look at it; the tunnels
//! still on it go on and are counted until they end.
//!
//! Two kinds of connection are passed over without leaving: a doubted one, on which a request found the peer silent,
//! until the peer is heard again; and a blocked one, whose window is used up by a slow reader, as long as a further
//! connection is allowed.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Bounds of a pool.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Tunnels on one connection, also if the connection itself would take more.
    pub streams_per_connection: usize,
    /// Connections with the same key.
    pub connections_per_key: usize,
    /// Keys with a connection or a dial. Beyond it the key that was idle longest gives way.
    pub keys: usize,
    /// A connection without a tunnel is let go after this time.
    pub idle_after: Duration,
    /// A peer from which nothing has come for this long is pinged along with a request.
    pub probe_after: Duration,
    /// A peer that lets a ping go unanswered for this long, and sends nothing else either, is passed over: the request
    /// goes to another connection.
    pub probe_timeout: Duration,
    /// A connection whose window has been used up for this long gets no further tunnels while there are others.
    pub blocked_after: Duration,
}

/// What a look at a connection shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Tunnels that it may carry.
    pub room: usize,
    /// When the last byte came from the peer.
    pub heard: Instant,
    /// Since when its window has been used up, if it is now.
    pub blocked_since: Option<Instant>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_connection: 100,
            connections_per_key: 256,
            keys: 16_384,
            idle_after: Duration::from_secs(300),
            probe_after: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(1),
            blocked_after: Duration::from_millis(100),
        }
    }
}

/// A connection in the pool. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// A dial under way. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialId(u64);

/// What to do for somebody who wants a tunnel.
#[derive(Debug, PartialEq, Eq)]
pub enum Checkout<C> {
    /// Use this connection; [`State::release`] it afterwards.
    Use(ConnectionId, C),
    /// Wait for this dial, which somebody else has under way, then check out again.
    Wait(DialId),
    /// Dial, then call [`State::dialled`] or [`State::dial_failed`].
    Dial(DialId),
    /// A limit is reached, or the pool drains.
    Refused(Refusal),
}

/// Why a pool hands out nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// All connections of this key are full and no more are allowed.
    #[error("all {0} tunnel connections to this peer are full (limit connections_per_key)")]
    ConnectionsPerKey(usize),
    /// Too many different peers, all of them in use.
    #[error("tunnel connections to {0} peers are in use (limit keys)")]
    Keys(usize),
    /// [`State::drain`] was called.
    #[error("this proxy is shutting down")]
    Draining,
}

/// Sizes of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys with a connection or a dial.
    pub keys: usize,
    /// Connections that are listed.
    pub connections: usize,
    /// Dials under way.
    pub dials: usize,
    /// Tunnels, also on connections that are no longer listed.
    pub leased: usize,
}

/// The state machine of a pool of connections `C`. See the module's text.
pub struct State<K, C> {
    limits: Limits,
    keys: HashMap<K, Entry>,
    connections: HashMap<ConnectionId, Kept<K, C>>,
    dials: HashMap<DialId, K>,
    discarded: Vec<C>,
    leased: usize,
    next: u64,
    draining: bool,
}

#[derive(Default)]
struct Entry {
    /// In the order in which they were made: the first with room is used, so that late ones can become idle.
    connections: Vec<ConnectionId>,
    dial: Option<DialId>,
}

/// Whether a connection takes the next tunnel.
enum Suitability {
    Good,
    /// Only if nothing else can be had.
    Blocked,
    /// Not now: no room, or nothing is heard of the peer.
    Full,
    /// Never again.
    Gone,
}

struct Kept<K, C> {
    key: K,
    connection: C,
    in_use: usize,
    /// When the last tunnel ended; meaningful while `in_use` is 0.
    idle_since: Instant,
    /// When a request found the peer silent. Over as soon as the peer is heard.
    doubted: Option<Instant>,
}

impl<K: Hash + Eq + Clone, C: Clone> State<K, C> {
    /// An empty pool.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            keys: HashMap::new(),
            connections: HashMap::new(),
            dials: HashMap::new(),
            discarded: Vec::new(),
            leased: 0,
            next: 0,
            draining: false,
        }
    }

    /// Somebody wants a tunnel to `key`. `look` tells how a connection is, or `None` if it takes no new tunnels; such
    /// a connection is discarded.
    pub fn checkout(&mut self, key: &K, now: Instant, look: impl Fn(&C) -> Option<Condition>) -> Checkout<C> {
        if self.draining {
            return Checkout::Refused(Refusal::Draining);
        }
        let mut kept = 0;
        let mut blocked = None;
        // What is discarded leaves the list, so the next one is always behind those that are kept.
        while let Some(id) = self
            .keys
            .get(key)
            .and_then(|entry| entry.connections.get(kept))
            .copied()
        {
            match self.suitability(id, now, &look) {
                Suitability::Gone => self.discard(id),
                Suitability::Good => return self.lease(id),
                Suitability::Blocked => {
                    kept += 1;
                    blocked.get_or_insert(id);
                }
                Suitability::Full => kept += 1,
            }
        }
        if let Some(dial) = self.keys.get(key).and_then(|entry| entry.dial) {
            return Checkout::Wait(dial);
        }
        if kept >= self.limits.connections_per_key {
            // Better late than never.
            return match blocked {
                Some(id) => self.lease(id),
                None => Checkout::Refused(Refusal::ConnectionsPerKey(kept)),
            };
        }
        if kept == 0 && self.keys.len() >= self.limits.keys && !self.make_way(now) {
            return Checkout::Refused(Refusal::Keys(self.limits.keys));
        }
        let dial = DialId(self.next_id());
        self.dials.insert(dial, key.clone());
        self.keys.entry(key.clone()).or_default().dial = Some(dial);
        Checkout::Dial(dial)
    }

    /// A request on this connection found the peer silent: no further one is sent there before the peer is heard.
    pub fn doubt(&mut self, id: ConnectionId, now: Instant) {
        if let Some(kept) = self.connections.get_mut(&id) {
            kept.doubted = Some(now);
        }
    }

    /// A dial has succeeded. The connection is listed and already leased once, for who has dialled. `None`: the key
    /// was closed, or the pool drained, in the meantime; the connection is not wanted.
    pub fn dialled(&mut self, dial: DialId, connection: C, now: Instant) -> Option<ConnectionId> {
        let key = self.dials.remove(&dial)?;
        let id = ConnectionId(self.next_id());
        let entry = self.keys.entry(key.clone()).or_default();
        entry.dial = None;
        entry.connections.push(id);
        self.connections.insert(
            id,
            Kept {
                key,
                connection,
                in_use: 1,
                idle_since: now,
                doubted: None,
            },
        );
        self.leased += 1;
        Some(id)
    }

    /// A dial has failed: the next who asks dials again.
    pub fn dial_failed(&mut self, dial: DialId) {
        if let Some(key) = self.dials.remove(&dial) {
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.dial = None;
            }
            self.forget_if_empty(&key);
        }
    }

    /// A tunnel has ended.
    pub fn release(&mut self, id: ConnectionId, now: Instant) {
        self.leased = self.leased.saturating_sub(1);
        let Some(kept) = self.connections.get_mut(&id) else {
            return;
        };
        kept.in_use = kept.in_use.saturating_sub(1);
        kept.idle_since = now;
        if self.draining && kept.in_use == 0 {
            self.discard(id);
        }
    }

    /// Lets go of connections that are idle for long enough or no longer usable.
    pub fn expire(&mut self, now: Instant, look: impl Fn(&C) -> Option<Condition>) {
        let idle_after = self.limits.idle_after;
        let over: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, kept)| {
                let idle = kept.in_use == 0 && now.saturating_duration_since(kept.idle_since) >= idle_after;
                idle || look(&kept.connection).is_none()
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.discard(id);
        }
    }

    /// Removes all connections whose key matches and returns them; dials for these keys become unwanted.
    pub fn close_matching(&mut self, matches: impl Fn(&K) -> bool) -> Vec<C> {
        let keys: Vec<K> = self.keys.keys().filter(|key| matches(key)).cloned().collect();
        let mut closed = Vec::new();
        for entry in keys.iter().filter_map(|key| self.keys.remove(key)) {
            closed.extend(
                entry
                    .connections
                    .iter()
                    .filter_map(|id| self.connections.remove(id)),
            );
            if let Some(dial) = entry.dial {
                self.dials.remove(&dial);
            }
        }
        closed.into_iter().map(|kept| kept.connection).collect()
    }

    /// Hands out nothing from now on. Returns what is unused; what is in use leaves with its last tunnel, and dials
    /// under way become unwanted.
    pub fn drain(&mut self) -> Vec<C> {
        self.draining = true;
        for (_, key) in std::mem::take(&mut self.dials) {
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.dial = None;
            }
        }
        let unused: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, kept)| kept.in_use == 0)
            .map(|(id, _)| *id)
            .collect();
        for id in unused {
            self.discard(id);
        }
        self.keys.retain(|_, entry| !entry.connections.is_empty());
        self.take_discarded()
    }

    /// Whether the pool drains and no tunnel is left.
    pub fn is_drained(&self) -> bool {
        self.draining && self.leased == 0
    }

    /// Connections that have left the pool since the last call. To be dropped where no lock is held.
    pub fn take_discarded(&mut self) -> Vec<C> {
        std::mem::take(&mut self.discarded)
    }

    /// Sizes, for metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            keys: self.keys.len(),
            connections: self.connections.len(),
            dials: self.dials.len(),
            leased: self.leased,
        }
    }

    fn suitability(
        &mut self,
        id: ConnectionId,
        now: Instant,
        look: impl Fn(&C) -> Option<Condition>,
    ) -> Suitability {
        // Whatever is listed is known; were it not, it must not stay listed.
        let Some(kept) = self.connections.get_mut(&id) else {
            return Suitability::Full;
        };
        let Some(condition) = look(&kept.connection) else {
            return Suitability::Gone;
        };
        kept.doubted = kept.doubted.filter(|doubted| condition.heard <= *doubted);
        let blocked_for = condition
            .blocked_since
            .map(|since| now.saturating_duration_since(since));
        if kept.doubted.is_some() || kept.in_use >= condition.room.min(self.limits.streams_per_connection) {
            Suitability::Full
        } else if blocked_for.is_some_and(|time| time >= self.limits.blocked_after) {
            Suitability::Blocked
        } else {
            Suitability::Good
        }
    }

    fn lease(&mut self, id: ConnectionId) -> Checkout<C> {
        match self.connections.get_mut(&id) {
            Some(kept) => {
                kept.in_use += 1;
                self.leased += 1;
                Checkout::Use(id, kept.connection.clone())
            }
            // Only called for what is listed.
            None => Checkout::Refused(Refusal::ConnectionsPerKey(0)),
        }
    }

    /// Removes the key that was idle longest. `false` if all are in use.
    fn make_way(&mut self, now: Instant) -> bool {
        let idle = |entry: &Entry| {
            let all = entry.connections.iter().map(|id| {
                self.connections
                    .get(id)
                    .filter(|kept| kept.in_use == 0)
                    .map(|kept| kept.idle_since)
            });
            let last = all.collect::<Option<Vec<_>>>()?.into_iter().max()?;
            entry.dial.is_none().then(|| now.saturating_duration_since(last))
        };
        let longest = self
            .keys
            .iter()
            .filter_map(|(key, entry)| Some((idle(entry)?, key)))
            .max_by_key(|(idle, _)| *idle)
            .map(|(_, key)| key.clone());
        let Some(key) = longest else { return false };
        let ids = self
            .keys
            .get(&key)
            .map_or_else(Vec::new, |entry| entry.connections.clone());
        for id in ids {
            self.discard(id);
        }
        true
    }

    fn discard(&mut self, id: ConnectionId) {
        let Some(kept) = self.connections.remove(&id) else {
            return;
        };
        if let Some(entry) = self.keys.get_mut(&kept.key) {
            entry.connections.retain(|listed| *listed != id);
        }
        self.discarded.push(kept.connection);
        self.forget_if_empty(&kept.key);
    }

    fn forget_if_empty(&mut self, key: &K) {
        if self
            .keys
            .get(key)
            .is_some_and(|entry| entry.connections.is_empty() && entry.dial.is_none())
        {
            self.keys.remove(key);
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests;
