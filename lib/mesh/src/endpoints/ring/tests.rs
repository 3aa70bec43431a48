use super::*;
use crate::endpoints::Kind;
use crate::testing::{pod, read_pod};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn endpoint(number: u32) -> Endpoint {
    let name = format!("pod-{number}");
    let workload = Arc::new(read_pod(pod("shop", &name, &["10.0.0.1"])));
    let kind = Arc::new(Kind::of("shop/cart.shop.svc", &workload));
    Endpoint::of(&workload, kind)
}

fn ring(numbers: impl IntoIterator<Item = u32>) -> Ring {
    let mut ring = Ring::default();
    for number in numbers {
        ring.insert(&endpoint(number));
    }
    ring
}

fn clients(ring: &Ring) -> Vec<u64> {
    (0..4096)
        .map(|client| ring.of_client(Mixer::new(client).next()).unwrap().digest)
        .collect()
}

/// Heap by priority, in order by place.
fn check(link: &Link) -> Vec<Place> {
    let Some(node) = link else { return Vec::new() };
    for child in [&node.before, &node.after].into_iter().flatten() {
        assert!(child.priority <= node.priority);
    }
    let mut places = check(&node.before);
    places.push(node.place);
    places.extend(check(&node.after));
    assert!(places.is_sorted());
    places
}

fn depth(link: &Link) -> usize {
    link.as_ref()
        .map_or(0, |node| 1 + depth(&node.before).max(depth(&node.after)))
}

#[test]
fn an_empty_ring_has_nobody() {
    assert!(Ring::default().of_client(7).is_none());
    let mut ring = ring([1]);
    ring.remove(endpoint(2).digest);
    assert_eq!(check(&ring.0).len() as u64, POINTS);
    ring.remove(endpoint(1).digest);
    assert!(ring.of_client(7).is_none());
}

#[test]
fn clients_are_spread_and_only_the_newcomers_move() {
    let before = ring(0..40);
    let mut shares = BTreeMap::new();
    for digest in clients(&before) {
        *shares.entry(digest).or_insert(0) += 1;
    }
    // 102 on average.
    assert_eq!(shares.len(), 40);
    assert!(
        shares.values().all(|share| (40..250).contains(share)),
        "{shares:?}"
    );

    let mut after = before.clone();
    after.insert(&endpoint(40));
    let newcomer = endpoint(40).digest;
    let pairs = || clients(&before).into_iter().zip(clients(&after));
    assert!(pairs().all(|(before, after)| after == before || after == newcomer));
    let moved = pairs().filter(|(before, after)| before != after).count();
    assert!((40..250).contains(&moved), "{moved}");
    after.remove(newcomer);
    assert_eq!(clients(&before), clients(&after));
}

#[test]
fn it_stays_shallow() {
    let ring = ring(0..2_000);
    let places = check(&ring.0).len();
    assert_eq!(places as u64, 2_000 * POINTS);
    assert!(depth(&ring.0) < 50, "{} for {places} places", depth(&ring.0));
}

proptest! {
    /// However it came about, it is what it holds; and an older clone stays what it was.
    #[test]
    fn only_the_content_counts(steps in proptest::collection::vec((0u32..12, any::<bool>()), 0..60)) {
        let mut ring = Ring::default();
        let mut held = std::collections::BTreeSet::new();
        for (number, add) in steps {
            let (older, places) = (ring.clone(), check(&ring.0));
            if add {
                ring.insert(&endpoint(number));
                held.insert(number);
            } else {
                ring.remove(endpoint(number).digest);
                held.remove(&number);
            }
            prop_assert_eq!(check(&older.0), places);
            prop_assert_eq!(check(&ring.0).len() as u64, held.len() as u64 * POINTS);
        }
        let fresh = self::ring(held.iter().copied());
        for client in 0..64 {
            let digest = |ring: &Ring| ring.of_client(client).map(|endpoint| endpoint.digest);
            prop_assert_eq!(digest(&ring), digest(&fresh));
            // Held against all places, one by one.
            let nearest = held.iter().flat_map(|number| {
                let digest = endpoint(*number).digest;
                let mut probes = Mixer::new(client);
                let probes: Vec<u64> = (0..PROBES).map(|_| probes.next()).collect();
                places(digest).flat_map(move |place| {
                    let probes = probes.clone();
                    probes.into_iter().map(move |probe| (place.0.wrapping_sub(probe), place))
                }).collect::<Vec<_>>()
            });
            prop_assert_eq!(digest(&ring), nearest.min().map(|(_, place)| place.1));
        }
    }
}
