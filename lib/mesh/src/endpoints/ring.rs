//! Endpoints on a ring, for services that want a client to keep its endpoint.
//!
//! Each endpoint has [`POINTS`] places on a ring of 2^64, by its digest. A client looks at [`PROBES`] places, by its own
//! digest, and takes the endpoint that comes soonest after one of them (multi-probe consistent hashing, Appleton and
//! O'Reilly 2015). So an endpoint that comes takes its share from all others and nobody else moves; one that goes
//! leaves its clients to all others; and it does not matter in which order they came.
//!
//! The places are kept in a treap whose priorities are digests too, so that its shape depends on what is in it and on
//! nothing else. Looking up takes the logarithm of its size; a change copies as much.

use std::sync::Arc;

use super::{Endpoint, Mixer};

/// Places of one endpoint.
const POINTS: u64 = 8;

/// Places of one client.
const PROBES: u64 = 4;

/// Endpoints at their places.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring(Link);

type Link = Option<Arc<Node>>;

#[derive(Debug, Clone)]
struct Node {
    place: Place,
    priority: u64,
    endpoint: Arc<Endpoint>,
    before: Link,
    after: Link,
}

/// A place, and whose it is: two endpoints may have one place in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64, u64);

impl Ring {
    pub(super) fn insert(&mut self, endpoint: &Endpoint) {
        let shared = Arc::new(endpoint.clone());
        for place in places(endpoint.digest) {
            insert(&mut self.0, place, &shared);
        }
    }

    /// Takes out all places of an endpoint, if it has any.
    pub(super) fn remove(&mut self, digest: u64) {
        for place in places(digest) {
            remove(&mut self.0, place);
        }
    }

    /// The endpoint of a client.
    pub(super) fn of_client(&self, client: u64) -> Option<&Endpoint> {
        let mut probes = Mixer::new(client);
        let nearest = (0..PROBES).filter_map(|_| {
            let probe = probes.next();
            let node = self.next(probe)?;
            Some((node.place.0.wrapping_sub(probe), node))
        });
        let (_, node) = nearest.min_by_key(|(distance, node)| (*distance, node.place))?;
        Some(&node.endpoint)
    }

    /// The first place at `from` or after it; after the last comes the first again.
    fn next(&self, from: u64) -> Option<&Node> {
        let mut found = None;
        let mut link = self.0.as_deref();
        while let Some(node) = link {
            if node.place.0 >= from {
                found = Some(node);
                link = node.before.as_deref();
            } else {
                link = node.after.as_deref();
            }
        }
        found.or_else(|| self.first())
    }

    fn first(&self) -> Option<&Node> {
        let mut first = self.0.as_deref()?;
        while let Some(before) = first.before.as_deref() {
            first = before;
        }
        Some(first)
    }
}

fn places(digest: u64) -> impl Iterator<Item = Place> {
    let mut places = Mixer::new(digest);
    (0..POINTS).map(move |_| Place(places.next(), digest))
}

fn insert(link: &mut Link, place: Place, endpoint: &Arc<Endpoint>) {
    let priority = Mixer::new(place.0 ^ place.1).next();
    match link {
        Some(node) if node.place == place => Arc::make_mut(node).endpoint = endpoint.clone(),
        Some(node) if node.priority >= priority => {
            let node = Arc::make_mut(node);
            let side = if place < node.place {
                &mut node.before
            } else {
                &mut node.after
            };
            insert(side, place, endpoint);
        }
        _ => {
            let (before, after) = split(link.take(), place);
            *link = Some(Arc::new(Node {
                place,
                priority,
                endpoint: endpoint.clone(),
                before,
                after,
            }));
        }
    }
}

fn remove(link: &mut Link, place: Place) {
    let Some(node) = link else { return };
    if node.place == place {
        let Node { before, after, .. } = Arc::unwrap_or_clone(node.clone());
        *link = join(before, after);
        return;
    }
    let goes_before = place < node.place;
    // Nothing is copied for what is not there.
    if !contains(if goes_before { &node.before } else { &node.after }, place) {
        return;
    }
    let node = Arc::make_mut(node);
    let side = if goes_before {
        &mut node.before
    } else {
        &mut node.after
    };
    remove(side, place);
}

fn contains(link: &Link, place: Place) -> bool {
    let mut link = link.as_deref();
    while let Some(node) = link {
        if node.place == place {
            return true;
        }
        let side = if place < node.place {
            &node.before
        } else {
            &node.after
        };
        link = side.as_deref();
    }
    false
}

/// What lies before a place that is not in it, and what lies after.
fn split(link: Link, place: Place) -> (Link, Link) {
    let Some(mut node) = link else {
        return (None, None);
    };
    let inner = Arc::make_mut(&mut node);
    if inner.place < place {
        let (before, after) = split(inner.after.take(), place);
        inner.after = before;
        (Some(node), after)
    } else {
        let (before, after) = split(inner.before.take(), place);
        inner.before = after;
        (before, Some(node))
    }
}

/// Two of which the first lies before the second.
fn join(first: Link, second: Link) -> Link {
    match (first, second) {
        (None, other) | (other, None) => other,
        (Some(mut first), Some(mut second)) => {
            if first.priority >= second.priority {
                let node = Arc::make_mut(&mut first);
                node.after = join(node.after.take(), Some(second));
                Some(first)
            } else {
                let node = Arc::make_mut(&mut second);
                node.before = join(Some(first), node.before.take());
                Some(second)
            }
        }
    }
}

#[cfg(test)]
mod tests;
