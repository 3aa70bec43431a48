//! Endpoints from which one is drawn by weight, in constant time.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::ring::Ring;
use super::{Endpoint, Mixer};

/// How many endpoints are stored side by side, and copied when one of them changes.
const CHUNK: usize = 32;

/// Endpoints, drawn by their capacity.
///
/// They are kept in classes: those without capacity, then those of capacity 1, 2 to 3, 4 to 7 and so on. A draw picks
/// a class by its capacity, then a member evenly, and keeps it with a chance of its capacity to the highest of the
/// class, which is at least one half.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// Ascending, none of them empty.
    classes: Vec<Class>,
    positions: HashTrieMapSync<Arc<str>, Position>,
    /// The capacity of all.
    capacity: u64,
    /// Those with capacity, where clients keep their endpoints.
    ring: Ring,
}

#[derive(Debug, Clone)]
struct Class {
    /// How many bits its members' capacities have.
    bits: u32,
    capacity: u64,
    /// No member has more.
    highest: u32,
    members: Chunks,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    bits: u32,
    index: usize,
}

/// A sequence in chunks: reading one element takes two steps, changing one copies a chunk at most.
#[derive(Debug, Clone, Default)]
struct Chunks {
    length: usize,
    chunks: Arc<Vec<Arc<[Endpoint]>>>,
}

impl Table {
    pub(crate) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The capacity of all together.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// One with capacity, by its share; `None` where none has any.
    pub(crate) fn draw(&self, bits: &mut Mixer) -> Option<&Endpoint> {
        if self.capacity == 0 {
            return None;
        }
        let class = match self.classes.as_slice() {
            [only] => only,
            classes => {
                let mut left = bits.below(self.capacity);
                classes.iter().find(|class| {
                    let found = left < class.capacity;
                    left = left.saturating_sub(class.capacity);
                    found
                })?
            }
        };
        // Each turn ends the search with a chance of one half at least.
        loop {
            let endpoint = class
                .members
                .get(bits.below(class.members.length as u64) as usize)?;
            if endpoint.capacity == class.highest
                || bits.below(class.highest.into()) < endpoint.capacity.into()
            {
                return Some(endpoint);
            }
        }
    }

    /// The endpoint of a client: always the same while it is there. Only of services whose clients keep theirs.
    pub(crate) fn of_client(&self, client: u64) -> Option<&Endpoint> {
        self.ring.of_client(client)
    }

    /// Those with capacity.
    pub(crate) fn with_capacity(&self) -> impl Iterator<Item = &Endpoint> + Clone {
        self.classes_with(true)
    }

    /// Those without capacity.
    pub(crate) fn without_capacity(&self) -> impl Iterator<Item = &Endpoint> + Clone {
        self.classes_with(false)
    }

    fn classes_with(&self, capacity: bool) -> impl Iterator<Item = &Endpoint> + Clone {
        self.classes
            .iter()
            .filter(move |class| (class.bits > 0) == capacity)
            .flat_map(|class| class.members.iter())
    }

    /// Adds one whose uid is not in it; `affine`: clients keep their endpoints.
    pub(super) fn insert(&mut self, endpoint: Endpoint, affine: bool) {
        if affine && endpoint.capacity > 0 {
            self.ring.insert(&endpoint);
        }
        let bits = bits_of(endpoint.capacity);
        let at = match self.classes.binary_search_by_key(&bits, |class| class.bits) {
            Ok(at) => at,
            Err(at) => {
                let class = Class {
                    bits,
                    capacity: 0,
                    highest: 0,
                    members: Chunks::default(),
                };
                self.classes.insert(at, class);
                at
            }
        };
        let class = &mut self.classes[at];
        class.capacity += u64::from(endpoint.capacity);
        class.highest = class.highest.max(endpoint.capacity);
        self.capacity += u64::from(endpoint.capacity);
        let index = class.members.length;
        self.positions
            .insert_mut(endpoint.workload.uid.clone(), Position { bits, index });
        class.members.push(endpoint);
    }

    /// Takes one out, if it is there. The last of its class takes its place.
    pub(super) fn remove(&mut self, uid: &str) {
        let Some(Position { bits, index }) = self.positions.get(uid).copied() else {
            return;
        };
        self.positions.remove_mut(uid);
        let Ok(at) = self.classes.binary_search_by_key(&bits, |class| class.bits) else {
            return;
        };
        let class = &mut self.classes[at];
        let Some(last) = class.members.pop() else { return };
        let removed = if index == class.members.length {
            last
        } else {
            self.positions
                .insert_mut(last.workload.uid.clone(), Position { bits, index });
            class.members.replace(index, last)
        };
        self.ring.remove(removed.digest);
        class.capacity -= u64::from(removed.capacity);
        self.capacity -= u64::from(removed.capacity);
        if class.members.length == 0 {
            self.classes.remove(at);
        }
    }
}

/// How many bits a capacity has: 0 of 0, 1 of 1, 2 of 2 and 3.
fn bits_of(capacity: u32) -> u32 {
    u32::BITS - capacity.leading_zeros()
}

impl Chunks {
    fn get(&self, index: usize) -> Option<&Endpoint> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    fn iter(&self) -> impl Iterator<Item = &Endpoint> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    fn push(&mut self, endpoint: Endpoint) {
        let chunks = Arc::make_mut(&mut self.chunks);
        match chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => *chunk = chunk.iter().cloned().chain([endpoint]).collect(),
            None => chunks.push(Arc::new([endpoint])),
        }
        self.length += 1;
    }

    fn pop(&mut self) -> Option<Endpoint> {
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = chunks.last_mut()?;
        let (last, rest) = chunk.split_last()?;
        let last = last.clone();
        if rest.is_empty() {
            chunks.pop();
        } else {
            *chunk = rest.into();
        }
        self.length -= 1;
        Some(last)
    }

    /// Puts one in the place of another, which it returns.
    fn replace(&mut self, index: usize, endpoint: Endpoint) -> Endpoint {
        let chunk = &mut Arc::make_mut(&mut self.chunks)[index / CHUNK];
        std::mem::replace(&mut Arc::make_mut(chunk)[index % CHUNK], endpoint)
    }
}
