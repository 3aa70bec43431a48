//! How long choosing an endpoint takes with 10 and with 10 000 of them.
//!
//! The two are measured in turns, so that what else the machine does weighs on both; what counts is their ratio.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::Endpoints;
use criterion::Criterion;

/// How much longer the choice among [`MANY`] may take than among [`FEW`].
const MAX_RATIO: f64 = 1.2;
const FEW: u32 = 10;
const MANY: u32 = 10_000;
/// Choices of one measurement: few enough that some are not interrupted.
const BATCH: u64 = 2_000;
/// Measurements of each in one try; the fastest counts, as everything else that the machine does only adds.
const ROUNDS: usize = 501;
/// Tries that are made while the ratio is too high, as a neighbour may have been busy during all of one: the median of
/// them counts.
const TRIES: usize = 3;

fn main() {
    let mut exceeded = Vec::new();
    for (name, failover, busy) in [
        ("quiet", false, false),
        ("quiet, by zone", true, false),
        ("1000 connections, one failure", false, true),
        ("1000 connections, one failure, by zone", true, true),
    ] {
        let (few, many) = (
            Endpoints::new(FEW, failover, busy),
            Endpoints::new(MANY, failover, busy),
        );
        let ratio = ratio(name, &few, &many, MAX_RATIO);
        if ratio > MAX_RATIO {
            exceeded.push(format!("{name}: {ratio:.2}"));
        }
    }
    let (few, many) = (Endpoints::affine(FEW, true), Endpoints::affine(MANY, true));
    // A search in a tree: it grows with the logarithm, and is held to no ratio but that.
    ratio("affinity", &few, &many, f64::INFINITY);
    let mut criterion = Criterion::default().configure_from_args();
    for count in [FEW, MANY] {
        let endpoints = Endpoints::new(count, true, true);
        criterion.bench_function(&format!("endpoint_choice/{count}"), |bencher| {
            bencher.iter(|| black_box(endpoints.choose(100)));
        });
    }
    criterion.final_summary();
    if !exceeded.is_empty() {
        eprintln!("above the promised ratio of {MAX_RATIO}: {exceeded:?}");
        std::process::exit(1);
    }
}

/// How many times longer a choice among many takes than among few: of the first try that is good enough, or the median
/// of all.
fn ratio(name: &str, few: &Endpoints, many: &Endpoints, enough: f64) -> f64 {
    let mut ratios = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let (among_few, among_many) = fastest(few, many);
        let ratio = among_many.as_secs_f64() / among_few.as_secs_f64();
        println!(
            "endpoint choice ({name}): {FEW} endpoints {among_few:?}, {MANY} endpoints {among_many:?}, ratio {ratio:.2}"
        );
        ratios.push(ratio);
        if ratio <= enough {
            return ratio;
        }
    }
    ratios.sort_unstable_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// The time of one choice among few and among many, measured in turns.
fn fastest(few: &Endpoints, many: &Endpoints) -> (Duration, Duration) {
    let time = |endpoints: &Endpoints| {
        let start = Instant::now();
        black_box(endpoints.choose(BATCH));
        start.elapsed()
    };
    let (mut among_few, mut among_many) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        among_few = among_few.min(time(few));
        among_many = among_many.min(time(many));
    }
    (among_few / BATCH as u32, among_many / BATCH as u32)
}
