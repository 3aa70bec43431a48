//! What is remembered, and who is led from where to where.

use super::*;
use crate::xds::ResourceKind::{Address, Authorization};
use crate::xds::resource::{Links, Resource};

/// A history, and the view that it ends with.
struct Bench(View, History);

impl Bench {
    fn new() -> Bench {
        Bench(View::default(), History::new(Arc::new(View::default())))
    }

    fn push(&mut self, policy: Option<usize>, address: Option<usize>) {
        let Bench(view, history) = self;
        view.generation += 1;
        if let Some(content) = policy {
            let content = content.to_string().into_bytes();
            view.policies
                .put(Resource::new(Authorization, "demo/p", content, Links::default()));
        }
        if let Some(content) = address {
            let content = content.to_string().into_bytes();
            view.addresses
                .put(Resource::new(Address, "a", content, Links::default()));
        }
        history.push(Arc::new(view.clone()));
    }

    /// The generations that a client is led through.
    fn path(&self, mut generation: u64) -> Vec<u64> {
        let mut path = Vec::new();
        while let Some(next) = self.1.after(generation) {
            generation = next.generation;
            path.push(generation);
        }
        path
    }
}

#[test]
fn changes_of_policies_are_boundaries_and_changes_of_addresses_are_not() {
    let mut bench = Bench::new();
    bench.push(Some(1), None);
    for address in 2..5 {
        bench.push(None, Some(address));
    }
    bench.push(Some(5), None);
    bench.push(Some(6), None);
    // Nothing but a revision.
    bench.push(None, None);
    assert_eq!(bench.path(0), [1, 4, 5, 7]);
    // Who was told of a view that was remembered as one with the next.
    assert_eq!(bench.path(2), [4, 5, 7]);
    assert_eq!(bench.path(6), [7]);
    assert_eq!(bench.path(7), [0; 0]);
    assert_eq!(bench.1.latest().generation, 7);
    // Such a view is known again; of several that are alike, the latest.
    for (generation, found) in [(1, 1), (2, 2), (4, 4), (6, 7)] {
        let is_so = |view: &View| view.generation == generation;
        let view = bench.1.find(is_so).expect("known");
        let alike = |other: &View| {
            other.policies.fingerprint(true) == view.policies.fingerprint(true)
                && other.addresses.fingerprint(true) == view.addresses.fingerprint(true)
        };
        assert_eq!(bench.1.find(alike).map(|view| view.generation), Some(found));
    }
}

#[test]
fn who_is_further_behind_than_is_remembered_is_not_led() {
    let mut bench = Bench::new();
    for content in 0..MAX_VIEWS {
        bench.push(Some(content), None);
    }
    assert_eq!(bench.path(0).len(), MAX_VIEWS);
    bench.push(Some(MAX_VIEWS), None);
    assert_eq!(bench.path(0), [0; 0]);
    assert_eq!(bench.path(1).len(), MAX_VIEWS);
    assert_eq!(bench.1.remembered.len(), MAX_VIEWS);
}
