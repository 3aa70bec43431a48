//! Replays the corpus of every target, and mutations of it for a bounded number of rounds.

#![allow(clippy::unwrap_used)] // Test code: a panic is a failed test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Mutated inputs for each target.
const ROUNDS: usize = 20_000;

/// The same mutations each time: whether a change passes must not hang on what others would find. `FUZZ_SEED=random`
/// looks further.
const SEED: u64 = 1;

/// Those that sign, build chains, make a mesh or read long texts for each input get a tenth of that.
const SLOW: &[&str] = &[
    "authority_secret",
    "certificate_service",
    "discovery_stream",
    "kubernetes_objects",
    "local_state",
    "manifest",
    "plugged_authority",
    "policy_tests",
    "service_account_token",
    "state_file",
    "trust_bundle",
];

/// Longest mutated input in bytes.
const LONGEST: usize = 16 << 10;

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let directories: BTreeSet<String> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(directories, targets);
}

#[test]
fn the_corpus_neither_panics_nor_hangs_and_reaches_the_inside() {
    for target in TARGETS {
        let inputs = inputs(target.name);
        let accepted = inputs
            .iter()
            .filter(|(path, bytes)| {
                let accepted = (target.run)(bytes);
                println!(
                    "{}: {}",
                    path.display(),
                    if accepted { "accepted" } else { "refused" }
                );
                accepted
            })
            .count();
        // What only our own key could answer is never accepted here.
        if !["tls_server", "tls_client", "certificate_chain"].contains(&target.name) {
            assert!(
                accepted > 0,
                "{}: nothing of the corpus is ever accepted",
                target.name
            );
        }
        assert!(
            accepted < inputs.len(),
            "{}: nothing of the corpus is ever refused",
            target.name
        );
    }
}

#[test]
fn mutations_of_the_corpus_neither_panic_nor_hang() {
    let seed = match std::env::var("FUZZ_SEED").as_deref() {
        Err(_) => SEED,
        Ok("random") => rand::random(),
        Ok(seed) => seed.parse().expect("FUZZ_SEED is a number, or `random`"),
    };
    println!("FUZZ_SEED={seed} repeats this run");
    for target in TARGETS {
        let mut random = StdRng::seed_from_u64(seed);
        let inputs = inputs(target.name);
        let slow = SLOW.contains(&target.name);
        let rounds = if slow { ROUNDS / 10 } else { ROUNDS };
        for round in 0..rounds {
            let mut input = inputs[random.random_range(0..inputs.len())].1.clone();
            for _ in 0..random.random_range(1..6) {
                mutate(&mut input, &inputs, &mut random);
            }
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(
                outcome.is_ok(),
                "{} panics in round {round} of FUZZ_SEED={seed} on {input:?}",
                target.name
            );
        }
    }
}

fn mutate(input: &mut Vec<u8>, inputs: &[(PathBuf, Vec<u8>)], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    match random.random_range(0..7) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random(),
        2 => input.insert(at, random.random()),
        3 => input.truncate(at),
        4 if at < input.len() => {
            let end = random.random_range(at..=input.len()).min(at + 64);
            input.drain(at..end);
        }
        5 => {
            let end = random.random_range(at..=input.len());
            input.extend_from_within(at..end);
        }
        _ => {
            let other = &inputs[random.random_range(0..inputs.len())].1;
            let from = random.random_range(0..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
    }
    input.truncate(LONGEST);
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut inputs: Vec<_> = fs::read_dir(corpus().join(target))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect();
    inputs.sort();
    inputs
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}
