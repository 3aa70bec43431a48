use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::testing::{pod, read_pod, read_service, service, serving};

const KEY: &str = "shop/cart.shop.svc";

fn workload(number: usize, capacity: u32, zone: &str) -> Arc<Workload> {
    let raw = proto::workload::Workload {
        capacity: Some(capacity),
        locality: Some(proto::workload::Locality {
            zone: zone.into(),
            ..Default::default()
        }),
        ..pod("shop", &format!("w{number}"), &["10.0.0.1"])
    };
    Arc::new(read_pod(serving(raw, KEY, &[])))
}

fn cart(mode: i32, scopes: &[i32]) -> Service {
    let mut raw = service("shop", "cart", &["10.96.0.1"], &[(80, 80)]);
    raw.load_balancing = Some(proto::workload::LoadBalancing {
        routing_preference: scopes.to_vec(),
        mode,
        health_policy: 0,
    });
    read_service(raw)
}

/// Names of endpoints by closeness to a caller in this zone, from the closest.
fn seen(endpoints: &Endpoints, zone: &str) -> Vec<BTreeSet<String>> {
    let caller = workload(999, 1, zone);
    let Some(found) = endpoints.by_closeness(KEY, &caller) else {
        return Vec::new();
    };
    found
        .closest_first()
        .map(|table| {
            table
                .with_capacity()
                .chain(table.without_capacity())
                .map(|endpoint| endpoint.workload.name.to_string())
                .collect()
        })
        .collect()
}

#[test]
fn draws_follow_capacity_also_within_a_class() {
    let mut table = Table::default();
    let capacities = [0u32, 1, 1, 2, 3, 6, 100];
    for (number, capacity) in capacities.into_iter().enumerate() {
        let workload = workload(number, capacity, "z1");
        let kind = Arc::new(Kind::of(KEY, &workload));
        table.insert(Endpoint::of(&workload, kind), false);
    }
    let (mut bits, turns) = (Mixer::new(1), 113_000);
    let mut found: BTreeMap<u32, u32> = BTreeMap::new();
    for _ in 0..turns {
        *found.entry(table.draw(&mut bits).unwrap().capacity).or_default() += 1;
    }
    for (capacity, expected) in [(1, 2000), (2, 2000), (3, 3000), (6, 6000), (100, 100_000)] {
        let count = i64::from(found[&capacity]);
        assert!(
            (count - expected).abs() < expected / 8,
            "{capacity}: {count} instead of {expected}"
        );
    }
    assert!(!found.contains_key(&0));
}

#[test]
fn what_one_snapshot_shares_does_not_change_with_another() {
    let mut endpoints = Endpoints::default();
    endpoints.service(&cart(2, &[2]), std::iter::empty());
    for number in 0..100 {
        endpoints.workload(None, Some(&workload(number, 1, "z1")));
    }
    let before = endpoints.clone();
    let was = seen(&before, "z1");
    for number in 0..100 {
        endpoints.workload(Some(&*workload(number, 1, "z1")), None);
    }
    assert_eq!(seen(&endpoints, "z1"), [BTreeSet::new()]);
    assert_eq!(seen(&before, "z1"), was);
    assert_eq!(was.iter().map(BTreeSet::len).collect::<Vec<_>>(), [100, 100]);
}

#[test]
fn a_service_without_levels_has_one_table() {
    let mut endpoints = Endpoints::default();
    endpoints.service(&cart(0, &[2, 4]), [&workload(1, 1, "z1")].into_iter());
    assert_eq!(seen(&endpoints, "z2"), [BTreeSet::from(["w1".to_owned()])]);
    endpoints.remove_service(KEY);
    assert!(seen(&endpoints, "z2").is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize, u32, usize),
    Remove(usize),
    Service(i32, Vec<i32>),
}

fn any_step() -> impl Strategy<Value = Step> {
    let capacity = prop::sample::select(vec![0, 1, 2, 3, 7, u32::MAX]);
    prop_oneof![
        6 => (0..80usize, capacity, 0..2usize).prop_map(|(n, c, z)| Step::Put(n, c, z)),
        3 => (0..80usize).prop_map(Step::Remove),
        1 => (0..3, prop::sample::subsequence(vec![2, 4], 0..=2)).prop_map(|(m, s)| Step::Service(m, s)),
    ]
}

proptest! {
    /// Tables that lived through changes hold what tables that are built at once hold, and weigh the same.
    #[test]
    fn changed_step_by_step_equals_rebuilt(steps in prop::collection::vec(any_step(), 0..120)) {
        let (mut endpoints, mut known) = (Endpoints::default(), BTreeMap::new());
        let mut service = cart(2, &[2]);
        endpoints.service(&service, std::iter::empty());
        for step in steps {
            match step {
                Step::Put(number, capacity, zone) => {
                    let new = workload(number, capacity, ["z1", "z2"][zone]);
                    let old: Option<Arc<Workload>> = known.insert(number, new.clone());
                    endpoints.workload(old.as_deref(), Some(&new));
                }
                Step::Remove(number) => {
                    let old = known.remove(&number);
                    endpoints.workload(old.as_deref(), None);
                }
                Step::Service(mode, scopes) => {
                    service = cart(mode, &scopes);
                    endpoints.service(&service, known.values());
                }
            }
        }
        let mut rebuilt = Endpoints::default();
        rebuilt.service(&service, known.values());
        for zone in ["z1", "z2", "z3"] {
            prop_assert_eq!(seen(&endpoints, zone), seen(&rebuilt, zone));
            let caller = workload(999, 1, zone);
            let weights = |endpoints: &Endpoints| -> Vec<u64> {
                let found = endpoints.by_closeness(KEY, &caller).unwrap();
                found.closest_first().map(Table::capacity).collect()
            };
            prop_assert_eq!(weights(&endpoints), weights(&rebuilt));
            for table in endpoints.by_closeness(KEY, &caller).unwrap().closest_first() {
                let sum: u64 = table.with_capacity().map(|endpoint| u64::from(endpoint.capacity)).sum();
                prop_assert_eq!(table.capacity(), sum);
                prop_assert_eq!(table.draw(&mut Mixer::new(7)).is_some(), sum > 0);
            }
        }
    }
}
