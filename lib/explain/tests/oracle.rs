//! The mesh against a naive reading of the rules, on random objects and random connections.
//!
//! `EXPLAIN_SEED=N` repeats a run, `EXPLAIN_ROUNDS=N` sets how many sets of objects are tried.

#![allow(clippy::unwrap_used)] // Test code: a panic is a failed test.

#[path = "support/random.rs"]
mod random;
mod support;

use std::collections::BTreeMap;

use rand::RngExt;
use random::{Random, rounds};
use support::generator;
use support::{ask, call, oracle, world};

/// Sets of objects, and connections in each: above two hundred thousand in all.
const SETS: usize = 5_000;
const CONNECTIONS: usize = 48;

#[test]
fn the_mesh_agrees_with_the_rules() {
    let mut random = Random::of_environment();
    let mut told: BTreeMap<&'static str, usize> = BTreeMap::new();
    for round in 0..rounds(SETS) {
        let mesh = generator::mesh(&mut random);
        let world = world(&mesh.objects);
        for _ in 0..CONNECTIONS {
            let connection = generator::connection(&mut random, &mesh);
            let answer = ask(&world, &mesh, &connection);
            assert_eq!(
                answer.is_allowed(),
                oracle::allows(&mesh.objects, &call(&mesh, &connection)),
                "round {round}: {answer}\n{connection:?}\n{}",
                serde_json::to_string_pretty(&mesh.objects).unwrap()
            );
            *told.entry(answer.decisive().code()).or_default() += 1;
        }
    }
    println!("{told:?}");
    let total: usize = told.values().sum();
    for code in [
        "allowed_by_policy",
        "denied_by_policy",
        "mtls_required",
        "no_allow_policy",
        "no_allow_policy_matched",
    ] {
        let count = told.get(code).copied().unwrap_or_default();
        assert!(
            count * 50 > total,
            "{code} is met too seldom for the comparison to mean much: {told:?}"
        );
    }
}

/// The generator makes of whatever a fuzzer gives it a mesh that can be judged.
#[test]
fn the_mesh_agrees_with_the_rules_on_any_bytes() {
    let mut random = Random::of_environment();
    let mut telling = 0;
    for _ in 0..rounds(300) {
        let length = random.0.random_range(0..600);
        let bytes: Vec<u8> = (0..length).map(|_| random.0.random()).collect();
        telling += usize::from(support::check_bytes(&bytes));
    }
    assert!(
        telling > 30,
        "only {telling} meshes let somebody in and refused somebody"
    );
    support::check_bytes(&[]);
}
